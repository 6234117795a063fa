/** Runs seeds from the first on until one fails: `node test/sim/seeds-child.ts COUNT`; says which, and its exit code is 1. */
import { runSeed } from "./run-seed.ts";

for (let seed = 1; seed <= Number(process.argv[2] ?? 0); seed++) {
  const { violation } = runSeed(seed);
  if (violation === undefined) continue;
  console.log(`seed ${seed}: ${violation.message}`);
  process.exit(1);
}
