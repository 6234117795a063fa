/** A connection on which the other end may say so much and no more. */
import { Duplex } from "node:stream";

/**
 * Passes on what comes on a stream, and cuts it at the chunk that goes over a number of bytes. Whatever the other end makes of them counts: of
 * HTTP/2 also the frames that carry no answer, and padding. Destroying it destroys the stream.
 */
export class ShortAnswer extends Duplex {
  readonly #stream: Duplex;
  #leftBytes: number;
  #bytesRead = 0;

  /** `stream` is connected, and read by nobody else. */
  constructor(stream: Duplex, maxBytes: number) {
    super();
    this.#stream = stream;
    this.#leftBytes = maxBytes;
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    // oxlint-disable-next-line unicorn/no-null -- the end, as node:stream wants it said.
    stream.once("end", () => this.push(null));
    stream.once("close", () => this.destroy());
  }

  /** Whether more came than may come. */
  get isCut(): boolean {
    return this.#leftBytes < 0;
  }

  /** As of a socket: bytes that came. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** The stream flows: what is held here until it is read is bounded. */
  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#stream.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#stream.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#stream.destroy();
    done(error);
  }

  #take(chunk: Buffer): void {
    if (this.destroyed) return;
    this.#bytesRead += chunk.length;
    this.#leftBytes -= chunk.length;
    if (this.isCut) this.destroy();
    else this.push(chunk);
  }
}
