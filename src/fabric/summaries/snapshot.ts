/** The summaries that a node holds, and how long ago their sources were heard of, for its next start (docs/design/summaries.md, Restart). */
import type { EntryBounds } from "../../catalog/entry/names.ts";
import { sealed } from "../../catalog/replica/frames.ts";
import type { Time } from "../../lib/machine.ts";
import { readSnapshot, restoreSnapshot, snapshotBlocks } from "../snapshot/snapshot.ts";
import type { SummaryParts } from "./channel.ts";

const LIVE = { life: "live", absentWallMs: undefined } as const;

/** The blocks of a file, as `snapshotBlocks` makes them. What this node took or made is in it too, since no journal has it. */
export function summaryBlocks(
  { replica, receipts }: SummaryParts,
  clusterId: string,
  time: Time,
  blockBytes?: number,
): Generator<Uint8Array> {
  const sourceAges = receipts.ages(time).map((age) => ({ ...age, ageMs: Math.ceil(age.ageMs) }));
  const header = { nodeId: replica.self.nodeId, clusterId, savedWallMs: Math.floor(time.wallMs), starts: [], sourceAges };
  return snapshotBlocks(replica, header, () => LIVE, blockBytes, true);
}

/** What a file brought, or why it is of no use. */
export type RestoredSummaries =
  | { readonly ok: true; readonly recordCount: number; readonly refusedCount: number }
  | { readonly ok: false; readonly fault: string };

/**
 * Puts what a file holds into a replica that is empty, as records of other origins: those of this node's earlier start too. Yields after each block. No source
 * is fresher for it: the time since the file was written counts, and if the clock went back since, nobody knows that time, and nothing is told of sources.
 */
export function* restoreSummaries(
  bytes: Uint8Array,
  { replica, stamper, receipts, clusterId, bounds, isForeign }: SummaryParts & RestoreParts,
  time: Time,
): Generator<void, RestoredSummaries> {
  const read = yield* readSnapshot(bytes, { nodeId: replica.self.nodeId, clusterId });
  if (!read.ok) return read;
  const { header } = read.snapshot;
  const sinceMs = time.wallMs - header.savedWallMs;
  // Every source is lost by then. What it took back meanwhile may be forgotten everywhere, so what the file says of it must not count again.
  if (sinceMs >= receipts.lostAfterMs) return { ok: true, recordCount: 0, refusedCount: 0 };
  // What was forgotten may come back from others, and goes again if nothing of it is needed.
  const snapshot = { ...read.snapshot, header: { ...header, forgotten: [], lost: [] } };
  const { recordCount, refusedCount } = yield* restoreSnapshot(snapshot, { replica, stamper: sealed(stamper), bounds, isForeign }, time);
  if (sinceMs >= 0) for (const age of header.sourceAges) receipts.heardAge({ ...age, ageMs: age.ageMs + sinceMs }, time);
  return { ok: true, recordCount, refusedCount };
}

export interface RestoreParts {
  readonly clusterId: string;
  readonly bounds: EntryBounds;
  /** Of clusters that are not let in any more nothing is restored. */
  readonly isForeign?: ((place: { readonly clusterId: string; readonly region: string }) => boolean) | undefined;
}
