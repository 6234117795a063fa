/** Writes messages to a stream: their prefixes, their bound, and compression where both ends agreed on it, in the order they were given. */
import { WaymarkError } from "../../lib/errors.ts";
import type { Compressor } from "./encoding.ts";
import { framed } from "./framing.ts";
import type { StreamPort, Taken } from "./stream-port.ts";

/** A message, or the end, that waits for one before it to be compressed. */
interface Waiting {
  readonly message: Uint8Array | undefined;
  readonly taken: Taken | undefined;
}

/** Messages that may wait for compression on one stream. Writers that go on after `write` said no are wrong, but cannot fill the memory. */
const MAX_WAITING = 64;

export class MessageWriter {
  readonly #port: StreamPort;
  readonly #maxMessageBytes: number;
  readonly #compressor: Compressor | undefined;
  readonly #waiting: Waiting[] = [];
  #isCompressing = false;
  #onRoom: (() => void) | undefined;

  /** `compressor` where the peer takes gzip and the caller wants it. */
  constructor(port: StreamPort, maxMessageBytes: number, compressor: Compressor | undefined) {
    this.#port = port;
    this.#maxMessageBytes = maxMessageBytes;
    this.#compressor = compressor;
  }

  /**
   * Writes one message; `taken` is called when HTTP/2 took it. False when the caller should wait for `onceWritable`. Throws
   * `quota_exceeded` for a message over the bound, of which nothing is written.
   */
  write(message: Uint8Array, taken?: Taken): boolean {
    this.#check(message);
    if (this.#compressor === undefined) return this.#port.write(framed(message), taken);
    return this.#queue({ message, taken });
  }

  /** Writes a frame that has its prefix, which several streams may share. */
  writeFrame(frame: Uint8Array, taken?: Taken): boolean {
    return this.#port.write(frame, taken);
  }

  /** Ends our direction after what was written, with this message as the last one. */
  end(message?: Uint8Array): void {
    if (message !== undefined) this.#check(message);
    if (this.#compressor === undefined) this.#port.end(message === undefined ? undefined : framed(message));
    else {
      if (message !== undefined) this.#queue({ message, taken: undefined });
      this.#queue({ message: undefined, taken: undefined });
    }
  }

  /** Calls once when more may be written. */
  onceWritable(goOn: () => void): void {
    if (this.#isCompressing) this.#onRoom = goOn;
    else this.#port.onceWritable(goOn);
  }

  #check(message: Uint8Array): void {
    if (message.length <= this.#maxMessageBytes) return;
    throw new WaymarkError(
      "quota_exceeded",
      `a message to send has ${message.length} bytes, and at most ${this.#maxMessageBytes} are sent`,
    );
  }

  #queue(waiting: Waiting): boolean {
    if (this.#waiting.length >= MAX_WAITING)
      throw new WaymarkError("quota_exceeded", `${MAX_WAITING} messages wait to be compressed already`);
    this.#waiting.push(waiting);
    return this.#pump();
  }

  /** Writes what can be written now; false while something waits. */
  #pump(): boolean {
    let isRoomy = !this.#isCompressing;
    while (!this.#isCompressing) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      isRoomy = this.#begin(next);
    }
    return isRoomy && !this.#isCompressing;
  }

  #begin({ message, taken }: Waiting): boolean {
    if (message === undefined) {
      this.#port.end();
      return true;
    }
    const compressor = this.#compressor;
    if (compressor === undefined || message.length < compressor.minBytes) return this.#port.write(framed(message), taken);
    const compression = compressor.compress(message);
    if (compression.result !== undefined) return this.#port.write(framed(compression.result, true), taken);
    this.#isCompressing = true;
    compression.onResult = (result) => {
      this.#isCompressing = false;
      if (this.#port.isGone) return;
      const isWritable = this.#port.write(framed(result, true), taken);
      const isRoomy = this.#pump() && isWritable;
      const onRoom = this.#onRoom;
      if (onRoom === undefined || this.#isCompressing) return;
      this.#onRoom = undefined;
      if (isRoomy) onRoom();
      else this.#port.onceWritable(onRoom);
    };
    return false;
  }
}
