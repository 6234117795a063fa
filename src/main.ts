/** Entry point: has Node keep what it compiles, then runs the command line. */
import { keepCompiled } from "./lib/compile-cache.io.ts";

keepCompiled();
await import("./main-cli.ts");
