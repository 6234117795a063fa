/**
 * A snapshot of the data received from other nodes, so that a restarted node can serve immediately. It works like a link to the restarted node: it
 * contains each origin's records in the same frames that a peer would get, and the same faults can occur between two frames. `codec.ts` defines the
 * blocks. A snapshot without its last block is invalid.
 */

import type { EntryBounds } from "../../catalog/entry/names.ts";
import type { Origin, StoredRecord } from "../../catalog/record/stored-record.ts";
import { buildFrame, type EntryReader, FrameReceiver, type OriginFrame } from "../../catalog/replica/frames.ts";
import type { LostKeys } from "../../catalog/replica/lost-keys.ts";
import { applyMarks } from "../../catalog/replica/lost-marks.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { endsBeforeHlc } from "../../catalog/replica/view.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { blockOf, readBlock } from "../../lib/file-blocks.ts";
import type { Time } from "../../lib/machine.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../wire/codec.ts";
import {
  headerBlock,
  headerFault,
  KIND,
  lostKeysBlock,
  type OriginBlock,
  originBlock,
  readHeader,
  readLostKeys,
  readOrigin,
  type SnapshotHeader,
  type SnapshotOrigin,
} from "./codec.ts";

/** Size in bytes of the records in one block. A block of this size is built in one to two milliseconds. */
const BLOCK_BYTES = 64 * 1024;
/**
 * Maximum number of attempts to write an origin whose tombstones are being collected at the same time. After the last attempt, the rest of the origin
 * is omitted.
 */
const MAX_TRIES = 3;
/** Maximum number of records that are changed, and maximum number of records that are visited, in one slice of a restore. */
const SWEPT_A_SLICE = 128;
const LOOKED_A_SLICE = 10_000;
const UNKNOWN = "unknown";

/** A complete snapshot of this node. */
export interface ReplicaSnapshot {
  readonly header: SnapshotHeader;
  readonly lostKeys: readonly { readonly id: string; readonly keys: LostKeys }[];
  readonly origins: readonly OriginFrames[];
}

/** An origin and its records. `origin` is undefined if its generation is out of range. */
interface OriginFrames {
  readonly origin: OriginBlock | undefined;
  readonly frames: OriginFrame[];
}

/** The result of restoring a snapshot. */
export interface RestoredSnapshot {
  readonly recordCount: number;
  readonly refusedCount: number;
  /** Origins whose nodes were unreachable when the snapshot was made, and the times since which they were. */
  readonly absentWallMs: ReadonlyMap<string, number>;
  /** Origins to which no node writes any more. */
  readonly over: ReadonlySet<string>;
  /** Own live records that are hidden by an `unregistered` tombstone of another origin. */
  readonly superseded: readonly StoredRecord[];
  /** The newest stamp within the clock skew limit. The clock advances to this stamp. */
  readonly maxHlc: number;
}

/**
 * Yields the blocks of a snapshot, each of which contains some records. The replica may change between two blocks. Throws if an origin is being
 * forgotten or was forgotten in the meantime, because the snapshot would contain records that the origin hid, but perhaps not the records that hid
 * them. `isSelfIn` includes this node's own records, which a node without a journal needs.
 */
export function* snapshotBlocks(
  replica: Replica,
  header: Omit<SnapshotHeader, "forgotten" | "lost">,
  stateOf: (origin: Origin) => SnapshotOrigin,
  blockBytes = BLOCK_BYTES,
  isSelfIn = false,
): Generator<Uint8Array> {
  let index = 0;
  const { forgottenCount } = replica;
  const check = () => {
    if (replica.isForgetting || replica.forgottenCount !== forgottenCount)
      throw new Error("an origin was forgotten while the snapshot was being written");
  };
  check();
  yield headerBlock(index++, { ...header, forgotten: [...replica.forgotten.keys()], lost: replica.lost.list });
  for (const lost of replica.lost.list) {
    const keys = replica.lost.keysOf(`${lost.nodeId}/${lost.generation}`);
    if (keys !== undefined) yield lostKeysBlock(index++, lost, keys);
  }
  for (const origin of replica.origins.values()) {
    check();
    if (origin === replica.self && !isSelfIn) continue;
    const { nodeId, generation, clusterId, region } = origin;
    const isPartial = origin.lacks !== undefined;
    const identity = { nodeId, generation, clusterId, region, ...(origin.isAtHome === true && { isAtHome: true }) };
    yield originBlock(index++, { ...identity, ...(isPartial && { isPartial }), ...stateOf(origin) });
    let wasPartial = isPartial;
    for (const frame of framesOf(replica, origin, blockBytes)) {
      wasPartial ||= origin.lacks !== undefined;
      yield blockOf(index++, KIND.FRAME, frame);
    }
    // A record that was refused between two blocks is in neither of them, so the origin's block is repeated with `isPartial`.
    if (wasPartial && !isPartial) yield originBlock(index++, { ...identity, isPartial: true, ...stateOf(origin) });
  }
  check();
  yield blockOf(index++, KIND.END, new Uint8Array());
}

function* framesOf(replica: Replica, origin: Origin, blockBytes: number): Generator<Uint8Array> {
  const link = { relation: "self", clusterId: replica.self.clusterId } as const;
  // A frame must have a location. The reader uses the location from the origin's own block.
  const place = { clusterId: origin.clusterId || UNKNOWN, region: origin.region || UNKNOWN };
  let from = { after: 0, isComplete: false };
  let begunAt = origin.through;
  for (let tries = 1; replica.origins.get(origin.id) === origin && origin.through > 0; ) {
    // A record that was listed before may have been removed since, and its tombstone may have been collected.
    if (from.after > 0 && origin.floor > begunAt) {
      if (++tries > MAX_TRIES) return;
      from = { after: 0, isComplete: false };
      begunAt = origin.through;
    }
    const frame = buildFrame(replica, origin, from, link, blockBytes);
    yield encodeLinkFrame({ kind: "records", frame, ...place });
    if (frame.isComplete ? frame.isLast : frame.through >= origin.through) return;
    from = { after: frame.through, isComplete: frame.isComplete };
  }
}

/** Reads a whole snapshot that this node made, or returns why it cannot be used. Changes nothing. */
export function* readSnapshot(
  bytes: Uint8Array,
  self: { readonly nodeId: string; readonly clusterId: string },
): Generator<void, { readonly ok: true; readonly snapshot: ReplicaSnapshot } | { readonly ok: false; readonly fault: string }> {
  const origins: OriginFrames[] = [];
  const lostKeys: { readonly id: string; readonly keys: LostKeys }[] = [];
  let header: SnapshotHeader | undefined;
  let isWhole = false;
  let index = 0;
  for (let at = 0; at < bytes.length; index++) {
    const block = readBlock(bytes, at, index);
    if (block === undefined) return { ok: false, fault: `it is truncated or modified at byte ${at}` };
    at = block.end;
    isWhole = block.kind === KIND.END;
    try {
      const fault = index === 0 ? headerFault(block, self) : "";
      if (fault !== "") return { ok: false, fault };
      if (index === 0) header = readHeader(block);
      else if (block.kind === KIND.LOST_KEYS) lostKeys.push(readLostKeys(block));
      else if (block.kind === KIND.ORIGIN) origins.push({ origin: readOrigin(block), frames: [] });
      else if (block.kind === KIND.FRAME) addFrame(origins.at(-1), block.payload);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return { ok: false, fault: error.message };
    }
    yield;
  }
  return header === undefined || !isWhole
    ? { ok: false, fault: "it is truncated: its last block is missing" }
    : { ok: true, snapshot: { header, lostKeys, origins } };
}

/** Adds a frame to the origin whose block precedes it. */
function addFrame(to: OriginFrames | undefined, payload: Uint8Array): void {
  const decoded = decodeLinkFrame(payload);
  if (decoded.kind !== "records" || to?.origin === undefined) return;
  const { nodeId, generation } = decoded.frame;
  if (nodeId === to.origin.nodeId && generation === to.origin.generation) to.frames.push(decoded.frame);
}

/** Ids of the nodes whose origins are in a snapshot. Undefined if the snapshot cannot be read to its end. */
export function nodesInSnapshot(bytes: Uint8Array): readonly string[] | undefined {
  const found: string[] = [];
  let index = 0;
  for (let at = 0; at < bytes.length; index++) {
    const block = readBlock(bytes, at, index);
    if (block === undefined) return undefined;
    try {
      const origin = block.kind === KIND.ORIGIN ? readOrigin(block) : undefined;
      if (origin !== undefined) found.push(origin.nodeId);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return undefined;
    }
    at = block.end;
  }
  return found;
}

export interface SnapshotRestoreParts {
  readonly replica: Replica;
  readonly stamper: EntryReader;
  readonly bounds: EntryBounds;
  /** Whether a location belongs to a cluster that this node no longer trusts. Origins of such clusters are not restored. */
  readonly isForeign?: ((place: { readonly clusterId: string; readonly region: string }) => boolean) | undefined;
}

/** Restores a snapshot into a replica that contains only this node's own records. Yields after each block. */
export function* restoreSnapshot(
  { header, lostKeys, origins }: ReplicaSnapshot,
  { replica, stamper, bounds, isForeign = () => false }: SnapshotRestoreParts,
  time: Time,
): Generator<void, RestoredSnapshot> {
  const receiver = new FrameReceiver(replica, stamper, bounds);
  const absentWallMs = new Map<string, number>();
  const over = new Set<string>();
  const superseded: StoredRecord[] = [];
  const partial: Origin[] = [];
  let [recordCount, refusedCount, maxHlc] = [0, 0, 0];
  replica.resumeForgotten(header.forgotten);
  for (const lost of header.lost) replica.lost.note(lost);
  for (const { id, keys } of lostKeys) replica.lost.noteKeys(id, keys);
  for (const { origin: block, frames } of origins) {
    if (block === undefined) continue;
    const { nodeId, generation, clusterId, region, life, absentWallMs: since, isOver } = block;
    // This node's own records are in its journal.
    if (`${nodeId}/${generation}` === replica.self.id) continue;
    if (clusterId !== "" && isForeign({ clusterId, region })) continue;
    const origin = replica.origin(nodeId, generation, clusterId === "" ? undefined : { clusterId, region });
    origin.life = life;
    if (block.isAtHome === true) origin.isAtHome = true;
    if (isOver === true) over.add(origin.id);
    if (block.isPartial === true) partial.push(origin);
    // The limit is not the time when the snapshot was saved, because if that were 1970, all unreachable origins would be forgotten immediately.
    if (since !== undefined) absentWallMs.set(origin.id, Math.min(since, time.wallMs));
    for (const frame of frames) {
      const applied = receiver.apply(frame, time);
      if (applied.kind === "applied") {
        recordCount += applied.changedCount;
        refusedCount += applied.refused.length;
        maxHlc = Math.max(maxHlc, applied.maxHlc);
        superseded.push(...applied.superseded);
      } else refusedCount += frame.records.length;
      yield;
    }
  }
  // A whole transfer among the frames does not prove that no records were refused before it.
  for (const origin of partial) origin.lacks ??= { count: 1, why: "records were refused before this node restarted", isFromBefore: true };
  yield* resumeLost(replica, time);
  return { recordCount, refusedCount, absentWallMs, over, superseded, maxHlc };
}

/** Checks all tombstones against lost origins, because a snapshot does not record which tombstones ended their records. */
function* resumeLost(replica: Replica, time: Time): Generator<void> {
  applyMarks(replica);
  while (replica.sweep(SWEPT_A_SLICE, time)) yield;
  if (!replica.lost.isHolding) return;
  for (const origin of replica.origins.values()) {
    let after = 0;
    for (let left = 0; left <= 0; yield) {
      left = LOOKED_A_SLICE;
      origin.log.forEachSince(after, (stored, seq) => {
        if (endsBeforeHlc(stored) > 0) replica.lost.ender(stored);
        after = seq;
        left -= 1;
        return left > 0;
      });
    }
  }
}
