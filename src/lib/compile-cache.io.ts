/** Has Node keep what it compiles, so that the next start need not compile it again. */
import { mkdirSync, statSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { dirname, isAbsolute, join } from "node:path";

/**
 * To be called, in the program and in each thread, before anything large is loaded: what is imported with "import" beside it is
 * compiled before. Compiling is half of a command's time and of a node's start. What is kept is code that a later start trusts, so
 * it lies in the user's own folder (XDG Base Directory Specification): in the system's temporary one anybody may have put it.
 * Where there is none, nothing is kept.
 */
export function keepCompiled(): void {
  const { XDG_CACHE_HOME = "", HOME = "" } = process.env;
  const caches = [XDG_CACHE_HOME, join(HOME, ".cache")].find((folder) => isAbsolute(folder));
  const folder = caches === undefined ? undefined : join(caches, "waymark");
  if (folder !== undefined && hasFolder(folder)) enableCompileCache(folder);
}

/**
 * Whether the folder is there or could be made. Node, told to make a folder with its parents, tries for ever where the parent is
 * there and making says that it is not, as /proc does; a user without a home may have that one.
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
    // Another process of ours may have made it meanwhile.
    return isFolder(folder);
  }
}
