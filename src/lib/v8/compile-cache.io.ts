/** Keeps the code that Node compiles, so that the next start need not compile it again. */
import { existsSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { isAbsolute, join } from "node:path";

/**
 * Call it in the program and in each thread before anything large is loaded. A static import beside the call would be
 * compiled before it. Compiling is half of a command's time and of a node's start. A later start trusts the kept code, so
 * it is in the user's own cache folder (XDG Base Directory Specification). Anybody could put code into the system's temporary folder.
 * Without a cache folder, or where it cannot be made, nothing is kept.
 */
export async function keepCompiled(): Promise<void> {
  const { XDG_CACHE_HOME = "", HOME = "" } = process.env;
  const caches = [XDG_CACHE_HOME, join(HOME, ".cache")].find((folder) => isAbsolute(folder));
  if (caches === undefined) return;
  const folder = join(caches, "waymark");
  try {
    // Loaded only by the first start, because what is loaded here is compiled at each start.
    if (!existsSync(folder)) (await import("../private-directory.io.ts")).makePrivateDirectory(folder);
  } catch {
    return;
  }
  enableCompileCache(folder);
}
