/** Drives one StreamSource into one stream: one message in flight, pulled again when it was taken. Knows no transport. */
import type { WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import type { StreamSource } from "../services/service.ts";

/** The transport's half. */
export interface StreamSink {
  /** Starts sending one message; the transport calls `pump.taken()` when it can take another. */
  write(bytes: Uint8Array): void;
  /** Ends the stream after what was written: OK, or with the error. Called at most once, never with a message in flight. */
  finish(error: unknown): void;
}

export class StreamPump {
  readonly #source: StreamSource;
  readonly #sink: StreamSink;
  readonly #clock: { now(): Time };
  #isBusy = false;
  #isPulling = false;
  #isWoken = false;
  #isClosed = false;
  #ending: { readonly error: unknown } | undefined;

  constructor(source: StreamSource, sink: StreamSink, clock: { now(): Time }) {
    this.#source = source;
    this.#sink = sink;
    this.#clock = clock;
  }

  /** Attaches the source and pulls for the first time. */
  start(): void {
    this.#source.attach(
      () => this.#pull(),
      (error) => this.end(error),
    );
    this.#pull();
  }

  /** Finishes after the message in flight; nothing more is pulled. */
  end(error: WaymarkError | undefined): void {
    if (this.#isClosed || this.#ending !== undefined) return;
    this.#ending = { error };
    if (!this.#isBusy && !this.#isPulling) this.#finish();
  }

  /** The transport took the message in flight. */
  taken(): void {
    this.#isBusy = false;
    if (this.#isClosed) return;
    if (this.#ending === undefined) this.#pull();
    else this.#finish();
  }

  /** The stream is gone (cancelled, reset, connection lost): the source is closed, nothing more is written. */
  gone(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#source.close();
  }

  // HOT: once a change and watcher. A source may wake us from inside its own pull: the loop takes that, not recursion.
  #pull(): void {
    if (this.#isBusy || this.#isClosed || this.#ending !== undefined) return;
    if (this.#isPulling) {
      this.#isWoken = true;
      return;
    }
    this.#isPulling = true;
    let bytes: Uint8Array | undefined;
    try {
      do {
        this.#isWoken = false;
        bytes = this.#source.pull(this.#clock.now());
      } while (bytes === undefined && this.#isWoken && this.#ending === undefined);
    } catch (thrown) {
      this.#ending = { error: thrown };
    }
    this.#isPulling = false;
    if (bytes !== undefined && !this.#isClosed) {
      this.#isBusy = true;
      this.#sink.write(bytes);
    } else if (this.#ending !== undefined) this.#finish();
  }

  #finish(): void {
    if (this.#isClosed || this.#ending === undefined) return;
    this.#isClosed = true;
    this.#source.close();
    this.#sink.finish(this.#ending.error);
  }
}
