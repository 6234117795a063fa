/**
 * Warm start: a node serves at once from the snapshot of what other nodes told before this start. Answers carry the age of the snapshot until the
 * node has caught up with a peer (semantics.md, Restart). Own records come back from the journal; `store/data-directory.ts` lists
 * everything that a restart keeps.
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

/** What came back from the snapshot. */
export interface WarmStart {
  readonly ok: true;
  readonly recordCount: number;
  readonly refusedCount: number;
  /** Wall clock ms at which the snapshot was last known to be right; never in the future. */
  readonly savedWallMs: number;
  /** When the node of an origin went away, in wall clock ms by origin id, for those that were away in the snapshot. Their time goes on. */
  readonly absentWallMs: ReadonlyMap<string, number>;
  /** Origins that nobody writes any more. */
  readonly over: ReadonlySet<string>;
  /** Own live records that an `unregistered` record of another origin hides. They are ended as soon as the node begins (`Endings.superseded`). */
  readonly superseded: readonly KeyText[];
  /** The starts of other nodes that this node accepted last. */
  readonly starts: readonly AcceptedInstance[];
}

/** Brings back what a snapshot holds, whole or not at all. To be run after the own rows are back and before anything is received. */
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

/** Monotonic ms at which what came back was right: its age counts from then, however long the start takes. */
export function asOfMonoMs({ savedWallMs }: WarmStart, { monoMs, wallMs }: Time): number {
  return monoMs - Math.max(0, wallMs - savedWallMs);
}

/** Nodes that were away count as away since then. All others are presumed to be there for the time that joining has. */
export function resumeLives(
  { lifecycle }: Fabric,
  { absentWallMs, over }: WarmStart,
  joinTimeoutMs: number,
  { monoMs, wallMs }: Time,
): void {
  const absent = new Map([...absentWallMs].map(([id, at]) => [id, monoMs - (wallMs - at)]));
  lifecycle.resume(absent, over, monoMs + joinTimeoutMs);
}
