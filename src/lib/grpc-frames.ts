/** The framing of gRPC messages on a stream: one flag byte and four bytes of length (gRPC over HTTP2, Length-Prefixed-Message). */
import { WaymarkError } from "./errors.ts";

/** Bytes before each message. */
export const PREFIX_BYTES = 5;

/** A message with its prefix. It copies the message: 1.4 kB cost 0.1 µs, where a second write for the prefix costs 2 µs. */
export function framed(message: Uint8Array): Uint8Array {
  const size = message.length;
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + size);
  frame.set(message, writePrefix(frame, size));
  return frame;
}

/** Writes the prefix for a message of `sizeBytes` at the start of `out`. Returns the offset after it. */
export function writePrefix(out: Uint8Array, sizeBytes: number): number {
  out[0] = 0;
  out[1] = sizeBytes >>> 24;
  out[2] = sizeBytes >>> 16;
  out[3] = sizeBytes >>> 8;
  out[4] = sizeBytes;
  return PREFIX_BYTES;
}

/** Bounds for the bytes of incomplete messages, shared by all streams of a listener, or by one link. */
export interface AssemblyBounds {
  /** Largest message. */
  readonly maxMessageBytes: number;
  /** Bytes of incomplete messages over all streams. */
  readonly maxBufferedBytes: number;
  /** Bytes held now. The assemblers raise and lower it. */
  bufferedBytes: number;
}

/** Cuts one stream's bytes into messages. Holds at most one message and the chunk it arrived with. */
export class MessageAssembler {
  readonly #bounds: AssemblyBounds;
  readonly #mayBeCompressed: boolean;
  #isCompressed = false;
  #held: Uint8Array[] = [];
  #heldBytes = 0;

  /** `mayBeCompressed`: an encoding was agreed. Then ask `isCompressed` after each message. */
  constructor(bounds: AssemblyBounds, mayBeCompressed = false) {
    this.#bounds = bounds;
    this.#mayBeCompressed = mayBeCompressed;
  }

  /** Whether the last message that `next` returned is compressed, by its flag. */
  get isCompressed(): boolean {
    return this.#isCompressed;
  }

  /** Takes a chunk. Throws when its message is over the bound, or when too much is held already. */
  push(chunk: Uint8Array): void {
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    this.#bounds.bufferedBytes += chunk.length;
    this.#messageBytes();
    if (this.#bounds.bufferedBytes > this.#bounds.maxBufferedBytes) {
      throw new WaymarkError("quota_exceeded", "too many unfinished messages are held here", { retryMs: 1_000 });
    }
  }

  /** The next whole message; undefined when there is none yet. Throws for a message over the bound, or compressed without agreement. */
  next(): Uint8Array | undefined {
    const size = this.#messageBytes();
    if (size === undefined || this.#heldBytes < PREFIX_BYTES + size) return undefined;
    const bytes = this.#joined();
    this.#isCompressed = bytes[0] === 1 && this.#mayBeCompressed;
    if (bytes[0] !== 0 && !this.#isCompressed) throw unagreed(bytes[0] === 1);
    const end = PREFIX_BYTES + size;
    this.#release();
    if (end < bytes.length) this.#hold(bytes.subarray(end));
    return bytes.subarray(PREFIX_BYTES, end);
  }

  /** Whether bytes of an unfinished message are left. At the end of a stream that is half a message. */
  isInside(): boolean {
    return this.#heldBytes > 0;
  }

  /** Drops the held bytes, at the end of the stream. */
  drop(): void {
    this.#release();
  }

  /** Size of the message at the start of the held bytes; undefined until its prefix is complete. Throws when it is over the bound. */
  #messageBytes(): number | undefined {
    if (this.#heldBytes < PREFIX_BYTES) return undefined;
    const first = this.#held[0];
    const head = first !== undefined && first.length >= PREFIX_BYTES ? first : this.#joined();
    const size = sizeIn(head);
    const { maxMessageBytes } = this.#bounds;
    if (size <= maxMessageBytes) return size;
    throw new WaymarkError("quota_exceeded", `a message is at most ${maxMessageBytes} bytes, this one says ${size}`, {
      metadata: { max_bytes: String(maxMessageBytes), bytes: String(size) },
    });
  }

  #joined(): Uint8Array {
    const only = this.#held.length === 1 ? this.#held[0] : undefined;
    if (only !== undefined) return only;
    const bytes = Buffer.concat(this.#held, this.#heldBytes);
    this.#held = [bytes];
    return bytes;
  }

  #hold(bytes: Uint8Array): void {
    this.#held = [bytes];
    this.#heldBytes = bytes.length;
    this.#bounds.bufferedBytes += bytes.length;
  }

  #release(): void {
    this.#bounds.bufferedBytes -= this.#heldBytes;
    this.#held = [];
    this.#heldBytes = 0;
  }
}

/** The size in a prefix of five bytes. */
function sizeIn(prefix: Uint8Array): number {
  return (prefix[1] ?? 0) * 2 ** 24 + (prefix[2] ?? 0) * 2 ** 16 + (prefix[3] ?? 0) * 2 ** 8 + (prefix[4] ?? 0);
}

/** Refusal of a flag byte. gRPC's compression.md has the code for compression that was not agreed. */
function unagreed(isCompressed: boolean): WaymarkError {
  return isCompressed
    ? new WaymarkError("internal", "the message says it is compressed, but no grpc-encoding was sent")
    : malformed("a message's first byte is 0, or 1 when it is compressed");
}

/** Whether a content type is gRPC's with messages in protobuf. */
export function isGrpcType(contentType: string | undefined): boolean {
  return GRPC_TYPE.test(contentType ?? "");
}

const GRPC_TYPE = /^application\/grpc(?:\+proto)?[ \t]*(?:;|$)/i;

/** Refusal of bytes that are not one gRPC message. Callers also see the field; peers of a link see only the message. */
function malformed(description: string): WaymarkError {
  return new WaymarkError("invalid_argument", description, { violations: [{ field: "request", description }] });
}
