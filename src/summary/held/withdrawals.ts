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

interface Told extends Due {
  /** Of the key that signed the beacon. */
  readonly keyId: string;
}

export class Withdrawals {
  readonly #memoryMs: number;
  /** The withdrawals of this node's own origin, in the order in which they are due. */
  readonly #own = new Map<KeyText, Due>();
  /** By source and tag the version up to which a beacon says that the summaries are gone. */
  readonly #told = new Map<string, Map<bigint, Told>>();
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
  tell(source: string, { tag, version }: Withdrawal, keyId: string, { monoMs }: Time): boolean {
    const told = this.#told.get(source) ?? new Map<bigint, Told>();
    this.#told.set(source, told);
    const before = told.get(tag);
    told.delete(tag);
    const highest = before !== undefined && before.version > version ? before : { version, keyId };
    told.set(tag, { version: highest.version, keyId: highest.keyId, untilMonoMs: monoMs + this.#memoryMs });
    if (before === undefined) this.#toldCount += 1;
    if (this.#toldCount > MAX_TOLD) this.#dropOne();
    return version > (before?.version ?? 0);
  }

  /** No source can push out what a smaller one said. */
  #dropOne(): void {
    let most: Map<bigint, Told> | undefined;
    for (const told of this.#told.values()) if (told.size > (most?.size ?? 0)) most = told;
    const [oldest] = most?.keys() ?? [];
    if (oldest !== undefined && most?.delete(oldest) === true) this.#toldCount -= 1;
  }

  /** Keys of the source count no more. What its beacons took back under them is forgotten; what is true of it comes again with a later beacon. Returns whether there was any. */
  distrust(source: string, isGone: (keyId: string) => boolean): boolean {
    const told = this.#told.get(source);
    if (told === undefined) return false;
    const before = told.size;
    for (const [tag, { keyId }] of told) if (isGone(keyId) && told.delete(tag)) this.#toldCount -= 1;
    return told.size < before;
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
    return over;
  }

  /** Forgets what beacons took back long enough ago. `heldOf` names the tags of which something older is still held, which are remembered longer. */
  forgetTold({ monoMs }: Time, heldOf: (source: string, over: ReadonlyMap<bigint, number>) => ReadonlySet<bigint>): void {
    for (const [source, told] of this.#told) {
      const over = overOf(told, monoMs);
      const held = over.size === 0 ? over : heldOf(source, new Map([...over].map(([tag, { version }]) => [tag, version])));
      for (const [tag, due] of over) {
        told.delete(tag);
        if (held.has(tag)) told.set(tag, { ...due, untilMonoMs: monoMs + this.#memoryMs });
        else this.#toldCount -= 1;
      }
      if (told.size === 0) this.#told.delete(source);
    }
  }

  /** When the next one of this node's origin is over. */
  nextOverMonoMs(): number {
    for (const { untilMonoMs } of this.#own.values()) return untilMonoMs;
    return NEVER;
  }
}

/** Those that are due, which are the first. */
function overOf(told: ReadonlyMap<bigint, Told>, monoMs: number): ReadonlyMap<bigint, Told> {
  const over = new Map<bigint, Told>();
  for (const [tag, due] of told) {
    if (due.untilMonoMs > monoMs) break;
    over.set(tag, due);
  }
  return over;
}
