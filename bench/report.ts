/** Writes the pages made from the results that benchmarks left, and a plot of every row into `.cache/plots`: `npm run bench -- report`. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun, ROOT } from "../scripts/run.ts";
import { everyPlot } from "./_page.ts";

const FOLDER = ".cache/plots";

await mustRun("node", ["scripts/docs.ts"]);
mkdirSync(join(ROOT, FOLDER), { recursive: true });
for (const [file, text] of Object.entries(everyPlot())) writeFileSync(join(ROOT, FOLDER, file), text);
console.error(`plots of all rows: ${FOLDER}`);
