/** A new generation in the middle of a process life: when others know more of the old one than our journal does (semantics.md, Durability). */
import { assert } from "../lib/errors.ts";
import { deltaId } from "./record.ts";
import type { Replica } from "./replica.ts";
import { compareForView } from "./view.ts";

/**
 * Makes everything of this node's own, what is staged included, the word of a new generation, in one step and with the same
 * numbers and stamps: a row of the journal says nothing of its generation, so nothing is written again. What others hold of the
 * old generation is from now on another origin's; where that is newer it wins, and an `unregistered` in it still hides what is
 * older here, so that nothing comes back that was taken out. Cost: a touch of each own record.
 */
export function renewSelf(replica: Replica, generation: number): void {
  const { self, digests } = replica;
  assert(generation > self.generation, "a new generation is above the one before", { generation });
  const cells = self.log.list();
  const counted = cells.filter((cell) => replica.view(cell.key) === cell && digests.trackedDelta(cell) !== undefined);
  // Readers' digests are sums of names that hold the generation.
  for (const cell of counted) digests.viewChanged(cell, deltaId(cell), undefined);
  replica.renameSelf(generation);
  for (const cell of counted) digests.viewChanged(cell, undefined, deltaId(cell));
  for (const cell of cells) {
    // Of equal stamps the higher origin id comes first.
    cell.peers?.sort(compareForView);
    replica.touch(cell, "renamed");
  }
}
