/**
 * Starts a new generation in a running process, when other nodes know changes of the old generation that are missing in the journal (semantics.md,
 * Durability).
 */
import { assert } from "../../lib/errors.ts";
import type { Replica } from "./replica.ts";
import { ENTRIES } from "./touch-sweeps.ts";

/**
 * Converts all records of this node, including staged records, to a new generation, in one step and with the same seqs and stamps. Journal rows do
 * not contain the generation, so they need not be rewritten. Records of the old generation on other nodes now belong to another origin. Newer records
 * have precedence over them, and an `unregistered` tombstone among them still hides older records here, so no removed entry returns. Each of this
 * node's records gets a pending touch, which `Replica.sweep` executes.
 */
export function startNewGeneration(replica: Replica, generation: number): void {
  const { self, digests, sweeps } = replica;
  assert(generation > self.generation, "the new generation is not higher than the previous one", { generation });
  // Digests are sums of hashed delta ids, and a delta id contains the generation.
  digests.forget();
  replica.renameSelf(generation);
  sweeps.scheduleTouch(self, { ...ENTRIES, withEnds: true, before: "renamed" });
}
