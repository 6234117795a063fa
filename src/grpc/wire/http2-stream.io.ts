/** An HTTP/2 stream of node:http2 as the port that calls write to, on either end. */
import type { Http2Stream } from "node:http2";
import { later } from "../../lib/later.io.ts";
import type { HeaderBlock } from "./metadata.ts";
import { HTTP2_ERROR } from "./status.ts";
import type { StreamPort, Taken } from "./stream-port.ts";

export class Http2StreamPort<S extends Http2Stream = Http2Stream> implements StreamPort {
  protected readonly stream: S;

  constructor(stream: S) {
    this.stream = stream;
  }

  get isGone(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  write(bytes: Uint8Array, taken?: Taken): boolean {
    return this.isGone || this.stream.write(bytes, taken);
  }

  end(bytes?: Uint8Array): void {
    if (!this.isGone) this.stream.end(bytes);
  }

  reset(http2Code: number): void {
    if (!this.isGone) this.stream.close(http2Code);
  }

  onceWritable(goOn: () => void): void {
    this.stream.once("drain", goOn);
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    this.stream.resume();
  }

  defer(act: () => void): void {
    setImmediate(act);
  }

  later(act: () => void, delayMs: number): () => void {
    return later(act, delayMs);
  }
}

/** Whether a stream was reset, or lost with its connection: Node ends what can be read of it all the same, as if the peer had ended it. */
export function isReset(stream: Http2Stream): boolean {
  return stream.destroyed || (stream.closed && stream.rstCode !== HTTP2_ERROR.NO_ERROR);
}

/** Node's types want arrays that it may change; it only reads them. */
export function nodeHeaders(headers: HeaderBlock): NodeJS.Dict<string | string[]> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same object, without `readonly`.
  return headers as NodeJS.Dict<string | string[]>;
}
