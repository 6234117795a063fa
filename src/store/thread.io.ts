/** Starts a thread of this room. */
import { Worker } from "node:worker_threads";

/** Starts `src/store/<name>-worker.io.ts`; what is posted before it listens waits for it. */
export function startThread(name: string): Worker {
  // The compiler rewrites the endings of imports, but not of these.
  const ending = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  const entry = new URL(`./thread-entry.io${ending}`, import.meta.url);
  return new Worker(entry, { name, workerData: `./${name}-worker.io${ending}` });
}
