/**
 * A whole transfer of an origin: the keys that it listed, and the stored records that it did not list. Records are checked with each
 * frame, so that the last frame need not check all of them. After that, unlisted records are withdrawn in slices (`TouchSweeps`), and
 * only then does the version vector advance.
 */

import { KeyShards } from "../key-shards.ts";
import { BODY } from "../record/record.ts";
import { type ClosingTransfer, followClosing, type Lacking, moveThrough, type Origin, type StoredRecord } from "../record/stored-record.ts";

/** Number of records that can be checked at the cost of one withdrawal. */
const LOOKS_A_WITHDRAWAL = 20;
/** Maximum number of records that are checked with one frame. The last frame may cover a very large range of seqs without listing any record. */
const MAX_LOOKED = 10_000;

/** The fields of a transfer's last frame. */
interface LastFrame {
  readonly through: number;
  readonly knownSeq?: number;
  readonly floor: number;
}

export class WholeTransfer implements ClosingTransfer {
  readonly origin: Origin;
  readonly #listed = new KeyShards<string, true>();
  /** Records that were stored when the frame that covers their seq arrived, but had not been listed by then. */
  #missing: StoredRecord[] = [];
  /** Number of `#missing` records that have been checked. */
  #looked = 0;
  /** All records from this seq up to `through` must be checked after everything has arrived. Undefined while `#missing` is complete. */
  #again: number | undefined;
  readonly #addedBefore: number;
  #addedCount = 0;
  #lacks: Lacking | undefined;
  through = 0;
  floor = 0;
  reached = 0;
  knownSeq = 0;
  /** Number of records in this transfer that were refused. */
  lackCount = 0;

  constructor(origin: Origin) {
    this.origin = origin;
    this.#addedBefore = origin.log.addedCount;
  }

  /** Checks the stored records in the range of seqs that a received frame covers. */
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

  /** Counts a record from this transfer that was installed. */
  installed(): void {
    this.#addedCount += 1;
  }

  /** Handles the last frame. The unlisted records must be withdrawn before `close` is called, unless some of them may have been refused. */
  end({ through, knownSeq = 0, floor }: LastFrame): void {
    const { origin } = this;
    this.floor = floor;
    this.#lacks = origin.lacks;
    if (this.lackCount > 0) [this.#missing, this.#again] = [[], undefined];
    // Frames of another sender may have added records with seqs that were already checked.
    else if (origin.log.addedCount !== this.#addedBefore + this.#addedCount) this.#again = 0;
    followClosing(origin, this, through, knownSeq);
    origin.closing = this;
  }

  /** Whether all unlisted records have been withdrawn. */
  get isDone(): boolean {
    return this.#looked >= this.#missing.length && this.#again === undefined;
  }

  /** Withdraws about `maxCount` records. Returns the cost, measured in withdrawals. */
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

  /** Completes the transfer: the version vector advances. */
  close(): void {
    const { origin, lackCount } = this;
    origin.closing = undefined;
    if (lackCount > 0) origin.lacks ??= { count: lackCount, why: "" };
    // Records refused after the last frame are still missing.
    else if (origin.lacks === this.#lacks) origin.lacks = undefined;
    origin.floor = Math.max(origin.floor, this.floor);
    moveThrough(origin, this.reached, this.knownSeq);
  }

  #isMissing({ body, key }: StoredRecord): boolean {
    return body === BODY.ENTRY && this.#listed.get(key) === undefined;
  }
}
