/**
 * Blocks of a resolver's copy on disk: the header, versions of the policy, entries as the upstream showed them, those that are only held, the place of the
 * watch, and last the state, without which a copy is not whole. Whatever a block says is bounded before anything is made of it.
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

/** 1: the first. */
export const COPY_FORMAT = 1;
/** Readers pass over kinds that they do not know. So the format did not change with HELD, which came later. */
export const COPY_KIND = { HEADER: 1, POLICY: 2, ENTRIES: 3, PLACE: 4, STATE: 5, HELD: 6 } as const;

/** What a copy says beside entries and policy. */
export interface CopyState {
  readonly savedWallMs: number;
  /** Age of the entries then, in ms. Undefined: it was unknown. */
  readonly ageMs?: number | undefined;
  /** All that was held whole. */
  readonly prefixes: readonly string[];
  /** Those of them that nobody configured. */
  readonly unconfigured: readonly string[];
  /** Keys that were told after the place. */
  readonly doubted: readonly string[];
  /** Keys that were gone before the copy was whole. */
  readonly gone: readonly string[];
  /** Keys of which the hold was over before the copy was whole. */
  readonly released: readonly string[];
  readonly policy: {
    /** Whether no upstream had said what its policy is. */
    readonly isAwaited: boolean;
    /** An epoch that was heard of, and not known. */
    readonly lacking?: string | undefined;
    readonly seen: readonly string[];
  };
}

/** Most bytes of the state, and of a place. */
export const MAX_STATE_BYTES = 4 << 20;
/** Most keys of a list of the state, and most characters of them together: with every one of them escaped they stay below the bound of the state. */
export const MAX_LISTED = 10_000;
export const MAX_LISTED_CHARS = 200_000;
const MAX_PREFIXES = 10_000;
const MAX_EPOCHS = 1000;
const MAX_EPOCH_CHARS = 100;
const MAX_WALL_MS = hlcWallMs(MAX_STAMP);
/** Tags, lengths and the numbers of a delta. */
const DELTA_ROOM = 64;
/** Of the largest number that is written. */
const VARINT_ROOM = 8;

export function headerBlock({ nodeId, clusterId }: FileOwner): Uint8Array {
  return blockOf(0, COPY_KIND.HEADER, jsonBytes({ format: COPY_FORMAT, nodeId, clusterId }));
}

/** Throws where the state is too large for a copy. */
export function stateBlock(index: number, state: CopyState): Uint8Array {
  const payload = jsonBytes(state);
  if (payload.length > MAX_STATE_BYTES) throw new RangeError(`its state has ${payload.length} bytes, more than ${MAX_STATE_BYTES}`);
  return blockOf(index, COPY_KIND.STATE, payload);
}

/** An entry as it was shown, and the id of its change. */
export interface CopiedEntry {
  readonly deltaId: string;
  readonly shown: Uint8Array;
}

/** Bytes that an entry takes in a block, at most. */
export function entryRoom({ deltaId, shown }: CopiedEntry): number {
  return DELTA_ROOM + utf8Size(deltaId) + shown.length;
}

export function entriesBlock(index: number, entries: readonly CopiedEntry[]): Uint8Array {
  return blockOf(index, COPY_KIND.ENTRIES, messageOf(entries));
}

/** An entry that is held, and when that ends by the wall clock with which the copy was made. */
export interface CopiedRetention extends CopiedEntry {
  readonly endsWallMs: number;
}

/** The number of entries, when the hold of each ends, and the entries. */
export function heldBlock(index: number, holds: readonly CopiedRetention[]): Uint8Array {
  const message = messageOf(holds);
  const out = new Uint8Array(VARINT_ROOM * (holds.length + 1) + message.length);
  let at = writeVarint(out, 0, holds.length);
  for (const { endsWallMs } of holds) at = writeVarint(out, at, endsWallMs);
  out.set(message, at);
  return blockOf(index, COPY_KIND.HELD, out.subarray(0, at + message.length));
}

/** Reads the payload of a block of held entries. Throws `invalid_argument` on what no version writes. */
export function readHeldBlock(payload: Uint8Array): readonly (WatchDelta & Pick<CopiedRetention, "endsWallMs">)[] {
  const reader = new WireReader(payload);
  const count = reader.varint();
  if (count > payload.length) throw malformedFile("how many entries are held", count);
  const ends = Array.from({ length: count }, () => reader.varint());
  const { deltas } = readWatchMessage(payload.subarray(reader.at));
  if (deltas.length !== count) throw malformedFile("how many entries are held", count);
  return deltas.map((delta, i) => ({ ...delta, endsWallMs: ends[i] ?? 0 }));
}

/** As a message of a watch, so that it is read as one. */
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

/** Throws `invalid_argument` on what no version writes. */
export function readState({ payload }: FileBlock): CopyState {
  if (payload.length > MAX_STATE_BYTES) throw malformedFile("its state", payload.length);
  const { savedWallMs, ageMs, prefixes, unconfigured, doubted, gone, released = [], policy } = objectOf(payload);
  if (typeof savedWallMs !== "number" || !(savedWallMs > 0 && savedWallMs <= MAX_WALL_MS))
    throw malformedFile("when it was saved", savedWallMs);
  if (ageMs !== undefined && (typeof ageMs !== "number" || !(ageMs >= 0 && ageMs <= MAX_WALL_MS))) throw malformedFile("its age", ageMs);
  if (!isListOf(prefixes, MAX_PREFIXES, isPrefix)) throw malformedFile("what it holds whole", prefixes);
  if (!isListOf(unconfigured, MAX_PREFIXES, isPrefix)) throw malformedFile("what of it nobody configured", unconfigured);
  if (!isListOf(doubted, MAX_LISTED, isText)) throw malformedFile("which keys came after its place", doubted);
  if (!isListOf(gone, MAX_LISTED, isText)) throw malformedFile("which keys are gone", gone);
  if (!isListOf(released, MAX_LISTED, isText)) throw malformedFile("which keys are held no longer", released);
  return { savedWallMs, ageMs, prefixes, unconfigured, doubted, gone, released, policy: readPolicyState(policy) };
}

function readPolicyState(value: unknown): CopyState["policy"] {
  if (!isObject(value)) throw malformedFile("how the policy stands", value);
  const { isAwaited, lacking, seen } = value;
  if (typeof isAwaited !== "boolean") throw malformedFile("whether a policy is awaited", isAwaited);
  if (lacking !== undefined && !isEpoch(lacking)) throw malformedFile("which policy is lacking", lacking);
  if (!isListOf(seen, MAX_EPOCHS, isEpoch)) throw malformedFile("which policies it has seen", seen);
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
