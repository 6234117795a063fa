/**
 * Manages pending work that affects many records. Touches are pending when a new state, mark or generation of an origin may have changed the
 * visibility of its records. Removals are pending when a whole transfer did not list some of the stored records. The work is executed in slices.
 * Until all work is complete, some views are outdated, so no reader receives a confirmation that it is up to date.
 */
import type { Time } from "../../lib/machine.ts";
import { BODY } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { NO_PENDING_TOUCH, NO_REVISION, type PendingTouch, type PriorView, UNSURE } from "./past-views.ts";
import type { WholeTransfer } from "./whole-transfer.ts";

/** The records of an origin that must be touched. */
export interface TouchSpan {
  /** Only records with a seq above this number are touched. */
  readonly after: number;
  /** Only records with a seq up to this number are touched. */
  readonly until: number;
  /** Whether to include the origin's tombstones, because the visibility of the entries that they end must be computed again. */
  readonly withEnds: boolean;
  /** The view before the change. Default: "seen". */
  readonly before?: PriorView;
}

interface TouchSweep {
  after: number;
  readonly until: number;
  readonly withEnds: boolean;
  readonly before: PriorView;
  /** The revision at which the work was first scheduled. */
  readonly since: number;
  /** Whether the work was scheduled again before all records were touched. */
  readonly isAgain: boolean;
}

/** All entries of an origin, including entries that arrive during the sweep. */
export const ENTRIES: TouchSpan = { after: 0, until: Number.POSITIVE_INFINITY, withEnds: false };

/** The parts of a replica that sweeps need. */
interface SweepReplica {
  winner(stored: StoredRecord): StoredRecord | undefined;
  touch(stored: StoredRecord, pending: PendingTouch): void;
  withdraw(stored: StoredRecord, time: Time): void;
}

export class TouchSweeps {
  readonly #byOrigin = new Map<Origin, TouchSweep>();
  /** Whole transfers whose last frame has arrived, at most one for each origin. */
  readonly #closing = new Set<WholeTransfer>();
  #closed: Origin[] = [];
  readonly #replica: SweepReplica;
  readonly #nextRevision: () => number;

  /** `nextRevision` assigns a revision without touching a record. A reader with an earlier position has not seen the change. */
  constructor(replica: SweepReplica, nextRevision: () => number) {
    this.#replica = replica;
    this.#nextRevision = nextRevision;
  }

  /** Whether there are records that still have to be touched or withdrawn. */
  get isOwed(): boolean {
    return this.#byOrigin.size + this.#closing.size > 0;
  }

  /**
   * Returns the pending touch of a stored record's key. The next touch of the key executes it. This method must be called before any other change of
   * the key.
   */
  pendingFor(any: StoredRecord | undefined): PendingTouch {
    // HOT: runs for each installed record.
    if (this.#byOrigin.size === 0 || any === undefined) return NO_PENDING_TOUCH;
    const [sweep, ...others] = (any.peers ?? [any]).flatMap((stored) => this.#sweepOf(stored) ?? []);
    if (sweep === undefined) return NO_PENDING_TOUCH;
    const since = Math.min(sweep.since, ...others.map((other) => other.since));
    const before = others.reduce((first, other) => earlier(first, other.before), sweep.before);
    return { before, since, between: others.length > 0 || sweep.isAgain ? UNSURE : this.#replica.winner(any) };
  }

  /**
   * Returns the pending touch of a key that is touched for another reason. If the key has further pending touches, the intermediate view is unknown.
   */
  pendingWith(any: StoredRecord, other = NO_PENDING_TOUCH): PendingTouch {
    const { before, since } = this.pendingFor(any);
    return since === NO_REVISION ? other : { before: earlier(before, other.before), since: Math.min(since, other.since), between: UNSURE };
  }

  #sweepOf(stored: StoredRecord): TouchSweep | undefined {
    const sweep = this.#byOrigin.get(stored.origin);
    return sweep !== undefined && stored.seq > sweep.after && stored.seq <= sweep.until && isOf(sweep, stored) ? sweep : undefined;
  }

  /** Whether any record of this origin still has to be touched. */
  isOwedTo(origin: Origin): boolean {
    return this.#byOrigin.has(origin);
  }

  /**
   * Schedules a touch of an origin's records. If a sweep of the origin is in progress, it has touched only some records, so all records are touched
   * again from the start.
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
   * Closes a received whole transfer: records that it does not list are withdrawn, and then the version vector advances. If there are no such
   * records, the version vector advances immediately.
   */
  close(transfer: WholeTransfer): void {
    if (transfer.isDone) transfer.close();
    else this.#closing.add(transfer);
  }

  /** Returns the origins whose whole transfer was closed since the last call, except those that were closed with their last frame. */
  takeClosed(): readonly Origin[] {
    const closed = this.#closed;
    if (closed.length > 0) this.#closed = [];
    return closed;
  }

  /** Cancels the pending withdrawals of a forgotten origin's records. */
  dropClosing({ closing }: Origin): void {
    for (const transfer of this.#closing) if (transfer === closing) this.#closing.delete(transfer);
  }

  /** Touches and withdraws about `maxCount` records. Returns the number of examined records. */
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
    this.#replica.touch(stored, this.pendingWith(stored, { before, since, between }));
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

/** Combines two changes. Returns how the view before both changes differs from the current record. */
function earlier(one: PriorView, other: PriorView): PriorView {
  return one === "renamed" ? one : other;
}
