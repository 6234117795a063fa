/** A bidi method straight on a node:http2 stream, as direct.ts serves the other kinds. */
import type { WaymarkError } from "../../lib/errors.ts";
import { type AssemblyBounds, MessageAssembler, malformed } from "../../lib/grpc-frames.ts";
import type { Time } from "../../lib/machine.ts";
import type { CallContext } from "../../services/service.ts";
import { streamEnd, unimplemented } from "../call-end.ts";
import type { MethodChain } from "../chain.ts";
import { decodeRequest, type Request, type Response, requestOf } from "./calls.io.ts";
import type { GrpcWire, StreamHandler } from "./stream.io.ts";

/** A bidi method with one answer a request, in order. While an answer waits (for its promise or the reader) nothing is read. */
export class EchoStream implements StreamHandler {
  readonly #method: MethodChain;
  readonly #wire: GrpcWire;
  readonly #assembler: MessageAssembler;
  readonly #maxMessageBytes: number;
  readonly #began: Time;
  #context: CallContext | undefined;
  /** What keeps the next request from being answered: its inflation, the promise of the one before, or a reader that is full. */
  #waitsFor: "inflation" | "answer" | "reader" | undefined;
  #leaving: WaymarkError | undefined;
  #isEnded = false;
  #isOver = false;
  #forget: (() => void) | undefined;
  #cancelDeadline: (() => void) | undefined;

  constructor(method: MethodChain, wire: GrpcWire, bounds: AssemblyBounds) {
    this.#method = method;
    this.#wire = wire;
    this.#maxMessageBytes = bounds.maxMessageBytes;
    this.#assembler = new MessageAssembler(bounds, wire.messageEncoding !== undefined);
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
        this.#wire.arrived();
        if (this.#assembler.isCompressed) this.#inflate(bytes, context);
        else this.#echo(decodeRequest(this.#method.desc.input, bytes), context);
      }
    } catch (thrown) {
      this.#refuse(thrown);
      return;
    }
    if (this.#waitsFor !== undefined || this.#isOver) return;
    if (this.#leaving !== undefined) this.#refuse(this.#leaving);
    else if (this.#isEnded) this.#finish();
  }

  #echo(request: Request, context: CallContext): void {
    const answer = this.#method.echo(request, context);
    if (answer instanceof Promise) this.#waitForAnswer(answer);
    else this.#write(answer);
  }

  #inflate(bytes: Uint8Array, context: CallContext): void {
    const inflation = this.#wire.inflate(bytes, this.#maxMessageBytes);
    const { result } = inflation;
    if (result !== undefined) {
      this.#echo(requestOf(this.#method.desc.input, result), context);
      return;
    }
    this.#waitsFor = "inflation";
    this.#wire.pause();
    inflation.onResult = (inflated) => this.#inflated(requestOf(this.#method.desc.input, inflated), context);
  }

  #inflated(request: Request, context: CallContext): void {
    if (this.#isOver) return;
    this.#waitsFor = undefined;
    try {
      this.#echo(request, context);
    } catch (thrown) {
      this.#refuse(thrown);
      return;
    }
    this.#goOn();
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
    this.#wire.releaseInflated();
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
