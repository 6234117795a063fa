/** The instants from which summaries are not shown, by this node's wall clock (docs/design/summaries.md, Sources). */
import type { KeyText } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";

export class Ends {
  readonly #wallMs = new Map<KeyText, number>();
  readonly #over = new Set<KeyText>();
  #nextWallMs = NEVER;
  #lastWallMs = 0;

  /** From this instant on the summary of the key is not shown. Undefined: it has no end. */
  set(key: KeyText, wallMs: number | undefined, now: Time): void {
    if (wallMs === undefined) {
      if (this.#wallMs.delete(key)) this.#over.delete(key);
      return;
    }
    this.#wallMs.set(key, wallMs);
    this.#place(key, wallMs, now);
  }

  isOver(key: KeyText): boolean {
    return this.#over.has(key);
  }

  /** The keys that are shown or hidden from this instant on. A clock that goes back shows them again. Cost: all ends, when one of them comes. */
  advance(now: Time): readonly KeyText[] {
    const isBack = now.wallMs < this.#lastWallMs;
    this.#lastWallMs = now.wallMs;
    if (!isBack && now.wallMs < this.#nextWallMs) return [];
    this.#nextWallMs = NEVER;
    const turned: KeyText[] = [];
    for (const [key, wallMs] of this.#wallMs) if (this.#place(key, wallMs, now)) turned.push(key);
    return turned;
  }

  #place(key: KeyText, wallMs: number, now: Time): boolean {
    const before = this.#over.size;
    if (wallMs <= now.wallMs) this.#over.add(key);
    else {
      this.#over.delete(key);
      this.#nextWallMs = Math.min(this.#nextWallMs, wallMs);
    }
    return this.#over.size !== before;
  }

  /** When the next one comes. */
  nextEndMonoMs({ monoMs, wallMs }: Time): number {
    return monoMs + this.#nextWallMs - wallMs;
  }
}
