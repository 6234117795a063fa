/**
 * Writes the reference pages from the tables the program itself uses (the protos, SETTINGS, METRICS, REASONS and VERBS), and the page of
 * measurements from what the benchmarks left.
 * With `--check` nothing is written: it fails and names the pages that are not fresh.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PLOTS, resultPages } from "../bench/_page.ts";
import { apiPage } from "./docs-api.ts";
import { cliPage, configPage, metricsPage } from "./docs-tables.ts";
import { ROOT } from "./run.ts";

const PAGES: Readonly<Record<string, string>> = {
  "docs/reference/api.md": apiPage(),
  "docs/reference/config.md": configPage(),
  "docs/reference/metrics.md": metricsPage(),
  "docs/reference/cli.md": cliPage(),
  ...resultPages(),
};

const isCheck = process.argv.includes("--check");
let stale = 0;
const plots = existsSync(join(ROOT, PLOTS)) ? readdirSync(join(ROOT, PLOTS)) : [];
for (const page of plots.map((file) => `${PLOTS}/${file}`).filter((file) => PAGES[file] === undefined)) {
  if (isCheck) stale += 1;
  else rmSync(join(ROOT, page));
  console.log(`${isCheck ? "not fresh" : "removed"}: ${page}`);
}
for (const [page, text] of Object.entries(PAGES)) {
  const file = join(ROOT, page);
  if (existsSync(file) && readFileSync(file, "utf8") === text) continue;
  if (isCheck) {
    stale += 1;
    console.log(`not fresh: ${page}`);
    continue;
  }
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  console.log(`written: ${page}`);
}
if (stale > 0) console.log("run `npm run gen` and commit what it writes");
process.exitCode = stale > 0 ? 1 : 0;
