/**
 * Forgets an origin: removes its id immediately, and its records in slices (semantics.md, Orphans). If the origin's node returns, it is a new origin
 * on this node and starts from 0. The origin's entries are already hidden. Each record is dropped together with the records that it kept hidden.
 */
import type { Time } from "../../lib/machine.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { KeysLeft } from "./lost-keys.ts";
import { applyMarks, type Marking } from "./lost-marks.ts";
import { endersOf, endsBeside, hiddenBy } from "./tombstones.ts";
import { endsBeforeHlc, isNarrowing } from "./view.ts";

/** The parts of a replica that the removal needs. */
interface RemovalReplica extends Marking {
  touch(stored: StoredRecord): void;
  withdraw(stored: StoredRecord, time: Time): void;
}

export class OriginRemoval {
  readonly #origin: Origin;
  readonly #replica: RemovalReplica;
  readonly #take: (stored: StoredRecord) => void;
  /** Whether the origin's node will never return as this origin. */
  readonly #isOver: boolean;
  readonly #keys: KeysLeft | undefined;

  /** `take` removes a record that is not visible, without leaving a tombstone. */
  constructor(origin: Origin, isOver: boolean, replica: RemovalReplica, take: (stored: StoredRecord) => void) {
    this.#origin = origin;
    this.#isOver = isOver;
    this.#replica = replica;
    this.#take = take;
    if (isOver) return;
    replica.lost.forgotten(origin);
    this.#keys = KeysLeft.of(origin);
  }

  get isDone(): boolean {
    return this.#origin.log.size === 0;
  }

  /** Drops at most `maxCount` records. Returns their number. */
  step(maxCount: number, time: Time): number {
    const storedRecords: StoredRecord[] = [];
    this.#origin.log.forEachSince(0, (stored) => {
      if (storedRecords.length >= maxCount) return false;
      storedRecords.push(stored);
      return true;
    });
    const { lost } = this.#replica;
    // Marks are added before any record is dropped, because otherwise an entry that one of these records ended could become visible for a moment. The
    // records of a disproved origin have ended no entry.
    if (this.#origin.isDisproved !== true && storedRecords.some((stored) => this.#isNeeded(stored))) lost.markAll(this.#origin.id);
    for (const stored of storedRecords) this.#drop(stored, time);
    // While the removal is in progress, any tombstone may have ended a record of this origin.
    if (this.isDone && this.#keys !== undefined) lost.noteKeys(this.#origin.id, this.#keys.all);
    applyMarks(this.#replica);
    return storedRecords.length;
  }

  /**
   * Whether dropping this record would make records of a lost origin visible again. If tombstones of other origins end the same records, those
   * tombstones are needed from now on.
   */
  #isNeeded(stored: StoredRecord): boolean {
    const { lost } = this.#replica;
    const endedHlc = endsBeforeHlc(stored);
    if (endedHlc === 0 || isNarrowing(stored) || !lost.needs(stored)) return false;
    const others = endsBeside(stored, endedHlc);
    lost.handOn(stored, others);
    return others.length === 0;
  }

  #drop(stored: StoredRecord, time: Time): void {
    const { self, lost } = this.#replica;
    if (!this.#isOver) for (const ender of endersOf(stored)) lost.ender(ender);
    this.#keys?.add(stored);
    const hidden = hiddenBy(stored);
    const unregisteredHlc = isNarrowing(stored) ? 0 : endsBeforeHlc(stored);
    this.#take(stored);
    // Entries that the record unregistered remain removed (P6), unless the origin is disproved. This node's own records are not ended here, because
    // they end with their leases.
    const isLeft = (older: StoredRecord) =>
      older.hlc >= unregisteredHlc || this.#origin.isDisproved === true || endsBeside(older, older.hlc + 1).length > 0;
    for (const older of hidden) {
      if (older.origin === self || isLeft(older)) this.#replica.touch(older);
      // The entry's node has not received the end of the entry, and would restore the entry.
      else if (older.origin.life !== "live") lost.markAs(older.origin);
      else this.#replica.withdraw(older, time);
    }
  }
}
