/**
 * Adapts streams of node:http2 to the port that calls use, on both client and server, and protects sessions from an assertion in Node.js that ends
 * the process.
 */
import type { Http2Session, Http2Stream } from "node:http2";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { StreamPort, WriteCallback } from "./message-reader.ts";
import type { HeaderBlock } from "./metadata.ts";
import { HTTP2_ERROR } from "./status.ts";

export class Http2StreamPort<S extends Http2Stream = Http2Stream> implements StreamPort {
  protected readonly stream: S;

  constructor(stream: S) {
    this.stream = stream;
  }

  get isGone(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  write(bytes: Uint8Array, taken?: WriteCallback): boolean {
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

/** Whether a stream was reset, or lost with its connection. For such a stream, Node.js also emits "end", as if the peer had ended it. */
export function isReset(stream: Http2Stream): boolean {
  return stream.destroyed || (stream.closed && stream.rstCode !== HTTP2_ERROR.NO_ERROR);
}

/** Casts a header block to the Node.js type, which requires mutable arrays. Node.js only reads them. */
export function nodeHeaders(headers: HeaderBlock): NodeJS.Dict<string | string[]> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same object, without `readonly`.
  return headers as NodeJS.Dict<string | string[]>;
}

/**
 * Delays `session.destroy` to the end of the event loop turn in which it is called. Until then, the session may emit more events. The returned
 * function reports whether the session is ending or destroyed. When Node.js rejects a stream because it has too many or too long headers, it frees
 * the headers' memory at the end of the event loop turn. If the session is destroyed in the same turn and garbage-collected before the end of the
 * turn, Node.js ends the whole process with "Assertion failed: (current_nghttp2_memory_) == (0)" (seen with Node 24.21). The peer chooses its headers
 * and has many ways to cause the session's destruction, for example GOAWAY, which Node.js itself handles. Therefore sessions are always destroyed in
 * the next turn.
 */
export function endInNextTurn(session: Http2Session): () => boolean {
  const destroy = session.destroy.bind(session);
  let isEnding = false;
  session.destroy = (...args) => {
    if (isEnding) return;
    isEnding = true;
    setImmediate(() => destroy(...args));
  };
  return () => isEnding || session.destroyed;
}
