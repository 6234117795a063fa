/** Calls to a thread that owns a file: asked in order, answered in order, one answer a call. */
import { parentPort, type Worker } from "node:worker_threads";
import { assert, type Reason, WaymarkError } from "../lib/errors.ts";
import { FileRefused, messageOf } from "./database-file.io.ts";
import { startThread } from "./thread.io.ts";

/** An answer that is an error. */
interface Failure {
  readonly kind: "failed";
  readonly reason: Reason;
  /** Without the reason before it. */
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Waiting<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** Something has a kind: requests and answers are unions of such. */
interface Kinded {
  readonly kind: string;
}

/** The caller's side. */
export class ThreadCalls<Request extends Kinded, Answer extends Kinded> {
  readonly #worker: Worker;
  readonly #name: string;
  readonly #waiting: Waiting<Answer>[] = [];
  readonly #exited: Promise<void>;
  #broken: WaymarkError | undefined;

  /** Starts the thread `src/store/<name>/worker.io.ts`. */
  constructor(name: string) {
    this.#name = name;
    this.#worker = startThread(name);
    this.#worker.on("message", (answer: Answer | Failure) => this.#answered(answer));
    this.#worker.on("error", (error: Error) => this.#break(`the ${name} thread failed: ${error.message}`, error));
    this.#exited = new Promise((resolve) => {
      this.#worker.once("exit", () => {
        this.#break(`the ${name} is closed`);
        resolve();
      });
    });
  }

  /** Rejects with what the thread threw, and with `store_unavailable` when it is gone. */
  call<Kind extends Answer["kind"]>(
    request: Request,
    answerKind: Kind,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<Extract<Answer, { readonly kind: Kind }>> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#waiting.push({ resolve, reject });
    this.#worker.postMessage(request, transfer);
    return promise.then((answer) => {
      assert(isKind(answer, answerKind), "a thread answered another call", { kind: answer.kind, answerKind });
      return answer;
    });
  }

  /** Resolves when the thread has ended, after a request that ends it. */
  ended(): Promise<void> {
    return this.#exited;
  }

  #answered(answer: Answer | Failure): void {
    const waiting = this.#waiting.shift();
    assert(waiting !== undefined, "a thread answered without being asked", { thread: this.#name });
    if (isFailure(answer)) waiting.reject(new WaymarkError(answer.reason, answer.message, { metadata: answer.metadata }));
    else waiting.resolve(answer);
  }

  #break(message: string, cause?: Error): void {
    this.#broken ??= new WaymarkError("store_unavailable", message, { cause });
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#broken);
  }
}

function isKind<Answer extends Kinded, Kind extends string>(
  answer: Answer,
  kind: Kind,
): answer is Extract<Answer, { readonly kind: Kind }> {
  return answer.kind === kind;
}

function isFailure(answer: Kinded): answer is Failure {
  return answer.kind === "failed";
}

/** The thread's side: what it answers, and the buffers that are moved rather than copied. `isLast` ends the thread. */
export interface Served<Answer> {
  readonly answer: Answer;
  readonly transfer?: readonly ArrayBuffer[];
  readonly isLast?: true;
}

/**
 * Answers every request with what `serve` returns or throws; ends when the first, which opens the file, is refused, and at `close`
 * whatever the disk says to it. For the module of a thread only.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- it names what the other side sends, which no parameter shows
export function serveThread<Request extends Kinded>(serve: (request: Request) => Served<Kinded>): void {
  const port = parentPort;
  if (!port) throw new Error("a thread of the store was started as a program");
  let isOpen = false;
  port.on("message", (request: Request) => {
    try {
      const { answer, transfer = [], isLast } = serve(request);
      isOpen = true;
      port.postMessage(answer, transfer);
      if (isLast === true) port.close();
    } catch (error) {
      port.postMessage(failureOf(error));
      if (!isOpen || request.kind === "close") port.close();
    }
  });
}

function failureOf(error: unknown): Failure {
  if (error instanceof WaymarkError) {
    const { reason, message, details } = error;
    return { kind: "failed", reason, message: message.slice(reason.length + 2), metadata: details.metadata ?? {} };
  }
  const metadata = error instanceof FileRefused ? { problem: error.problem } : {};
  return { kind: "failed", reason: "store_unavailable", message: messageOf(error), metadata };
}
