/** Entry point: has Node keep what it compiles, then runs the command line. */
import { enableCompileCache } from "node:module";
import { isAbsolute, join } from "node:path";

const { XDG_CACHE_HOME = "", HOME = "" } = process.env;

// Compiling is half of a command's time and a third of a node's start. What is kept is code that a later start trusts, so it lies
// in the user's own folder: in the system's temporary one anybody may have put it. Where there is none, nothing is kept.
const caches = [XDG_CACHE_HOME, join(HOME, ".cache")].find((folder) => isAbsolute(folder));
if (caches !== undefined) enableCompileCache(join(caches, "waymark"));

// What is imported with "import" would be compiled before the lines above are run.
await import("./main-cli.ts");
