/**
 * A whole transfer of an origin: what it has listed, and what was held and not listed. Looked at as the frames come, so that the last
 * one does not look at everything at once; what is not listed is withdrawn after that, in slices (`Sweeps`), and only then V moves.
 */

import { KeyShards } from "../key-shards.ts";
import { BODY } from "../record/record.ts";
import { type Closing, followClosing, type Lacking, moveThrough, type Origin, type StoredRecord } from "../record/stored-record.ts";

/** So many records that are looked at and stay cost as much as one that is withdrawn. */
const LOOKS_A_WITHDRAWAL = 20;
/** Records looked at with one frame: the last one may cover very many numbers of which it lists nothing. */
const MAX_LOOKED = 10_000;

/** What the last frame says. */
interface LastFrame {
  readonly through: number;
  readonly knownSeq?: number;
  readonly floor: number;
}

export class WholeTransfer implements Closing {
  readonly origin: Origin;
  readonly #listed = new KeyShards<string, true>();
  /** Held when the frame that covers it was taken in, and not listed by then. */
  #missing: StoredRecord[] = [];
  /** Of `#missing`: those that were looked at. */
  #looked = 0;
  /** Everything from here on up to `through` is to be looked at when all is taken in; undefined while `#missing` has all there is. */
  #again: number | undefined;
  readonly #addedBefore: number;
  #addedCount = 0;
  #lacks: Lacking | undefined;
  through = 0;
  floor = 0;
  reached = 0;
  knownSeq = 0;
  /** Records of it that were refused. */
  lackCount = 0;

  constructor(origin: Origin) {
    this.origin = origin;
    this.#addedBefore = origin.log.addedCount;
  }

  /** A frame was taken in: what else is held of the numbers that it covers. */
  look({ after, through }: { readonly after: number; readonly through: number }): void {
    if (this.#again !== undefined) return;
    let looked = 0;
    this.origin.log.forEachSince(after, (stored, seq) => {
      if (seq > through) return false;
      looked += 1;
      if (looked > MAX_LOOKED) this.#again = seq - 1;
      else if (this.#isMissing(stored)) this.#missing.push(stored);
      return this.#again === undefined;
    });
  }

  list(key: string): void {
    this.#listed.replace(key, true);
  }

  /** A record of it is held now. */
  installed(): void {
    this.#addedCount += 1;
  }

  /** The last frame is taken in. What it does not list is to be withdrawn before `close`, unless records were refused that may be among it. */
  end({ through, knownSeq = 0, floor }: LastFrame): void {
    const { origin } = this;
    this.floor = floor;
    this.#lacks = origin.lacks;
    if (this.lackCount > 0) [this.#missing, this.#again] = [[], undefined];
    // Somebody else's frames may have brought something under a number that was passed already.
    else if (origin.log.addedCount !== this.#addedBefore + this.#addedCount) this.#again = 0;
    followClosing(origin, this, through, knownSeq);
    origin.closing = this;
  }

  /** Whether all that it does not list is gone. */
  get isDone(): boolean {
    return this.#looked >= this.#missing.length && this.#again === undefined;
  }

  /** Withdraws about so many; returns what that cost, in withdrawals. */
  withdraw(maxCount: number, withdraw: (stored: StoredRecord) => void): number {
    const gone: StoredRecord[] = [];
    let spent = 0;
    const look = (stored: StoredRecord) => {
      const isGone = stored.seq >= 0 && stored.seq <= this.through && this.#isMissing(stored);
      if (isGone) gone.push(stored);
      spent += isGone ? 1 : 1 / LOOKS_A_WITHDRAWAL;
    };
    for (const stored of this.#missing.slice(this.#looked, this.#looked + LOOKS_A_WITHDRAWAL * Math.ceil(maxCount))) {
      if (spent >= maxCount) break;
      look(stored);
      this.#looked += 1;
    }
    if (spent < maxCount && this.#again !== undefined) {
      let again: number | undefined;
      this.origin.log.forEachSince(this.#again, (stored, seq) => {
        if (seq > this.through) return false;
        look(stored);
        again = spent < maxCount ? undefined : seq;
        return again === undefined;
      });
      this.#again = again;
    }
    for (const stored of gone) withdraw(stored);
    return spent;
  }

  /** It is at its end: V moves. */
  close(): void {
    const { origin, lackCount } = this;
    origin.closing = undefined;
    if (lackCount > 0) origin.lacks ??= { count: lackCount, why: "" };
    // What was refused since is still lacking.
    else if (origin.lacks === this.#lacks) origin.lacks = undefined;
    origin.floor = Math.max(origin.floor, this.floor);
    moveThrough(origin, this.reached, this.knownSeq);
  }

  #isMissing({ body, key }: StoredRecord): boolean {
    return body === BODY.ENTRY && this.#listed.get(key) === undefined;
  }
}
