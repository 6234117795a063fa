/** Server streams and echo streams as the async iterables Connect reads: it asks, we pull. */
import type { Message } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { streamEnd } from "../call-end.ts";
import { type MethodChain, type OpenedSource } from "../chain.ts";
import { StreamPump } from "../stream-pump.ts";
import { connectError, decodedAnswer, type EdgeCall, isGivenUp, readingRefusal } from "./call.ts";

/** Runs `expire` after so many ms unless cancelled. */
export type Later = (expire: () => void, delayMs: number) => () => void;

export interface StreamCall {
  readonly chain: MethodChain;
  readonly call: EdgeCall;
  /** Aborted when the stream is over, for whatever reason. */
  readonly signal: AbortSignal;
  readonly later: Later;
}

/** Opens the source of a server stream; throws a ConnectError to refuse. Counts the call when it ends. */
export function openMessages(request: Message, stream: StreamCall): AsyncIterable<Message> {
  const { chain, call } = stream;
  const over = countOnce(stream);
  try {
    const opened = chain.openSource(request, call);
    if (opened instanceof Promise) return openLater(opened, stream, over);
    const messages = new SourceMessages(opened, stream, over);
    return { [Symbol.asyncIterator]: () => messages };
  } catch (thrown) {
    throw refused(thrown, stream, over);
  }
}

/** As above, for a caller whose token has to be verified first. */
async function* openLater(opening: Promise<OpenedSource>, stream: StreamCall, over: Over): AsyncGenerator<Message> {
  const opened = await opening.catch((thrown: unknown) => {
    throw refused(thrown, stream, over);
  });
  // It sees itself whether the stream is over by now.
  const messages = new SourceMessages(opened, stream, over);
  yield* { [Symbol.asyncIterator]: () => messages };
}

type Over = (code: number) => void;

function countOnce({ chain, call }: StreamCall): Over {
  const began = chain.now();
  let isOver = false;
  return (code) => {
    if (!isOver) chain.finish(call, began, code);
    isOver = true;
  };
}

function refused(thrown: unknown, { chain, call }: StreamCall, over: Over): ConnectError {
  const status = chain.status(thrown, call.requestId);
  over(status.code);
  return connectError(status);
}

interface Waiting {
  readonly resolve: (result: IteratorResult<Message, undefined>) => void;
  readonly reject: (error: Error) => void;
}

const DONE: IteratorResult<Message, undefined> = { done: true, value: undefined };

/** A source behind `next()`: asking for a message says that the one before it was taken, and only then is the next pulled. */
class SourceMessages implements AsyncIterator<Message, undefined> {
  readonly #stream: StreamCall;
  readonly #over: Over;
  readonly #pump: StreamPump;
  readonly #cancelDeadline: (() => void) | undefined;
  #isStarted = false;
  #waiting: Waiting | undefined;
  /** How the stream ended while nobody asked. */
  #ended: { readonly error: ConnectError | undefined } | undefined;

  constructor({ source, context }: OpenedSource, stream: StreamCall, over: Over) {
    this.#stream = stream;
    this.#over = over;
    const { chain, call, signal, later } = stream;
    this.#pump = new StreamPump(source, { write: (bytes) => this.#give(bytes), finish: (error) => this.#finish(error) }, () => chain.now());
    const end = streamEnd(call, context);
    this.#cancelDeadline = end === undefined ? undefined : later(() => this.#pump.end(end.error), end.afterMs);
    if (signal.aborted) this.#gone();
    else signal.addEventListener("abort", () => this.#gone(), { once: true });
  }

  next(): Promise<IteratorResult<Message, undefined>> {
    if (this.#ended !== undefined) {
      const { error } = this.#ended;
      this.#ended = { error: undefined };
      return error === undefined ? Promise.resolve(DONE) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      if (this.#isStarted) this.#pump.taken();
      else {
        this.#isStarted = true;
        this.#pump.start();
      }
    });
  }

  return(): Promise<IteratorResult<Message, undefined>> {
    this.#gone();
    return Promise.resolve(DONE);
  }

  #give(bytes: Uint8Array): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    try {
      const value = decodedAnswer(this.#stream.chain.desc.output, bytes);
      waiting?.resolve({ done: false, value });
    } catch (thrown) {
      this.#pump.gone();
      waiting?.reject(refused(thrown, this.#stream, this.#over));
    }
  }

  #finish(thrown: unknown): void {
    this.#cancelDeadline?.();
    let error: ConnectError | undefined;
    if (thrown === undefined) this.#over(0);
    else error = refused(thrown, this.#stream, this.#over);
    this.#ended = { error };
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#waiting = undefined;
    this.#ended = { error: undefined };
    if (error === undefined) waiting.resolve(DONE);
    else waiting.reject(error);
  }

  #gone(): void {
    this.#cancelDeadline?.();
    this.#over(1);
    this.#pump.gone();
    this.#ended ??= { error: undefined };
    this.#waiting?.resolve(DONE);
    this.#waiting = undefined;
  }
}

/** Answers each request of an echo stream in order; the next is read when the answer before it was taken. */
export async function* echoReplies(requests: AsyncIterable<Message>, stream: StreamCall): AsyncGenerator<Message> {
  const { chain, call, signal, later } = stream;
  const over = countOnce(stream);
  signal.addEventListener("abort", () => over(1), { once: true });
  const reading = new Interruptible();
  const answering = new Interruptible();
  const expire = (error: Error) => {
    reading.interrupt(error);
    answering.interrupt(error);
  };
  let cancelEnd: (() => void) | undefined;
  // A request that came is still answered; only waiting for the next ends.
  const stay = chain.onDrain((error) => reading.interrupt(error));
  const reader = requests[Symbol.asyncIterator]();
  try {
    const context = await chain.openStream(call);
    const end = streamEnd(call, context);
    if (end !== undefined) cancelEnd = later(() => expire(end.error), end.afterMs);
    for (;;) {
      const read = await reading.wait(reader.next());
      if (read.done === true) break;
      call.release();
      const answer = await answering.wait(Promise.resolve(chain.echo(read.value, context)));
      yield decodedAnswer(chain.desc.output, answer);
    }
    over(0);
  } catch (thrown) {
    if (isGivenUp(thrown)) over(1);
    throw refused(thrown instanceof ConnectError ? readingRefusal(thrown) : thrown, stream, over);
  } finally {
    cancelEnd?.();
    stay();
  }
}

/** One wait at a time that can be ended from outside. Not Promise.race, which keeps something of every wait until the last. */
class Interruptible {
  #error: Error | undefined;
  #reject: ((error: Error) => void) | undefined;

  interrupt(error: Error): void {
    this.#error ??= error;
    this.#reject?.(this.#error);
  }

  wait<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      if (this.#error !== undefined) reject(this.#error);
      promise.then(resolve, reject);
    });
  }
}
