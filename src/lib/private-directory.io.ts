/** Directories that only this user may read. */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Makes the directory (mode 700), and those above it, if it is missing. Throws the system's error when it cannot be made. Not `recursive`: Node's
 * own never returns in places where the system makes no directories, such as /proc, where the home of a user without one may be.
 */
export function makePrivateDirectory(directory: string): void {
  const isThere = () => statSync(directory, { throwIfNoEntry: false })?.isDirectory() === true;
  if (isThere()) return;
  const parent = dirname(directory);
  if (parent !== directory && !existsSync(parent)) makePrivateDirectory(parent);
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    // Another thread or process may have made it meanwhile.
    if (!isThere()) throw error;
  }
}
