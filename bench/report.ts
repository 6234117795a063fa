/** Writes what is made of the results that the benchmarks before it left: `npm run bench -- report`, and `npm run gen` too. */
import { mustRun } from "../scripts/run.ts";

await mustRun("node", ["scripts/docs.ts"]);
