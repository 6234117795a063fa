/**
 * Handles streams of every kind and transport from their admission to their end. Each stream is counted once, and ends when its deadline
 * passes or its credential expires.
 */
import type { Message } from "@bufbuild/protobuf";
import type { WriteCallback } from "../grpc/wire/message-reader.ts";
import { expired } from "../grpc/wire/request-head.ts";
import { assert, WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import { type Caller, isSameIdentity } from "../policy/identity/caller.ts";
import type { AnswerSink, CallContext, RequestListener, StreamSource } from "../services/service.ts";
import type { AdmittedStream, CallArrival, MethodChain } from "./chain.ts";
import type { KnownStream } from "./known-streams.ts";
import type { SentRequest } from "./request-shape/plan.ts";
import type { RpcStatus } from "./status.ts";
import { outlived, withdrawn } from "./status.ts";

/** A stream as provided by the transport. Operations on a closed stream do nothing. */
export interface StreamExchange {
  readonly arrival: CallArrival;
  /** Called when the stream is admitted. Response headers may then be sent. */
  begin(context: CallContext): void;
  /**
   * Sends one response. Returns false when the caller should wait for `onceRoomy`. Throws when the response cannot be encoded or is too
   * large.
   */
  send(answer: Message | Uint8Array, taken?: WriteCallback): boolean;
  /** Calls `goOn` when the stream becomes writable again. `goOn` is not called if the stream closes first. */
  onceRoomy(goOn: () => void): void;
  /** Stops delivering requests until `resume`. */
  pause(): void;
  resume(): void;
  /** Ends the stream with OK, after the responses that were already sent. */
  end(): void;
  fail(status: RpcStatus, requestId: string): void;
}

/** The common part of all streams. A stream is admitted, immediately or after a wait, and ends exactly once. */
abstract class OpenStream implements KnownStream {
  protected readonly method: MethodChain;
  protected readonly exchange: StreamExchange;
  readonly #began: Time;
  readonly #requestId: string;
  /** Undefined once the stream has ended. */
  #whenOver: (() => void)[] | undefined = [];
  /** Undefined for a caller without a credential. */
  #knownCaller: Caller | undefined;

  constructor(method: MethodChain, exchange: StreamExchange) {
    this.method = method;
    this.exchange = exchange;
    this.#began = method.now();
    this.#requestId = method.requestId(exchange.arrival);
  }

  get isOver(): boolean {
    return this.#whenOver === undefined;
  }

  /** Called when the stream is admitted. May throw to reject the stream. */
  protected abstract begin(context: CallContext, request: Message | undefined): void;

  /** Called once when the stream ends, for any reason. */
  protected abstract over(): void;

  /** Ends the stream with OK, after the responses that were already sent. */
  end(): void {
    if (this.#over(0)) this.exchange.end();
  }

  /** Ends the stream with the status for a thrown value. The transport also calls this method when it cannot read a request. */
  fail(thrown: unknown): void {
    if (this.isOver) return;
    const status = this.method.status(thrown, this.#requestId);
    this.#over(status.code);
    this.exchange.fail(status, this.#requestId);
  }

  /** Called by the transport when the client cancels the stream or its connection is lost. */
  gone(): void {
    this.#over(1);
  }

  checkCaller(): void {
    try {
      const caller = this.method.identifyAgain(this.exchange.arrival, this.#requestId);
      if (caller instanceof Promise) caller.then((known) => this.#compare(known)).catch((thrown: unknown) => this.#refused(thrown));
      else this.#compare(caller);
    } catch (thrown) {
      this.#refused(thrown);
    }
  }

  #compare(now: Caller): void {
    if (this.#knownCaller !== undefined && !isSameIdentity(now, this.#knownCaller)) this.fail(withdrawn());
  }

  #refused(thrown: unknown): void {
    if (!(thrown instanceof WaymarkError)) this.fail(thrown);
    // Other errors do not prove that the credential is invalid. For example, too many credentials may be awaiting verification.
    else if (thrown.reason === "unauthenticated") this.fail(withdrawn());
  }

  /** Admits or rejects the stream. `request` is the request of a stream that has exactly one, or the error if it cannot be read. */
  protected admit(request: SentRequest | undefined): void {
    this.#watchTime();
    try {
      const admitted = this.method.admitStream(this.exchange.arrival, this.#requestId, request);
      if (admitted instanceof Promise) this.#wait(admitted);
      else this.#begin(admitted);
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** This is a separate method because its closure exists as long as a watch is open and must not keep the request in memory. */
  #watchTime(): void {
    const forget = this.exchange.arrival.onDeadline(() => this.fail(expired()));
    // V8 allocates room for seventeen elements with the first element of an array, and most streams have none.
    if (forget !== undefined) this.whenOver(forget);
  }

  #wait(admitted: Promise<AdmittedStream>): void {
    this.exchange.pause(); // Requests are read only after the caller is identified.
    admitted.then((known) => this.#goOn(known)).catch((thrown: unknown) => this.fail(thrown));
  }

  /** Calls `act` when the stream ends, or immediately if it has already ended. */
  protected whenOver(act: () => void): void {
    if (this.#whenOver === undefined) act();
    else this.#whenOver.push(act);
  }

  #goOn(admitted: AdmittedStream): void {
    if (this.isOver) return; // The client closed the stream in the meantime.
    this.#begin(admitted);
    this.exchange.resume();
  }

  #begin({ context, request }: AdmittedStream): void {
    this.begin(context, request);
    const forget = this.method.onCredentialEnd(context, (error) => this.fail(error));
    if (forget !== undefined) this.whenOver(forget);
    if (this.isOver || !context.caller.isAuthenticated) return;
    this.#knownCaller = context.caller;
    this.method.knownStreams.add(this);
  }

  #over(code: number): boolean {
    const acts = this.#whenOver;
    if (acts === undefined) return false;
    this.#whenOver = undefined;
    if (this.#knownCaller !== undefined) this.method.knownStreams.delete(this);
    for (const act of acts) act();
    this.over();
    this.method.finish(this.exchange.arrival, this.#began, code);
    return true;
  }
}

/**
 * A stream with one request and a source of responses. One response is in flight at a time. The next response is pulled when HTTP/2 has accepted the
 * previous response.
 */
export class SourceStream extends OpenStream {
  #source: StreamSource | undefined;
  #isInFlight = false;
  #isPulling = false;
  #isWoken = false;
  /** Whether the next response will be pulled in a later turn of the event loop. */
  #isWaiting = false;
  /** How the stream ends after the response in flight. */
  #ending: { readonly error: unknown } | undefined;

  /** `request` is the request, or the error if it cannot be read. */
  open(request: SentRequest): void {
    this.admit(request);
  }

  protected override begin(context: CallContext, request: Message | undefined): void {
    assert(request !== undefined, "a server stream has no request");
    this.#source = this.method.openSource(request, context);
    this.exchange.begin(context);
    this.#source.attach(
      () => this.#pull(),
      (error) => this.#endNext(error),
    );
    if (this.#source.endsAtDrain === true) this.whenOver(this.method.onDrain((error) => this.#endNext(error)));
    this.#pullInTurn();
  }

  protected override over(): void {
    this.#source?.close();
  }

  /** Stops pulling, and ends the stream after the response in flight. */
  #endNext(error: unknown): void {
    if (this.isOver || this.#ending !== undefined) return;
    this.#ending = { error };
    if (!this.#isInFlight && !this.#isPulling) this.#finish(error);
  }

  /** Pulls the next response now, or after other streams have had their turn. */
  #pullInTurn(): void {
    if (this.#isWaiting) return;
    const { turn } = this.method;
    if (turn.mayAct()) {
      this.#pull();
      return;
    }
    this.#isWaiting = true;
    turn.wait(() => {
      this.#isWaiting = false;
      this.#pull();
    });
  }

  // HOT: runs once per change and watcher. A source may wake this stream inside its own `pull`. The loop handles this case without recursion.
  #pull(): void {
    if (this.isOver || this.#ending !== undefined) return;
    if (this.#isPulling || this.#isInFlight) {
      this.#isWoken = true;
      return;
    }
    this.#isPulling = true;
    let bytes: Uint8Array | undefined;
    try {
      do {
        this.#isWoken = false;
        bytes = this.#source?.pull(this.method.now());
      } while (bytes === undefined && this.#isWoken && this.#ending === undefined);
    } catch (thrown) {
      this.#ending = { error: thrown };
    }
    this.#isPulling = false;
    if (bytes !== undefined) this.#send(bytes);
    else if (this.#ending !== undefined) this.#finish(this.#ending.error);
  }

  #send(bytes: Uint8Array): void {
    if (this.isOver) return;
    this.#isInFlight = true;
    try {
      this.exchange.send(bytes, this.#taken);
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  readonly #taken: WriteCallback = (error) => {
    if (this.isOver || (error !== undefined && error !== null)) return;
    this.#isInFlight = false;
    if (this.#ending !== undefined) this.#finish(this.#ending.error);
    else if (this.#isWoken || this.#source?.isDrained !== true) this.#pullInTurn();
  };

  #finish(error: unknown): void {
    if (error === undefined) this.end();
    else this.fail(error);
  }
}

/** A stream of requests that is answered with one or many messages. */
export class RequestStream extends OpenStream implements AnswerSink {
  #opened: { readonly listener: RequestListener<never>; readonly context: CallContext } | undefined;

  /** `refusal` is the error if none of its requests can be read. */
  open(refusal?: WaymarkError): void {
    this.admit(refusal);
  }

  protected override begin(context: CallContext): void {
    const listener = this.method.openRequests(this, context);
    if (this.isOver) {
      listener.close();
      return;
    }
    this.#opened = { listener, context };
    this.exchange.begin(context);
    this.whenOver(this.method.onDrain((error) => listener.leave(error)));
  }

  protected override over(): void {
    this.#opened?.listener.close();
  }

  /** Called by the transport with one request, or with the error if it cannot be decoded. */
  // HOT: runs once per renewal.
  message(request: Message | WaymarkError): void {
    const opened = this.#opened;
    if (opened === undefined || this.isOver) return;
    try {
      if (request instanceof WaymarkError) throw request;
      const time = this.method.now();
      const { untilWallMs } = opened.context.caller;
      if (untilWallMs !== undefined && time.wallMs > untilWallMs) throw outlived();
      this.method.checkRequest(request);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the desc decoded it, so its type is the handler's.
      opened.listener.message(request as never, time);
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** Called by the transport when the client has sent all its requests. */
  halfClosed(): void {
    if (this.isOver) return;
    try {
      this.#opened?.listener.halfClosed();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  send(answer: Message | Uint8Array): boolean {
    return this.isOver || this.exchange.send(answer);
  }

  onceRoomy(goOn: () => void): void {
    this.exchange.onceRoomy(() => {
      if (!this.isOver) goOn();
    });
  }

  pause(): void {
    this.exchange.pause();
  }

  resume(): void {
    this.exchange.resume();
  }
}
