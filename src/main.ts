/** Entry point: has Node keep what it compiles, then runs the command line. */
import { keepCompiled } from "./lib/v8/compile-cache.io.ts";
import { keepTick } from "./main/event-loop-tick.ts";
import { holdHangUp } from "./main/hang-up.ts";

// Before all that takes time: which command it is shows when the command line is read.
holdHangUp();
// Before the first garbage collection.
keepTick();
await keepCompiled();
await import("./main/cli.ts");
