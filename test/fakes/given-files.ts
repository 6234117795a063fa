/** Files that the tests of a file give to processes: settings, policies, keys. They go when the last test of the file is over. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** Writes a file that only its owner reads, as files with secrets must be, and gives its path. `about`: a word for the name of their folder. */
export function filesAbout(about: string): (ending: string, content: string) => string {
  const folder = mkdtempSync(join(tmpdir(), `waymark-${about}-`));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  let count = 0;
  return (ending, content) => {
    const path = join(folder, `${count++}.${ending}`);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  };
}
