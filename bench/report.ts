/** Writes docs/reference/benchmarks.md from what the benchmarks that ran before it left; `npm run bench -- report`, and `npm run gen` too. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { benchmarksPage } from "./_page.ts";

writeFileSync(join(fileURLToPath(new URL("..", import.meta.url)), "docs", "reference", "benchmarks.md"), benchmarksPage());
