/**
 * Encodes and decodes the blocks of a resolver's copy on disk: the header, policy versions, followed entries, held entries, the watch cursor and the
 * state. The state is the last block, without which a copy is incomplete. All values are checked against bounds before they are used.
 */
import { DISCOVERY_DELTA_TAG as DELTA, CATALOG_WATCH_RESPONSE_TAG as WATCH } from "../../../gen/waymark/discovery/v1/discovery_tags.ts";
import { isNamespace, PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { ACTION } from "../../catalog/watch/reader.ts";
import { blockOf, type FileBlock, type FileOwner, isObject, jsonBytes, malformedFile, objectOf } from "../../lib/file-blocks.ts";
import { hlcWallMs, MAX_STAMP } from "../../lib/hlc.ts";
import {
  closeLength,
  openLength,
  utf8Size,
  WireReader,
  writeBytesField,
  writeNumberField,
  writeTextField,
  writeVarint,
} from "../../lib/protowire.ts";
import { readWatchMessage, type WatchDelta } from "../codec.ts";

/** Version 1 is the first format. */
export const COPY_FORMAT = 1;
/** Readers skip unknown kinds, so adding HELD later did not change the format version. */
export const COPY_KIND = { HEADER: 1, POLICY: 2, ENTRIES: 3, PLACE: 4, STATE: 5, HELD: 6 } as const;

/** The state in a copy, excluding entries and policy. */
export interface CopyState {
  readonly savedWallMs: number;
  /** Age of the entries when the copy was saved, in ms. Undefined when the age was unknown. */
  readonly ageMs?: number | undefined;
  /** Prefixes whose entries were complete. */
  readonly prefixes: readonly string[];
  /** The complete prefixes that were not configured. */
  readonly unconfigured: readonly string[];
  /** Keys that changed after the cursor. */
  readonly doubted: readonly string[];
  /** Keys of entries that ended before the copy was complete. */
  readonly gone: readonly string[];
  /** Keys whose hold ended before the copy was complete. */
  readonly released: readonly string[];
  readonly policy: {
    /** Whether none of the upstreams had reported their policy. */
    readonly isAwaited: boolean;
    /** The newest epoch whose policy version had not arrived. */
    readonly lacking?: string | undefined;
    readonly seen: readonly string[];
  };
}

/** Maximum size of the state, and of a cursor. */
export const MAX_STATE_BYTES = 4 << 20;
/**
 * Maximum number of keys in a list in the state, and maximum total number of characters in these keys. Even if every character is escaped, the lists
 * fit into the maximum size of the state.
 */
export const MAX_LISTED = 10_000;
export const MAX_LISTED_CHARS = 200_000;
const MAX_PREFIXES = 10_000;
const MAX_EPOCHS = 1000;
const MAX_EPOCH_CHARS = 100;
const MAX_WALL_MS = hlcWallMs(MAX_STAMP);
/** Number of bytes for the tags, lengths and numbers of a delta. */
const DELTA_ROOM = 64;
/** Number of bytes in the largest varint that is written. */
const VARINT_ROOM = 8;

export function headerBlock({ nodeId, clusterId }: FileOwner): Uint8Array {
  return blockOf(0, COPY_KIND.HEADER, jsonBytes({ format: COPY_FORMAT, nodeId, clusterId }));
}

/** Encodes the state. Throws when the state is too large for a copy. */
export function stateBlock(index: number, state: CopyState): Uint8Array {
  const payload = jsonBytes(state);
  if (payload.length > MAX_STATE_BYTES)
    throw new RangeError(`the state of the copy has ${payload.length} bytes, and the limit is ${MAX_STATE_BYTES}`);
  return blockOf(index, COPY_KIND.STATE, payload);
}

/** An entry as sent by the upstream, and the id of its change. */
export interface CopiedEntry {
  readonly deltaId: string;
  readonly shown: Uint8Array;
}

/** Returns an upper bound for the size of an entry in a block, in bytes. */
export function entryRoom({ deltaId, shown }: CopiedEntry): number {
  return DELTA_ROOM + utf8Size(deltaId) + shown.length;
}

export function entriesBlock(index: number, entries: readonly CopiedEntry[]): Uint8Array {
  return blockOf(index, COPY_KIND.ENTRIES, messageOf(entries));
}

/** A held entry, and the wall-clock time at which its hold ends, as of the time of the copy. */
export interface CopiedRetention extends CopiedEntry {
  readonly endsWallMs: number;
}

/** Encodes held entries: their number, the end of each hold, and the entries themselves. */
export function heldBlock(index: number, holds: readonly CopiedRetention[]): Uint8Array {
  const message = messageOf(holds);
  const out = new Uint8Array(VARINT_ROOM * (holds.length + 1) + message.length);
  let at = writeVarint(out, 0, holds.length);
  for (const { endsWallMs } of holds) at = writeVarint(out, at, endsWallMs);
  out.set(message, at);
  return blockOf(index, COPY_KIND.HELD, out.subarray(0, at + message.length));
}

/** Decodes a block of held entries. Throws `invalid_argument` for an invalid block. */
export function readHeldBlock(payload: Uint8Array): readonly (WatchDelta & Pick<CopiedRetention, "endsWallMs">)[] {
  const reader = new WireReader(payload);
  const count = reader.varint();
  if (count > payload.length) throw malformedFile("number of retained entries", count);
  const ends = Array.from({ length: count }, () => reader.varint());
  const { deltas } = readWatchMessage(payload.subarray(reader.at));
  if (deltas.length !== count) throw malformedFile("number of retained entries", count);
  return deltas.map((delta, i) => ({ ...delta, endsWallMs: ends[i] ?? 0 }));
}

/** Encodes entries as a watch message, so that the same decoder can read them. */
function messageOf(entries: readonly CopiedEntry[]): Uint8Array {
  const out = new Uint8Array(entries.reduce((room, entry) => room + entryRoom(entry), 0));
  let at = 0;
  for (const { deltaId, shown } of entries) {
    const start = openLength(writeVarint(out, at, WATCH.deltas));
    const body = writeNumberField(out, writeTextField(out, start, DELTA.deltaId, deltaId), DELTA.action, ACTION.CREATE);
    at = closeLength(out, start, writeBytesField(out, body, DELTA.entry, shown));
  }
  return out.subarray(0, at);
}

/** Decodes the state. Throws `invalid_argument` for an invalid state. */
export function readState({ payload }: FileBlock): CopyState {
  if (payload.length > MAX_STATE_BYTES) throw malformedFile("size of the state", payload.length);
  const { savedWallMs, ageMs, prefixes, unconfigured, doubted, gone, released = [], policy } = objectOf(payload);
  if (typeof savedWallMs !== "number" || !(savedWallMs > 0 && savedWallMs <= MAX_WALL_MS)) throw malformedFile("save time", savedWallMs);
  if (ageMs !== undefined && (typeof ageMs !== "number" || !(ageMs >= 0 && ageMs <= MAX_WALL_MS))) throw malformedFile("age", ageMs);
  if (!isListOf(prefixes, MAX_PREFIXES, isPrefix)) throw malformedFile("complete prefixes", prefixes);
  if (!isListOf(unconfigured, MAX_PREFIXES, isPrefix)) throw malformedFile("unconfigured prefixes", unconfigured);
  if (!isListOf(doubted, MAX_LISTED, isText)) throw malformedFile("unconfirmed keys", doubted);
  if (!isListOf(gone, MAX_LISTED, isText)) throw malformedFile("ended keys", gone);
  if (!isListOf(released, MAX_LISTED, isText)) throw malformedFile("released keys", released);
  return { savedWallMs, ageMs, prefixes, unconfigured, doubted, gone, released, policy: readPolicyState(policy) };
}

function readPolicyState(value: unknown): CopyState["policy"] {
  if (!isObject(value)) throw malformedFile("policy state", value);
  const { isAwaited, lacking, seen } = value;
  if (typeof isAwaited !== "boolean") throw malformedFile("policy awaited", isAwaited);
  if (lacking !== undefined && !isEpoch(lacking)) throw malformedFile("missing policy epoch", lacking);
  if (!isListOf(seen, MAX_EPOCHS, isEpoch)) throw malformedFile("seen policy epochs", seen);
  return { isAwaited, lacking, seen };
}

function isListOf(value: unknown, max: number, is: (item: unknown) => item is string): value is readonly string[] {
  return Array.isArray(value) && value.length <= max && value.every(is);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isPrefix(value: unknown): value is string {
  return value === "" || (typeof value === "string" && isNamespace(value, PROTOCOL_BOUNDS));
}

function isEpoch(value: unknown): value is string {
  return typeof value === "string" && value.length <= MAX_EPOCH_CHARS;
}
