/** What sources took back, for as long as it must be remembered (docs/design/summaries.md, Withdrawals). */
import type { KeyText } from "../../catalog/record/record.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Withdrawal } from "../summary.ts";

/** Withdrawals that are known from beacons alone. The oldest of the source with the most goes. */
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
  readonly #told = new Map<string, Map<bigint, Due>>();
  #toldCount = 0;

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
    const told = this.#told.get(source) ?? new Map<bigint, Due>();
    this.#told.set(source, told);
    const before = told.get(tag);
    told.delete(tag);
    told.set(tag, { version: Math.max(version, before?.version ?? 0), untilMonoMs: monoMs + this.#memoryMs });
    if (before === undefined) this.#toldCount += 1;
    if (this.#toldCount > MAX_TOLD) this.#dropOne();
    return version > (before?.version ?? 0);
  }

  /** No source can push out what a smaller one said. */
  #dropOne(): void {
    let most: Map<bigint, Due> | undefined;
    for (const told of this.#told.values()) if (told.size > (most?.size ?? 0)) most = told;
    const [oldest] = most?.keys() ?? [];
    if (oldest !== undefined && most?.delete(oldest) === true) this.#toldCount -= 1;
  }

  /** The version up to which beacons of the source took this tag back; 0 if they did not. */
  toldOf(source: string, tag: bigint): number {
    return this.#told.get(source)?.get(tag)?.version ?? 0;
  }

  /** Whether beacons of the source took anything back. */
  hasTold(source: string): boolean {
    return this.#told.has(source);
  }

  /** Takes out the withdrawals of this node's origin that are no longer to be remembered, at most so many. */
  takeOver({ monoMs }: Time, maxCount: number): readonly (readonly [KeyText, number])[] {
    const over: (readonly [KeyText, number])[] = [];
    for (const [key, { version, untilMonoMs }] of this.#own) {
      if (untilMonoMs > monoMs || over.length >= maxCount) break;
      over.push([key, version]);
    }
    for (const [key] of over) this.#own.delete(key);
    for (const [source, told] of this.#told) {
      for (const [tag, { untilMonoMs }] of told) {
        if (untilMonoMs > monoMs) break;
        if (told.delete(tag)) this.#toldCount -= 1;
      }
      if (told.size === 0) this.#told.delete(source);
    }
    return over;
  }

  /** When the next one of this node's origin is over. */
  nextOverMonoMs(): number {
    for (const { untilMonoMs } of this.#own.values()) return untilMonoMs;
    return NEVER;
  }
}
