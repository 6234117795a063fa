/** A stream that is admitted at once and opens later, when what it waits for is there. */
import type { Time } from "../lib/machine.ts";
import type { StreamSource } from "./service.ts";

export class DeferredStream implements StreamSource {
  #ports: Parameters<StreamSource["attach"]> | undefined;
  #source: StreamSource | undefined;
  #fault: { readonly thrown: unknown } | undefined;
  #isClosed = false;

  /** Ends with whatever the promise is rejected with. A source that comes when the stream is over is closed at once. */
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
    // Thrown here, so that the stream ends as one whose source was refused at once.
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
