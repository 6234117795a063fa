/**
 * Builds dist and runs one benchmark by name, or all: `npm run bench -- query`. Each prints JSON lines on stdout and a table on stderr.
 * `npm run bench -- --install` builds the peers that figures stand beside. `npm run bench -- --quick` says whether a path costs more than before.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { absentPeers, installPeers } from "../bench/_peers.ts";
import { BUILT_OF, commit } from "../bench/_results.ts";
import { mustRun, ROOT, run } from "./run.ts";

// Files that start with an underscore are what benchmarks share. The report is made of the others' results.
const names = readdirSync(join(ROOT, "bench"))
  .filter((file) => file.endsWith(".ts") && !file.startsWith("_"))
  .map((file) => file.replace(/\.ts$/, ""))
  .toSorted((a, b) => Number(a === "report") - Number(b === "report") || (a < b ? -1 : 1));
/** It needs another checkout to compare with. */
const ATTENDED = "versions";
const USAGE = `npm run bench -- [NAME [FLAGS] | --install | --quick]
Without a name, all but ${ATTENDED} run. The names: ${names.join(", ")}.`;

/** Runs each, and says at the end which of them failed. Throws when dist cannot be built. */
async function runAll(wanted: readonly string[], args: readonly string[]): Promise<void> {
  const absent = absentPeers();
  if (absent.length > 0) console.error(`not installed, so not measured: ${absent.join(", ")} (npm run bench -- --install)`);
  // What users run is measured, not the sources.
  const env = { [BUILT_OF]: commit() };
  await mustRun("node", ["scripts/build.ts"]);
  const failed: string[] = [];
  for (const name of wanted) {
    const { code } = await run("node", [`bench/${name}.ts`, ...args], { live: true, env });
    if (code !== 0) failed.push(name);
  }
  if (failed.length === 0) return;
  console.error(`failed: ${failed.join(", ")}. What was kept of them earlier stays as it is.`);
  process.exitCode = 1;
}

const [given, ...args] = process.argv.slice(2);
const name = given === "--quick" ? "guard" : given;
if (name === "--install") await installPeers();
else if (name === "--help") console.log(USAGE);
else if (name === undefined) {
  console.error(`left out: ${ATTENDED} (npm run bench -- ${ATTENDED} --other ../waymark-before)`);
  await runAll(
    names.filter((each) => each !== ATTENDED),
    [],
  );
} else if (names.includes(name)) await runAll([name], args);
else {
  console.error(`no benchmark ${JSON.stringify(name)}\n${USAGE}`);
  process.exitCode = 2;
}
