/** When a peer said what comes over a link, by this node's own clock: not before the time of ours that comes with it (semantics.md, Age). */
import type { Time } from "../../lib/machine.ts";
import type { Said } from "../wire/messages.ts";

/**
 * Each side of a link stamps its vectors with a time of its own, and tells the newest stamp of the peer that it has, and for how long it has had
 * it, in one number. What comes with that number was so at that time of ours at the earliest, whatever held it up on its way here; and no two clocks
 * are compared. The bound is that of Cristian, "Probabilistic clock synchronization" (1989): it is too early by the time that our stamp was on its way.
 */
export class SaidTimes {
  readonly #startMonoMs: number;
  readonly #greetedMonoMs: number;
  /** The peer's newest stamp, and when it came. */
  #newest: { readonly atMs: number; readonly monoMs: number } | undefined;

  /** Of one link, from now on. `greetedMonoMs`: when this node greeted; the peer says nothing on the link before it has heard that. */
  constructor({ monoMs }: Time, greetedMonoMs: number) {
    this.#startMonoMs = monoMs;
    this.#greetedMonoMs = greetedMonoMs;
  }

  /** For a frame that is made now, and says what was so `asOfMonoMs`. Rounded so that the peer takes it for earlier, never later. */
  stamp(asOfMonoMs: number, { monoMs }: Time): Said {
    const atMs = Math.floor(monoMs - this.#startMonoMs) + 1;
    const asOfMs = this.#newest === undefined ? 0 : this.#newest.atMs + Math.floor(asOfMonoMs - this.#newest.monoMs);
    return asOfMs > 0 ? { atMs, asOfMs } : { atMs };
  }

  /** Since when at the earliest, by our clock, what came with this stamp has been so. Without a stamp it may be as old as the greeting. */
  heard(said: Said | undefined, { monoMs }: Time): number {
    const { atMs, asOfMs }: Said = said ?? { atMs: 0 };
    if (atMs > (this.#newest?.atMs ?? 0)) this.#newest = { atMs, monoMs };
    const soMonoMs = asOfMs === undefined ? this.#greetedMonoMs : this.#startMonoMs + asOfMs - 1;
    return Math.min(soMonoMs, monoMs);
  }
}
