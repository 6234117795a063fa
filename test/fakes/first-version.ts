/** The first version of Waymark, taken out of this repository's history: what its directories and links are, newer ones must take. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** The last commit before the repairs that followed the first version. */
const COMMIT = "cd37266";
const NEEDED = ["bin", "src", "gen", "proto", "docs/examples", "package.json"];

/** Whether the history of this checkout goes back that far; a shallow clone's does not. */
export function hasFirstVersion(): boolean {
  return spawnSync("git", ["cat-file", "-e", `${COMMIT}^{commit}`]).status === 0;
}

export interface FirstVersion extends Disposable {
  /** Path of its `bin/waymark`. */
  readonly program: string;
}

/** Unpacks it beside the libraries of this checkout; those that only it needs are dev dependencies. */
export function unpackFirstVersion(): FirstVersion {
  const folder = mkdtempSync(join(tmpdir(), "waymark-first-"));
  const archive = execFileSync("git", ["archive", COMMIT, ...NEEDED], { maxBuffer: 256 * 1024 * 1024 });
  execFileSync("tar", ["-x", "-C", folder], { input: archive });
  symlinkSync(resolve("node_modules"), join(folder, "node_modules"));
  return { program: join(folder, "bin", "waymark"), [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}
