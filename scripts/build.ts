/**
 * Makes dist/ for `npm pack`: the program as a pack, the client's modules with their types, and what both read at run time. Node refuses to
 * strip types inside node_modules, so an installed package must be JavaScript; a clone needs no build.
 */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CARRIED, packProgram, unpackedPackages } from "./pack.ts";
import { mustRun, ROOT } from "./run.ts";

const dist = join(ROOT, "dist");
rmSync(dist, { recursive: true, force: true });
// Only what the package exports. Its modules stay apart, so that programs share the messages of `waymark/gen/*` with it.
await mustRun("tsc", ["-p", "tsconfig.build.json"]);
for (const path of CARRIED) {
  // What the client needs of it was compiled just now; declarations of what is JavaScript are not.
  const filter = (file: string): boolean => !file.endsWith(".ts") || file.endsWith(".d.ts");
  cpSync(join(ROOT, path), join(dist, path), { recursive: true, filter });
}
await packProgram(dist, unpackedPackages());
console.log("dist/ is ready");
