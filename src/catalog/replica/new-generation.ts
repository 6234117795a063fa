/**
 * Starts a new generation in a running process, when other nodes know more of the old one than the journal does (semantics.md, Durability).
 */
import { assert } from "../../lib/errors.ts";
import type { Replica } from "./replica.ts";
import { ENTRIES } from "./touch-sweeps.ts";

/**
 * Turns all records of this node, including staged ones, into records of a new generation, in one step and with the same numbers and
 * stamps. A row of the journal has no generation, so no row is written again. The old generation's records at other nodes now belong to
 * another origin: newer ones win, and an `unregistered` among them still hides older records here, so that no removed entry comes back.
 * Each own record is owed a touch: `Replica.sweep`.
 */
export function startNewGeneration(replica: Replica, generation: number): void {
  const { self, digests, sweeps } = replica;
  assert(generation > self.generation, "a new generation is above the one before", { generation });
  // Digests sum delta ids, which contain the generation.
  digests.forget();
  replica.renameSelf(generation);
  sweeps.scheduleTouch(self, { ...ENTRIES, withEnds: true, before: "renamed" });
}
