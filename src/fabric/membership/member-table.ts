/** Exchange of whole tables (memberlist's push-pull): what a node says of everybody, and how often. */

import type { MemberUpdate, NodeRef } from "../wire/messages.ts";
import { isAlwaysTold } from "./members.ts";
import type { MembershipState } from "./state.ts";

/** Above this many members the exchanges become rarer. */
const SCALE_FROM_MEMBERS = 32;

/** Longer by one period for each doubling above 32 members (memberlist). */
export function pushPullPeriodMs(baseMs: number, memberCount: number): number {
  if (memberCount <= SCALE_FROM_MEMBERS) return baseMs;
  return baseMs * (Math.ceil(Math.log2(memberCount) - Math.log2(SCALE_FROM_MEMBERS)) + 1);
}

/**
 * Self, everybody listed, and who is gone for less than `deadTellMs`; to an asker, who it is itself whatever its state, and
 * nothing that it said itself. At most `maxMembers`. O(n).
 */
export function makeTable(
  { self, members }: MembershipState,
  { nowMonoMs, deadTellMs, maxMembers }: { readonly nowMonoMs: number; readonly deadTellMs: number; readonly maxMembers: number },
  asker?: { readonly from: NodeRef; readonly members: readonly MemberUpdate[] },
): readonly MemberUpdate[] {
  const said = new Map<string, MemberUpdate>();
  for (const update of asker?.members ?? []) said.set(update.nodeId, update);
  const table = [self.update];
  for (const { update, isWitnessed, changedMonoMs } of members.all()) {
    const isTold = isAlwaysTold(update) || (isWitnessed && nowMonoMs - changedMonoMs < deadTellMs) || update.nodeId === asker?.from.nodeId;
    if (table.length >= maxMembers) break;
    if (!isTold || isSame(said.get(update.nodeId), update)) continue;
    table.push(update);
  }
  return table;
}

function isSame(a: MemberUpdate | undefined, b: MemberUpdate): boolean {
  return (
    a !== undefined && a.address === b.address && a.status === b.status && a.incarnation === b.incarnation && a.generation === b.generation
  );
}
