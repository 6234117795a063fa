/**
 * Connects a node to a worker. A worker is either a thread with a message port, or a process with a pipe, over which the same values are sent as
 * bytes.
 */
import { fork } from "node:child_process";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { V8_FLAGS } from "../../lib/v8/flags.ts";
import type { FromWorker, ToWorker, WorkerStart } from "./messages.ts";

// The build rewrites the file extensions of imports, but not of this path.
const ENTRY = new URL(`./worker.io${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url);

/** Events of a worker. */
export interface WorkerEvents {
  readonly onMessage: (message: FromWorker) => void;
  /** Called with an uncaught error in the worker, or with the reason why the worker ended. */
  readonly onError: (error: unknown) => void;
  /** Called once when the worker has ended, after all other events. */
  readonly onExit: () => void;
}

export interface WorkerChannel {
  /** Messages arrive in order. Messages to a worker that has ended are dropped. The memory of `changes` may be transferred to the worker. */
  readonly post: (message: ToWorker) => void;
  /** Ends the worker immediately. */
  readonly terminate: () => void;
}

/** Starts a worker. */
export type StartWorker = (start: WorkerStart, events: WorkerEvents) => WorkerChannel;

export const openThread: StartWorker = (start, { onMessage, onError, onExit }) => {
  const thread = new Worker(ENTRY, { name: `reads ${start.number}`, workerData: start });
  thread.on("message", onMessage);
  thread.on("error", onError);
  thread.once("exit", onExit);
  return {
    post: (message) => thread.postMessage(message, [message.changes.numbers.buffer, message.changes.bytes.buffer]),
    terminate: () => void thread.terminate(),
  };
};

export const openProcess: StartWorker = (start, { onMessage, onError, onExit }) => {
  const child = fork(ENTRY, [`dns-${start.number}`], {
    serialization: "advanced",
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    execArgv: [...process.execArgv, ...V8_FLAGS],
  });
  // A message to a process that has ended is lost, as it is with a thread. The `exit` event reports the end.
  const post = (message: ToWorker | WorkerStart) => void child.send(message, undefined, undefined, () => {});
  child.on("message", (message) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- worker.io.ts sends only this type
    onMessage(message as unknown as FromWorker);
  });
  child.on("error", (error) => {
    onError(error);
    // The process could not be started, so it will not exit.
    if (child.pid === undefined) onExit();
  });
  child.once("exit", (code, signal) => {
    onError(new Error(signal === null ? `exit code ${code}` : `killed by ${signal}`));
    onExit();
  });
  post(start);
  return { post, terminate: () => void child.kill("SIGKILL") };
};

// The other end of a `WorkerChannel`, through which a worker reaches its node.

export interface NodeEnd {
  readonly post: (message: FromWorker) => void;
  /** Calls back with each message from now on, in order. */
  readonly follow: (onMessage: (message: ToWorker) => void) => void;
}

/** Signals that a process manager may send to all processes of the node. Only the node handles them. The node then sends orders to its workers. */
const NODE_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Calls `begin` when the node has sent the start options to the worker. */
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
  if (process.send === undefined) throw new Error("worker.io cannot be run directly: it is started by a Waymark node");
  for (const signal of NODE_SIGNALS) process.on(signal, () => {});
  // The node has ended, so no other process would update or end this one.
  process.once("disconnect", () => process.exit());
  const node: NodeEnd = {
    // A message to a node that has ended is lost, and `disconnect` follows.
    post: (message) => void process.send?.(message, undefined, undefined, () => {}),
    follow: (onMessage) => void process.on("message", onMessage),
  };
  process.once("message", (start: WorkerStart) => begin(start, node));
}
