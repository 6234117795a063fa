/**
 * Our methods straight on node:http2 streams, beside grpc-js on the same connections. Why: grpc-js costs 31 to 37 µs of
 * CPU a unary call where this costs 26; it answers INTERNAL without details to malformed bytes and timeouts; and it responds
 * to streams that are gone, which ends the process (docs/decisions/0008). grpc-js keeps the connections' keepalive and age,
 * health, reflection, and the rare call with compressed messages.
 */
import { WaymarkError } from "../lib/errors.ts";
import { type AssemblyBounds, MessageAssembler, malformed, PREFIX_BYTES, sizeIn } from "../lib/grpc-frames.ts";
import type { Time } from "../lib/machine.ts";
import type { CallContext } from "../services/service.ts";
import { streamEnd, unimplemented } from "./call-end.ts";
import { type MethodChain, type OpenedSource } from "./chain.ts";
import { decodeRequest, type Request, type Response } from "./grpc-calls.io.ts";
import type { GrpcWire, Taker } from "./grpc-wire.io.ts";
import { StreamPump } from "./stream-pump.ts";

/** Serves one stream of one of our methods, whatever its kind. */
export function serveDirect(method: MethodChain, wire: GrpcWire, bounds: AssemblyBounds): void {
  switch (method.desc.methodKind) {
    case "unary":
      wire.listen(new OneRequest(method, wire, bounds));
      return;
    case "server_streaming":
      wire.listen(new OneRequest(method, wire, bounds));
      return;
    case "client_streaming":
    case "bidi_streaming":
      new EchoStream(method, wire, bounds).open();
      return;
  }
}

/** Reads the one request of a unary call or server stream, and runs it at the client's half-close. */
class OneRequest implements Taker {
  readonly #method: MethodChain;
  readonly #wire: GrpcWire;
  readonly #bounds: AssemblyBounds;
  /** A chunk that is exactly one message: nearly every request. */
  #whole: Uint8Array | undefined;
  #assembler: MessageAssembler | undefined;
  #isRun = false;
  #stream: OpenStream | undefined;

  constructor(method: MethodChain, wire: GrpcWire, bounds: AssemblyBounds) {
    this.#method = method;
    this.#wire = wire;
    this.#bounds = bounds;
  }

  // HOT: once a request. The common case holds the chunk; only others pay for an assembler.
  data(chunk: Uint8Array): void {
    if (this.#isRun) return; // Refused already; what still comes is dropped.
    if (this.#assembler === undefined) {
      if (this.#whole === undefined && isWholeMessage(chunk)) {
        this.#whole = chunk;
        return;
      }
      this.#assembler = new MessageAssembler(this.#bounds);
      if (this.#whole !== undefined) this.#take(this.#whole);
    }
    this.#take(chunk);
  }

  #take(chunk: Uint8Array): void {
    try {
      this.#assembler?.push(chunk);
    } catch (thrown) {
      this.#run(asRefusal(thrown));
    }
  }

  ended(): void {
    if (!this.#isRun) this.#run(this.#wire.fault ?? this.#request());
  }

  gone(): void {
    this.#isRun = true;
    this.#assembler?.drop();
    this.#stream?.gone();
  }

  #request(): Request {
    const { input } = this.#method.desc;
    const whole = this.#whole;
    if (whole !== undefined && this.#assembler === undefined && whole[0] === 0) return decodeRequest(input, whole.subarray(PREFIX_BYTES));
    try {
      const assembler = this.#assembler ?? new MessageAssembler(this.#bounds);
      if (whole !== undefined && this.#assembler === undefined) assembler.push(whole);
      const message = assembler.next();
      if (message === undefined)
        return malformed(assembler.isInside() ? "the stream ended inside the request message" : "no request message came");
      if (assembler.isInside()) return malformed("more than one request message came");
      return decodeRequest(input, message);
    } catch (thrown) {
      return asRefusal(thrown);
    }
  }

  #run(request: Request): void {
    this.#isRun = true;
    this.#assembler?.drop();
    if (this.#method.desc.methodKind === "unary") this.#method.unary(request, this.#wire);
    else {
      this.#stream = new OpenStream(this.#method, this.#wire);
      this.#stream.open(request);
    }
  }
}

/** What the assembler throws is a refusal; anything else is a fault of ours and goes on. */
function asRefusal(thrown: unknown): WaymarkError {
  if (thrown instanceof WaymarkError) return thrown;
  throw thrown;
}

function isWholeMessage(chunk: Uint8Array): boolean {
  return chunk.length >= PREFIX_BYTES && chunk.length === PREFIX_BYTES + sizeIn(chunk);
}

/** A server stream that runs: the source's pump on the wire, until its end, its deadline or the client's cancel. */
class OpenStream {
  readonly #method: MethodChain;
  readonly #wire: GrpcWire;
  readonly #began: Time;
  #pump: StreamPump | undefined;
  #cancelDeadline: (() => void) | undefined;
  #requestId = "";
  #isOver = false;

  constructor(method: MethodChain, wire: GrpcWire) {
    this.#method = method;
    this.#wire = wire;
    this.#began = method.now();
  }

  open(request: Request): void {
    try {
      const opened = this.#method.openSource(request, this.#wire);
      if (opened instanceof Promise) {
        opened.then(
          (known) => this.#beginLater(known),
          (thrown: unknown) => this.#finish(thrown),
        );
        return;
      }
      this.#begin(opened);
    } catch (thrown) {
      this.#finish(thrown);
    }
  }

  #beginLater(opened: OpenedSource): void {
    if (this.#isOver) {
      opened.source.close(); // The client went away while its token was verified.
      return;
    }
    try {
      this.#begin(opened);
    } catch (thrown) {
      this.#finish(thrown);
    }
  }

  #begin({ source, context }: OpenedSource): void {
    this.#requestId = context.requestId;
    const taken = (error?: Error | null) => {
      if (error === undefined || error === null) pump.taken(); // Node's callbacks say null for none.
    };
    const pump: StreamPump = new StreamPump(
      source,
      { write: (bytes) => void this.#wire.write(bytes, taken), finish: (error) => this.#finish(error) },
      () => this.#method.now(),
    );
    this.#pump = pump;
    this.#wire.begin(context.requestId);
    const end = streamEnd(this.#wire, context);
    if (end !== undefined) this.#cancelDeadline = this.#wire.later(() => pump.end(end.error), end.afterMs);
    pump.start();
  }

  gone(): void {
    this.#cancelDeadline?.();
    this.#over(1);
    this.#pump?.gone();
  }

  #finish(error: unknown): void {
    this.#cancelDeadline?.();
    if (error === undefined) {
      this.#over(0);
      this.#wire.end();
      return;
    }
    const status = this.#method.status(error, this.#requestId);
    this.#over(status.code);
    this.#wire.fail(status, this.#requestId);
  }

  #over(code: number): void {
    if (!this.#isOver) this.#method.finish(this.#wire, this.#began, code);
    this.#isOver = true;
  }
}

/** A bidi method with one answer a request, in order. While an answer waits (for its promise or the reader) nothing is read. */
class EchoStream implements Taker {
  readonly #method: MethodChain;
  readonly #wire: GrpcWire;
  readonly #assembler: MessageAssembler;
  readonly #began: Time;
  #context: CallContext | undefined;
  /** What keeps the next request from being answered: the promise of the one before, or a reader that is full. */
  #waitsFor: "answer" | "reader" | undefined;
  #leaving: WaymarkError | undefined;
  #isEnded = false;
  #isOver = false;
  #forget: (() => void) | undefined;
  #cancelDeadline: (() => void) | undefined;

  constructor(method: MethodChain, wire: GrpcWire, bounds: AssemblyBounds) {
    this.#method = method;
    this.#wire = wire;
    this.#assembler = new MessageAssembler(bounds);
    this.#began = method.now();
  }

  open(): void {
    this.#wire.listen(this);
    try {
      const context = this.#method.openStream(this.#wire);
      if (context instanceof Promise) {
        this.#wire.pause(); // Nothing is read of a caller who is not known yet.
        context.then(
          (known) => this.#beginLater(known),
          (thrown: unknown) => this.#refuse(thrown),
        );
        return;
      }
      this.#begin(context);
    } catch (thrown) {
      this.#refuse(thrown);
    }
  }

  #beginLater(context: CallContext): void {
    if (this.#isOver) return;
    try {
      this.#begin(context);
    } catch (thrown) {
      this.#refuse(thrown);
      return;
    }
    this.#goOn();
  }

  #begin(context: CallContext): void {
    this.#context = context;
    if (this.#wire.fault !== undefined) throw this.#wire.fault;
    if (this.#method.handler === undefined) throw unimplemented(this.#method.path);
    this.#wire.begin(context.requestId);
    this.#forget = this.#method.onDrain((error) => this.#leave(error));
    const end = streamEnd(this.#wire, context);
    if (end !== undefined) this.#cancelDeadline = this.#wire.later(() => this.#refuse(end.error), end.afterMs);
  }

  data(chunk: Uint8Array): void {
    if (this.#isOver) return;
    try {
      this.#assembler.push(chunk);
    } catch (thrown) {
      this.#refuse(thrown);
      return;
    }
    this.#answer();
  }

  ended(): void {
    this.#isEnded = true;
    this.#answer();
  }

  gone(): void {
    this.#close(1);
  }

  /** Answers what is here, until an answer has to wait. */
  // HOT: once a renewal. A synchronous answer to a reader that keeps up makes no promise.
  #answer(): void {
    const context = this.#context;
    if (context === undefined) return;
    try {
      while (this.#waitsFor === undefined && !this.#isOver) {
        const bytes = this.#assembler.next();
        if (bytes === undefined) break;
        const answer = this.#method.echo(decodeRequest(this.#method.desc.input, bytes), context);
        if (answer instanceof Promise) this.#waitForAnswer(answer);
        else this.#write(answer);
      }
    } catch (thrown) {
      this.#refuse(thrown);
      return;
    }
    if (this.#waitsFor !== undefined || this.#isOver) return;
    if (this.#leaving !== undefined) this.#refuse(this.#leaving);
    else if (this.#isEnded) this.#finish();
  }

  #finish(): void {
    if (this.#assembler.isInside()) {
      this.#refuse(malformed("the stream ended inside a request message"));
      return;
    }
    this.#close(0);
    this.#wire.end();
  }

  /** The server drains: the client is told to go elsewhere once what it asked is answered. */
  #leave(error: WaymarkError): void {
    this.#leaving = error;
    this.#answer();
  }

  #waitForAnswer(answer: Promise<Response>): void {
    this.#waitsFor = "answer";
    this.#wire.pause();
    answer.then(
      (response) => this.#answered(response),
      (thrown: unknown) => this.#refuse(thrown),
    );
  }

  #answered(response: Response): void {
    if (this.#isOver) return;
    this.#waitsFor = undefined;
    this.#write(response);
    this.#goOn();
  }

  #write(response: Response): void {
    if (this.#wire.write(response)) return;
    this.#waitsFor = "reader";
    this.#wire.pause();
    this.#wire.onceRoomy(() => {
      if (this.#isOver) return;
      this.#waitsFor = undefined;
      this.#goOn();
    });
  }

  #goOn(): void {
    if (this.#waitsFor !== undefined) return;
    this.#wire.resume();
    this.#answer();
  }

  #refuse(thrown: unknown): void {
    if (this.#isOver) return;
    const requestId = this.#context?.requestId ?? "";
    const status = this.#method.status(thrown, requestId);
    this.#close(status.code);
    this.#wire.fail(status, requestId);
  }

  #close(code: number): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#forget?.();
    this.#cancelDeadline?.();
    this.#assembler.drop();
    this.#method.finish(this.#wire, this.#began, code);
  }
}
