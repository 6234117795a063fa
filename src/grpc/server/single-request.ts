/** Reads the request of a method that has exactly one, and says what is wrong when there is another number of them. */
import { WaymarkError } from "../../lib/errors.ts";
import type { Encoding, Inflater, Inflation } from "../wire/encoding.ts";
import { type AssemblyBounds, isWholeMessage, MessageAssembler, malformed, PREFIX_BYTES } from "../wire/framing.ts";

export interface SingleRequestParts {
  readonly bounds: AssemblyBounds;
  /** The encoding that the headers named. */
  readonly encoding: Encoding | undefined;
  readonly inflater: Inflater | undefined;
  /** The connection, to which inflating is charged. */
  readonly owner: object;
}

/** Who takes a request that was inflated, or the refusal of it. */
export interface RequestSink {
  request(inflated: Uint8Array | WaymarkError): void;
}

export class SingleRequest {
  readonly #parts: SingleRequestParts;
  /** A chunk that is exactly one message: nearly every request. */
  #whole: Uint8Array | undefined;
  #assembler: MessageAssembler | undefined;
  #inflation: Inflation | undefined;

  constructor(parts: SingleRequestParts) {
    this.#parts = parts;
  }

  /** Takes a chunk, and says whether it is the first of several. Throws `WaymarkError` as soon as it cannot become the request. */
  // HOT: once a request. The common case holds the chunk; only others pay for an assembler.
  push(chunk: Uint8Array): "whole" | "first_part" | "part" {
    const isFirst = this.#assembler === undefined;
    if (isFirst && this.#whole === undefined && isWholeMessage(chunk) && this.#isWithinBound(chunk)) {
      this.#whole = chunk;
      return "whole";
    }
    this.#theAssembler().push(chunk);
    return isFirst ? "first_part" : "part";
  }

  /**
   * The request when the client has sent all it sends, or why there is none. Undefined while it is inflated: then `later` is told,
   * unless `drop` was called before.
   */
  take(later: RequestSink): Uint8Array | WaymarkError | undefined {
    if (this.#whole !== undefined && this.#assembler === undefined) return this.#whole.subarray(PREFIX_BYTES);
    try {
      const assembler = this.#theAssembler();
      const message = assembler.next();
      if (message === undefined)
        return assembler.isInside() ? malformed("the stream ended inside the request message") : notOne("no request message came");
      if (assembler.isInside()) return notOne("more than one request message came");
      return assembler.isCompressed ? this.#inflate(message, later) : message;
    } catch (thrown) {
      if (thrown instanceof WaymarkError) return thrown;
      throw thrown;
    }
  }

  /** Lets go of what is held and charged. Harmless when called again. */
  drop(): void {
    this.#whole = undefined;
    this.#assembler?.drop();
    this.#inflation?.release();
    this.#inflation = undefined;
  }

  #isWithinBound(chunk: Uint8Array): boolean {
    return chunk.length - PREFIX_BYTES <= this.#parts.bounds.maxMessageBytes;
  }

  #theAssembler(): MessageAssembler {
    if (this.#assembler === undefined) {
      this.#assembler = new MessageAssembler(this.#parts.bounds, this.#parts.encoding !== undefined);
      if (this.#whole !== undefined) this.#assembler.push(this.#whole);
    }
    return this.#assembler;
  }

  #inflate(bytes: Uint8Array, later: RequestSink): Uint8Array | WaymarkError | undefined {
    const { inflater, encoding, owner, bounds } = this.#parts;
    if (inflater === undefined || encoding === undefined)
      return new WaymarkError("unimplemented", "compressed messages are not read here; send them plain");
    this.#inflation = inflater.inflate({ encoding, bytes, owner, maxMessageBytes: bounds.maxMessageBytes });
    const { result } = this.#inflation;
    if (result === undefined) this.#inflation.onResult = (inflated) => later.request(inflated);
    return result;
  }
}

/** Refusal of a call with another number of requests than its kind has; the code is that of gRPC's statuscodes.md. */
function notOne(what: string): WaymarkError {
  return new WaymarkError("unimplemented", `${what}; a call of this kind has one`);
}
