/**
 * Loaded into a node or resolver of a test (`--import`), not part of it: at SIGUSR2 it collects garbage and says on standard error what the process holds,
 * on a line that begins with `HELD`.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isMainThread } from "node:worker_threads";
import { held } from "./memory.ts";

if (isMainThread) {
  setFlagsFromString("--expose-gc");
  globalThis.gc = runInNewContext("gc") as NodeJS.GCFunction;
  process.on("SIGUSR2", () => void held().then((told) => process.stderr.write(`HELD ${JSON.stringify(told)}\n`)));
}
