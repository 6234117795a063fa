/**
 * Starts a new generation in a running process, when other nodes know more changes of the old one than the journal has (semantics.md,
 * Durability).
 */
import { assert } from "../../lib/errors.ts";
import type { Replica } from "./replica.ts";
import { ENTRIES } from "./touch-sweeps.ts";

/**
 * Converts all records of this node, including staged records, to records of a new generation, in one step and with the same seqs and
 * stamps. A row of the journal contains no generation, so no row is written again. The records of the old generation on other nodes now
 * belong to another origin: newer records have precedence, and an `unregistered` tombstone among them still hides older records here, so
 * no removed entry returns. Each own record gets a pending touch, which `Replica.sweep` executes.
 */
export function startNewGeneration(replica: Replica, generation: number): void {
  const { self, digests, sweeps } = replica;
  assert(generation > self.generation, "the new generation is not higher than the previous one", { generation });
  // Digests are sums over delta ids, which contain the generation.
  digests.forget();
  replica.renameSelf(generation);
  sweeps.scheduleTouch(self, { ...ENTRIES, withEnds: true, before: "renamed" });
}
