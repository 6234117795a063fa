/** Has Node keep what it compiles, so that the next start need not compile it again. */
import { enableCompileCache } from "node:module";
import { isAbsolute, join } from "node:path";

/**
 * To be called, in the program and in each thread, before anything large is loaded: what is imported with "import" beside it is
 * compiled before. Compiling is half of a command's time and of a node's start. What is kept is code that a later start trusts, so
 * it lies in the user's own folder (XDG Base Directory Specification): in the system's temporary one anybody may have put it.
 * Where there is none, nothing is kept.
 */
export function keepCompiled(): void {
  const { XDG_CACHE_HOME = "", HOME = "" } = process.env;
  const caches = [XDG_CACHE_HOME, join(HOME, ".cache")].find((folder) => isAbsolute(folder));
  if (caches !== undefined) enableCompileCache(join(caches, "waymark"));
}
