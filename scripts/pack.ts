/**
 * Packs the program into a few files. A process that reads a file for each of our modules starts later and takes more memory than one that
 * reads the pack (docs/decisions/0022-dist-is-a-pack.md). `npm run build` and the setup of the tests both make theirs here.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { rolldown } from "rolldown";
import { ROOT } from "./run.ts";

/** What the program reads at run time, relative to its sources, and to the folder of a pack. */
export const CARRIED = ["gen", "proto", "third_party", "docs/examples", "docs/reference/openapi.json", "package.json"];

/** The packages that a command loads to call a server, and those that load one of these (docs/decisions/0022-dist-is-a-pack.md). */
const PACKED: ReadonlySet<string> = new Set([
  "@bufbuild/protobuf",
  "@bufbuild/protovalidate",
  "@connectrpc/connect",
  "commander",
  "semver",
]);

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
}

/** The packages that the program reads as they are installed. */
export function unpackedPackages(): readonly string[] {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
  return Object.keys(dependencies).filter((name) => !PACKED.has(name));
}

/** Each thread begins with a module of its own, which is found by its name: those of the store, and a read worker. */
function threadModules(): Readonly<Record<string, string>> {
  const files = readdirSync(join(ROOT, "src/store"), { recursive: true, encoding: "utf8" });
  const names = files.filter((file) => file.endsWith("/worker.io.ts")).map((file) => file.replace(/\.ts$/, ""));
  const ofStore = Object.fromEntries(["thread-entry.io", ...names].map((name) => [name, `src/store/${name}.ts`]));
  return { ...ofStore, "worker.io": "src/node/workers/worker.io.ts" };
}

/**
 * Imports of files that only define options. Building their descriptors takes 9 ms of each start, and no module of `src` uses them. The options remain in the
 * descriptors of our messages, where protovalidate finds them.
 */
const UNREAD = /(?<=\[.*)file_(?:buf_validate_validate|google_api_field_behavior)(?:, )?/g;

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
    plugins: [{ name: "unread-options", transform: { filter: { id: /_pb\.js$/ }, handler: (code) => code.replaceAll(UNREAD, "") } }],
  });
  await pack.write({
    dir: join(folder, "src"),
    entryFileNames: ({ name }) => (name === "main" ? "main.js" : "packed/[name].js"),
    chunkFileNames: "packed/[name]-[hash].js",
  });
  await pack.close();
}
