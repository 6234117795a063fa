/** What sources took back, for as long as it must be remembered (docs/design/summaries.md, Withdrawals). */
import type { KeyText } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Withdrawal } from "../summary.ts";

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
  /** By source and tag the version up to which a beacon says that the summaries are gone. */
  readonly #told = new Map<string, Due>();

  constructor(memoryMs: number) {
    this.#memoryMs = memoryMs;
  }

  /** This node holds a withdrawal under its own origin. It is remembered from now on. */
  remember(key: KeyText, version: number, { monoMs }: Time): void {
    this.#own.delete(key);
    this.#own.set(key, { version, untilMonoMs: monoMs + this.#memoryMs });
  }

  /** The beacon of a source says that its summaries of this tag up to this version are gone. Returns whether that is news. */
  tell(source: string, { tag, version }: Withdrawal, { monoMs }: Time): boolean {
    const text = textOf(source, tag);
    const before = this.#told.get(text);
    this.#told.delete(text);
    this.#told.set(text, { version: Math.max(version, before?.version ?? 0), untilMonoMs: monoMs + this.#memoryMs });
    const [oldest] = this.#told.keys();
    if (this.#told.size > MAX_TOLD && oldest !== undefined) this.#told.delete(oldest);
    return version > (before?.version ?? 0);
  }

  /** The version up to which beacons of the source took this tag back; 0 if they did not. */
  toldOf(source: string, tag: bigint): number {
    return tag === 0n ? 0 : (this.#told.get(textOf(source, tag))?.version ?? 0);
  }

  /** Whether beacons took anything back. */
  get isToldAny(): boolean {
    return this.#told.size > 0;
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

/** No identifier of a cluster has a space. */
function textOf(source: string, tag: bigint): string {
  return `${source} ${tag.toString(16)}`;
}
