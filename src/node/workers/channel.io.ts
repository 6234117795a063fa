/** How a node reaches a worker: a thread by its port of messages, or a process by a pipe, over which the same values go as bytes. */
import { fork } from "node:child_process";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { V8_FLAGS } from "../../lib/v8/flags.ts";
import type { FromWorker, ToWorker, WorkerStart } from "./messages.ts";

// The build rewrites the endings of imports, but not of this path.
const ENTRY = new URL(`./worker.io${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url);

/** What is told of a worker. */
export interface WorkerEvents {
  readonly onMessage: (said: FromWorker) => void;
  /** What it did not catch, or why it is gone. */
  readonly onError: (error: unknown) => void;
  /** It is gone. Called once, and last. */
  readonly onExit: () => void;
}

export interface WorkerChannel {
  /** Messages arrive in order, and not at all at a worker that is gone. The memory of `said` may be moved to the worker. */
  readonly post: (message: ToWorker) => void;
  /** Ends it at once, whatever it is at. */
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
    post: (message) => thread.postMessage(message, [message.said.numbers.buffer, message.said.bytes.buffer]),
    terminate: () => void thread.terminate(),
  };
};

export const openProcess: StartWorker = (start, { onMessage, onError, onExit }) => {
  const child = fork(ENTRY, [`dns-${start.number}`], {
    serialization: "advanced",
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    execArgv: [...process.execArgv, ...V8_FLAGS],
  });
  // A message to a process that is gone is lost, as one to a thread would be. That it is gone is told by `exit`.
  const post = (message: ToWorker | WorkerStart) => void child.send(message, undefined, undefined, () => {});
  child.on("message", (said) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- worker.io.ts says nothing else
    onMessage(said as unknown as FromWorker);
  });
  child.on("error", (error) => {
    onError(error);
    // It could not be started, and so will not exit.
    if (child.pid === undefined) onExit();
  });
  child.once("exit", (code, signal) => {
    onError(new Error(signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`));
    onExit();
  });
  post(start);
  return { post, terminate: () => void child.kill("SIGKILL") };
};

// How a worker reaches its node: the other end of a `WorkerChannel`.

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
