/**
 * Splits a stream's bytes into messages, and delivers them in order, as fast as the listener accepts them. Used by both client and server.
 */
import { WaymarkError } from "../../lib/errors.ts";
import type { MessageEncoding } from "./request-head.ts";

/** A compressed message that must be inflated. */
export interface CompressedMessage {
  readonly encoding: MessageEncoding;
  readonly bytes: Uint8Array;
  /** The connection on which the message arrived. The cost of inflating is charged to this connection. */
  readonly owner: object;
  /** Maximum inflated size of the message, in bytes. */
  readonly maxMessageBytes: number;
}

/** The inflated bytes, or the error with which the message is rejected. */
export type InflateResult = Uint8Array | WaymarkError;

/** A message that is being inflated or is waiting for the budget. */
export interface Inflation {
  /** Set immediately for small messages and for rejections. In all other cases, `onResult` is called. */
  readonly result: InflateResult | undefined;
  /** Called once if `result` was not set immediately. Never called after `release`. */
  onResult: ((result: InflateResult) => void) | undefined;
  /** Must be called when the message has been processed or is no longer needed. Further calls have no effect. */
  release(): void;
}

/** Inflates messages within a budget that the caller owns, so that a few kilobytes cannot become gigabytes. */
export interface Inflater {
  inflate(message: CompressedMessage): Inflation;
}

/** Receives the messages of a stream. */
export interface MessageSink {
  message(bytes: Uint8Array): void;
  /** Called when the peer has ended its sending direction and every message has been delivered. */
  ended(): void;
  /** Called when the received bytes are not a valid message. Delivery has ended. */
  failed(error: WaymarkError): void;
}

export interface ReaderParts {
  readonly bounds: AssemblyBounds;
  /** The encoding that is declared in the headers. Undefined if the headers have not arrived or do not declare an encoding. */
  readonly encoding?: MessageEncoding | undefined;
  /** Undefined if messages cannot be inflated. In this case, compressed messages are rejected. */
  readonly inflater: Inflater | undefined;
  /** The stream's connection. The cost of inflating is charged to this connection. */
  readonly owner: object;
  readonly port: { pause(): void; resume(): void; defer(act: () => void): void };
}

/** Reasons for delaying delivery. */
const WAITS = { listener: 1, inflation: 2, turn: 4 } as const;

/**
 * Maximum number of messages delivered in one event loop turn. If thousands of small messages arrive in one chunk, other streams get turns in
 * between.
 */
const MESSAGES_AT_ONCE = 128;

export class MessageReader {
  readonly #parts: ReaderParts;
  readonly #sink: MessageSink;
  readonly #assembler: MessageAssembler;
  #encoding: MessageEncoding | undefined;
  #state: "open" | "ended" | "over" = "open";
  /** The current reasons for delaying delivery, as a sum of `WAITS`. */
  #waits = 0;
  #inflation: Inflation | undefined;
  /** The inflated message, until it is delivered. */
  #inflated: InflateResult | undefined;
  /** Whether the message that was inflated last has been delivered to the listener. */
  #isInflationGiven = false;
  #isGiving = false;

  constructor(parts: ReaderParts, sink: MessageSink) {
    this.#parts = parts;
    this.#sink = sink;
    this.#encoding = parts.encoding;
    this.#assembler = new MessageAssembler(parts.bounds, parts.encoding !== undefined);
  }

  /** Whether the peer has ended its sending direction. Messages may still be waiting in this reader. */
  get isEnded(): boolean {
    return this.#state !== "open";
  }

  /** Sets the encoding of compressed messages, as declared in the headers. */
  useEncoding(encoding: MessageEncoding): void {
    this.#encoding = encoding;
    this.#assembler.allowCompressed();
  }

  /** Adds a chunk and delivers the complete messages. */
  push(chunk: Uint8Array): void {
    if (this.#state === "over") return;
    try {
      this.#assembler.push(chunk);
    } catch (thrown) {
      this.#fail(thrown);
      return;
    }
    this.#give();
  }

  /** Handles the end of the peer's sending direction. */
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#give();
  }

  /** Stops delivery. The message that is currently being delivered is the last message before the pause. */
  pause(): void {
    this.#wait(WAITS.listener);
  }

  /** Continues delivery. */
  resume(): void {
    this.#goOn(WAITS.listener);
  }

  /** Ends delivery and releases all memory and charges. Further calls have no effect. */
  drop(): void {
    this.#state = "over";
    this.#assembler.drop();
    this.#inflation?.release();
    this.#inflation = undefined;
    this.#inflated = undefined;
  }

  /** Releases the charge for the message that was delivered last. Called before the next message or `drop`. */
  handled(): void {
    if (!this.#isInflationGiven) return;
    this.#inflation?.release();
    this.#inflation = undefined;
  }

  #wait(why: number): void {
    if (this.#waits === 0) this.#parts.port.pause();
    this.#waits |= why;
  }

  #goOn(why: number): void {
    if ((this.#waits & why) === 0) return;
    this.#waits -= why;
    if (this.#waits > 0) return;
    this.#give();
    // The listener may have paused again during delivery.
    if (this.#waits === 0 && this.#state !== "over") this.#parts.port.resume();
  }

  // HOT: once per message of a stream. The loop checks its conditions each time, because a listener may pause or end the call.
  #give(): void {
    if (this.#isGiving) return; // A listener has called `resume` while its message was being delivered. The loop below continues.
    this.#isGiving = true;
    let left = MESSAGES_AT_ONCE;
    try {
      while (this.#waits === 0 && this.#state !== "over") {
        const inflated = this.#inflated;
        const bytes = inflated === undefined ? this.#assembler.next() : undefined;
        this.#inflated = undefined;
        if (inflated !== undefined) this.#sinkInflated(inflated);
        else if (bytes === undefined) break;
        else {
          this.handled();
          if (this.#assembler.isCompressed) this.#inflate(bytes);
          else this.#sink.message(bytes);
        }
        left -= 1;
        if (left === 0) this.#waitForTurn();
      }
    } catch (thrown) {
      this.#fail(thrown);
    } finally {
      this.#isGiving = false;
    }
    if (this.#waits === 0 && this.#state === "ended") this.#finish();
  }

  #finish(): void {
    if (this.#assembler.isInside()) {
      this.#fail(malformed("the stream ended in the middle of a message"));
      return;
    }
    this.#state = "over";
    this.#sink.ended();
  }

  #inflate(bytes: Uint8Array): void {
    const { inflater, owner, bounds } = this.#parts;
    const encoding = this.#encoding;
    if (inflater === undefined || encoding === undefined)
      throw new WaymarkError("unimplemented", "compressed messages are not supported on this connection; send messages uncompressed");
    const inflation = inflater.inflate({ encoding, bytes, owner, maxMessageBytes: bounds.maxMessageBytes });
    this.#inflation = inflation;
    this.#isInflationGiven = false;
    if (inflation.result !== undefined) {
      this.#sinkInflated(inflation.result);
      return;
    }
    this.#wait(WAITS.inflation);
    inflation.onResult = (inflated) => {
      if (this.#state === "over") return;
      this.#inflated = inflated; // The listener may have paused in the meantime.
      this.#goOn(WAITS.inflation);
    };
  }

  #sinkInflated(result: InflateResult): void {
    this.#isInflationGiven = true;
    if (result instanceof WaymarkError) throw result;
    this.#sink.message(result);
  }

  #waitForTurn(): void {
    this.#wait(WAITS.turn);
    this.#parts.port.defer(() => this.#goOn(WAITS.turn));
  }

  /** Reports rejections to the sink, and rethrows other errors, which are bugs. */
  #fail(thrown: unknown): void {
    if (!(thrown instanceof WaymarkError) || this.#state === "over") throw thrown;
    this.drop();
    this.#sink.failed(thrown);
  }
}

// Implements the framing of messages on a stream: one flag byte, a four-byte length, and the message (gRPC over HTTP/2, "Length-Prefixed-Message").

/** Number of bytes before each message. */
export const PREFIX_BYTES = 5;
/** Initial flow-control window of a stream and of a connection, unless the peer announces another (RFC 9113, section 6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;

/** The flag of a compressed message. For an uncompressed message, the flag is 0. All other bits are reserved. */
const COMPRESSED = 1;

/** Returns a message with its prefix. Copying 1.4 kB costs 0.1 µs, but a second write for the prefix would cost 2 µs. */
export function framed(message: Uint8Array, isCompressed = false): Uint8Array {
  const size = message.length;
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + size);
  frame.set(message, writePrefix(frame, size, isCompressed));
  return frame;
}

/** Like `framed`, for an uncompressed message. Throws `quota_exceeded` if the message exceeds the limit. */
export function framedWithin(message: Uint8Array, maxBytes: number): Uint8Array {
  if (message.length <= maxBytes) return framed(message);
  throw new WaymarkError("quota_exceeded", `message too large to send: it has ${message.length} bytes, and the limit is ${maxBytes}`);
}

/** Writes the prefix for a message of `sizeBytes` at the start of `out`. Returns the offset after the prefix. */
export function writePrefix(out: Uint8Array, sizeBytes: number, isCompressed = false): number {
  out[0] = isCompressed ? COMPRESSED : 0;
  out[1] = sizeBytes >>> 24;
  out[2] = sizeBytes >>> 16;
  out[3] = sizeBytes >>> 8;
  out[4] = sizeBytes;
  return PREFIX_BYTES;
}

/** Returns the message size in a prefix. */
export function sizeIn(prefix: Uint8Array): number {
  return (prefix[1] ?? 0) * 2 ** 24 + (prefix[2] ?? 0) * 2 ** 16 + (prefix[3] ?? 0) * 2 ** 8 + (prefix[4] ?? 0);
}

/** Limits on the bytes of incomplete messages, over all streams that share this object. */
export interface AssemblyBounds {
  /** Maximum size of a message in bytes, before and after inflation. */
  readonly maxMessageBytes: number;
  /** Maximum number of bytes of incomplete messages over all streams. */
  readonly maxBufferedBytes: number;
  /** Number of bytes of memory that incomplete messages currently use. The assemblers update this number. */
  bufferedBytes: number;
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array();

/**
 * Splits the bytes of one stream into messages. Incomplete messages are copied into the assembler's own memory: a chunk is a view of a socket read of
 * up to 64 KiB, which may contain the bytes of other streams, and keeping the chunk would keep the whole read.
 */
export class MessageAssembler {
  readonly #bounds: AssemblyBounds;
  #mayBeCompressed: boolean;
  #isCompressed = false;
  /** Bytes that have not been delivered yet: a chunk that began with a complete message, or the beginning of `#room`. */
  #held: Uint8Array = NOTHING;
  /** The assembler's own memory. None of the bytes in it have been delivered yet. */
  #room: Uint8Array<ArrayBuffer> | undefined;
  /** The number of bytes that this assembler contributes to `bufferedBytes`. */
  #countedBytes = 0;

  /** `mayBeCompressed` is set if the headers declare an encoding. In this case, the caller must check `isCompressed` for each message. */
  constructor(bounds: AssemblyBounds, mayBeCompressed = false) {
    this.#bounds = bounds;
    this.#mayBeCompressed = mayBeCompressed;
  }

  /** Allows compressed messages, because headers that arrived after the constructor call declare an encoding. */
  allowCompressed(): void {
    this.#mayBeCompressed = true;
  }

  /** Whether the last message that `next` returned is marked as compressed. */
  get isCompressed(): boolean {
    return this.#isCompressed;
  }

  /**
   * Adds a chunk. Throws `quota_exceeded` if its message exceeds the limit. If the shared buffer is full, throws `quota_exceeded` for every chunk
   * that does not begin with a complete message, so that small requests are still answered while others fill the memory.
   */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    const isGivenNext = this.#held.length === 0 && startsWhole(chunk);
    if (isGivenNext) this.#hold(chunk, undefined);
    else this.#keep(chunk);
    this.#messageBytes();
    if (!isGivenNext && this.#bounds.bufferedBytes > this.#bounds.maxBufferedBytes) {
      throw new WaymarkError("quota_exceeded", "too many incomplete messages are buffered; retry later", { retryMs: 1_000 });
    }
  }

  /**
   * Returns the next complete message, or undefined if there is none. Throws `invalid_argument` for reserved flag bits, `internal` for a compressed
   * message without an encoding (gRPC's compression.md), and `quota_exceeded` for a message that exceeds the limit.
   */
  next(): Uint8Array | undefined {
    const held = this.#held;
    const size = this.#messageBytes();
    if (size === undefined || held.length < PREFIX_BYTES + size) {
      if (this.#room === undefined && held.length > 0) this.#keep(NOTHING);
      return undefined;
    }
    const end = PREFIX_BYTES + size;
    this.#isCompressed = held[0] === COMPRESSED;
    this.#hold(held.length === end ? NOTHING : held.subarray(end), undefined);
    return held.subarray(PREFIX_BYTES, end);
  }

  /** Whether bytes of an incomplete message are buffered. At the end of a stream, this means that the last message is truncated. */
  isInside(): boolean {
    return this.#held.length > 0;
  }

  /** Releases the buffered bytes. */
  drop(): void {
    this.#room?.buffer.transfer(0); // Frees the memory now, because after a flood the garbage collector might not run for minutes.
    this.#hold(NOTHING, undefined);
  }

  /**
   * Returns the size of the message at the start of the buffered bytes. Returns undefined until the prefix is complete. Throws if the prefix is
   * invalid.
   */
  #messageBytes(): number | undefined {
    const held = this.#held;
    if (held.length < PREFIX_BYTES) return undefined;
    const flag = held[0] ?? 0;
    if (flag > COMPRESSED) throw malformed(`invalid message flag ${flag}: must be 0, or 1 for a compressed message`);
    if (flag === COMPRESSED && !this.#mayBeCompressed) throw unagreed();
    const size = sizeIn(held);
    const { maxMessageBytes } = this.#bounds;
    if (size <= maxMessageBytes) return size;
    throw tooLarge(size, maxMessageBytes);
  }

  /** Copies the buffered bytes and the chunk into the assembler's own memory. */
  #keep(chunk: Uint8Array): void {
    const heldBytes = this.#held.length;
    const total = heldBytes + chunk.length;
    const room = this.#roomFor(total);
    room.set(chunk, heldBytes);
    this.#hold(room.subarray(0, total), room);
  }

  #hold(held: Uint8Array, room: Uint8Array<ArrayBuffer> | undefined): void {
    const bytes = (room ?? held).length;
    this.#bounds.bufferedBytes += bytes - this.#countedBytes;
    this.#countedBytes = bytes;
    this.#held = held;
    this.#room = room;
  }

  /**
   * Returns memory for the message. The memory doubles as the message grows, but not beyond the message size. A client that announces a large message
   * but sends little data therefore uses little memory.
   */
  #roomFor(total: number): Uint8Array<ArrayBuffer> {
    const room = this.#room;
    if (room !== undefined && total <= room.length) return room;
    const messageEnd = this.#held.length < PREFIX_BYTES ? total : PREFIX_BYTES + sizeIn(this.#held);
    const made = new Uint8Array(Math.max(total, Math.min(2 * (room?.length ?? 0), messageEnd)));
    made.set(this.#held);
    room?.buffer.transfer(0);
    return made;
  }
}

/**
 * Returns bytes that can be kept for some time. If they are a small part of a socket read, they are copied, because a view would keep the whole read
 * in memory.
 */
export function apart(bytes: Uint8Array): Uint8Array {
  return 2 * bytes.length < bytes.buffer.byteLength ? new Uint8Array(bytes) : bytes;
}

/** Whether a chunk contains the whole message with which it begins. */
function startsWhole(chunk: Uint8Array): boolean {
  return chunk.length >= PREFIX_BYTES && chunk.length >= PREFIX_BYTES + sizeIn(chunk);
}

/** Returns the error for a compressed message without an encoding. */
function unagreed(): WaymarkError {
  return new WaymarkError("internal", "the message is marked as compressed, but the headers have no grpc-encoding");
}

/** Returns the error for a message that is larger than its receiver accepts. */
function tooLarge(sizeBytes: number, maxBytes: number): WaymarkError {
  return new WaymarkError("quota_exceeded", `message too large: it has ${sizeBytes} bytes, and the limit is ${maxBytes}`, {
    metadata: { max_bytes: String(maxBytes), bytes: String(sizeBytes) },
  });
}

/** Returns the error for bytes that are not gRPC messages. */
function malformed(description: string): WaymarkError {
  return new WaymarkError("invalid_argument", description, { violations: [{ field: "request", description }] });
}

/**
 * An HTTP/2 stream as seen by the state machines of calls. The shell (`http2-stream.io.ts`) implements this port over node:http2, and tests implement
 * it over arrays.
 */
/**
 * Called when HTTP/2 has accepted all written bytes because the peer's window and the socket had room for them. Node.js calls it with an error if the
 * stream no longer exists.
 */
export type WriteCallback = (error?: Error | null) => void;

/** The operations that the client and the server perform on a stream. */
export interface StreamPort {
  /** Whether the stream is over. If so, no data can be written or read. */
  readonly isGone: boolean;
  /** Writes DATA bytes. Returns false if the caller should wait for `onceWritable` before writing more data. */
  write(bytes: Uint8Array, taken?: WriteCallback): boolean;
  /** Ends this side's sending direction after writing these last bytes. */
  end(bytes?: Uint8Array): void;
  /** Resets the stream with an HTTP/2 error code (RFC 9113, section 7). Does nothing if the stream is over. */
  reset(http2Code: number): void;
  /** Calls `goOn` once when the stream is writable again. `goOn` is not called if the stream closes first. */
  onceWritable(goOn: () => void): void;
  /** Stops reading, so that the bytes that the peer sends use up its flow-control window. */
  pause(): void;
  resume(): void;
  /** Runs `act` in a later turn of the event loop. */
  defer(act: () => void): void;
  /** Runs `act` after `delayMs`. The returned function cancels it. */
  later(act: () => void, delayMs: number): () => void;
}
