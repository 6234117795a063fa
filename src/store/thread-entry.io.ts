/** Where each thread of this room begins: has Node keep what it compiles, then loads the module that its starter names. */
import { flushCompileCache } from "node:module";
import { workerData } from "node:worker_threads";
import { keepCompiled } from "../lib/compile-cache.io.ts";
import type { ThreadData } from "./thread.io.ts";

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what thread.io.ts, the only starter, hands over
const { module, ended } = workerData as ThreadData;
process.once("exit", () => {
  Atomics.store(ended, 0, 1);
  Atomics.notify(ended, 0);
});
keepCompiled();
await import(module);
// Now, as kill -9 does not let it when the thread ends.
flushCompileCache();
