/** Creates directories and files that only this user may read. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Creates the directory (mode 700), and its parents, if it is missing. Throws the system's error if it cannot be created. It does not use
 * `recursive`, because Node's implementation never returns in places where the system cannot create directories. An example is /proc, which can be
 * configured as the home directory of a user that has none.
 */
export function makePrivateDirectory(directory: string): void {
  const isThere = () => statSync(directory, { throwIfNoEntry: false })?.isDirectory() === true;
  if (isThere()) return;
  const parent = dirname(directory);
  if (parent !== directory && !existsSync(parent)) makePrivateDirectory(parent);
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    // Another thread or process may have created it in the meantime.
    if (!isThere()) throw error;
  }
}

/** Replaces a file as a whole, so that a full disk leaves the old one. Only this user can read it. Throws the system's error. */
export function writePrivateFile(path: string, text: string): void {
  const temporary = `${path}.new`;
  // A file or a link that another user has put there must not receive the text.
  rmSync(temporary, { force: true });
  const descriptor = openSync(temporary, "wx", 0o600);
  try {
    writeFileSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(temporary, path);
  const directory = openSync(dirname(path), "r");
  fsyncSync(directory);
  closeSync(directory);
}
