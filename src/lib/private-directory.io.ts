/** Creates directories that only this user may read. */
import { existsSync, mkdirSync, statSync } from "node:fs";
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
