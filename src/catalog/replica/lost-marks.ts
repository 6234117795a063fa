/** Marks, applied: what lost origins wrote up to them stays hidden (semantics.md, Orphans). */

import { BODY } from "../record/record.ts";
import type { Origin, StoredRecord } from "../record/stored-record.ts";
import type { LostOrigins } from "./lost-origins.ts";
import type { Sweeps } from "./sweeps.ts";
import { isMarked } from "./view.ts";

/** Of a replica. */
export interface Marking {
  readonly lost: LostOrigins;
  readonly self: Origin;
  readonly origins: ReadonlyMap<string, Origin>;
  readonly sweeps: Sweeps;
}

/**
 * Hides what the marks say that were noted since the last call, as soon as it is swept. Returns whether some of this node's own is among it: then it puts again
 * what has a live lease, and ends the rest (`Endings.superseded`).
 */
export function applyMarks(replica: Marking): boolean {
  const { lost, self } = replica;
  if (!lost.takeMarked()) return false;
  const before = self.markedSeq;
  for (const origin of replica.origins.values()) {
    // Its own node knows that it wrote nothing beyond this: what is staged, nobody can have heard of.
    const mark = origin === self ? Math.min(lost.markOf(origin.id), origin.through) : lost.markOf(origin.id);
    const shownSeq = origin.markedSeq;
    if (mark <= shownSeq) continue;
    origin.markedSeq = mark;
    replica.sweeps.owe(origin, { after: shownSeq, until: mark, withEnds: false });
  }
  return self.markedSeq > before;
}

/**
 * Of this node's own entries above a number, of which so many are looked at: those that a mark hides, and where to go on; undefined at the end.
 * Also those of which something newer is only staged: refused, it leaves the one that is hidden.
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
