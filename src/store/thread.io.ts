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

/** The owner of a file, which lives in a thread: the caller's side calls its methods by name. Each takes one argument, and may mark buffers. */
export interface Owner {
  /** The answer to `open`. */
  readonly opened: unknown;
  /** Lets go of the file. The thread ends then. */
  close(): void;
}

type Method = (request: never, move: Move) => unknown;
type MethodName<O> = { [Name in keyof O]: O[Name] extends Method ? Name : never }[keyof O] & string;
type Request<O, Name extends keyof O> = O[Name] extends (request: infer R, move: Move) => unknown ? R : never;
type Answer<O, Name extends keyof O> = O[Name] extends (request: never, move: Move) => infer A ? A : never;

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

/** The caller's side of a thread. `O` is the type of the owner that its module serves, and `R` what that is opened with. */
export class ThreadCalls<O extends Owner, R> {
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

  /** Opens the file; to be called first. Resolves to what the owner says of it, and rejects as `call` does. */
  open(request: R): Promise<O["opened"]> {
    return this.#ask<O["opened"]>("open", request, []);
  }

  /** Rejects with what the method threw, and with `store_unavailable` when the thread has ended. Buffers in `transfer` are moved. */
  call<Name extends MethodName<O>>(
    method: Name,
    request?: Request<O, Name>,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<Answer<O, Name>> {
    return this.#ask<Answer<O, Name>>(method, request, transfer);
  }

  /** Has the thread close its file, and resolves when it has ended. Does the same when it ended before. */
  async close(): Promise<void> {
    try {
      await this.#ask("close", undefined, []);
    } catch (error) {
      // The thread is gone already, and nothing is held any more.
      if (!(error instanceof WaymarkError)) throw error;
    }
    await this.#exited;
  }

  #ask<A>(method: string, request: unknown, transfer: readonly ArrayBuffer[]): Promise<A> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    this.#waiting.push({ resolve, reject });
    this.#worker.postMessage({ method, request } satisfies Call, transfer);
    return promise;
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
  /** Whether any method that throws ends the thread. Without it only a failed opening and `close` do. */
  readonly endsOnFailure?: boolean;
  /** Runs after each answer that does not end the thread. */
  readonly afterAnswer?: () => void;
}

/**
 * Opens the owner of a file with the first request, and then answers every call with what its method returns or throws. The thread ends after
 * `close`, and when the first call fails. For the module of a thread only.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- it names what the caller opens with, which no parameter shows
export function serveThread<R>(open: (request: R) => Owner, { endsOnFailure = false, afterAnswer = () => {} }: ServeOptions = {}): void {
  const port = parentPort;
  if (port === null) throw new Error(outside);
  let owner: Owner | undefined;
  let isOver = false;
  port.on("message", ({ method, request }: { readonly method: string; readonly request: R }) => {
    // A closed port may still give messages that came before.
    if (isOver) return;
    const moved: ArrayBuffer[] = [];
    const move: Move = (buffer) => {
      if (buffer instanceof ArrayBuffer) moved.push(buffer);
    };
    try {
      let answer: unknown;
      if (owner === undefined && method === "open") {
        owner = open(request);
        answer = owner.opened;
      } else if (owner !== undefined) {
        const run: unknown = Reflect.get(owner, method);
        assert(typeof run === "function", "a thread was asked for a method that it does not have", { method });
        answer = run.call(owner, request, move);
      } else assert(method === "close", "a thread was asked before it was open", { method });
      isOver = method === "close";
      post({ kind: "answer", answer }, moved);
    } catch (error) {
      isOver = owner === undefined || endsOnFailure || method === "close";
      // Before the answer: callers may look at the directory, or open it again.
      if (isOver && method !== "close") owner?.close();
      post(failureOf(error));
    }
    if (isOver) port.close();
    else afterAnswer();
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
