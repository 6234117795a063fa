/** The framing of messages on a stream: one flag byte, four bytes of length, the message (gRPC over HTTP/2, "Length-Prefixed-Message"). */
import { WaymarkError } from "../../lib/errors.ts";

/** Bytes before each message. */
export const PREFIX_BYTES = 5;
/** What either end of an HTTP/2 connection may send before anything was taken, unless it is told otherwise (RFC 9113, section 6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;

/** The flag of a message that is compressed; 0 is one that is not, and the other bits are reserved. */
const COMPRESSED = 1;

/** A message with its prefix. It copies: 1.4 kB cost 0.1 µs, while a second write for the prefix costs 2 µs. */
export function framed(message: Uint8Array, isCompressed = false): Uint8Array {
  const size = message.length;
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + size);
  frame.set(message, writePrefix(frame, size, isCompressed));
  return frame;
}

/** Writes the prefix for a message of `sizeBytes` at the start of `out`. Returns the offset after it. */
export function writePrefix(out: Uint8Array, sizeBytes: number, isCompressed = false): number {
  out[0] = isCompressed ? COMPRESSED : 0;
  out[1] = sizeBytes >>> 24;
  out[2] = sizeBytes >>> 16;
  out[3] = sizeBytes >>> 8;
  out[4] = sizeBytes;
  return PREFIX_BYTES;
}

/** The size that a prefix says. */
export function sizeIn(prefix: Uint8Array): number {
  return (prefix[1] ?? 0) * 2 ** 24 + (prefix[2] ?? 0) * 2 ** 16 + (prefix[3] ?? 0) * 2 ** 8 + (prefix[4] ?? 0);
}

/** Whether a chunk is exactly one message that is not compressed, as nearly every request and answer comes. */
export function isWholeMessage(chunk: Uint8Array): boolean {
  return chunk.length >= PREFIX_BYTES && chunk[0] === 0 && chunk.length === PREFIX_BYTES + sizeIn(chunk);
}

/** Bounds on the bytes of messages that are not complete yet, over all streams that share the object. */
export interface AssemblyBounds {
  /** Largest message, in bytes; of a compressed one also when it is inflated. */
  readonly maxMessageBytes: number;
  /** Bytes of incomplete messages over all streams. */
  readonly maxBufferedBytes: number;
  /** Bytes held now; the assemblers raise and lower it. */
  bufferedBytes: number;
}

/** Chunks below this are copied together: each is a view into what was read from the socket at once, and would keep all of it in memory. */
const SMALL_CHUNK_BYTES = 2_048;
/** Size of the blocks that small chunks are copied into. */
const BLOCK_BYTES = 8_192;

/**
 * Cuts the bytes of one stream into messages. It holds at most one incomplete message and the chunk that the message arrived with,
 * whatever the sizes of the chunks are: a message that comes one byte at a time costs its bytes and one block.
 */
export class MessageAssembler {
  readonly #bounds: AssemblyBounds;
  #mayBeCompressed: boolean;
  #isCompressed = false;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  /** The last of `#held` when it is a block of our own that has room, and how much of it is used. */
  #block: Uint8Array | undefined;
  #blockUsed = 0;

  /** `mayBeCompressed` where the headers named an encoding; then ask `isCompressed` of each message. */
  constructor(bounds: AssemblyBounds, mayBeCompressed = false) {
    this.#bounds = bounds;
    this.#mayBeCompressed = mayBeCompressed;
  }

  /** The headers named an encoding, after the assembler was made. */
  allowCompressed(): void {
    this.#mayBeCompressed = true;
  }

  /** Whether the last message that `next` returned says that it is compressed. */
  get isCompressed(): boolean {
    return this.#isCompressed;
  }

  /** Takes a chunk. Throws `quota_exceeded` when its message is over the bound, or when too much is held already. */
  push(chunk: Uint8Array): void {
    if (chunk.length < SMALL_CHUNK_BYTES && (this.#held.length > 0 || !startsWhole(chunk))) this.#copy(chunk);
    else {
      this.#trimBlock();
      this.#held.push(chunk);
    }
    this.#heldBytes += chunk.length;
    this.#bounds.bufferedBytes += chunk.length;
    this.#messageBytes();
    if (this.#bounds.bufferedBytes > this.#bounds.maxBufferedBytes) {
      throw new WaymarkError("quota_exceeded", "too many unfinished messages are held here", { retryMs: 1_000 });
    }
  }

  /**
   * The next whole message; undefined when there is none yet. Throws `invalid_argument` for reserved flag bits, `internal` for a
   * compressed message without an encoding (gRPC's compression.md), and `quota_exceeded` for one that is over the bound.
   */
  next(): Uint8Array | undefined {
    const size = this.#messageBytes();
    if (size === undefined || this.#heldBytes < PREFIX_BYTES + size) {
      this.#letGoOfSource();
      return undefined;
    }
    const bytes = this.#joined();
    this.#isCompressed = bytes[0] === COMPRESSED;
    const end = PREFIX_BYTES + size;
    this.drop();
    if (end < bytes.length) this.#hold(bytes.subarray(end));
    return bytes.subarray(PREFIX_BYTES, end);
  }

  /** Whether bytes of an unfinished message are held: at the end of a stream, half a message. */
  isInside(): boolean {
    return this.#heldBytes > 0;
  }

  /** Lets go of what is held. */
  drop(): void {
    this.#bounds.bufferedBytes -= this.#heldBytes;
    this.#held = [];
    this.#heldBytes = 0;
    this.#block = undefined;
  }

  /** Size of the message that the held bytes start with, once its prefix is here and found good. */
  #messageBytes(): number | undefined {
    if (this.#heldBytes < PREFIX_BYTES) return undefined;
    const first = this.#held[0];
    const head = first !== undefined && first.length >= PREFIX_BYTES ? first : this.#joined();
    const flag = head[0] ?? 0;
    if (flag > COMPRESSED) throw malformed("a message's first byte is 0, or 1 when it is compressed");
    if (flag === COMPRESSED && !this.#mayBeCompressed) throw unagreed();
    const size = sizeIn(head);
    const { maxMessageBytes } = this.#bounds;
    if (size <= maxMessageBytes) return size;
    throw tooLarge(size, maxMessageBytes);
  }

  #joined(): Uint8Array {
    this.#trimBlock();
    const only = this.#held.length === 1 ? this.#held[0] : undefined;
    if (only !== undefined) return only;
    const bytes = Buffer.concat(this.#held, this.#heldBytes);
    this.#held = [bytes];
    return bytes;
  }

  #copy(chunk: Uint8Array): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#block === undefined || this.#blockUsed === BLOCK_BYTES) this.#startBlock();
      const part = rest.subarray(0, BLOCK_BYTES - this.#blockUsed);
      this.#block?.set(part, this.#blockUsed);
      this.#blockUsed += part.length;
      rest = rest.subarray(part.length);
    }
  }

  #startBlock(): void {
    this.#trimBlock();
    this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    this.#blockUsed = 0;
    this.#held.push(this.#block);
  }

  /** The block as it is held ends where it was filled to. */
  #trimBlock(): void {
    if (this.#block !== undefined) this.#held[this.#held.length - 1] = this.#block.subarray(0, this.#blockUsed);
    this.#block = undefined;
  }

  /** What waits for more is copied when it is small, so that it does not keep a whole read of the socket. */
  #letGoOfSource(): void {
    const only = this.#held[0];
    if (this.#held.length !== 1 || this.#block !== undefined || only === undefined || only.length >= SMALL_CHUNK_BYTES) return;
    this.#held = [];
    this.#copy(only);
  }

  #hold(bytes: Uint8Array): void {
    this.#held = [bytes];
    this.#heldBytes = bytes.length;
    this.#bounds.bufferedBytes += bytes.length;
  }
}

/** Whether the message that a chunk begins with is wholly in it. */
function startsWhole(chunk: Uint8Array): boolean {
  return chunk.length >= PREFIX_BYTES && chunk.length >= PREFIX_BYTES + sizeIn(chunk);
}

/** Refusal of a compressed message where no encoding was agreed. */
export function unagreed(): WaymarkError {
  return new WaymarkError("internal", "the message says it is compressed, but no grpc-encoding was sent");
}

/** Refusal of a message that is larger than its receiver takes. */
function tooLarge(sizeBytes: number, maxBytes: number): WaymarkError {
  return new WaymarkError("quota_exceeded", `a message is at most ${maxBytes} bytes, this one says ${sizeBytes}`, {
    metadata: { max_bytes: String(maxBytes), bytes: String(sizeBytes) },
  });
}

/** Refusal of bytes that are not gRPC messages. */
export function malformed(description: string): WaymarkError {
  return new WaymarkError("invalid_argument", description, { violations: [{ field: "request", description }] });
}
