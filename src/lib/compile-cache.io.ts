/** Keeps the code that Node compiles, so that the next start need not compile it again. */
import { mkdirSync, statSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { dirname, isAbsolute, join } from "node:path";

/**
 * Call it in the program and in each thread before anything large is loaded. A static import beside the call would be
 * compiled before it. Compiling is half of a command's time and of a node's start. A later start trusts the kept code, so
 * it is in the user's own cache folder (XDG Base Directory Specification). Anybody could put code into the system's temporary folder.
 * Without a cache folder nothing is kept.
 */
export function keepCompiled(): void {
  const { XDG_CACHE_HOME = "", HOME = "" } = process.env;
  const caches = [XDG_CACHE_HOME, join(HOME, ".cache")].find((folder) => isAbsolute(folder));
  const folder = caches === undefined ? undefined : join(caches, "waymark");
  if (folder !== undefined && hasFolder(folder)) enableCompileCache(folder);
}

/**
 * Whether the folder exists or could be made. Node's recursive `mkdir` never returns when the parent exists but making a folder in it
 * fails with ENOENT, as in /proc. The home of a user without one may be there.
 */
function hasFolder(folder: string): boolean {
  return isFolder(folder) || make(folder) || (hasParent(folder) && make(folder));
}

function hasParent(folder: string): boolean {
  const parent = dirname(folder);
  return parent !== folder && !isFolder(parent) && hasFolder(parent);
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function make(folder: string): boolean {
  try {
    mkdirSync(folder);
    return true;
  } catch {
    // Another waymark process may have made it meanwhile.
    return isFolder(folder);
  }
}
