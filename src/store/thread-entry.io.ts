/** The first module of each store thread. It enables Node's compile cache, and then runs the owners that `thread.io.ts` requests. */
import { flushCompileCache } from "node:module";
import { parentPort, workerData } from "node:worker_threads";
import { keepCompiled } from "../lib/v8/compile-cache.io.ts";
import type { ServeFunction, ThreadData, ThreadOrder } from "./thread.io.ts";

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only thread.io.ts starts this module, and it passes this type
const { ended } = workerData as ThreadData;
process.once("exit", () => {
  Atomics.store(ended, 0, 1);
  Atomics.notify(ended, 0);
});

async function host({ module, port }: Exclude<ThreadOrder, "end">): Promise<void> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each owner's module exports this
  const { serve } = (await import(module)) as { readonly serve: ServeFunction };
  serve(port);
  // The cache is flushed at this point, because kill -9 would not leave time for it at the end.
  flushCompileCache();
}

const orders = parentPort;
if (orders === null) throw new Error("a store thread cannot be started as a program");
await keepCompiled();
orders.on("message", (order: ThreadOrder) => {
  // The thread ends when its last owner ends.
  if (order === "end") orders.close();
  else void host(order);
});
