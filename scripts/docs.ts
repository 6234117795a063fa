/**
 * Writes the reference pages from the tables that the program itself uses (the protos, SETTINGS, METRICS, REASONS and VERBS), and the
 * benchmark pages from the kept results. With `--check`, it writes nothing, lists the outdated pages and fails if there are any.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PLOTS, resultPages } from "../bench/_page.ts";
import { apiPage } from "./docs-api.ts";
import { openApiDocument } from "./docs-openapi.ts";
import { shardSetSchema } from "./docs-schema.ts";
import { cliPage, configPage, metricsPage } from "./docs-tables.ts";
import { ROOT } from "./run.ts";

const PAGES: Readonly<Record<string, string>> = {
  "docs/reference/api.md": apiPage(),
  "docs/reference/config.md": configPage(),
  "docs/reference/metrics.md": metricsPage(),
  "docs/reference/cli.md": cliPage(),
  "docs/reference/openapi.json": openApiDocument(),
  "docs/reference/shard-set.schema.json": shardSetSchema(),
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
if (stale > 0) console.log("run `npm run gen` and commit the changed pages");
process.exitCode = stale > 0 ? 1 : 0;
