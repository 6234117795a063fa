/** A new generation in the middle of a process life: when others know more of the old one than our journal does (semantics.md, Durability). */
import { assert } from "../../lib/errors.ts";
import type { Replica } from "./replica.ts";
import { ENTRIES } from "./sweeps.ts";

/**
 * Makes everything of this node's own, what is staged included, the word of a new generation, in one step and with the same
 * numbers and stamps: a row of the journal says nothing of its generation, so nothing is written again. What others hold of the
 * old generation is from now on another origin's; where that is newer it wins, and an `unregistered` in it still hides what is
 * older here, so that nothing comes back that was taken out. Each own record is owed a touch: `Replica.sweep`.
 */
export function startNewGeneration(replica: Replica, generation: number): void {
  const { self, digests, sweeps } = replica;
  assert(generation > self.generation, "a new generation is above the one before", { generation });
  // Readers' digests are sums of names that hold the generation.
  digests.forget();
  replica.renameSelf(generation);
  sweeps.owe(self, { ...ENTRIES, withEnds: true, before: "renamed" });
}
