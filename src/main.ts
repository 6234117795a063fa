/** Entry point: enables Node's compile cache, then runs the command line. */
import { keepCompiled } from "./lib/v8/compile-cache.io.ts";
import { keepTick } from "./main/event-loop-tick.ts";
import { holdHangUp } from "./main/sighup.ts";

// Must run before any slow step, because the process knows its command only when the command line is read.
holdHangUp();
// Must run before the first garbage collection.
keepTick();
await keepCompiled();
await import("./main/cli.ts");
