/** Stores the code that Node compiles, so that the next start does not have to compile it again. */
import { existsSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { isAbsolute, join } from "node:path";

/**
 * Enables the compile cache. Call it in the program and in each thread before anything large is loaded; a static import next to the call would
 * be compiled before it. Compiling is half of a command's time and of a node's start time. A later start trusts the stored code, so it is stored
 * in the user's own cache folder (XDG Base Directory Specification). Any user could put code into the system's temporary folder. Without a cache
 * folder, or if it cannot be created, nothing is stored.
 */
export async function keepCompiled(): Promise<void> {
  const { XDG_CACHE_HOME = "", HOME = "" } = process.env;
  const caches = [XDG_CACHE_HOME, join(HOME, ".cache")].find((folder) => isAbsolute(folder));
  if (caches === undefined) return;
  const folder = join(caches, "waymark");
  try {
    // Loaded only by the first start, because a module that is loaded here is compiled at each start.
    if (!existsSync(folder)) (await import("../private-directory.io.ts")).makePrivateDirectory(folder);
  } catch {
    return;
  }
  enableCompileCache(folder);
}
