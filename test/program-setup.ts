/**
 * Packs the program into a few files before the tests start nodes: a process that reads hundreds of sources, and strips their types, takes nearly
 * twice the time of one that reads the pack. The pack lies as an installed package does, so that the program finds its
 * files, and each run makes its own. Tests of the launcher, of the sources and of the package start those themselves.
 */
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { rolldown } from "rolldown";

const ROOT = join(import.meta.dirname, "..");

/** What the program reads at run time, relative to its sources. */
const READ = ["gen", "proto", "third_party", "docs/examples", "package.json"];

/** Each thread begins with a module of its own, which is found by its name: those of the store, and a read worker. */
function threadModules(): Readonly<Record<string, string>> {
  const owners = readdirSync(join(ROOT, "src/store"), { withFileTypes: true }).filter((each) => each.isDirectory());
  const names = owners.map(({ name }) => `${name}/worker.io`);
  const ofStore = Object.fromEntries(["thread-entry.io", ...names].map((name) => [name, `src/store/${name}.ts`]));
  return { ...ofStore, "worker.io": "src/node/workers/worker.io.ts" };
}

/** Each run of the tests has its own. */
const folder = join(ROOT, ".cache/programs", String(process.pid));

/** Vitest calls this before the first test. */
export async function setup(): Promise<void> {
  const dist = join(folder, "dist");
  rmSync(folder, { recursive: true, force: true });
  const pack = await rolldown({
    cwd: ROOT,
    platform: "node",
    input: { main: "src/main.ts", ...threadModules() },
    // It starts threads with files of its own.
    external: ["pino"],
  });
  await pack.write({
    dir: join(dist, "src"),
    entryFileNames: ({ name }) => (name === "main" ? "main.js" : "packed/[name].js"),
    chunkFileNames: "packed/[name]-[hash].js",
  });
  await pack.close();
  cpSync(join(ROOT, "bin"), join(folder, "bin"), { recursive: true });
  for (const path of READ) {
    const link = join(dist, path);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(relative(dirname(link), join(ROOT, path)), link);
  }
  // The processes of the tests are started after this, and inherit it.
  process.env["PROGRAM_OF_TESTS"] = relative(ROOT, join(folder, "bin/waymark"));
}

/** Vitest calls this after the last test. */
export function teardown(): void {
  rmSync(folder, { recursive: true, force: true });
}
