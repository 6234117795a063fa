/**
 * Origins of which more is held here than was ever written (semantics.md, Membership: Whose word counts). All of it is hidden, then forgotten, both in
 * slices, and only then is it fetched anew: what was made up may end what is true, so the two do not stand beside each other.
 */
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { ENTRIES } from "../../catalog/replica/sweeps.ts";
import type { Time } from "../../lib/machine.ts";

/** The `Replicator`, as far as it is needed here. */
export interface Origins {
  readonly replica: Replica;
  forgetOrigin(origin: Origin, time: Time, isOver: boolean, maxCount: number): void;
  disbelieve(origin: Origin, seq: number, time: Time): void;
  readmit(nodeId: string, generation: number): void;
}

interface Row {
  /** What it has written, by its own word. */
  readonly seq: number;
  stage: "hide" | "drop";
}

export class Disproved {
  readonly #origins: Origins;
  readonly #rows = new Map<Origin, Row>();

  constructor(origins: Origins) {
    this.#origins = origins;
  }

  /** Returns whether that is news. */
  add(origin: Origin, seq: number, time: Time): boolean {
    if (this.#rows.has(origin)) return false;
    this.#rows.set(origin, { seq, stage: "hide" });
    origin.isDisproved = true;
    this.#origins.disbelieve(origin, seq, time);
    this.step(time);
    return true;
  }

  isUnderWay(id: string): boolean {
    return this.#rows.keys().some((origin) => origin.id === id);
  }

  /** Goes on with those of which a slice was swept to its end. */
  step(time: Time): void {
    const { replica } = this.#origins;
    for (const [origin, row] of this.#rows) {
      const isHeld = replica.origins.get(origin.id) === origin;
      if (row.stage === "hide" && isHeld && this.#isHidden(origin) && !replica.isForgetting) {
        row.stage = "drop";
        // Only the name, for `Replica.sweep` drops the records. Nothing of it is lost anywhere, so no mark is kept of it.
        this.#origins.forgetOrigin(origin, time, true, 0);
      }
      if (row.stage === "hide" ? isHeld : replica.isForgetting) continue;
      this.#rows.delete(origin);
      // Forgotten meanwhile because its node is gone: then it stays so.
      if (row.stage === "hide") continue;
      this.#origins.disbelieve(origin, row.seq, time);
      this.#origins.readmit(origin.nodeId, origin.generation);
    }
  }

  /** Whether nothing of it is seen any more; its node may have come back meanwhile, and then it begins again. */
  #isHidden(origin: Origin): boolean {
    const { sweeps } = this.#origins.replica;
    if (origin.life !== "hidden") {
      origin.life = "hidden";
      sweeps.owe(origin, ENTRIES);
    }
    return !sweeps.isOwedTo(origin);
  }
}
