/**
 * An HTTP/2 stream as the state machines of calls see it. The shell (`http2-stream.io.ts`) implements it over node:http2; tests
 * implement it over arrays.
 */
/** Called when HTTP/2 took all of what was written: the peer's window and the socket had room for it. Node calls it with an error when the stream is gone. */
export type Taken = (error?: Error | null) => void;

/** What both ends do with a stream. */
export interface StreamPort {
  /** Whether the stream is over; nothing can be written or read any more. */
  readonly isGone: boolean;
  /** Writes bytes of DATA. False when the caller should wait for `onceWritable` before it writes more. */
  write(bytes: Uint8Array, taken?: Taken): boolean;
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
