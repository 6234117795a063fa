/** A stream whose source can be opened only a little later, at a copy of the catalog that is still behind its reader. */
import type { Time } from "../../lib/machine.ts";
import type { StreamSource } from "../service.ts";

type Wait = { readonly kind: "waiting" } | { readonly kind: "due" } | { readonly kind: "failed"; readonly fault: unknown };

/** Says nothing before it is due, and then what its source says. Where the wait or the opening fails, the next pull throws it. */
export class LateSource implements StreamSource {
  /** Undefined once it was called: it holds the request. */
  #open: ((time: Time) => StreamSource) | undefined;
  #wait: Wait = { kind: "waiting" };
  #source: StreamSource | undefined;
  #ports: Parameters<StreamSource["attach"]> | undefined;

  constructor(due: Promise<void>, open: (time: Time) => StreamSource) {
    this.#open = open;
    due.then(
      () => this.#settle({ kind: "due" }),
      (fault: unknown) => this.#settle({ kind: "failed", fault }),
    );
  }

  attach(...ports: Parameters<StreamSource["attach"]>): void {
    this.#ports = ports;
  }

  pull(time: Time): Uint8Array | undefined {
    return (this.#source ?? this.#opened(time))?.pull(time);
  }

  get isDrained(): boolean {
    return this.#source?.isDrained === true;
  }

  close(): void {
    this.#ports = undefined;
    this.#open = undefined;
    this.#source?.close();
  }

  #settle(wait: Wait): void {
    this.#wait = wait;
    const [wake] = this.#ports ?? [];
    wake?.();
  }

  #opened(time: Time): StreamSource | undefined {
    if (this.#wait.kind === "failed") throw this.#wait.fault;
    const [open, ports] = [this.#open, this.#ports];
    if (this.#wait.kind === "waiting" || open === undefined || ports === undefined) return undefined;
    this.#open = undefined;
    this.#source = open(time);
    this.#source.attach(...ports);
    return this.#source;
  }
}
