/** A stream for the calls' state machines over arrays: what they order is a list of words, and time passes when a test says so. */

import type { WriteCallback } from "../../src/grpc/wire/message-reader.ts";
import type { HeaderBlock } from "../../src/grpc/wire/metadata.ts";

export class FakePort {
  /** What was ordered, in order. */
  readonly orders: string[] = [];
  readonly written: Uint8Array[] = [];
  isGone = false;
  isWritable = true;
  isPaused = false;
  trailers: () => HeaderBlock = () => ({});
  nowMs = 0;
  readonly #taken: WriteCallback[] = [];
  readonly #waiting: (() => void)[] = [];
  readonly #deferred: (() => void)[] = [];
  #timers: { readonly atMs: number; readonly act: () => void }[] = [];

  respond(headers: HeaderBlock, isEnd: boolean): void {
    const { ":status": status, "content-type": type, ...others } = headers;
    const rest = Object.entries(others).map(([name, value]) => ` ${name}=${String(value)}`);
    this.orders.push(`${isEnd ? "trailers-only" : "headers"} ${String(status)}${type === undefined ? " no type" : ""}${rest.join("")}`);
  }

  write(bytes: Uint8Array, taken?: WriteCallback): boolean {
    this.written.push(bytes);
    this.orders.push(`write ${bytes.length}`);
    if (taken !== undefined) this.#taken.push(taken);
    return this.isWritable;
  }

  end(bytes?: Uint8Array): void {
    if (bytes !== undefined) this.written.push(bytes);
    const trailers = Object.entries(this.trailers()).map(([name, value]) => ` ${name}=${String(value)}`);
    this.orders.push(`end${bytes === undefined ? "" : ` ${bytes.length}`}${trailers.join("")}`);
  }

  reset(http2Code: number): void {
    this.orders.push(`reset ${http2Code}`);
  }

  onceWritable(goOn: () => void): void {
    this.#waiting.push(goOn);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  defer(act: () => void): void {
    this.#deferred.push(act);
  }

  later(act: () => void, delayMs: number): () => void {
    const timer = { atMs: this.nowMs + delayMs, act };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  arrived(): void {}

  /** HTTP/2 took what was written first. */
  take(error?: Error): void {
    this.#taken.shift()?.(error);
  }

  drained(): void {
    for (const goOn of this.#waiting.splice(0)) goOn();
  }

  /** The next turn of the event loop. */
  turn(): void {
    for (const act of this.#deferred.splice(0)) act();
  }

  pass(ms: number): void {
    this.nowMs += ms;
    const due = this.#timers.filter(({ atMs }) => atMs <= this.nowMs);
    this.#timers = this.#timers.filter(({ atMs }) => atMs > this.nowMs);
    for (const { act } of due) act();
  }

  get timerCount(): number {
    return this.#timers.length;
  }
}
