/**
 * Everything that must hold, cheapest first: `npm test`, and with an argument `quick`, `long`, `chaos`,
 * `nightly`, `soak` or `soak-cluster`.
 * Every check that is not a vitest run counts as one; the last line is `N passed, N failed` (and `, N skipped`), and
 * above it stands a line `FAILED …` for each that did, so that the end of a log says it all.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { childCpuSeconds, ROOT, run } from "./run.ts";
import { SLOW_MS, sumOf, type Tally, vitestTally, wholeTally } from "./tally.ts";

interface Step {
  readonly name: string;
  readonly run: () => Promise<Tally>;
}

const CACHE = join(ROOT, ".cache");
const REPORTS = join(CACHE, "reports");

/** Many processes load the same modules. Node keeps what it compiled, without the types, for the next process that loads the same text. */
const KEPT_ENV = { NODE_COMPILE_CACHE: join(ROOT, "node_modules/.cache/compile") };
/** Tools in Go collect their garbage half as often: a fifth less of CPU, and no more memory than they take anyway. */
const TOOL_ENV = { GOGC: "200", ...KEPT_ENV };

/** A tool that is right or wrong as a whole; its output is shown only when it is wrong. */
function check(name: string, command: string, ...args: string[]): Step {
  return {
    name,
    run: async () => {
      const { code, output } = await run(command, args, { env: TOOL_ENV });
      if (code !== 0) console.log(output.trimEnd());
      return wholeTally(name, code === 0, `${command} ended with code ${code}`);
    },
  };
}

interface VitestOptions {
  readonly projects: readonly string[];
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Takes only what the steps beside it leave of the processor: for tests that compute, and judge no time. */
  readonly isPatient?: boolean;
}

function vitest(name: string, options: VitestOptions): Step {
  const report = join(REPORTS, `${name.replaceAll(/\W+/g, "-")}.json`);
  const projects = options.projects.flatMap((project) => ["--project", project]);
  const reporters = ["--reporter=default", "--reporter=json", "--reporter=junit"];
  const files = [`--outputFile.json=${report}`, `--outputFile.junit=${report.replace(/json$/, "xml")}`];
  return {
    name,
    run: async () => {
      rmSync(report, { force: true });
      const args = ["run", ...projects, ...reporters, ...files, ...(options.args ?? [])];
      const env = { ...KEPT_ENV, ...options.env };
      const [program, ...before] = options.isPatient === true ? (["nice", "-n", "19", "vitest"] as const) : (["vitest"] as const);
      const { code } = await run(program, [...before, ...args], { live: true, env });
      return vitestTally(name, report, code);
    },
  };
}

/** Simulations of that many seeds in a row; `npm test` runs the first 300. */
function seeds({ first, count }: { readonly first: number; readonly count: number }): VitestOptions {
  const env = { WAYMARK_SEED: `${first}`, WAYMARK_RUNS: `${count}` };
  return { projects: ["sim"], args: ["test/sim/seeds.test.ts"], env, isPatient: true };
}

/** Steps side by side: together they use both cores, and none of them judges how long something takes. */
function together(...steps: readonly Step[]): Step {
  return {
    name: steps.map(({ name }) => name).join(" and "),
    run: async () => sumOf(await Promise.all(steps.map((step) => step.run()))),
  };
}

/** Steps one after another, as one of those that run side by side. */
function inTurn(...steps: readonly Step[]): Step {
  return {
    name: steps.map(({ name }) => name).join(", "),
    run: async () => {
      const tallies: Tally[] = [];
      for (const step of steps) tallies.push(await step.run());
      return sumOf(tallies);
    },
  };
}

const STATIC: readonly Step[] = [
  together(
    check("format", "biome", "ci", "--error-on-warnings"),
    check("unused", "knip", "--no-progress", "--cache", "--cache-location", join(CACHE, "knip")),
    check("import graph", "node", "scripts/structure.ts"),
  ),
  // The linter reads all types again and takes one core: the compiler has the other, where more checkers than one do the same work twice.
  together(
    check("types", "tsc", "-p", ".", "--checkers", "1", "--incremental", "--tsBuildInfoFile", join(CACHE, "types.tsbuildinfo")),
    check("lint", "oxlint", "--deny-warnings", "--report-unused-disable-directives"),
  ),
];

const CONTRACT: readonly Step[] = [
  check("buf lint", "buf", "lint"),
  check("buf breaking", "node", "scripts/breaking.ts"),
  check("generated code and docs are fresh", "node", "scripts/gen.ts", "--check"),
];

const MODES: Readonly<Record<string, readonly Step[]>> = {
  all: [
    ...STATIC,
    ...CONTRACT,
    // Counting what is covered makes a test nearly twice as dear. Tests that wait cover shells, for which there is no threshold.
    vitest("unit", { projects: ["rules", "unit"], args: ["--coverage"] }),
    vitest("io", { projects: ["io"] }),
    vitest("checks", { projects: ["checks"] }),
    together(
      // Counting what is covered makes a simulation several times slower.
      vitest("sim", { projects: ["sim"] }),
      // These build and wait, and judge no time.
      vitest("interop", { projects: ["interop"] }),
      vitest("docs", { projects: ["docs"] }),
    ),
    vitest("e2e", { projects: ["e2e"] }),
    vitest("e2e timed", { projects: ["e2e timed"] }),
  ],
  // Of what is generated a part, see test/fakes/effort.ts: `all` runs the same tests with the whole of it.
  quick: [...STATIC, vitest("unit", { projects: ["rules", "unit"], env: { WAYMARK_QUICK: "1" } })],
  long: [
    // Many of these judge how long something takes: nothing runs beside them.
    vitest("long", { projects: ["long"] }),
    together(
      inTurn(vitest("chaos", { projects: ["chaos"] }), vitest("long waiting", { projects: ["long waiting"] })),
      // These compute while those wait, with what those leave of the processor.
      vitest("long virtual", { projects: ["long virtual"], isPatient: true }),
    ),
  ],
  chaos: [vitest("chaos", { projects: ["chaos"] })],
  // The sizes of the goals in virtual time, and seeds that nobody has run: about an hour.
  nightly: [vitest("nightly", { projects: ["nightly"] }), vitest("nightly sim", seeds({ first: 301, count: 10_300 }))],
  soak: [
    vitest("soak", { projects: ["long", "long virtual", "long waiting", "chaos", "nightly"] }),
    vitest("soak sim", seeds({ first: 1, count: Number(process.env["WAYMARK_RUNS"] ?? 30_000) })),
  ],
  // Real processes in network namespaces, half an hour: `WAYMARK_SOAK_MINUTES` sets how long.
  "soak-cluster": [vitest("soak cluster", { projects: ["soak"] })],
};

const mode = process.argv[2] ?? "all";
const steps = MODES[mode];
if (steps === undefined) {
  console.error(`unknown set of tests ${JSON.stringify(mode)}; there are: ${Object.keys(MODES).join(", ")}`);
  process.exit(2);
}
mkdirSync(REPORTS, { recursive: true });
const tallies: Tally[] = [];
const lines: string[] = [];
for (const step of steps) {
  const [started, cpuBefore] = [performance.now(), childCpuSeconds()];
  const tally = await step.run();
  tallies.push(tally);
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  const cpu = (childCpuSeconds() - cpuBefore).toFixed(1).padStart(6);
  const skips = tally.skipped > 0 ? `, ${tally.skipped} skipped` : "";
  const line = `${tally.failed === 0 ? "ok  " : "FAIL"} ${seconds} s ${cpu} s of CPU  ${step.name}: ${tally.passed} passed, ${tally.failed} failed${skips}`;
  console.log(line);
  lines.push(line);
}
const { passed, failed, skipped, failures, skips, slow } = sumOf(tallies);
console.log(`\n${lines.join("\n")}\n`);
console.log(`${Math.round(performance.now() / 1000)} s, ${childCpuSeconds().toFixed(0)} s of CPU\n`);
// Not a failure: on a busy machine each may be.
if (mode === "all" && slow.length > 0) console.log(`over ${SLOW_MS / 1000} s, too long for npm test:\n${slow.join("\n")}\n`);
// A skip says that this machine lacks something; CI has installed everything, so there a skip is a failure.
const skipsFail = skipped > 0 && ["1", "true"].includes(process.env["CI"] ?? "");
if (skipsFail) console.log("in CI a skipped test counts as failed");
for (const each of skipsFail ? [...failures, ...skips] : failures) console.log(`FAILED ${each}`);
console.log(`${passed} passed, ${failed + (skipsFail ? skipped : 0)} failed${skipped > 0 && !skipsFail ? `, ${skipped} skipped` : ""}`);
process.exitCode = failed > 0 || skipsFail ? 1 : 0;
