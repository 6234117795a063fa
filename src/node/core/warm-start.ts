/**
 * Warm start: a node serves immediately from the snapshot of other nodes' data that was written before this start. Answers report the age of the
 * snapshot until the node has caught up with a peer (semantics.md, Restart). Own records are restored from the journal; `store/data-directory.ts`
 * lists everything that survives a restart.
 */
import type { KeyText } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import type { AcceptedInstance } from "../../fabric/membership/process-instances.ts";
import { readSnapshot, restoreSnapshot, type SnapshotRestoreParts } from "../../fabric/snapshot/snapshot.ts";
import type { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";

export interface WarmParts extends SnapshotRestoreParts {
  readonly replica: Replica;
  readonly hlc: Hlc;
  readonly maxClockSkewMs: number;
  readonly clusterId: string;
}

/** Data restored from the snapshot. */
export interface WarmStart {
  readonly ok: true;
  readonly recordCount: number;
  readonly refusedCount: number;
  /** Wall-clock time in ms at which the snapshot was last known to be up to date. It is never in the future. */
  readonly savedWallMs: number;
  /** Time at which each absent source node went away, in wall-clock ms by origin id. Their absence continues. */
  readonly absentWallMs: ReadonlyMap<string, number>;
  /** Origins to which no node writes any more. */
  readonly over: ReadonlySet<string>;
  /**
   * Own live records that are hidden by an `unregistered` record of another source node. The hidden records end as soon as the node begins
   * (`EntryRemovals.superseded`).
   */
  readonly superseded: readonly KeyText[];
  /** The process instance that this node last accepted from each other node. */
  readonly starts: readonly AcceptedInstance[];
}

/** Restores a snapshot completely or not at all. Must run after this node's rows are restored and before anything is received. */
export function* warmStart(
  file: { readonly bytes: Uint8Array; readonly savedWallMs: number },
  parts: WarmParts,
  time: Time,
): Generator<void, WarmStart | { readonly ok: false; readonly fault: string }> {
  const { replica, clusterId, hlc, maxClockSkewMs } = parts;
  const read = yield* readSnapshot(file.bytes, { nodeId: replica.self.nodeId, clusterId });
  if (!read.ok) return read;
  const { header } = read.snapshot;
  const { maxHlc, superseded, recordCount, refusedCount, absentWallMs, over } = yield* restoreSnapshot(read.snapshot, parts, time);
  hlc.merge(maxHlc, time.wallMs, maxClockSkewMs);
  const savedWallMs = Math.min(time.wallMs, Math.max(header.savedWallMs, file.savedWallMs));
  const keys = superseded.map(({ key }) => key);
  return { ok: true, recordCount, refusedCount, savedWallMs, absentWallMs, over, superseded: keys, starts: header.starts };
}

/**
 * Returns the monotonic time in ms at which the restored data was up to date. The age of the data is measured from that time, regardless of how long
 * the start takes.
 */
export function asOfMonoMs({ savedWallMs }: WarmStart, { monoMs, wallMs }: Time): number {
  return monoMs - Math.max(0, wallMs - savedWallMs);
}

/** Treats absent nodes as absent from the time when they originally went away. All other nodes are presumed live until the join timeout ends. */
export function resumeOrigins(
  { lifecycle }: Fabric,
  { absentWallMs, over }: WarmStart,
  joinTimeoutMs: number,
  { monoMs, wallMs }: Time,
): void {
  const absent = new Map([...absentWallMs].map(([id, at]) => [id, monoMs - (wallMs - at)]));
  lifecycle.resume(absent, over, monoMs + joinTimeoutMs);
}
