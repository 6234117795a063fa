/** Turns the bytes that come on a stream into messages, in order, at the speed at which its listener takes them. Both ends use it. */
import { WaymarkError } from "../../lib/errors.ts";
import { type AssemblyBounds, MessageAssembler, malformed } from "./framing.ts";
import type { Encoding } from "./request-head.ts";

/** A message as it came, to be inflated. */
export interface Compressed {
  readonly encoding: Encoding;
  readonly bytes: Uint8Array;
  /** The connection that the message came on. What inflating costs is charged to it. */
  readonly owner: object;
  /** Largest message, inflated, in bytes. */
  readonly maxMessageBytes: number;
}

/** The inflated bytes, or why the message is refused. */
export type Inflated = Uint8Array | WaymarkError;

/** A message that is being inflated, or that waits for its turn. */
export interface Inflation {
  /** Present at once for small messages and for refusals; otherwise `onResult` is called. */
  readonly result: Inflated | undefined;
  /** Called once when there was no result at once; never after `release`. */
  onResult: ((result: Inflated) => void) | undefined;
  /** Call this when the message is handled, or no longer wanted. Calling it again does nothing. */
  release(): void;
}

/** Inflates messages within a budget that the caller of the room owns, so that a few kilobytes cannot become gigabytes. */
export interface Inflater {
  inflate(message: Compressed): Inflation;
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
  readonly encoding?: Encoding | undefined;
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
  #encoding: Encoding | undefined;
  #state: "open" | "ended" | "over" = "open";
  /** Why no message is given now: the reasons that hold, added up. */
  #waits = 0;
  #inflation: Inflation | undefined;
  /** What was inflated, until it is given. */
  #inflated: Inflated | undefined;
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
  useEncoding(encoding: Encoding): void {
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

  #sinkInflated(result: Inflated): void {
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
