/** Turns the bytes that come on a stream into messages, in order, at the speed at which its listener takes them. Both ends use it. */
import { WaymarkError } from "../../lib/errors.ts";
import type { MessageEncoding } from "./request-head.ts";

/** A message as it came, to be inflated. */
export interface CompressedMessage {
  readonly encoding: MessageEncoding;
  readonly bytes: Uint8Array;
  /** The connection that the message came on. What inflating costs is charged to it. */
  readonly owner: object;
  /** Largest message, inflated, in bytes. */
  readonly maxMessageBytes: number;
}

/** The inflated bytes, or why the message is refused. */
export type InflateResult = Uint8Array | WaymarkError;

/** A message that is being inflated, or that waits for its turn. */
export interface Inflation {
  /** Present at once for small messages and for refusals; otherwise `onResult` is called. */
  readonly result: InflateResult | undefined;
  /** Called once when there was no result at once; never after `release`. */
  onResult: ((result: InflateResult) => void) | undefined;
  /** Call this when the message is handled, or no longer wanted. Calling it again does nothing. */
  release(): void;
}

/** Inflates messages within a budget that the caller of the room owns, so that a few kilobytes cannot become gigabytes. */
export interface Inflater {
  inflate(message: CompressedMessage): Inflation;
}

/** Who takes the messages of a stream. */
export interface MessageSink {
  message(bytes: Uint8Array): void;
  /** The peer ended its direction, and every message was given. */
  ended(): void;
  /** What came is not what may come; nothing more is given. */
  failed(error: WaymarkError): void;
}

export interface ReaderParts {
  readonly bounds: AssemblyBounds;
  /** The encoding that the headers named, where they came already. */
  readonly encoding?: MessageEncoding | undefined;
  /** Absent where nothing can be inflated; then a compressed message is refused. */
  readonly inflater: Inflater | undefined;
  /** The connection, to which inflating is charged. */
  readonly owner: object;
  readonly port: { pause(): void; resume(): void; defer(act: () => void): void };
}

/** What the next message may wait for. */
const WAITS = { listener: 1, inflation: 2, turn: 4 } as const;

/** Messages that are given in one go: when thousands of small ones come in one chunk, the turns of other streams come in between. */
const MESSAGES_AT_ONCE = 128;

export class MessageReader {
  readonly #parts: ReaderParts;
  readonly #sink: MessageSink;
  readonly #assembler: MessageAssembler;
  #encoding: MessageEncoding | undefined;
  #state: "open" | "ended" | "over" = "open";
  /** Why no message is given now: the reasons that hold, added up. */
  #waits = 0;
  #inflation: Inflation | undefined;
  /** What was inflated, until it is given. */
  #inflated: InflateResult | undefined;
  /** Whether what was inflated last was given to the listener. */
  #isInflationGiven = false;
  #isGiving = false;

  constructor(parts: ReaderParts, sink: MessageSink) {
    this.#parts = parts;
    this.#sink = sink;
    this.#encoding = parts.encoding;
    this.#assembler = new MessageAssembler(parts.bounds, parts.encoding !== undefined);
  }

  /** Whether the peer ended its direction, though messages may still wait here. */
  get isEnded(): boolean {
    return this.#state !== "open";
  }

  /** The headers came, and name the encoding of messages that say they are compressed. */
  useEncoding(encoding: MessageEncoding): void {
    this.#encoding = encoding;
    this.#assembler.allowCompressed();
  }

  /** Takes a chunk, and gives what messages are whole. */
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

  /** The peer ended its direction. */
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#give();
  }

  /** The listener takes no more for now. The message that it is given at this moment is the last one. */
  pause(): void {
    this.#wait(WAITS.listener);
  }

  /** The listener takes messages again. */
  resume(): void {
    this.#goOn(WAITS.listener);
  }

  /** Nothing more is given; what is held and charged is let go. Harmless when called again. */
  drop(): void {
    this.#state = "over";
    this.#assembler.drop();
    this.#inflation?.release();
    this.#inflation = undefined;
    this.#inflated = undefined;
  }

  /** The message that was given last is handled, before the next one is or `drop` is called: what inflating it is charged with is let go. */
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
    // The listener may have paused again while it was given what waited.
    if (this.#waits === 0 && this.#state !== "over") this.#parts.port.resume();
  }

  // HOT: once a message of a stream; the loop asks again each time, because a listener may pause or end the call.
  #give(): void {
    if (this.#isGiving) return; // A listener resumed inside its own message; the loop below goes on.
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
      this.#fail(malformed("the stream ended inside a message"));
      return;
    }
    this.#state = "over";
    this.#sink.ended();
  }

  #inflate(bytes: Uint8Array): void {
    const { inflater, owner, bounds } = this.#parts;
    const encoding = this.#encoding;
    if (inflater === undefined || encoding === undefined)
      throw new WaymarkError("unimplemented", "compressed messages are not read here; send them plain");
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
      this.#inflated = inflated; // The listener may have paused meanwhile.
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

  /** Refusals are told; a fault of ours goes on to whoever called. */
  #fail(thrown: unknown): void {
    if (!(thrown instanceof WaymarkError) || this.#state === "over") throw thrown;
    this.drop();
    this.#sink.failed(thrown);
  }
}

// The framing of messages on a stream: one flag byte, four bytes of length, the message (gRPC over HTTP/2, "Length-Prefixed-Message").

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

/** As `framed`, of a message that is not compressed. Throws `quota_exceeded` when it is over the bound. */
export function framedWithin(message: Uint8Array, maxBytes: number): Uint8Array {
  if (message.length <= maxBytes) return framed(message);
  throw new WaymarkError("quota_exceeded", `a message to send has ${message.length} bytes, and at most ${maxBytes} are sent`);
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

/** Bounds on the bytes of messages that are not complete yet, over all streams that share the object. */
export interface AssemblyBounds {
  /** Largest message, in bytes; of a compressed one also when it is inflated. */
  readonly maxMessageBytes: number;
  /** Bytes of incomplete messages over all streams. */
  readonly maxBufferedBytes: number;
  /** Memory that holds them now; the assemblers raise and lower it. */
  bufferedBytes: number;
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array();

/**
 * Cuts the bytes of one stream into messages. Bytes that wait for more are copied into memory of the assembler's own: a chunk is a view of
 * what was read from the socket at once, up to 64 KiB with the bytes of other streams in it, and would keep all of that.
 */
export class MessageAssembler {
  readonly #bounds: AssemblyBounds;
  #mayBeCompressed: boolean;
  #isCompressed = false;
  /** What came and was not given yet: a chunk that began with a whole message, or the beginning of `#room`. */
  #held: Uint8Array = NOTHING;
  /** Memory of our own, of which nothing was given yet. */
  #room: Uint8Array<ArrayBuffer> | undefined;
  /** What this assembler added to the bytes that are held. */
  #countedBytes = 0;

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

  /**
   * Takes a chunk. Throws `quota_exceeded` when its message is over the bound. When too much is held already, it throws that for each chunk but
   * one that begins with a whole message: small requests are answered while others fill the memory.
   */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    const isGivenNext = this.#held.length === 0 && startsWhole(chunk);
    if (isGivenNext) this.#hold(chunk, undefined);
    else this.#keep(chunk);
    this.#messageBytes();
    if (!isGivenNext && this.#bounds.bufferedBytes > this.#bounds.maxBufferedBytes) {
      throw new WaymarkError("quota_exceeded", "too many unfinished messages are held here", { retryMs: 1_000 });
    }
  }

  /**
   * The next whole message; undefined when there is none yet. Throws `invalid_argument` for reserved flag bits, `internal` for a
   * compressed message without an encoding (gRPC's compression.md), and `quota_exceeded` for one that is over the bound.
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

  /** Whether bytes of an unfinished message are held: at the end of a stream, half a message. */
  isInside(): boolean {
    return this.#held.length > 0;
  }

  /** Lets go of what is held. */
  drop(): void {
    this.#room?.buffer.transfer(0); // Frees it now: after a flood the collector may not come by for minutes.
    this.#hold(NOTHING, undefined);
  }

  /** Size of the message that the held bytes start with, once its prefix is here and found good. */
  #messageBytes(): number | undefined {
    const held = this.#held;
    if (held.length < PREFIX_BYTES) return undefined;
    const flag = held[0] ?? 0;
    if (flag > COMPRESSED) throw malformed("a message's first byte is 0, or 1 when it is compressed");
    if (flag === COMPRESSED && !this.#mayBeCompressed) throw unagreed();
    const size = sizeIn(held);
    const { maxMessageBytes } = this.#bounds;
    if (size <= maxMessageBytes) return size;
    throw tooLarge(size, maxMessageBytes);
  }

  /** Copies what is held and the chunk behind it into memory of our own. */
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

  /** It doubles as it grows, but not beyond the message: a client that announces much and sends little gets little. */
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

/** Bytes to be held for a while: copied when they are a small part of what was read from the socket at once, which a view would keep whole. */
export function apart(bytes: Uint8Array): Uint8Array {
  return 2 * bytes.length < bytes.buffer.byteLength ? new Uint8Array(bytes) : bytes;
}

/** Whether the message that a chunk begins with is wholly in it. */
function startsWhole(chunk: Uint8Array): boolean {
  return chunk.length >= PREFIX_BYTES && chunk.length >= PREFIX_BYTES + sizeIn(chunk);
}

/** Refusal of a compressed message where no encoding was agreed. */
function unagreed(): WaymarkError {
  return new WaymarkError("internal", "the message says it is compressed, but no grpc-encoding was sent");
}

/** Refusal of a message that is larger than its receiver takes. */
function tooLarge(sizeBytes: number, maxBytes: number): WaymarkError {
  return new WaymarkError("quota_exceeded", `a message is at most ${maxBytes} bytes, this one says ${sizeBytes}`, {
    metadata: { max_bytes: String(maxBytes), bytes: String(sizeBytes) },
  });
}

/** Refusal of bytes that are not gRPC messages. */
function malformed(description: string): WaymarkError {
  return new WaymarkError("invalid_argument", description, { violations: [{ field: "request", description }] });
}

/**
 * An HTTP/2 stream as the state machines of calls see it. The shell (`http2-stream.io.ts`) implements it over node:http2; tests
 * implement it over arrays.
 */
/** Called when HTTP/2 took all of what was written: the peer's window and the socket had room for it. Node calls it with an error when the stream is gone. */
export type WriteCallback = (error?: Error | null) => void;

/** What both ends do with a stream. */
export interface StreamPort {
  /** Whether the stream is over; nothing can be written or read any more. */
  readonly isGone: boolean;
  /** Writes bytes of DATA. False when the caller should wait for `onceWritable` before it writes more. */
  write(bytes: Uint8Array, taken?: WriteCallback): boolean;
  /** Ends our direction after what was written, with these bytes as the last ones. */
  end(bytes?: Uint8Array): void;
  /** Resets the stream with an HTTP/2 error code (RFC 9113, section 7). Harmless when it is over. */
  reset(http2Code: number): void;
  /** Calls once when the stream takes more; never when it goes away instead. */
  onceWritable(goOn: () => void): void;
  /** Stops reading: what the peer sends stays in its flow-control window. */
  pause(): void;
  resume(): void;
  /** Runs in a later turn of the event loop. */
  defer(act: () => void): void;
  /** Runs after so many ms, unless the function that it returns is called before. */
  later(act: () => void, delayMs: number): () => void;
}
