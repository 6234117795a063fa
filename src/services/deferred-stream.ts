/** A stream that is accepted immediately but whose source opens later, when a promise resolves. */
import type { Time } from "../lib/machine.ts";
import type { StreamSource } from "./service.ts";

export class DeferredStream implements StreamSource {
  #ports: Parameters<StreamSource["attach"]> | undefined;
  #source: StreamSource | undefined;
  #fault: { readonly thrown: unknown } | undefined;
  #isClosed = false;

  /** The stream ends with the error if the promise is rejected. A source that opens after the stream has ended is closed immediately. */
  constructor(source: Promise<StreamSource>) {
    source.then(
      (opened) => this.#open(opened),
      (thrown: unknown) => this.#fail(thrown),
    );
  }

  attach(...ports: Parameters<StreamSource["attach"]>): void {
    this.#ports = ports;
    this.#source?.attach(...ports);
  }

  pull(time: Time): Uint8Array | undefined {
    // The error is thrown here so that the stream ends in the same way as a stream whose source failed to open synchronously.
    if (this.#fault !== undefined) throw this.#fault.thrown;
    return this.#source?.pull(time);
  }

  get isDrained(): boolean {
    return this.#source?.isDrained === true;
  }

  close(): void {
    this.#isClosed = true;
    this.#source?.close();
  }

  #open(source: StreamSource): void {
    if (this.#isClosed) {
      source.close();
      return;
    }
    this.#source = source;
    if (this.#ports === undefined) return;
    source.attach(...this.#ports);
    this.#ports[0]();
  }

  #fail(thrown: unknown): void {
    this.#fault = { thrown };
    this.#ports?.[0]();
  }
}
