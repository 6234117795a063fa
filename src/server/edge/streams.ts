/**
 * Streams as async iterables, which Connect and the routes of events read. When the reader requests the next response, it has accepted the previous
 * response.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { WriteCallback } from "../../grpc/wire/message-reader.ts";
import type { CallArrival, MethodChain } from "../chain.ts";
import type { RpcStatus } from "../status.ts";
import { RequestStream, SourceStream, type StreamExchange } from "../streams.ts";
import { connectError, decodedAnswer, type EdgeCall, isGivenUp, readingRefusal } from "./call.ts";

export interface StreamCall {
  readonly chain: MethodChain;
  readonly call: EdgeCall;
  /** Aborted when the stream ends, for any reason. */
  readonly signal: AbortSignal;
}

/** Returns the responses to one request. */
export function sourceAnswers(request: Message, called: StreamCall): AsyncIterable<Message> {
  const exchange = new EdgeExchange(called.call.arrival, called.chain.desc.output);
  const stream = new SourceStream(called.chain, exchange);
  exchange.onGone(() => stream.gone(), called.signal);
  stream.open(request);
  return { [Symbol.asyncIterator]: () => exchange };
}

/** Returns the responses to a stream of requests. Each request is read when the earlier requests have been processed. */
export function streamAnswers(requests: AsyncIterable<Message>, called: StreamCall): AsyncIterable<Message> {
  const exchange = new EdgeExchange(called.call.arrival, called.chain.desc.output);
  const stream = new RequestStream(called.chain, exchange);
  exchange.onGone(() => stream.gone(), called.signal);
  stream.open();
  void readAll(requests, { exchange, stream, call: called.call });
  return { [Symbol.asyncIterator]: () => exchange };
}

interface RequestReading {
  readonly exchange: EdgeExchange;
  readonly stream: RequestStream;
  readonly call: EdgeCall;
}

async function readAll(requests: AsyncIterable<Message>, { exchange, stream, call }: RequestReading): Promise<void> {
  const reader = requests[Symbol.asyncIterator]();
  try {
    for (;;) {
      await exchange.whenReading();
      const read = await reader.next();
      call.release();
      await exchange.whenReading(); // The stream may have been paused during the read.
      if (exchange.isOver) return;
      if (read.done === true) break;
      stream.message(read.value);
    }
    stream.halfClosed();
  } catch (thrown) {
    if (isGivenUp(thrown)) exchange.leave();
    else stream.fail(thrown instanceof ConnectError ? readingRefusal(thrown) : thrown);
  }
}

interface PendingPull {
  readonly resolve: (result: IteratorResult<Message, undefined>) => void;
  readonly reject: (error: Error) => void;
}

interface QueuedAnswer {
  readonly message: Message;
  readonly taken: WriteCallback | undefined;
}

const DONE: IteratorResult<Message, undefined> = { done: true, value: undefined };

/** The messages of bytes that several streams share. Each of them is decoded once. */
const DECODED = new WeakMap<Uint8Array, Message>();

function sharedAnswer(desc: DescMessage, answer: Message | Uint8Array): Message {
  if (!(answer instanceof Uint8Array)) return answer;
  const message = DECODED.get(answer) ?? decodedAnswer(desc, answer);
  DECODED.set(answer, message);
  return message;
}

/** A stream on the HTTP edge. Responses are queued until the reader requests them. */
export class EdgeExchange implements StreamExchange, AsyncIterator<Message, undefined> {
  readonly arrival: CallArrival;
  readonly #output: DescMessage;
  readonly #answers: QueuedAnswer[] = [];
  /** The error with which the stream ended. */
  status: RpcStatus | undefined;
  /** Callback for the last response that was passed to the reader. */
  #taken: WriteCallback | undefined;
  #waiting: PendingPull | undefined;
  #onRoomy: (() => void) | undefined;
  #reading: PromiseWithResolvers<undefined> | undefined;
  /** How the stream ended. The reader receives the end once, after the queued responses. */
  #ended: { readonly error: ConnectError | undefined } | undefined;
  #gone: () => void = () => {};

  constructor(arrival: CallArrival, output: DescMessage) {
    this.arrival = arrival;
    this.#output = output;
  }

  /** Calls `gone` when the client disconnects, which aborts the signal. */
  onGone(gone: () => void, signal: AbortSignal): void {
    this.#gone = gone;
    if (signal.aborted) this.leave();
    else signal.addEventListener("abort", () => this.leave(), { once: true });
  }

  get isOver(): boolean {
    return this.#ended !== undefined;
  }

  begin(): void {}

  send(answer: Message | Uint8Array, taken?: WriteCallback): boolean {
    const message = sharedAnswer(this.#output, answer);
    if (this.#ended !== undefined) return true;
    this.#answers.push({ message, taken });
    this.#give();
    return this.#answers.length === 0;
  }

  onceRoomy(goOn: () => void): void {
    this.#onRoomy = goOn;
  }

  pause(): void {
    this.#reading ??= Promise.withResolvers();
  }

  resume(): void {
    this.#reading?.resolve(undefined);
    this.#reading = undefined;
  }

  /** Resolves when requests are not paused. */
  async whenReading(): Promise<void> {
    while (this.#reading !== undefined) await this.#reading.promise;
  }

  end(): void {
    this.#ended ??= { error: undefined };
    this.#give();
  }

  fail(status: RpcStatus): void {
    this.status = status;
    this.#ended ??= { error: connectError(status) };
    this.#give();
  }

  next(): Promise<IteratorResult<Message, undefined>> {
    const taken = this.#taken;
    this.#taken = undefined;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      taken?.();
      this.#give();
    });
  }

  return(): Promise<IteratorResult<Message, undefined>> {
    this.leave();
    return Promise.resolve(DONE);
  }

  /** Passes a queued response to the reader if it is waiting for one. */
  #give(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    const first = this.#answers.shift();
    if (first === undefined && this.#ended === undefined) return;
    this.#waiting = undefined;
    if (first !== undefined) {
      this.#taken = first.taken;
      waiting.resolve({ done: false, value: first.message });
      this.#roomy();
      return;
    }
    const error = this.#ended?.error;
    this.#ended = { error: undefined };
    if (error === undefined) waiting.resolve(DONE);
    else waiting.reject(error);
  }

  #roomy(): void {
    if (this.#answers.length > 0) return;
    const goOn = this.#onRoomy;
    this.#onRoomy = undefined;
    goOn?.();
  }

  /** Ends the stream because the client disconnected. */
  leave(): void {
    this.#gone();
    this.#answers.length = 0;
    this.#onRoomy = undefined;
    this.end();
    this.resume(); // The loop that reads requests then detects that the stream has ended.
  }
}
