/** A watch of what a resolver follows for it. It ends when that finds no room any more. */
import type { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { StreamSource } from "../service.ts";

export class FollowedSource implements StreamSource {
  readonly #source: StreamSource;
  readonly #refusal: () => WaymarkError | undefined;
  #end: Parameters<StreamSource["attach"]>[1] | undefined;

  /** `refusal`: why it may not go on. Undefined while it may. */
  constructor(source: StreamSource, refusal: () => WaymarkError | undefined) {
    this.#source = source;
    this.#refusal = refusal;
  }

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    this.#end = end;
    this.#source.attach(wake, end);
  }

  /** What is let go for want of room is not told as removed. */
  pull(time: Time): Uint8Array | undefined {
    const refusal = this.#refusal();
    if (refusal === undefined) return this.#source.pull(time);
    this.#end?.(refusal);
    return undefined;
  }

  get isDrained(): boolean {
    return this.#source.isDrained === true;
  }

  close(): void {
    this.#source.close();
  }
}
