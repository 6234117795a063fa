/**
 * Blocks of a replica snapshot. The first block is the header, and the last block marks the snapshot as complete. The roster is one block in its own
 * file.
 */

import { isName } from "../../catalog/entry/names.ts";
import { isSeq } from "../../catalog/record/codec.ts";
import type { OriginStatus } from "../../catalog/record/record.ts";
import { bytesOfKeys, keysOfBytes, type LostKeys } from "../../catalog/replica/lost-keys.ts";
import type { LostOrigin } from "../../catalog/replica/lost-origins.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { WaymarkError } from "../../lib/errors.ts";
import {
  blockOf,
  type FileBlock,
  type FileOwner,
  jsonBytes,
  malformedFile,
  objectOf,
  ownerFault,
  readBlock,
} from "../../lib/file-blocks.ts";
import { hlcWallMs, MAX_STAMP } from "../../lib/hlc.ts";
import type { AcceptedInstance } from "../membership/process-instances.ts";
import { MAX_AGES, type SourceAge } from "../summaries/ages.ts";
import type { NodeRef } from "../wire/messages.ts";

/** Version of the file format. */
const FORMAT = 1;
/** Readers skip block kinds that they do not know. */
export const KIND = { HEADER: 1, ORIGIN: 2, FRAME: 3, END: 4, LOST_KEYS: 5, ROSTER: 6 } as const;
const MAX_WALL_MS = hlcWallMs(MAX_STAMP);
const COUNT_BYTES = 4;
/** The owner of the snapshot, the time when it was saved, and state that does not belong to one of its origins. */
export interface SnapshotHeader extends FileOwner {
  /** 0 if the stored time is invalid. */
  readonly savedWallMs: number;
  /** Ids of origins that must not be accepted again. */
  readonly forgotten: readonly string[];
  /** Forgotten origins that may return, and their watermarks. */
  readonly lost: readonly LostOrigin[];
  /** The most recently accepted process instances of other nodes. */
  readonly starts: readonly AcceptedInstance[];
  /** For summaries, the time from the last heartbeat of each source until the snapshot was saved. */
  readonly sourceAges: readonly SourceAge[];
}

/**
 * State of an origin. `absentWallMs` is the time at which its node became unreachable. Undefined while the node is reachable. If the stored time is
 * invalid, it is the latest possible time, which the reader limits to its own clock. Therefore, an invalid time never makes a node forget an origin.
 */
export interface SnapshotOrigin {
  readonly life: OriginStatus;
  readonly absentWallMs: number | undefined;
  /** Whether the origin's node has left or has a later generation, so that no node writes to the origin any more. */
  readonly isOver?: boolean;
}

/** The block that precedes an origin's frames. */
export interface OriginBlock extends SnapshotOrigin {
  /** Whether some of the origin's records were refused, so that it is partial. */
  readonly isPartial?: boolean;
  /** Whether the origin's own node reported the cluster. */
  readonly isAtHome?: boolean;
  readonly nodeId: string;
  readonly generation: number;
  readonly clusterId: string;
  readonly region: string;
}

export function headerBlock(index: number, header: SnapshotHeader): Uint8Array {
  return blockOf(index, KIND.HEADER, jsonBytes({ format: FORMAT, ...header }));
}

/** Encodes the members of a node's own cluster (`MemberRoster`) as a file. */
export function rosterFile(self: FileOwner, nodeIds: readonly string[]): Uint8Array {
  return blockOf(0, KIND.ROSTER, jsonBytes({ format: FORMAT, nodeId: self.nodeId, clusterId: self.clusterId, nodeIds }));
}

/** Returns at most `max` ids from a roster file and skips invalid ones. Throws `invalid_argument` if this node cannot use the file. */
export function readRosterFile(bytes: Uint8Array, self: FileOwner, max: number): readonly string[] {
  const block = readBlock(bytes, 0, 0);
  if (block?.end !== bytes.length) throw new WaymarkError("invalid_argument", "it is truncated or modified");
  const fault = block.kind === KIND.ROSTER ? ownerFault(block, self, FORMAT) : "it is not a member list";
  if (fault !== "") throw new WaymarkError("invalid_argument", fault);
  const { nodeIds } = objectOf(block.payload);
  return Array.isArray(nodeIds) ? nodeIds.filter(isId).slice(0, max) : [];
}

export function originBlock(index: number, origin: OriginBlock): Uint8Array {
  return blockOf(index, KIND.ORIGIN, jsonBytes(origin));
}

/** Layout for a lost origin: `length of the head u32 | head | hashes`. */
export function lostKeysBlock(index: number, { nodeId, generation }: NodeRef, keys: LostKeys): Uint8Array {
  const [head, hashes] = [jsonBytes({ nodeId, generation, through: keys.through }), bytesOfKeys(keys)];
  const payload = new Uint8Array(COUNT_BYTES + head.length + hashes.length);
  new DataView(payload.buffer).setUint32(0, head.length);
  payload.set(head, COUNT_BYTES);
  payload.set(hashes, COUNT_BYTES + head.length);
  return blockOf(index, KIND.LOST_KEYS, payload);
}

/** Throws `invalid_argument` for content that no version writes. */
export function readLostKeys({ payload }: FileBlock): { readonly id: string; readonly keys: LostKeys } {
  const at = payload.length < COUNT_BYTES ? 0 : COUNT_BYTES + new DataView(payload.buffer, payload.byteOffset).getUint32(0);
  const { nodeId, generation, through } = objectOf(payload.subarray(COUNT_BYTES, at));
  if (!isId(nodeId) || typeof generation !== "number" || typeof through !== "number" || !isSeq(through))
    throw malformedFile("owner of the lost keys", { nodeId, generation, through });
  const keys = keysOfBytes(payload.subarray(at), through);
  if (keys === undefined) throw malformedFile(`lost keys of ${nodeId}`, payload.length);
  return { id: `${nodeId}/${generation}`, keys };
}

/**
 * Returns why this node cannot use a snapshot with this first block, or an empty text if it can. Throws `invalid_argument` for content that no
 * version writes.
 */
export function headerFault(block: FileBlock, self: FileOwner): string {
  return block.kind === KIND.HEADER ? ownerFault(block, self, FORMAT) : "it does not begin with a header";
}

/** Reads a header for which `headerFault` returns an empty text. Throws `invalid_argument` for content that no version writes. */
export function readHeader({ payload }: FileBlock): SnapshotHeader {
  const { nodeId, clusterId, savedWallMs, forgotten, lost, starts, sourceAges } = objectOf(payload);
  if (typeof nodeId !== "string" || typeof clusterId !== "string") throw malformedFile("owner", { nodeId, clusterId });
  if (!Array.isArray(forgotten) || !forgotten.every(isOriginId)) throw malformedFile("forgotten origins", forgotten);
  if (!Array.isArray(lost) || !lost.every(isLost)) throw malformedFile("lost origins", lost);
  if (!Array.isArray(starts) || !starts.every(isStart)) throw malformedFile("accepted instances", starts);
  if (!Array.isArray(sourceAges) || !sourceAges.every(isAge)) throw malformedFile("source ages", sourceAges);
  const isSound = ({ generation, through, mark }: LostOrigin) => isSeq(generation) && isSeq(through) && (mark === 0 || isSeq(mark));
  return {
    nodeId,
    clusterId,
    savedWallMs: soundMs(savedWallMs) ?? 0,
    forgotten,
    lost: lost.filter(isSound),
    starts: starts.filter((start) => isSeq(start.generation)),
    sourceAges: sourceAges.slice(0, MAX_AGES),
  };
}

/**
 * Reads an origin's block. Returns undefined if the generation is out of range, which a peer may have reported. Throws `invalid_argument` for content
 * that no version writes.
 */
export function readOrigin({ payload }: FileBlock): OriginBlock | undefined {
  const {
    nodeId,
    generation,
    clusterId,
    region,
    life,
    absentWallMs,
    isOver = false,
    isPartial = false,
    isAtHome = false,
  } = objectOf(payload);
  if (!isId(nodeId) || typeof generation !== "number") throw malformedFile("origin", { nodeId, generation });
  if (!isPlace(clusterId) || !isPlace(region)) throw malformedFile(`location of ${nodeId}`, { clusterId, region });
  if (!isLife(life) || typeof isOver !== "boolean" || typeof isPartial !== "boolean" || typeof isAtHome !== "boolean")
    throw malformedFile(`state of ${nodeId}`, life);
  if (!isSeq(generation)) return undefined;
  return {
    nodeId,
    generation,
    clusterId,
    region,
    life,
    ...(isOver && { isOver }),
    ...(isPartial && { isPartial }),
    ...(isAtHome && { isAtHome }),
    absentWallMs: absentWallMs === undefined ? undefined : (soundMs(absentWallMs) ?? MAX_WALL_MS),
  };
}

function isId(value: unknown): value is string {
  return typeof value === "string" && isName(value, NODE_BOUNDS.maxIdLength);
}

/** Whether the value is a cluster or region id. The value is empty while the cluster or region is unknown. */
function isPlace(value: unknown): value is string {
  return value === "" || isId(value);
}

function isLife(value: unknown): value is OriginStatus {
  return value === "live" || value === "orphaned" || value === "hidden";
}

/** Whether the value could be a node id with a generation. */
function isOriginId(value: unknown): value is string {
  return typeof value === "string" && value.length <= NODE_BOUNDS.maxIdLength + MAX_GENERATION_LENGTH;
}

function isLost(value: unknown): value is LostOrigin {
  if (typeof value !== "object" || value === null) return false;
  const { nodeId, generation, through, mark } = value as Readonly<Record<string, unknown>>;
  return isId(nodeId) && [generation, through, mark].every((number) => typeof number === "number");
}

function isStart(value: unknown): value is AcceptedInstance {
  if (typeof value !== "object" || value === null) return false;
  const { nodeId, generation, boot, address } = value as Readonly<Record<string, unknown>>;
  return (
    isId(nodeId) &&
    typeof generation === "number" &&
    isId(boot) &&
    typeof address === "string" &&
    address.length <= NODE_BOUNDS.maxAddressLength
  );
}

function isAge(value: unknown): value is SourceAge {
  if (typeof value !== "object" || value === null) return false;
  const { source, version, ageMs } = value as Readonly<Record<string, unknown>>;
  return isId(source) && typeof version === "number" && isSeq(version) && typeof ageMs === "number" && ageMs >= 0;
}

/** `/` plus the digits of a generation. */
const MAX_GENERATION_LENGTH = 24;
/** Returns the time if it is valid, otherwise undefined. */
function soundMs(wallMs: unknown): number | undefined {
  return typeof wallMs === "number" && wallMs > 0 && wallMs <= MAX_WALL_MS ? wallMs : undefined;
}
