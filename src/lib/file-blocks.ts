/**
 * Files in blocks, each with a check of its own, so that a change of any byte is noticed and none is made at once:
 * `length u32 | check 8 bytes | index u32 | kind u8 | payload`, big-endian; the check is of what follows it. Who wrote a block its check does not say.
 */
import { sha256 } from "./crypto.ts";
import { WaymarkError } from "./errors.ts";

const CHECK_BYTES = 8;
/** Length, check, index and kind. */
const HEAD_BYTES = 4 + CHECK_BYTES + 4 + 1;
/** Of a value that is shown to people. */
const MAX_SHOWN = 100;
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/** Whose file it is. */
export interface FileOwner {
  readonly nodeId: string;
  readonly clusterId: string;
}

/** One block, read: `end` is where the next one begins. */
export interface FileBlock {
  readonly kind: number;
  readonly payload: Uint8Array;
  readonly end: number;
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

/** The block at that place; undefined when it is not the one that was written there. The payload is a view. */
export function readBlock(bytes: Uint8Array, at: number, index: number): FileBlock | undefined {
  if (at + HEAD_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  const end = at + HEAD_BYTES + view.getUint32(0);
  if (end > bytes.length || view.getUint32(4 + CHECK_BYTES) !== index) return undefined;
  const check = sha256(bytes.subarray(at + 4 + CHECK_BYTES, end));
  for (let i = 0; i < CHECK_BYTES; i++) if (check[i] !== bytes[at + 4 + i]) return undefined;
  return { kind: bytes[at + HEAD_BYTES - 1] ?? 0, payload: bytes.subarray(at + HEAD_BYTES, end), end };
}

/** Why a file whose first block says this is of no use here; empty when it is. Throws `invalid_argument` on what no version writes. */
export function ownerFault({ payload }: Pick<FileBlock, "payload">, self: FileOwner, knownFormat: number): string {
  const { format, nodeId, clusterId } = objectOf(payload);
  if (format !== knownFormat) return `it has the format ${String(format)}, which this version of waymark does not know`;
  if (nodeId !== self.nodeId) return `it is of the node ${String(nodeId)}`;
  return clusterId === self.clusterId ? "" : `it is of the cluster ${String(clusterId)}`;
}

export function jsonBytes(value: object): Uint8Array {
  return ENCODER.encode(JSON.stringify(value));
}

/** The block's check has shown that these are the bytes that were written; by whom, nobody knows. Throws `invalid_argument` on what is no object. */
export function objectOf(payload: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(DECODER.decode(payload));
  } catch (cause) {
    throw new WaymarkError("invalid_argument", "a block of it is no JSON", { cause });
  }
  if (!isObject(value)) throw malformedFile("a block", value);
  return value;
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

/** The error for a value of a file that no version writes. */
export function malformedFile(what: string, value: unknown): WaymarkError {
  return new WaymarkError(
    "invalid_argument",
    `it says ${what} as no version writes it: ${(JSON.stringify(value) ?? "nothing").slice(0, MAX_SHOWN)}`,
  );
}
