/** Entry point: has Node keep what it compiles, then runs the command line. */
import { keepCompiled } from "./lib/compile-cache.io.ts";
import { holdHangUp } from "./main-hang-up.ts";

// Before all that takes time. Other commands end with their terminal.
if (process.argv.slice(2).find((word) => !word.startsWith("-")) === "serve") holdHangUp();
keepCompiled();
await import("./main-cli.ts");
