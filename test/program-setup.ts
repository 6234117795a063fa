/**
 * Packs the program into a few files before the tests start nodes: a process that reads hundreds of sources, and strips their types, takes nearly
 * twice the time of one that reads the pack. The pack lies as an installed package does, so that the program finds its
 * files, and each run makes its own. Tests of the launcher, of the sources and of the package start those themselves.
 */
import { cpSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { CARRIED, packProgram } from "../scripts/pack.ts";
import { ROOT } from "../scripts/run.ts";

/** Each run of the tests has its own. */
const folder = join(ROOT, ".cache/programs", String(process.pid));

/** Vitest calls this before the first test. */
export async function setup(): Promise<void> {
  const dist = join(folder, "dist");
  rmSync(folder, { recursive: true, force: true });
  // A process reads our packages from the pack too. This one starts threads with files of its own.
  await packProgram(dist, ["pino"]);
  cpSync(join(ROOT, "bin"), join(folder, "bin"), { recursive: true });
  for (const path of CARRIED) {
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
