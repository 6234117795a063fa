/** Streams of node:http2 as the port that calls write to, on either end, and what its sessions need so that Node does not end the process. */
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

/** Whether a stream was reset, or lost with its connection: Node ends what can be read of it all the same, as if the peer had ended it. */
export function isReset(stream: Http2Stream): boolean {
  return stream.destroyed || (stream.closed && stream.rstCode !== HTTP2_ERROR.NO_ERROR);
}

/** Node's types want arrays that it may change; it only reads them. */
export function nodeHeaders(headers: HeaderBlock): NodeJS.Dict<string | string[]> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same object, without `readonly`.
  return headers as NodeJS.Dict<string | string[]>;
}

/**
 * From now on `destroy` acts when the turn is over in which it was called; until then the session may bring more. Returns what tells whether it was
 * called. Node refuses a stream whose headers are too many or too long, and frees what it held of them when the current turn of
 * the event loop is over. Where the session is destroyed in that same turn, and collected before its end, Node ends the whole process: "Assertion
 * failed: (current_nghttp2_memory_) == (0)", seen with Node 24.21. The other end chooses its headers, and has many ways to have a session
 * destroyed: GOAWAY is one, and Node itself carries it out. So our sessions are destroyed in the next turn, whoever asks for it.
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
