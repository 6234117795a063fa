/**
 * An origin is forgotten: its name at once, its records in slices (semantics.md, Orphans). Whoever comes back under the name is another origin
 * here, from 0 on. Its entries are hidden already, and each record goes together with what it kept hidden.
 */
import type { Time } from "../lib/machine.ts";
import type { Cell, Origin } from "./cell.ts";
import { endersOf, endsBeside, hiddenBy } from "./graveyard.ts";
import { KeysLeft } from "./lost-keys.ts";
import { applyMarks, type Marking } from "./lost-marks.ts";
import { endsBeforeHlc, isNarrowing } from "./view.ts";

/** Of a replica. */
interface Dropping extends Marking {
  touch(cell: Cell): void;
  withdraw(cell: Cell, time: Time): void;
}

export class Forgetting {
  readonly #origin: Origin;
  readonly #replica: Dropping;
  readonly #take: (cell: Cell) => void;
  /** Its node never comes back as it. */
  readonly #isOver: boolean;
  readonly #keys: KeysLeft | undefined;

  /** `take`: removes an invisible record without a trace. */
  constructor(origin: Origin, isOver: boolean, replica: Dropping, take: (cell: Cell) => void) {
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
    const cells: Cell[] = [];
    this.#origin.log.forEachSince(0, (cell) => {
      if (cells.length >= maxCount) return false;
      cells.push(cell);
      return true;
    });
    const { lost } = this.#replica;
    // Before any of them goes: nothing that it ended may be seen in between. What is disproved ended nothing.
    if (this.#origin.isDisproved !== true && cells.some((cell) => this.#isNeeded(cell))) lost.markAll(this.#origin.id);
    for (const cell of cells) this.#drop(cell, time);
    // Until then any tombstone may have ended something of it.
    if (this.isDone && this.#keys !== undefined) lost.noteKeys(this.#origin.id, this.#keys.all);
    applyMarks(this.#replica);
    return cells.length;
  }

  /** Whether what it keeps hidden of a lost origin would be seen without it. Where others who knew it too stay, their ends are needed from now on. */
  #isNeeded(cell: Cell): boolean {
    const { lost } = this.#replica;
    const endedHlc = endsBeforeHlc(cell);
    if (endedHlc === 0 || isNarrowing(cell) || !lost.needs(cell)) return false;
    const others = endsBeside(cell, endedHlc);
    lost.handOn(cell, others);
    return others.length === 0;
  }

  #drop(cell: Cell, time: Time): void {
    const { self, lost } = this.#replica;
    if (!this.#isOver) for (const ender of endersOf(cell)) lost.ender(ender);
    this.#keys?.add(cell);
    const hidden = hiddenBy(cell);
    const unregisteredHlc = isNarrowing(cell) ? 0 : endsBeforeHlc(cell);
    this.#take(cell);
    // What it unregistered stays gone (P6), unless it never did. A record of our own is not ours to end here: its lease does.
    const isLeft = (older: Cell) =>
      older.hlc >= unregisteredHlc || this.#origin.isDisproved === true || endsBeside(older, older.hlc + 1).length > 0;
    for (const older of hidden) {
      if (older.origin === self || isLeft(older)) this.#replica.touch(older);
      // Its node has not heard that it is gone, and would bring it back.
      else if (older.origin.life !== "live") lost.markAs(older.origin);
      else this.#replica.withdraw(older, time);
    }
  }
}
