/**
 * Files that consist of blocks with one checksum per block, so that a change to any byte is detected and a file need not be written in one step. The
 * format is `length u32 | check 8 bytes | index u32 | kind u8 | payload`, big-endian. The checksum covers the fields after it. It does not prove who
 * wrote the block.
 */
import { sha256 } from "./crypto.ts";
import { WaymarkError } from "./errors.ts";

const CHECK_BYTES = 8;
/** Total size of length, check, index, and kind. */
const HEAD_BYTES = 4 + CHECK_BYTES + 4 + 1;
/** Maximum length of a value that is quoted in an error message. */
const MAX_SHOWN = 100;
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/** The node to which a file belongs. */
export interface FileOwner {
  readonly nodeId: string;
  readonly clusterId: string;
}

/** One block that was read. `end` is the start of the next block. */
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

/** The block at that offset. Undefined if it is not the block that was written there. The payload is a view of the file's bytes. */
export function readBlock(bytes: Uint8Array, at: number, index: number): FileBlock | undefined {
  if (at + HEAD_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  const end = at + HEAD_BYTES + view.getUint32(0);
  if (end > bytes.length || view.getUint32(4 + CHECK_BYTES) !== index) return undefined;
  const check = sha256(bytes.subarray(at + 4 + CHECK_BYTES, end));
  for (let i = 0; i < CHECK_BYTES; i++) if (check[i] !== bytes[at + 4 + i]) return undefined;
  return { kind: bytes[at + HEAD_BYTES - 1] ?? 0, payload: bytes.subarray(at + HEAD_BYTES, end), end };
}

/**
 * Returns why this node cannot use a file with this first block, or an empty text if it can. Throws `invalid_argument` for content that no version
 * writes.
 */
export function ownerFault({ payload }: Pick<FileBlock, "payload">, self: FileOwner, knownFormat: number): string {
  const { format, nodeId, clusterId } = objectOf(payload);
  if (format !== knownFormat) return `its format ${String(format)} is not supported by this version of waymark`;
  if (nodeId !== self.nodeId) return `it belongs to node ${String(nodeId)}`;
  return clusterId === self.clusterId ? "" : `it belongs to cluster ${String(clusterId)}`;
}

export function jsonBytes(value: object): Uint8Array {
  return ENCODER.encode(JSON.stringify(value));
}

/**
 * Parses a payload as a JSON object. The checksum proves that the bytes are unchanged, but not who wrote them. Throws `invalid_argument`
 * for a payload that is not a JSON object.
 */
export function objectOf(payload: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(DECODER.decode(payload));
  } catch (cause) {
    throw new WaymarkError("invalid_argument", "it contains a block that is not JSON", { cause });
  }
  if (!isObject(value)) throw malformedFile("a block", value);
  return value;
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

/** The error for a value that no version writes in a file. */
export function malformedFile(what: string, value: unknown): WaymarkError {
  return new WaymarkError(
    "invalid_argument",
    `it has an invalid value (${what}): ${(JSON.stringify(value) ?? "nothing").slice(0, MAX_SHOWN)}`,
  );
}
