/**
 * Builds dist and runs one benchmark by name, or all: `npm run bench -- query`. Each prints JSON lines on stdout and a table on stderr.
 * `npm run bench -- --install` builds the peers that figures stand beside. `npm run bench -- --quick` says whether a path has become dearer.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { installPeers } from "../bench/_peers.ts";
import { mustRun, ROOT, run } from "./run.ts";

// Files that start with an underscore are what benchmarks share. The report is made of the others' results.
const names = readdirSync(join(ROOT, "bench"))
  .filter((file) => file.endsWith(".ts") && !file.startsWith("_"))
  .map((file) => file.replace(/\.ts$/, ""))
  .toSorted((a, b) => Number(a === "report") - Number(b === "report") || (a < b ? -1 : 1));
const [given, ...args] = process.argv.slice(2);
const wanted = given === "--quick" ? "guard" : given;
if (wanted === "--install") {
  await installPeers();
} else if (wanted !== undefined && !names.includes(wanted)) {
  console.error(`no benchmark ${JSON.stringify(wanted)}; there are: ${names.join(", ") || "none yet"}`);
  process.exitCode = 2;
} else {
  // What users run is measured, not the sources.
  await mustRun("node", ["scripts/build.ts"]);
  // This one needs another checkout to compare with.
  const unattended = names.filter((name) => name !== "versions");
  if (wanted === undefined) console.error("left out: versions (npm run bench -- versions --other ../waymark-before)");
  let failed = 0;
  for (const name of wanted === undefined ? unattended : [wanted]) {
    const { code } = await run("node", [`bench/${name}.ts`, ...args], { live: true });
    if (code !== 0) failed += 1;
  }
  process.exitCode = failed === 0 ? 0 : 1;
}
