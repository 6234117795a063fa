/**
 * Runs the owners of database files in a thread, so that a slow fsync does not block client streams. The store calls methods of a file's owner in
 * order, and gets one answer per call. All owners share one thread: a second thread would use 13 MB of memory and 60 ms of CPU time at each start. The
 * journal waits while another owner works, so long work is divided into slices, most of them shorter than 10 ms.
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { assert, type ErrorReason, WaymarkError } from "../lib/errors.ts";
import { FileRefusedError, messageOf } from "./database-file.io.ts";

/** Time for which a process waits for its threads before it exits, in ms. This time is longer than an fsync on a healthy disk. */
const LAST_CLOSE_MS = 2000;

/** The folders of `src/store/` whose `worker.io.ts` is the module of an owner. */
export type OwnerName = "journal" | "audit" | "control";

/** The data with which a thread is started: a number that the thread sets to 1 when it has ended. */
export interface ThreadData {
  readonly ended: Int32Array;
}

/** A message to a thread: the module of an owner and the port on which to run it, or `end` if no further owner follows. */
export type ThreadOrder = { readonly module: string; readonly port: MessagePort } | "end";

interface ThreadHandle {
  readonly worker: Worker;
  readonly ended: Int32Array;
  /** The open ports of the thread's owners. */
  readonly ports: Set<MessagePort>;
}

/** The thread in which further owners run. Undefined if none is running, or if its last owner has closed. */
let open: ThreadHandle | undefined;
/** All running threads: the open one, and those that are about to end. */
const running = new Set<ThreadHandle>();

/**
 * Closes the files of all threads when the process ends because of `process.exit` or an exception. Otherwise Node would close their databases, and
 * SQLite would remove the logs of files without a seal, so that the next start would report lost logs. If this would take too long, the process ends
 * as with `kill -9`, which leaves the write-ahead logs in place.
 */
function closeThreads(): void {
  const endMs = performance.now() + LAST_CLOSE_MS;
  for (const { worker, ports } of running) {
    for (const port of ports) port.postMessage({ method: "close" } satisfies ThreadCall, []);
    worker.postMessage("end" satisfies ThreadOrder, []);
  }
  for (const { ended } of running) {
    if (Atomics.wait(ended, 0, 0, Math.max(0, endMs - performance.now())) === "timed-out") process.kill(process.pid, "SIGKILL");
  }
}

// The build rewrites the extensions of imports, but not of these paths.
const ENDING = import.meta.url.endsWith(".ts") ? ".ts" : ".js";

function startThread(): ThreadHandle {
  const entry = new URL(`./thread-entry.io${ENDING}`, import.meta.url);
  const data: ThreadData = { ended: new Int32Array(new SharedArrayBuffer(4)) };
  const worker = new Worker(entry, { name: "store", workerData: data });
  const thread = { worker, ended: data.ended, ports: new Set<MessagePort>() };
  if (running.size === 0) process.once("exit", closeThreads);
  running.add(thread);
  // Each owner adds a listener for the end of the thread, so the number of listeners is not limited.
  worker.setMaxListeners(0);
  worker.once("exit", () => {
    running.delete(thread);
    if (open === thread) open = undefined;
    if (running.size === 0) process.off("exit", closeThreads);
  });
  return thread;
}

/** Runs an owner in the thread, and starts the thread if it is not running. Messages that are posted before the module listens are queued. */
function serveIn(name: OwnerName): { readonly thread: ThreadHandle; readonly port: MessagePort } {
  open ??= startThread();
  const thread = open;
  const { port1: port, port2 } = new MessageChannel();
  thread.ports.add(port);
  thread.worker.postMessage({ module: `./${name}/worker.io${ENDING}`, port: port2 } satisfies ThreadOrder, [port2]);
  port.once("close", () => {
    thread.ports.delete(port);
    if (thread.ports.size > 0 || open !== thread) return;
    open = undefined;
    thread.worker.postMessage("end" satisfies ThreadOrder, []);
  });
  return { thread, port };
}

/** Marks a buffer in an answer so that it is moved to the other thread instead of copied. */
export type TransferBuffer = (buffer: ArrayBufferLike | undefined) => void;

/**
 * The owner of a file, which runs in a thread. Its methods are called by name from the caller's thread. Each method has one parameter, and can mark
 * buffers that are moved.
 */
export interface ThreadOwner {
  /** The answer to `open`. */
  readonly opened: unknown;
  /** Releases the file. */
  close(): void;
}

type OwnerMethod = (request: never, move: TransferBuffer) => unknown;
type MethodName<O> = { [Name in keyof O]: O[Name] extends OwnerMethod ? Name : never }[keyof O] & string;
type OwnerRequest<O, Name extends keyof O> = O[Name] extends (request: infer R, move: TransferBuffer) => unknown ? R : never;
type OwnerAnswer<O, Name extends keyof O> = O[Name] extends (request: never, move: TransferBuffer) => infer A ? A : never;

interface ThreadCall {
  readonly method: string;
  readonly request?: unknown;
}

type ThreadReply =
  | { readonly kind: "answer"; readonly answer: unknown }
  /** The method threw. `message` does not include the reason. */
  | { readonly kind: "failed"; readonly reason: ErrorReason; readonly message: string; readonly metadata: Readonly<Record<string, string>> }
  /** A notice that does not belong to a call; see `notify`. */
  | { readonly kind: "notice"; readonly message: string };

interface PendingReply {
  // This is declared as a method, so that a promise of the call's own type can be assigned. It is resolved only by the called thread.
  resolve(answer: unknown): void;
  readonly reject: (error: Error) => void;
}

/** The caller's interface to an owner in a thread. `O` is the type of the owner, and `R` is the type of the request that opens it. */
export class ThreadCalls<O extends ThreadOwner, R> {
  readonly #port: MessagePort;
  readonly #name: OwnerName;
  readonly #onNotice: (message: string) => void;
  /** The pending replies, in the order of the calls. Answers arrive in the same order. */
  readonly #waiting: PendingReply[] = [];
  readonly #exited: Promise<void>;
  #broken: WaymarkError | undefined;

  /** Starts to run the owner in `src/store/<name>/worker.io.ts` in its thread. */
  constructor(name: OwnerName, onNotice: (message: string) => void = () => {}) {
    this.#name = name;
    this.#onNotice = onNotice;
    const { thread, port } = serveIn(name);
    this.#port = port;
    port.on("message", (reply: ThreadReply) => this.#replied(reply));
    const onError = (error: Error) => this.#break(`the store thread failed: ${error.message}`, error);
    thread.worker.once("error", onError);
    const exited = new Promise<void>((resolve) => thread.worker.once("exit", resolve));
    // When the port closes, the owner has released its file. If the thread ends with its last owner, the end of the thread is also awaited, because a
    // thread uses memory.
    this.#exited = new Promise((resolve) => {
      port.once("close", () => {
        thread.worker.off("error", onError);
        this.#break(`the ${name} is closed`);
        if (thread.ports.size === 0) void exited.then(resolve);
        else resolve();
      });
    });
  }

  /** Opens the file. This method must be called first. Resolves to the owner's `opened`, and rejects in the same cases as `call`. */
  open(request: R): Promise<O["opened"]> {
    return this.#ask<O["opened"]>("open", request, []);
  }

  /** Rejects with the method's error, or with `store_unavailable` if the thread has ended. Buffers in `transfer` are moved to the thread. */
  call<Name extends MethodName<O>>(
    method: Name,
    request?: OwnerRequest<O, Name>,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<OwnerAnswer<O, Name>> {
    return this.#ask<OwnerAnswer<O, Name>>(method, request, transfer);
  }

  /** Makes the owner close its file. Resolves when the thread has ended, even if it had already ended before. */
  async close(): Promise<void> {
    try {
      await this.#ask("close", undefined, []);
    } catch (error) {
      // The thread has already ended and has no open file.
      if (!(error instanceof WaymarkError)) throw error;
    }
    await this.#exited;
  }

  #ask<A>(method: string, request: unknown, transfer: readonly ArrayBuffer[]): Promise<A> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    this.#waiting.push({ resolve, reject });
    this.#port.postMessage({ method, request } satisfies ThreadCall, transfer);
    return promise;
  }

  #replied(reply: ThreadReply): void {
    if (reply.kind === "notice") {
      this.#onNotice(reply.message);
      return;
    }
    const waiting = this.#waiting.shift();
    assert(waiting !== undefined, "a thread answered a call that is not pending", { thread: this.#name });
    if (reply.kind === "answer") waiting.resolve(reply.answer);
    else waiting.reject(new WaymarkError(reply.reason, reply.message, { metadata: reply.metadata }));
  }

  #break(message: string, cause?: Error): void {
    this.#broken ??= new WaymarkError("store_unavailable", message, { cause });
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#broken);
  }
}

export interface ThreadServeOptions {
  /** Whether the owner ends when any method throws. By default, it ends only after `close`, or if it could not be opened. */
  readonly endsOnFailure?: boolean;
  /** Runs after each answer, unless the answer ends the owner. */
  readonly afterAnswer?: () => void;
}

/** Sends the caller's side a message that is not an answer. */
export type NotifyCaller = (message: string) => void;

/** The `serve` export of an owner's module. This function answers calls on the port. */
export type ServeFunction = (port: MessagePort) => void;

/**
 * Opens the owner of a file with the first request. Then answers every call with the result or the error of its method. The port closes after
 * `close`, or if the first request fails.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- it is the caller's type of open request, and no parameter has it
export function serving<R>(
  openOwner: (request: R, notify: NotifyCaller) => ThreadOwner,
  { endsOnFailure = false, afterAnswer = () => {} }: ThreadServeOptions = {},
): ServeFunction {
  return (port) => {
    const post = (reply: ThreadReply, transfer: readonly ArrayBuffer[] = []) => port.postMessage(reply, transfer);
    const notify = (message: string) => post({ kind: "notice", message });
    let owner: ThreadOwner | undefined;
    let isOver = false;
    port.on("message", ({ method, request }: { readonly method: string; readonly request: R }) => {
      // A closed port may still deliver messages that were sent earlier.
      if (isOver) return;
      const moved: ArrayBuffer[] = [];
      const move: TransferBuffer = (buffer) => {
        if (buffer instanceof ArrayBuffer) moved.push(buffer);
      };
      try {
        let answer: unknown;
        if (owner === undefined && method === "open") {
          owner = openOwner(request, notify);
          answer = owner.opened;
        } else if (owner !== undefined) {
          const run: unknown = Reflect.get(owner, method);
          assert(typeof run === "function", "a thread received a call to an unknown method", { method });
          answer = run.call(owner, request, move);
        } else assert(method === "close", "a thread received a call before it was opened", { method });
        isOver = method === "close";
        post({ kind: "answer", answer }, moved);
      } catch (error) {
        isOver = owner === undefined || endsOnFailure || method === "close";
        // The file is closed before the answer is sent, because callers may then inspect the directory or open it again.
        if (isOver && method !== "close") owner?.close();
        post(failureOf(error));
      }
      if (isOver) port.close();
      else afterAnswer();
    });
  };
}

function failureOf(error: unknown): ThreadReply {
  if (error instanceof WaymarkError) {
    const { reason, message, details } = error;
    return { kind: "failed", reason, message: message.slice(reason.length + 2), metadata: details.metadata ?? {} };
  }
  const metadata = error instanceof FileRefusedError ? { problem: error.problem } : {};
  return { kind: "failed", reason: "store_unavailable", message: messageOf(error), metadata };
}
