/** Applies marks: records of lost origins up to their marks remain hidden (semantics.md, Orphans). */

import { BODY } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import type { LostOrigins } from "./lost-origins.ts";
import type { TouchSweeps } from "./touch-sweeps.ts";
import { isMarked } from "./view.ts";

/** The parts of a replica that this module uses. */
export interface Marking {
  readonly lost: LostOrigins;
  readonly self: Origin;
  readonly origins: ReadonlyMap<string, Origin>;
  readonly sweeps: TouchSweeps;
}

/**
 * Hides the records at or below marks that were added since the last call; `sweep` executes the change. Returns whether any of these records belong
 * to this node. If so, this node must put its leased entries again and end the others (`EntryRemovals.superseded`).
 */
export function applyMarks(replica: Marking): boolean {
  const { lost, self } = replica;
  if (!lost.takeMarked()) return false;
  const before = self.markedSeq;
  for (const origin of replica.origins.values()) {
    // A node knows its own highest seq. Other nodes cannot know about its staged records.
    const mark = origin === self ? Math.min(lost.markOf(origin.id), origin.through) : lost.markOf(origin.id);
    const shownSeq = origin.markedSeq;
    if (mark <= shownSeq) continue;
    origin.markedSeq = mark;
    replica.sweeps.scheduleTouch(origin, { after: shownSeq, until: mark, withEnds: false });
  }
  return self.markedSeq > before;
}

/**
 * Examines a bounded number of this node's own records above a seq. Returns the entries that a mark hides, and the seq from which to continue. `next`
 * is undefined if there are no more records. Entries with a newer staged record are included, because the hidden entry remains if that record is
 * refused.
 */
export function ownMarked(
  { self }: Pick<Marking, "self">,
  after = 0,
  maxCount = Number.POSITIVE_INFINITY,
): { readonly storedRecords: readonly StoredRecord[]; readonly next: number | undefined } {
  const storedRecords: StoredRecord[] = [];
  let next: number | undefined;
  let left = maxCount;
  self.log.forEachSince(after, (stored, seq) => {
    if (seq > self.markedSeq) return false;
    if (stored.body === BODY.ENTRY && isMarked(stored)) storedRecords.push(stored);
    left -= 1;
    next = left > 0 ? undefined : seq;
    return left > 0;
  });
  return { storedRecords, next };
}
