/**
 * An origin is forgotten: its name at once, its records in slices (semantics.md, Orphans). Whoever comes back under the name is another origin
 * here, from 0 on. Its entries are hidden already, and each record goes together with what it kept hidden.
 */
import type { Time } from "../../lib/machine.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import { KeysLeft } from "./lost-keys.ts";
import { applyMarks, type Marking } from "./lost-marks.ts";
import { endersOf, endsBeside, hiddenBy } from "./tombstones.ts";
import { endsBeforeHlc, isNarrowing } from "./view.ts";

/** Of a replica. */
interface Dropping extends Marking {
  touch(stored: StoredRecord): void;
  withdraw(stored: StoredRecord, time: Time): void;
}

export class Forgetting {
  readonly #origin: Origin;
  readonly #replica: Dropping;
  readonly #take: (stored: StoredRecord) => void;
  /** Its node never comes back as it. */
  readonly #isOver: boolean;
  readonly #keys: KeysLeft | undefined;

  /** `take`: removes an invisible record without a trace. */
  constructor(origin: Origin, isOver: boolean, replica: Dropping, take: (stored: StoredRecord) => void) {
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

  /** Drops at most so many records; returns how many. */
  step(maxCount: number, time: Time): number {
    const storedRecords: StoredRecord[] = [];
    this.#origin.log.forEachSince(0, (stored) => {
      if (storedRecords.length >= maxCount) return false;
      storedRecords.push(stored);
      return true;
    });
    const { lost } = this.#replica;
    // Before any of them goes: nothing that it ended may be seen in between. What is disproved ended nothing.
    if (this.#origin.isDisproved !== true && storedRecords.some((stored) => this.#isNeeded(stored))) lost.markAll(this.#origin.id);
    for (const stored of storedRecords) this.#drop(stored, time);
    // Until then any tombstone may have ended something of it.
    if (this.isDone && this.#keys !== undefined) lost.noteKeys(this.#origin.id, this.#keys.all);
    applyMarks(this.#replica);
    return storedRecords.length;
  }

  /** Whether what it keeps hidden of a lost origin would be seen without it. Where others who knew it too stay, their ends are needed from now on. */
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
    // What it unregistered stays gone (P6), unless it never did. A record of our own is not ours to end here: its lease does.
    const isLeft = (older: StoredRecord) =>
      older.hlc >= unregisteredHlc || this.#origin.isDisproved === true || endsBeside(older, older.hlc + 1).length > 0;
    for (const older of hidden) {
      if (older.origin === self || isLeft(older)) this.#replica.touch(older);
      // Its node has not heard that it is gone, and would bring it back.
      else if (older.origin.life !== "live") lost.markAs(older.origin);
      else this.#replica.withdraw(older, time);
    }
  }
}
