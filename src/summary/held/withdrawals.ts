/** What sources took back, for as long as it must be remembered (docs/design/summaries.md, Withdrawals). */
import type { KeyText } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";

/** Withdrawals that are known from beacons alone. The oldest goes. */
const MAX_TOLD = 50_000;

interface Due {
  readonly version: number;
  readonly untilMonoMs: number;
}

export class Withdrawals {
  readonly #memoryMs: number;
  /** The withdrawals of this node's own origin, in the order in which they are due. */
  readonly #own = new Map<KeyText, Due>();
  /** By key the version up to which a beacon says that the summaries are gone. */
  readonly #told = new Map<KeyText, Due>();

  constructor(memoryMs: number) {
    this.#memoryMs = memoryMs;
  }

  /** This node holds a withdrawal under its own origin. It is remembered from now on. */
  remember(key: KeyText, version: number, { monoMs }: Time): void {
    this.#own.delete(key);
    this.#own.set(key, { version, untilMonoMs: monoMs + this.#memoryMs });
  }

  /** A beacon says that the summaries of the key up to this version are gone. Returns whether that is news. */
  tell(key: KeyText, version: number, { monoMs }: Time): boolean {
    const before = this.#told.get(key);
    this.#told.delete(key);
    this.#told.set(key, { version: Math.max(version, before?.version ?? 0), untilMonoMs: monoMs + this.#memoryMs });
    const [oldest] = this.#told.keys();
    if (this.#told.size > MAX_TOLD && oldest !== undefined) this.#told.delete(oldest);
    return version > (before?.version ?? 0);
  }

  /** The version up to which beacons took the key back; 0 if they did not. */
  toldOf(key: KeyText): number {
    return this.#told.get(key)?.version ?? 0;
  }

  /** Takes out the withdrawals of this node's origin that are no longer to be remembered, at most so many. */
  takeOver({ monoMs }: Time, maxCount: number): readonly (readonly [KeyText, number])[] {
    const over: (readonly [KeyText, number])[] = [];
    for (const [key, { version, untilMonoMs }] of this.#own) {
      if (untilMonoMs > monoMs || over.length >= maxCount) break;
      over.push([key, version]);
    }
    for (const [key] of over) this.#own.delete(key);
    for (const [key, { untilMonoMs }] of this.#told) {
      if (untilMonoMs > monoMs) break;
      this.#told.delete(key);
    }
    return over;
  }

  /** When the next one of this node's origin is over. */
  nextOverMonoMs(): number {
    for (const { untilMonoMs } of this.#own.values()) return untilMonoMs;
    return NEVER;
  }
}
