/**
 * Runs the simulations: `npm run sim -- --seed 7 --nodes 20 --minutes 5`. What is not one of ours goes to vitest.
 * The tests read WAYMARK_SEED, WAYMARK_RUNS, WAYMARK_NODES and WAYMARK_MINUTES, and print the seed first.
 */
import { run } from "./run.ts";

const OPTIONS: Readonly<Record<string, string>> = {
  "--seed": "WAYMARK_SEED",
  "--runs": "WAYMARK_RUNS",
  "--nodes": "WAYMARK_NODES",
  "--minutes": "WAYMARK_MINUTES",
};

if (process.argv.includes("--help")) {
  console.log("npm run sim -- [--seed N] [--runs N] [--nodes N] [--minutes N] [what vitest takes]");
  console.log("Without any of the first four, all simulations; with one, the random schedules only. A failure prints its seed.");
  process.exit(0);
}

const env: Record<string, string> = {};
const rest: string[] = [];
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i++) {
  const [name = "", inline] = (args[i] ?? "").split("=", 2);
  const variable = OPTIONS[name];
  if (variable === undefined) {
    rest.push(args[i] ?? "");
    continue;
  }
  const value = inline ?? args[++i] ?? "";
  if (!/^\d+$/.test(value)) {
    console.error(`${name} wants a whole number, got ${JSON.stringify(value)}`);
    process.exit(2);
  }
  env[variable] = value;
}
// A seed or a size is about the random schedules; the other simulations are as they are.
const files = Object.keys(env).length > 0 ? ["test/sim/seeds.test.ts"] : [];
const { code } = await run("vitest", ["run", "--project", "sim", ...files, ...rest], { live: true, env });
process.exitCode = code;
