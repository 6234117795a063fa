/**
 * Emits dist/ for `npm pack`: compiled sources, and beside them what they read at run time. Node refuses to strip types
 * inside node_modules, so an installed package must be JavaScript; a clone needs no build.
 */
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { filesBelow } from "./imports.ts";
import { ROOT, run } from "./run.ts";

/** Read by the sources relative to themselves; tsc copies none of them. */
const CARRIED = ["gen", "proto", "third_party", "docs/examples", "package.json"];

const dist = join(ROOT, "dist");
rmSync(dist, { recursive: true, force: true });
const { code, output } = await run("tsc", ["-p", "tsconfig.build.json"]);
if (code !== 0) {
  console.error(output.trimEnd());
  process.exit(1);
}
for (const path of CARRIED) {
  // What is TypeScript was compiled just now; declarations of what is JavaScript are not.
  const filter = (file: string): boolean => !file.endsWith(".ts") || file.endsWith(".d.ts");
  if (existsSync(join(ROOT, path))) cpSync(join(ROOT, path), join(dist, path), { recursive: true, filter });
}
// tsc rewrites the endings of imports but not of `new URL("./worker.io.ts", import.meta.url)`, which names a worker's file.
for (const file of filesBelow(ROOT, "dist/src", [".js"])) {
  const text = readFileSync(join(ROOT, file), "utf8");
  const rewritten = text.replaceAll(/(new URL\("\.[^"]*)\.ts(", import\.meta\.url\))/g, "$1.js$2");
  if (rewritten !== text) writeFileSync(join(ROOT, file), rewritten);
}
console.log("dist/ is ready");
