/** Streams from their admission to their end, whatever their kind and whatever carries them: each is counted once, and ends when its time is over. */
import type { Message } from "@bufbuild/protobuf";
import { expired } from "../grpc/wire/timeout.ts";
import { WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import type { Answers, CallContext, RequestListener } from "../services/service.ts";
import { outlived } from "./call-end.ts";
import type { Arrival, MethodChain } from "./chain.ts";
import type { RpcStatus } from "./status.ts";
import { StreamPump } from "./stream-pump.ts";

/** Called when the transport took an answer; with an error when the stream is gone instead, null for none. */
export type Taken = (error?: Error | null) => void;

/** A stream as its transport has it. An order to one that is gone does nothing. */
export interface StreamExchange extends Arrival {
  /** The stream is admitted: response headers may go. */
  begin(context: CallContext): void;
  /** Sends one answer. False: the next should wait for `onceRoomy`. Throws when the answer cannot be encoded or is too large. */
  send(answer: Message | Uint8Array, taken?: Taken): boolean;
  /** Calls `goOn` when answers are taken again, never when the stream goes away instead. */
  onceRoomy(goOn: () => void): void;
  /** Takes no requests for now. */
  pause(): void;
  resume(): void;
  /** Ends the stream with OK after what was sent. */
  end(): void;
  fail(status: RpcStatus, requestId: string): void;
}

/** What all streams have: they are admitted, now or later, and end once. */
class StreamLife {
  readonly #method: MethodChain;
  readonly #exchange: StreamExchange;
  readonly #began: Time;
  readonly #requestId: string;
  readonly #forget: (() => void)[] = [];
  #isOver = false;

  constructor(method: MethodChain, exchange: StreamExchange) {
    this.#method = method;
    this.#exchange = exchange;
    this.#began = method.now();
    this.#requestId = method.requestId(exchange);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Admits the stream, and calls `begin`, which may throw to refuse it. `end` is called when its deadline passes or the credential of its
   * caller expires. `request` where there is one, or why there is none.
   */
  open(request: Message | WaymarkError | undefined, begin: (context: CallContext) => void, end: (error: WaymarkError) => void): void {
    this.#forget.push(this.#exchange.onDeadline(() => end(expired())));
    const admitted = (context: CallContext) => {
      begin(context);
      this.whenOver(this.#method.whileCredentialHolds(context, end));
    };
    try {
      const context = this.#method.admitStream(this.#exchange, this.#requestId, request);
      if (!(context instanceof Promise)) {
        admitted(context);
        return;
      }
      this.#exchange.pause(); // Nothing is read of a caller who is not known yet.
      context.then((known) => this.#goOn(known, admitted)).catch((thrown: unknown) => this.fail(thrown));
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  #goOn(context: CallContext, admitted: (context: CallContext) => void): void {
    if (this.#isOver) return; // The client went away meanwhile.
    admitted(context);
    this.#exchange.resume();
  }

  /** Calls `forget` when the stream is over, which it may be by now. */
  whenOver(forget: () => void): void {
    if (this.#isOver) forget();
    else this.#forget.push(forget);
  }

  end(): void {
    if (this.#over(0)) this.#exchange.end();
  }

  fail(thrown: unknown): void {
    if (this.#isOver) return;
    const status = this.#method.status(thrown, this.#requestId);
    this.#over(status.code);
    this.#exchange.fail(status, this.#requestId);
  }

  /** The client gave up, or its connection is lost. */
  gone(): void {
    this.#over(1);
  }

  #over(code: number): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    for (const forget of this.#forget) forget();
    this.#method.finish(this.#exchange, this.#began, code);
    return true;
  }
}

/** One request, and a source of answers. */
export class SourceStream {
  readonly #method: MethodChain;
  readonly #exchange: StreamExchange;
  readonly #life: StreamLife;
  #pump: StreamPump | undefined;

  constructor(method: MethodChain, exchange: StreamExchange) {
    this.#method = method;
    this.#exchange = exchange;
    this.#life = new StreamLife(method, exchange);
  }

  open(request: Message | WaymarkError): void {
    const begin = (context: CallContext) => {
      if (request instanceof WaymarkError) throw request;
      this.#begin(request, context);
    };
    this.#life.open(request, begin, (error) => this.#fail(error));
  }

  /** The transport: the stream is gone. */
  gone(): void {
    this.#life.gone();
    this.#pump?.gone();
  }

  /** At once: what is in flight goes out before the status. */
  #fail(thrown: unknown): void {
    this.#life.fail(thrown);
    this.#pump?.gone();
  }

  #begin(request: Message, context: CallContext): void {
    const source = this.#method.openSource(request, context);
    const taken: Taken = (error) => {
      if (error === undefined || error === null) pump.taken();
    };
    const sink = {
      write: (bytes: Uint8Array) => {
        try {
          this.#exchange.send(bytes, taken);
        } catch (thrown) {
          this.#fail(thrown);
        }
      },
      finish: (error: unknown) => (error === undefined ? this.#life.end() : this.#life.fail(error)),
    };
    const pump: StreamPump = new StreamPump(source, sink, () => this.#method.now());
    this.#pump = pump;
    this.#exchange.begin(context);
    pump.start();
  }
}

/** A stream of requests, answered with one message or with many. */
export class RequestStream implements Answers {
  readonly #method: MethodChain;
  readonly #exchange: StreamExchange;
  readonly #life: StreamLife;
  #opened: { readonly listener: RequestListener<never>; readonly context: CallContext } | undefined;

  constructor(method: MethodChain, exchange: StreamExchange) {
    this.#method = method;
    this.#exchange = exchange;
    this.#life = new StreamLife(method, exchange);
  }

  /** `refusal`: why no request of it can be read. */
  open(refusal?: WaymarkError): void {
    const begin = (context: CallContext) => this.#begin(context);
    this.#life.open(refusal, begin, (error) => this.fail(error));
  }

  #begin(context: CallContext): void {
    const listener = this.#method.openRequests(this, context);
    this.#opened = { listener, context };
    this.#life.whenOver(() => listener.close());
    if (this.#life.isOver) return;
    this.#exchange.begin(context);
    this.#life.whenOver(this.#method.onDrain((error) => listener.leave(error)));
  }

  /** The transport: one request, or why its bytes are none. */
  // HOT: once a renewal.
  message(request: Message | WaymarkError): void {
    const opened = this.#opened;
    if (opened === undefined || this.#life.isOver) return;
    try {
      if (request instanceof WaymarkError) throw request;
      const time = this.#method.now();
      const { untilWallMs } = opened.context.caller;
      if (untilWallMs !== undefined && time.wallMs > untilWallMs) throw outlived();
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the desc decoded it, so its type is the handler's.
      opened.listener.message(request as never, time);
    } catch (thrown) {
      this.#life.fail(thrown);
    }
  }

  /** The transport: the client has sent all its requests. */
  halfClosed(): void {
    if (this.#life.isOver) return;
    try {
      this.#opened?.listener.halfClosed();
    } catch (thrown) {
      this.#life.fail(thrown);
    }
  }

  /** The transport: the stream is gone. */
  gone(): void {
    this.#life.gone();
  }

  send(answer: Message | Uint8Array): boolean {
    return this.#life.isOver || this.#exchange.send(answer);
  }

  onceRoomy(goOn: () => void): void {
    this.#exchange.onceRoomy(() => {
      if (!this.#life.isOver) goOn();
    });
  }

  pause(): void {
    this.#exchange.pause();
  }

  resume(): void {
    this.#exchange.resume();
  }

  end(): void {
    this.#life.end();
  }

  /** Also the transport: what came is no request. */
  fail(thrown: unknown): void {
    this.#life.fail(thrown);
  }
}
