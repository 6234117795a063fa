/**
 * Blocks of a replica snapshot: `length u32 | check 8 bytes | index u32 | kind u8 | payload`, big-endian; the check is of what
 * follows it. The first is the header, the last says that it is whole.
 */
import type { LostOrigin } from "../catalog/lost.ts";
import type { OriginLife } from "../catalog/record.ts";
import { isSeq } from "../catalog/record-codec.ts";
import { sha256 } from "../lib/crypto.ts";
import { hlcWallMs, MAX_STAMP } from "../lib/hlc.ts";

/** 1: the first. */
const FORMAT = 1;
export const KIND = { HEADER: 1, ORIGIN: 2, FRAME: 3, END: 4 } as const;
const MAX_WALL_MS = hlcWallMs(MAX_STAMP);
const CHECK_BYTES = 8;
/** Length, check, index and kind. */
const HEAD_BYTES = 4 + CHECK_BYTES + 4 + 1;
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/** Whose snapshot it is, and of when. */
export interface SnapshotHeader {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly savedWallMs: number;
  /** Origins that are not to be taken in again. */
  readonly forgotten: readonly string[];
  /** Those that may come back, and marks. Older snapshots have none. */
  readonly lost: readonly LostOrigin[];
}

/** How an origin stands; `absentWallMs`: since when its node is away, undefined while it is not. */
export interface SnapshotOrigin {
  readonly life: OriginLife;
  readonly absentWallMs: number | undefined;
  /** Its node has left, or lives in a later generation: nobody writes it any more. Older snapshots do not say it. */
  readonly isOver?: boolean;
}

/** One block, read: `end` is where the next one begins. */
export interface Block {
  readonly kind: number;
  readonly payload: Uint8Array;
  readonly end: number;
}

/** What comes before an origin's frames. */
export interface OriginBlock extends SnapshotOrigin {
  /** Some of its records were refused: it is not whole. */
  readonly isPartial?: boolean;
  readonly nodeId: string;
  readonly generation: number;
  readonly clusterId: string;
  readonly region: string;
}

export function headerBlock(index: number, header: SnapshotHeader): Uint8Array {
  return blockOf(index, KIND.HEADER, jsonBytes({ format: FORMAT, ...header }));
}

export function originBlock(index: number, origin: OriginBlock): Uint8Array {
  return blockOf(index, KIND.ORIGIN, jsonBytes(origin));
}

export function blockOf(index: number, kind: number, payload: Uint8Array): Uint8Array {
  const block = new Uint8Array(HEAD_BYTES + payload.length);
  const view = new DataView(block.buffer);
  view.setUint32(0, payload.length);
  view.setUint32(4 + CHECK_BYTES, index);
  block[HEAD_BYTES - 1] = kind;
  block.set(payload, HEAD_BYTES);
  block.set(sha256(block.subarray(4 + CHECK_BYTES)).subarray(0, CHECK_BYTES), 4);
  return block;
}

/** The block at that place; undefined when it is not the one that was written there. */
export function readBlock(bytes: Uint8Array, at: number, index: number): Block | undefined {
  if (at + HEAD_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  const end = at + HEAD_BYTES + view.getUint32(0);
  if (end > bytes.length || view.getUint32(4 + CHECK_BYTES) !== index) return undefined;
  const check = sha256(bytes.subarray(at + 4 + CHECK_BYTES, end));
  for (let i = 0; i < CHECK_BYTES; i++) if (check[i] !== bytes[at + 4 + i]) return undefined;
  return { kind: bytes[at + HEAD_BYTES - 1] ?? 0, payload: bytes.subarray(at + HEAD_BYTES, end), end };
}

/** Why a snapshot with this first block is of no use here; empty when it is. */
export function headerFault(block: Block, self: { readonly nodeId: string; readonly clusterId: string }): string {
  if (block.kind !== KIND.HEADER) return "it does not begin with a header";
  const said = jsonOf(block.payload) as SnapshotHeader & { readonly format: number };
  if (said.format !== FORMAT) return `it has the format ${said.format}, which this version of waymark does not know`;
  if (said.nodeId !== self.nodeId) return `it is of the node ${said.nodeId}`;
  return said.clusterId === self.clusterId ? "" : `it is of the cluster ${said.clusterId}`;
}

export function readHeader({ payload }: Block): SnapshotHeader {
  const {
    nodeId,
    clusterId,
    savedWallMs,
    forgotten,
    lost = [],
  } = jsonOf(payload) as Omit<SnapshotHeader, "lost"> & Partial<SnapshotHeader>;
  const isSound = ({ generation, through, mark }: LostOrigin) => isSeq(generation) && isSeq(through) && (mark === 0 || isSeq(mark));
  return { nodeId, clusterId, savedWallMs: boundedMs(savedWallMs), forgotten, lost: lost.filter(isSound) };
}

/** Undefined for an origin whose numbers nobody can go on from: an older version took them over from a peer. */
export function readOrigin({ payload }: Block): OriginBlock | undefined {
  const { absentWallMs, ...origin } = jsonOf(payload) as OriginBlock;
  if (!isSeq(origin.generation)) return undefined;
  return { ...origin, absentWallMs: absentWallMs === undefined ? undefined : boundedMs(absentWallMs) };
}

/** A time as far as one may be computed with. */
function boundedMs(wallMs: number): number {
  return Number.isFinite(wallMs) ? Math.max(0, Math.min(wallMs, MAX_WALL_MS)) : 0;
}

function jsonBytes(value: object): Uint8Array {
  return ENCODER.encode(JSON.stringify(value));
}

/** The block's check has shown that these are the bytes that were written. */
function jsonOf(payload: Uint8Array): unknown {
  return JSON.parse(DECODER.decode(payload));
}
