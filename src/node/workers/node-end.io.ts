/** How a worker reaches its node: the other end of `channel.io.ts`. */
import { parentPort, workerData } from "node:worker_threads";
import type { FromWorker, ToWorker, WorkerStart } from "./messages.ts";

export interface NodeEnd {
  readonly post: (message: FromWorker) => void;
  /** Calls back with each message, in order, from now on. */
  readonly follow: (onMessage: (message: ToWorker) => void) => void;
}

/** Signals that whoever stops or reloads a node may send to all of its processes. The node heeds them, and says what a worker is to do. */
const OF_THE_NODE = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Calls `begin` when the node has said what the worker starts with. */
export function openNodeEnd(begin: (start: WorkerStart, node: NodeEnd) => void): void {
  const port = parentPort;
  if (port === null) return openPipe(begin);
  const post = (message: FromWorker) => {
    const { calls } = message;
    port.postMessage(message, calls === undefined ? [] : [calls.said.numbers.buffer, calls.said.bytes.buffer]);
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- channel.io.ts is the only starter and hands over this type
  begin(workerData as WorkerStart, { post, follow: (onMessage) => void port.on("message", onMessage) });
}

function openPipe(begin: (start: WorkerStart, node: NodeEnd) => void): void {
  if (process.send === undefined) throw new Error("a worker of a node was started as a program");
  for (const signal of OF_THE_NODE) process.on(signal, () => {});
  // The node is gone, however it ended: nobody would tell this process of a change any more, or end it.
  process.once("disconnect", () => process.exit());
  const node: NodeEnd = {
    // To a node that is gone nothing can be said, and `disconnect` follows.
    post: (message) => void process.send?.(message, undefined, undefined, () => {}),
    follow: (onMessage) => void process.on("message", onMessage),
  };
  process.once("message", (start: WorkerStart) => begin(start, node));
}
