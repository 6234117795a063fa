/**
 * Packs the program into a few files. A process that reads a file for each of our modules starts later and takes more memory than one that
 * reads the pack (docs/decisions/0022-dist-is-a-pack.md). `npm run build` and the setup of the tests both make theirs here.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { rolldown } from "rolldown";
import { ROOT } from "./run.ts";

/** What the program reads at run time, relative to its sources, and to the folder of a pack. */
export const CARRIED = ["gen", "proto", "third_party", "docs/examples", "docs/reference/openapi.json", "package.json"];

/** Each thread begins with a module of its own, which is found by its name: those of the store, and a read worker. */
function threadModules(): Readonly<Record<string, string>> {
  const files = readdirSync(join(ROOT, "src/store"), { recursive: true, encoding: "utf8" });
  const names = files.filter((file) => file.endsWith("/worker.io.ts")).map((file) => file.replace(/\.ts$/, ""));
  const ofStore = Object.fromEntries(["thread-entry.io", ...names].map((name) => [name, `src/store/${name}.ts`]));
  return { ...ofStore, "worker.io": "src/node/workers/worker.io.ts" };
}

/**
 * Writes `src/main.js` below the folder, and all else beside each other in `src/packed`: a module finds threads and files relative to itself, and every
 * one of ours that does lies two folders deep. What is loaded when it is needed stays a file of its own. The packages named are not packed.
 */
export async function packProgram(folder: string, packages: readonly string[]): Promise<void> {
  const pack = await rolldown({
    cwd: ROOT,
    platform: "node",
    input: { main: "src/main.ts", ...threadModules() },
    external: packages.map((name) => new RegExp(`^${name}(?:/|$)`)),
  });
  await pack.write({
    dir: join(folder, "src"),
    entryFileNames: ({ name }) => (name === "main" ? "main.js" : "packed/[name].js"),
    chunkFileNames: "packed/[name]-[hash].js",
  });
  await pack.close();
}
