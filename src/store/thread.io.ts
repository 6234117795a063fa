/** Threads that own a database file: the store asks one by calling methods of it, in order, and each call gets one answer. */
import { parentPort, Worker } from "node:worker_threads";
import { assert, type Reason, WaymarkError } from "../lib/errors.ts";
import { FileRefused, messageOf } from "./database-file.io.ts";

/** How long an ending process waits for its threads, in ms: longer than an fsync of a working disk takes. */
const LAST_CLOSE_MS = 2000;

/** What a thread is started with: the module that it runs, and the word that it sets to 1 when it has ended. */
export interface ThreadData {
  readonly module: string;
  readonly ended: Int32Array;
}

/** The running threads, each with the word that says whether it has ended. */
const running = new Map<Worker, Int32Array>();

/**
 * Closes the files of all threads when the process ends by `process.exit` or an exception. Node would close their databases, and SQLite would
 * then remove the logs of files that have no seal: the next start would take them for files that have lost their logs. A process that has to
 * wait too long ends as by `kill -9`, which leaves the logs in place.
 */
function closeThreads(): void {
  const endMs = performance.now() + LAST_CLOSE_MS;
  for (const worker of running.keys()) worker.postMessage({ method: "close" } satisfies Call, []);
  for (const ended of running.values()) {
    if (Atomics.wait(ended, 0, 0, Math.max(0, endMs - performance.now())) === "timed-out") process.kill(process.pid, "SIGKILL");
  }
}

/** Starts `src/store/<name>/worker.io.ts`. Messages that are posted before the module listens wait for it. */
function startThread(name: string): Worker {
  // The build rewrites the endings of imports, but not of these paths.
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

/** Marks a buffer of an answer that is moved to the other thread rather than copied. */
export type Move = (buffer: ArrayBufferLike | undefined) => void;
/** What a thread can be asked. `open` is called first and `close` last. */
type Methods = Readonly<Record<string, (request: never, move: Move) => unknown>> & { close(): void };

interface Call {
  readonly method: string;
  readonly request?: unknown;
}

type Reply =
  | { readonly kind: "answer"; readonly answer: unknown }
  /** The method threw. `message` is without the reason before it. */
  | { readonly kind: "failed"; readonly reason: Reason; readonly message: string; readonly metadata: Readonly<Record<string, string>> }
  /** Nothing was asked: see `notify`. */
  | { readonly kind: "notice"; readonly message: string };

interface Waiting {
  // A method, so that a promise of the call's own type fits. Only the thread that was asked answers it.
  resolve(answer: unknown): void;
  readonly reject: (error: Error) => void;
}

/** The caller's side of a thread. `M` is the type of the methods that its module serves. */
export class ThreadCalls<M extends Methods> {
  readonly #worker: Worker;
  readonly #name: string;
  readonly #onNotice: (message: string) => void;
  /** In the order of the calls, which is the order of the answers. */
  readonly #waiting: Waiting[] = [];
  readonly #exited: Promise<void>;
  #broken: WaymarkError | undefined;

  /** Starts the thread `src/store/<name>/worker.io.ts`. */
  constructor(name: string, onNotice: (message: string) => void = () => {}) {
    this.#name = name;
    this.#onNotice = onNotice;
    this.#worker = startThread(name);
    this.#worker.on("message", (reply: Reply) => this.#replied(reply));
    this.#worker.on("error", (error: Error) => this.#break(`the ${name} thread failed: ${error.message}`, error));
    this.#exited = new Promise((resolve) => {
      this.#worker.once("exit", () => {
        this.#break(`the ${name} is closed`);
        resolve();
      });
    });
  }

  /** Rejects with what the method threw, and with `store_unavailable` when the thread has ended. Buffers in `transfer` are moved. */
  call<Name extends keyof M & string>(
    method: Name,
    request?: Parameters<M[Name]>[0],
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<ReturnType<M[Name]>> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const { promise, resolve, reject } = Promise.withResolvers<ReturnType<M[Name]>>();
    this.#waiting.push({ resolve, reject });
    this.#worker.postMessage({ method, request } satisfies Call, transfer);
    return promise;
  }

  /** Has the thread close its file, and resolves when it has ended. Does the same when it ended before. */
  async close(): Promise<void> {
    try {
      await this.call("close");
    } catch (error) {
      // The thread is gone already, and nothing is held any more.
      if (!(error instanceof WaymarkError)) throw error;
    }
    await this.#exited;
  }

  #replied(reply: Reply): void {
    if (reply.kind === "notice") {
      this.#onNotice(reply.message);
      return;
    }
    const waiting = this.#waiting.shift();
    assert(waiting !== undefined, "a thread answered without being asked", { thread: this.#name });
    if (reply.kind === "answer") waiting.resolve(reply.answer);
    else waiting.reject(new WaymarkError(reply.reason, reply.message, { metadata: reply.metadata }));
  }

  #break(message: string, cause?: Error): void {
    this.#broken ??= new WaymarkError("store_unavailable", message, { cause });
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#broken);
  }
}

const outside = "a thread of the store was started as a program";

function post(reply: Reply, transfer: readonly ArrayBuffer[] = []): void {
  if (parentPort === null) throw new Error(outside);
  parentPort.postMessage(reply, transfer);
}

/** Tells the caller's side something that it did not ask for. For the module of a thread only. */
export function notify(message: string): void {
  post({ kind: "notice", message });
}

export interface ServeOptions {
  /** Whether any method that throws ends the thread. Without it only `open` and `close` do. */
  readonly endsOnFailure?: boolean;
  /** Runs after each answer that does not end the thread. */
  readonly afterAnswer?: () => void;
}

/**
 * Answers every call with what its method returns or throws. The thread ends after `close`, and when the first call, which opens the file,
 * fails; the file is closed then as well. For the module of a thread only.
 */
export function serveThread(methods: Methods, { endsOnFailure = false, afterAnswer = () => {} }: ServeOptions = {}): void {
  const port = parentPort;
  if (port === null) throw new Error(outside);
  let isOpen = false;
  port.on("message", ({ method, request }: { readonly method: string; readonly request: never }) => {
    const moved: ArrayBuffer[] = [];
    try {
      const run = methods[method];
      assert(run !== undefined, "a thread was asked for a method that it does not have", { method });
      const answer = run(request, (buffer) => {
        if (buffer instanceof ArrayBuffer) moved.push(buffer);
      });
      isOpen = true;
      post({ kind: "answer", answer }, moved);
      if (method === "close") port.close();
      else afterAnswer();
    } catch (error) {
      const ends = !isOpen || endsOnFailure || method === "close";
      // Before the answer: callers may look at the directory, or open it again.
      if (ends && method !== "close") methods.close();
      post(failureOf(error));
      if (ends) port.close();
    }
  });
}

function failureOf(error: unknown): Reply {
  if (error instanceof WaymarkError) {
    const { reason, message, details } = error;
    return { kind: "failed", reason, message: message.slice(reason.length + 2), metadata: details.metadata ?? {} };
  }
  const metadata = error instanceof FileRefused ? { problem: error.problem } : {};
  return { kind: "failed", reason: "store_unavailable", message: messageOf(error), metadata };
}
