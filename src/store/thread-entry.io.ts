/** The first module of each thread of the store: it turns Node's compile cache on, and then loads the module that `thread.io.ts` names. */
import { flushCompileCache } from "node:module";
import { workerData } from "node:worker_threads";
import { keepCompiled } from "../lib/compile-cache.io.ts";
import type { ThreadData } from "./thread.io.ts";

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- thread.io.ts is the only starter and hands over this type
const { module, ended } = workerData as ThreadData;
process.once("exit", () => {
  Atomics.store(ended, 0, 1);
  Atomics.notify(ended, 0);
});
await keepCompiled();
await import(module);
// Now, because a kill -9 leaves no time for it at the end.
flushCompileCache();
