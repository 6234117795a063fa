/**
 * Our methods straight on node:http2 streams, beside grpc-js on the same connections. Why: grpc-js costs 31 to 37 µs of
 * CPU a unary call where this costs 26; it answers INTERNAL without details to malformed bytes and timeouts; and it responds
 * to streams that are gone, which ends the process (docs/decisions/0008). grpc-js keeps the connections' keepalive and age,
 * health and reflection.
 */
import { WaymarkError } from "../../lib/errors.ts";
import { type AssemblyBounds, MessageAssembler, malformed, PREFIX_BYTES, sizeIn } from "../../lib/grpc-frames.ts";
import type { Time } from "../../lib/machine.ts";
import { streamEnd } from "../call-end.ts";
import { type MethodChain, type OpenedSource } from "../chain.ts";
import { StreamPump } from "../stream-pump.ts";
import { decodeRequest, type Request, requestOf } from "./calls.io.ts";
import { EchoStream } from "./echo.ts";
import type { GrpcWire, StreamHandler } from "./stream.io.ts";

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
class OneRequest implements StreamHandler {
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
      this.#assembler = this.#newAssembler();
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
    if (this.#isRun) return;
    const request = this.#wire.fault ?? this.#request();
    if (request !== undefined) this.#run(request);
  }

  gone(): void {
    this.#isRun = true;
    this.#assembler?.drop();
    this.#stream?.gone();
  }

  #newAssembler(): MessageAssembler {
    return new MessageAssembler(this.#bounds, this.#wire.messageEncoding !== undefined);
  }

  /** The request; undefined while it is inflated, which runs it. */
  #request(): Request | undefined {
    const { input } = this.#method.desc;
    const whole = this.#whole;
    if (whole !== undefined && this.#assembler === undefined && whole[0] === 0) return decodeRequest(input, whole.subarray(PREFIX_BYTES));
    try {
      const assembler = this.#assembler ?? this.#newAssembler();
      if (whole !== undefined && this.#assembler === undefined) assembler.push(whole);
      const message = assembler.next();
      if (message === undefined)
        return assembler.isInside() ? malformed("the stream ended inside the request message") : notOne("no request message came");
      if (assembler.isInside()) return notOne("more than one request message came");
      return assembler.isCompressed ? this.#inflate(message) : decodeRequest(input, message);
    } catch (thrown) {
      return asRefusal(thrown);
    }
  }

  #inflate(bytes: Uint8Array): Request | undefined {
    const inflation = this.#wire.inflate(bytes, this.#bounds.maxMessageBytes);
    const { result } = inflation;
    if (result !== undefined) return requestOf(this.#method.desc.input, result);
    inflation.onResult = (inflated) => this.#run(requestOf(this.#method.desc.input, inflated));
    return undefined;
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

/** gRPC's code for a call with another number of requests than its kind has (its statuscodes.md). */
function notOne(what: string): WaymarkError {
  return new WaymarkError("unimplemented", `${what}; a call of this kind has one`);
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
