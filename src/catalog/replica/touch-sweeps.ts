/**
 * Work that is owed to many records at once. Touches are owed when their visibility may have changed: by the state of their origin, its
 * mark or its place. Removals are owed when a whole transfer did not list records. The work is done in slices. Until it is done, some views
 * are as before, so no reader is told that it has everything.
 */
import type { Time } from "../../lib/machine.ts";
import { BODY } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { NO_REVISION, NOTHING_OWED, type PendingTouch, type PriorView, UNSURE } from "./past-views.ts";
import type { WholeTransfer } from "./whole-transfer.ts";

/** The records of an origin that are to be touched. */
export interface TouchSpan {
  /** Only records with numbers above this */
  readonly after: number;
  /** and up to this. */
  readonly until: number;
  /** Include its tombstones, because the entries that they end are decided anew. */
  readonly withEnds: boolean;
  /** The view before the change. "seen" by default. */
  readonly before?: PriorView;
}

interface TouchSweep {
  after: number;
  readonly until: number;
  readonly withEnds: boolean;
  readonly before: PriorView;
  /** The revision at which the work was first owed. */
  readonly since: number;
  /** Whether it was owed again before all records were touched. */
  readonly isAgain: boolean;
}

/** All entries of an origin, including those that arrive meanwhile. */
export const ENTRIES: TouchSpan = { after: 0, until: Number.POSITIVE_INFINITY, withEnds: false };

/** The parts of a replica that sweeps use. */
interface SweepReplica {
  winner(stored: StoredRecord): StoredRecord | undefined;
  touch(stored: StoredRecord, owed: PendingTouch): void;
  withdraw(stored: StoredRecord, time: Time): void;
}

export class TouchSweeps {
  readonly #byOrigin = new Map<Origin, TouchSweep>();
  /** Whole transfers that were received, at most one for each origin. */
  readonly #closing = new Set<WholeTransfer>();
  #closed: Origin[] = [];
  readonly #replica: SweepReplica;
  readonly #nextRevision: () => number;

  /** `nextRevision` gives a new revision at which no record is touched. A reader that looked before it has not seen the change. */
  constructor(replica: SweepReplica, nextRevision: () => number) {
    this.#replica = replica;
    this.#nextRevision = nextRevision;
  }

  /** Whether any record is still to be touched or withdrawn. */
  get isOwed(): boolean {
    return this.#byOrigin.size + this.#closing.size > 0;
  }

  /** The work owed to the records of a stored record's key. The first touch notes it. Ask before anything else of the key changes. */
  owedTo(any: StoredRecord | undefined): PendingTouch {
    // HOT: once a record that is taken in.
    if (this.#byOrigin.size === 0 || any === undefined) return NOTHING_OWED;
    const [sweep, ...others] = (any.peers ?? [any]).flatMap((stored) => this.#sweepOf(stored) ?? []);
    if (sweep === undefined) return NOTHING_OWED;
    const since = Math.min(sweep.since, ...others.map((other) => other.since));
    const before = others.reduce((said, other) => earlier(said, other.before), sweep.before);
    return { before, since, between: others.length > 0 || sweep.isAgain ? UNSURE : this.#replica.winner(any) };
  }

  /** The note for a touch with another cause. If more is owed to the key, the view in between is unknown. */
  owedBeside(any: StoredRecord, other = NOTHING_OWED): PendingTouch {
    const { before, since } = this.owedTo(any);
    return since === NO_REVISION ? other : { before: earlier(before, other.before), since: Math.min(since, other.since), between: UNSURE };
  }

  #sweepOf(stored: StoredRecord): TouchSweep | undefined {
    const sweep = this.#byOrigin.get(stored.origin);
    return sweep !== undefined && stored.seq > sweep.after && stored.seq <= sweep.until && isOf(sweep, stored) ? sweep : undefined;
  }

  /** Whether any of its records is still to be touched. */
  isOwedTo(origin: Origin): boolean {
    return this.#byOrigin.has(origin);
  }

  /**
   * If a sweep of the origin is under way, some records have been touched for it and some have not. Then all are touched again, from the
   * first on.
   */
  scheduleTouch(origin: Origin, span: TouchSpan): void {
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

  /**
   * A whole transfer was received: the records that it does not list are withdrawn, and then V moves. If there are none, V moves at once.
   */
  close(transfer: WholeTransfer): void {
    if (transfer.isDone) transfer.close();
    else this.#closing.add(transfer);
  }

  /** Origins whose whole transfer was closed since the last call, and later than with its last frame. */
  takeClosed(): readonly Origin[] {
    const closed = this.#closed;
    if (closed.length > 0) this.#closed = [];
    return closed;
  }

  /** The origin is forgotten, so nothing of it is left to withdraw. */
  dropClosing({ closing }: Origin): void {
    for (const transfer of this.#closing) if (transfer === closing) this.#closing.delete(transfer);
  }

  /** Touches and withdraws about `maxCount` records. Returns the number of records looked at. */
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

  #touch(stored: StoredRecord, { before, since, isAgain }: TouchSweep): void {
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

function isOf({ withEnds }: TouchSweep, { body }: StoredRecord): boolean {
  return withEnds || body === BODY.ENTRY;
}

/** Combines two changes: how the view before both relates to the record now. */
function earlier(one: PriorView, other: PriorView): PriorView {
  return one === "renamed" ? one : other;
}
