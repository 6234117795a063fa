/** Starts a thread of this room, and has it close its file when the process ends without asking it to. */
import { Worker } from "node:worker_threads";

/** What an ending process waits for its threads, in ms: more than an fsync of a disk that works. */
const LAST_CLOSE_MS = 2000;

/** Handed to a thread: the module it runs, and where it says that it has ended (1). */
export interface ThreadData {
  readonly module: string;
  readonly ended: Int32Array;
}

/** Threads that run, each with its word that it has ended. */
const running = new Map<Worker, Int32Array>();

/**
 * A process that ends by `process.exit` or an exception has Node close the databases of its threads. SQLite then removes their logs, but
 * nobody seals the files, and the next start would take them for files that have lost their logs. So every thread is asked to close in
 * order, and waited for. When that takes too long, the process ends as by `kill -9`, which leaves the logs where they are.
 */
function closeThreads(): void {
  const endMs = performance.now() + LAST_CLOSE_MS;
  for (const worker of running.keys()) worker.postMessage({ kind: "close" }, []);
  for (const ended of running.values()) {
    if (Atomics.wait(ended, 0, 0, Math.max(0, endMs - performance.now())) === "timed-out") process.kill(process.pid, "SIGKILL");
  }
}

/** Starts `src/store/<name>/worker.io.ts`; what is posted before it listens waits for it. Every such module ends when it is sent `{ kind: "close" }`. */
export function startThread(name: string): Worker {
  // The compiler rewrites the endings of imports, but not of these.
  const ending = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  const entry = new URL(`./thread-entry.io${ending}`, import.meta.url);
  const data: ThreadData = { module: `./${name}/worker.io${ending}`, ended: new Int32Array(new SharedArrayBuffer(4)) };
  const worker = new Worker(entry, { name, workerData: data });
  if (running.size === 0) process.once("exit", closeThreads);
  running.set(worker, data.ended);
  worker.once("exit", () => {
    running.delete(worker);
    if (running.size === 0) process.off("exit", closeThreads);
  });
  return worker;
}
