/**
 * What is owed to many records at once: touches, since something that decides on what is seen of them changed (the life of their origin, its mark,
 * where it is at home); and the removal of what a whole transfer did not list. It is done in slices; until then what is seen is partly as
 * before, so no reader is told that it has everything.
 */
import type { Time } from "../../lib/machine.ts";
import { BODY } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { type Before, NEVER, NOTHING_OWED, type Owed, UNSURE } from "./past-views.ts";
import type { WholeTransfer } from "./whole-transfer.ts";

/** Which records of an origin are to be touched. */
export interface Span {
  /** Those with numbers above this … */
  readonly after: number;
  /** … and up to this. */
  readonly until: number;
  /** Its tombstones too: what they end is decided anew. */
  readonly withEnds: boolean;
  /** What was seen of them before; "seen" unless said otherwise. */
  readonly before?: Before;
}

interface Sweep {
  after: number;
  readonly until: number;
  readonly withEnds: boolean;
  readonly before: Before;
  /** The revision at which it was owed first. */
  readonly since: number;
  /** Whether it was owed again before all was touched. */
  readonly isAgain: boolean;
}

/** All entries of an origin, also those that come meanwhile. */
export const ENTRIES: Span = { after: 0, until: Number.POSITIVE_INFINITY, withEnds: false };

/** Of a replica. */
interface Swept {
  winner(stored: StoredRecord): StoredRecord | undefined;
  touch(stored: StoredRecord, owed: Owed): void;
  withdraw(stored: StoredRecord, time: Time): void;
}

export class Sweeps {
  readonly #byOrigin = new Map<Origin, Sweep>();
  /** Whole transfers that were taken in, at most one an origin. */
  readonly #closing = new Set<WholeTransfer>();
  #closed: Origin[] = [];
  readonly #replica: Swept;
  readonly #nextRevision: () => number;

  /** `nextRevision` gives a revision of its own, at which nothing is touched: who looked before has not seen what changed. */
  constructor(replica: Swept, nextRevision: () => number) {
    this.#replica = replica;
    this.#nextRevision = nextRevision;
  }

  /** Whether any record is still to be touched or withdrawn. */
  get isOwed(): boolean {
    return this.#byOrigin.size + this.#closing.size > 0;
  }

  /** What is owed to the records of a stored record's key, to be noted by whatever touches it first. Ask before anything else of the key changes. */
  owedTo(any: StoredRecord | undefined): Owed {
    // HOT: once a record that is taken in.
    if (this.#byOrigin.size === 0 || any === undefined) return NOTHING_OWED;
    const [sweep, ...others] = (any.peers ?? [any]).flatMap((stored) => this.#sweepOf(stored) ?? []);
    if (sweep === undefined) return NOTHING_OWED;
    const since = Math.min(sweep.since, ...others.map((other) => other.since));
    const before = others.reduce((said, other) => earlier(said, other.before), sweep.before);
    return { before, since, between: others.length > 0 || sweep.isAgain ? UNSURE : this.#replica.winner(any) };
  }

  /** What is noted of a touch for something else that changed before it: where more is owed to the key, what was seen in between is not known. */
  owedBeside(any: StoredRecord, other = NOTHING_OWED): Owed {
    const { before, since } = this.owedTo(any);
    return since === NEVER ? other : { before: earlier(before, other.before), since: Math.min(since, other.since), between: UNSURE };
  }

  #sweepOf(stored: StoredRecord): Sweep | undefined {
    const sweep = this.#byOrigin.get(stored.origin);
    return sweep !== undefined && stored.seq > sweep.after && stored.seq <= sweep.until && isOf(sweep, stored) ? sweep : undefined;
  }

  /** Whether any of its records is still to be touched. */
  isOwedTo(origin: Origin): boolean {
    return this.#byOrigin.has(origin);
  }

  /** Where one is under way, some records have been touched for it and some have not: all are, from the first on. */
  owe(origin: Origin, span: Span): void {
    if (origin.log.size === 0) return;
    const running = this.#byOrigin.get(origin);
    const since = this.#nextRevision();
    const { before = "seen", withEnds } = span;
    if (running === undefined) this.#byOrigin.set(origin, { ...span, before, since, isAgain: false });
    else
      this.#byOrigin.set(origin, {
        ...ENTRIES,
        withEnds: withEnds || running.withEnds,
        before: earlier(running.before, before),
        since: running.since,
        isAgain: true,
      });
  }

  /** A whole transfer was taken in: what it does not list goes, and then V moves. Where there is nothing, at once. */
  close(transfer: WholeTransfer): void {
    if (transfer.isDone) transfer.close();
    else this.#closing.add(transfer);
  }

  /** Origins of which a whole transfer was closed since the last call, later than with its last frame. */
  takeClosed(): readonly Origin[] {
    const closed = this.#closed;
    if (closed.length > 0) this.#closed = [];
    return closed;
  }

  /** The origin is forgotten: nothing of it is left to be withdrawn. */
  dropClosing({ closing }: Origin): void {
    for (const transfer of this.#closing) if (transfer === closing) this.#closing.delete(transfer);
  }

  /** Touches and withdraws about so many records; returns how many it looked at. */
  step(maxCount: number, time: Time): number {
    const touched = this.#touchSome(maxCount);
    return touched + this.#withdrawSome(maxCount - touched, time);
  }

  #touchSome(maxCount: number): number {
    let looked = 0;
    for (const [origin, sweep] of this.#byOrigin) {
      if (looked >= maxCount) break;
      const storedRecords: StoredRecord[] = [];
      let isDone = true;
      origin.log.forEachSince(sweep.after, (stored, seq) => {
        if (seq > sweep.until) return false;
        isDone = looked < maxCount;
        if (!isDone) return false;
        looked += 1;
        sweep.after = seq;
        storedRecords.push(stored);
        return true;
      });
      for (const stored of storedRecords) if (isOf(sweep, stored)) this.#touch(stored, sweep);
      if (isDone) this.#byOrigin.delete(origin);
    }
    return looked;
  }

  #touch(stored: StoredRecord, { before, since, isAgain }: Sweep): void {
    const between = isAgain ? UNSURE : this.#replica.winner(stored);
    this.#replica.touch(stored, this.owedBeside(stored, { before, since, between }));
  }

  #withdrawSome(maxCount: number, time: Time): number {
    let spent = 0;
    for (const transfer of this.#closing) {
      if (spent >= maxCount) break;
      spent += transfer.withdraw(maxCount - spent, (stored) => this.#replica.withdraw(stored, time));
      if (!transfer.isDone) break;
      this.#closing.delete(transfer);
      transfer.close();
      this.#closed.push(transfer.origin);
    }
    return spent;
  }
}

function isOf({ withEnds }: Sweep, { body }: StoredRecord): boolean {
  return withEnds || body === BODY.ENTRY;
}

/** How what was seen before both of two changes stands to what is known of it now. */
function earlier(one: Before, other: Before): Before {
  return one === "renamed" ? one : other;
}
