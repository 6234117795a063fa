/** Stores code that Node has compiled, so that the next start does not have to compile it again. */
import { existsSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { isAbsolute, join } from "node:path";

/**
 * Enables the compile cache. Call it in the program and in each thread before any large module is loaded. A static import next to the call would be
 * compiled before the call. Compiling accounts for half of a command's time and of a node's start time. A later start trusts the stored code, so the code is
 * stored in the user's own cache folder (XDG Base Directory Specification). In the system's temporary folder, any user could add code. If there is no
 * cache folder and none can be created, nothing is stored.
 */
export async function keepCompiled(): Promise<void> {
  const { XDG_CACHE_HOME = "", HOME = "" } = process.env;
  const caches = [XDG_CACHE_HOME, join(HOME, ".cache")].find((folder) => isAbsolute(folder));
  if (caches === undefined) return;
  const folder = join(caches, "waymark");
  try {
    // It is loaded only by the first start, because a module that is loaded in this file is compiled at each start.
    if (!existsSync(folder)) (await import("../private-directory.io.ts")).makePrivateDirectory(folder);
  } catch {
    return;
  }
  enableCompileCache(folder);
}
