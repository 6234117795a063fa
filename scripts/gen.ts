/**
 * Makes everything that is generated: code and descriptors from the protos, reference pages from our tables.
 * With `--check` nothing is written: it fails and names what is not fresh. Generates into a temporary folder first, so
 * that the tree is never without its generated code.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { codecFiles } from "./gen-codec.ts";
import { mustRun, ROOT } from "./run.ts";

const isCheck = process.argv.includes("--check");

function filesIn(folder: string): readonly string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => statSync(join(folder, file)).isFile())
    .toSorted();
}

/** Makes `existing` equal to `fresh`, or in a check only says what differs. Returns the files that differed. */
function settle(fresh: string, existing: string): readonly string[] {
  const wanted = new Set(filesIn(fresh));
  const stale = filesIn(existing).filter((file) => !wanted.has(file));
  const differing = [...wanted].filter((file) => {
    const target = join(existing, file);
    return !existsSync(target) || !readFileSync(join(fresh, file)).equals(readFileSync(target));
  });
  if (!isCheck) {
    for (const file of stale) rmSync(join(existing, file));
    for (const file of differing) {
      mkdirSync(dirname(join(existing, file)), { recursive: true });
      cpSync(join(fresh, file), join(existing, file));
    }
  }
  return [...stale, ...differing].map((file) => relative(ROOT, join(existing, file)));
}

const folder = mkdtempSync(join(tmpdir(), "waymark-gen-"));
let changed: readonly string[] = [];
let docs = "";
try {
  await mustRun("buf", ["lint"]);
  await mustRun("buf", ["generate", "-o", folder]);
  await mustRun("buf", ["build", "-o", join(folder, "gen", "descriptors.binpb")]);
  for (const [file, text] of Object.entries(codecFiles(readFileSync(join(folder, "gen", "descriptors.binpb"))))) {
    writeFileSync(join(folder, "gen", file), text);
  }
  changed = settle(join(folder, "gen"), join(ROOT, "gen"));
  // After gen/ is in place: the pages are made by running our own sources, which import it.
  docs = await mustRun("node", ["scripts/docs.ts", ...(isCheck ? ["--check"] : [])]);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const file of changed) console.log(`${isCheck ? "not fresh" : "written"}: ${file}`);
if (docs !== "") console.log(docs.trimEnd());
if (isCheck && changed.length > 0) {
  console.error("run `npm run gen` and commit what it writes");
  process.exitCode = 1;
}
