/**
 * Writes and reads the disk copy of a resolver's cache, which lets a restarted resolver serve immediately (semantics.md, Resolver 18). The copy acts
 * like an upstream: it contains entries as sent by the upstream, the cursor from which to resume, and the policy versions. `codec.ts` defines the
 * blocks of the copy.
 */
import { shownBytes } from "../../catalog/entry/view.ts";
import { BODY, deltaId, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { parseCursor } from "../../catalog/watch/cursor.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { blockOf, type FileBlock, type FileOwner, malformedFile, ownerFault, readBlock } from "../../lib/file-blocks.ts";
import type { Time } from "../../lib/machine.ts";
import { hasErrors, validate } from "../../policy/set/validation.ts";
import { decodeVersion, encodeVersion } from "../../policy/versions/codec.ts";
import type { PolicyVersion } from "../../policy/versions/version.ts";
import type { RetainedEntries } from "../cache/retained-entries.ts";
import type { UpstreamWatchMessage } from "../codec.ts";
import type { WatchedPolicy } from "../policy/watched-policy.ts";
import type { UpstreamFreshness } from "../upstream-freshness.ts";
import type { UpstreamWatches } from "../watching/upstream-watches.ts";
import type { WatchSelection } from "../watching/watch-selection.ts";
import type { WatchedCatalog } from "../watching/watched-catalog.ts";
import {
  COPY_FORMAT,
  COPY_KIND,
  type CopiedEntry,
  type CopyState,
  entriesBlock,
  entryRoom,
  headerBlock,
  heldBlock,
  MAX_LISTED,
  MAX_LISTED_CHARS,
  MAX_STATE_BYTES,
  readState,
  stateBlock,
} from "./codec.ts";
import { RetainedEntriesCopy } from "./retained-copy.ts";

/** Size of the entries in one block, in bytes. A block of this size can be encoded in a millisecond or two. */
const BLOCK_BYTES = 64 * 1024;
/** Maximum sizes of a block of entries and of a policy version. */
const MAX_ENTRIES_BYTES = 1 << 20;
const MAX_VERSION_BYTES = 16 * 1024 * 1024;
/** Maximum number of policy versions in a copy: the newest version and the version in force. */
const MAX_VERSIONS = 2;
/**
 * A copy may have this many blocks, plus one for every `LEAST_BLOCK_BYTES`. Blocks with entries are several times larger than `LEAST_BLOCK_BYTES`.
 */
const FREE_BLOCKS = 100_000;
const LEAST_BLOCK_BYTES = 16 * 1024;
const DECODER = new TextDecoder();
const ENCODER = new TextEncoder();

/**
 * Returns the maximum size of a copy, given the cache's size in memory. Entries need less space on disk, because bookkeeping is not written. The
 * sizes of policy and state are added.
 */
export function copyBound(heldBytes: number): number {
  return heldBytes + MAX_VERSIONS * MAX_VERSION_BYTES + 2 * MAX_STATE_BYTES;
}

/** The live data that is copied. */
export interface CopySource {
  readonly owner: FileOwner;
  readonly replica: Replica;
  readonly followed: Pick<WatchedCatalog, "loads">;
  readonly held: RetainedEntries;
  readonly watches: UpstreamWatches;
  readonly following: WatchSelection;
  readonly policy: WatchedPolicy;
  readonly freshness: UpstreamFreshness;
}

/**
 * Yields the blocks of a copy. The data may change between two blocks. Changed entries are written again, so that the copy represents the state at
 * its last block. Throws if changes may have been missed or too many entries ended meanwhile. The caller must then create another copy later.
 */
export function* copyBlocks(copied: CopySource, now: () => Time): Generator<Uint8Array> {
  const { replica } = copied;
  const begunAt = replica.revision;
  const gone = new Set<KeyText>();
  const holds = new RetainedEntriesCopy(copied.held, replica.slab);
  let index = 0;
  yield headerBlock(copied.owner);
  for (let after = 0; ; ) {
    // The tombstone of a copied entry may have been collected before this function saw it.
    if (replica.collectedRevision > begunAt) throw new Error("tombstones were collected while the copy was being made");
    const { entries, through } = takeEntries(copied, after, begunAt, gone);
    if (entries.length > 0) yield entriesBlock(++index, entries);
    if (through > after) {
      after = through;
      continue;
    }
    const held = holds.take(BLOCK_BYTES, now());
    if (held.length === 0) break;
    yield heldBlock(++index, held);
  }
  // The remaining blocks must represent the same moment, so they are created together.
  for (const block of lastBlocks(copied, { gone, holds }, index, now())) yield block;
}

/** Returns as many entries that changed after a revision as fit into a block. `through` is the revision of the last returned entry. */
function takeEntries(
  { replica, followed }: CopySource,
  after: number,
  begunAt: number,
  gone: Set<KeyText>,
): { readonly entries: readonly CopiedEntry[]; readonly through: number } {
  const entries: CopiedEntry[] = [];
  let [through, roomBytes, lookedCount] = [after, 0, 0];
  replica.changesSince(after, (stored, revision) => {
    through = revision;
    lookedCount += 1;
    if (stored.body === BODY.ENTRY) {
      const entry = copiedEntry(replica, stored, followed);
      entries.push(entry);
      roomBytes += entryRoom(entry);
      gone.delete(stored.key);
    } else if (revision > begunAt) gone.add(stored.key);
    return roomBytes < BLOCK_BYTES && lookedCount < LOOKED_A_SLICE;
  });
  return { entries, through };
}

/** Maximum number of records examined for one block. */
const LOOKED_A_SLICE = 10_000;

function copiedEntry({ slab }: Replica, stored: StoredRecord, { loads }: Pick<WatchedCatalog, "loads">): CopiedEntry {
  const { at, sizeBytes, origin, key } = stored;
  return { deltaId: deltaId(stored), shown: shownBytes(slab.view(at, sizeBytes), origin.life !== "live", loads.get(key)) };
}

/** Entries and holds in the copy that ended before the copy was complete. */
interface OutdatedKeys {
  readonly gone: ReadonlySet<KeyText>;
  readonly holds: RetainedEntriesCopy;
}

function lastBlocks(copied: CopySource, { gone, holds }: OutdatedKeys, index: number, time: Time): readonly Uint8Array[] {
  const watch = copied.watches.held;
  const { versions, state: policy } = copied.policy.kept;
  const blocks = versions.map((version, i) => blockOf(index + 1 + i, COPY_KIND.POLICY, encodeVersion(version)));
  const [goneList, released] = [listed(gone), listed(holds.released(time))];
  if (goneList === undefined || released === undefined) throw new Error("too many entries were removed while the copy was being made");
  const doubted = listed(watch?.doubts.keys ?? []);
  // The cursor is omitted if only this upstream can resend the changes after it, or if these changes have too many keys to list.
  const place = watch?.isAheadOfCheckpoint === true || doubted === undefined ? undefined : watch?.place;
  if (place !== undefined) blocks.push(blockOf(index + 1 + blocks.length, COPY_KIND.PLACE, ENCODER.encode(place.text)));
  const ageMs = copied.freshness.ageMs(time);
  const prefixes = watch?.prefixes.list ?? [];
  const state: CopyState = {
    savedWallMs: time.wallMs,
    ...(Number.isFinite(ageMs) && { ageMs }),
    prefixes,
    // Prefixes that will only be followed for a few more seconds are not resumed.
    unconfigured: prefixes.filter((prefix) => copied.following.isUnconfigured(prefix) && copied.following.prefixes.covers(prefix)),
    doubted: place === undefined ? [] : (doubted ?? []),
    gone: goneList,
    released,
    policy,
  };
  return [...blocks, stateBlock(index + 1 + blocks.length, state)];
}

/** Returns the keys as a list. Returns undefined if there are too many keys for a copy. */
function listed(keys: Iterable<string>): readonly string[] | undefined {
  const list: string[] = [];
  let chars = 0;
  for (const key of keys) {
    chars += key.length;
    if (list.length >= MAX_LISTED || chars > MAX_LISTED_CHARS) return undefined;
    list.push(key);
  }
  return list;
}

/** A complete copy of this resolver's cache. Its entries are decoded when the copy is restored. */
export interface DiskCopy {
  readonly state: CopyState;
  readonly versions: readonly { readonly version: PolicyVersion; readonly sizeBytes: number }[];
  readonly place: UpstreamWatchMessage["place"];
  /** Entries as watch messages. */
  readonly entries: readonly Uint8Array[];
  /** Held entries as block payloads. */
  readonly held: readonly Uint8Array[];
}

export type ReadCopy = { readonly ok: true; readonly copy: DiskCopy } | { readonly ok: false; readonly fault: string };

interface CopyReading {
  readonly versions: { readonly version: PolicyVersion; readonly sizeBytes: number }[];
  readonly entries: Uint8Array[];
  readonly held: Uint8Array[];
  place: UpstreamWatchMessage["place"];
  state: CopyState | undefined;
}

/** Reads all blocks of a copy, or returns the reason why it is unusable. Yields after each block. */
export function* readCopy(bytes: Uint8Array, self: FileOwner): Generator<void, ReadCopy> {
  const reading: CopyReading = { versions: [], entries: [], held: [], place: undefined, state: undefined };
  const maxBlocks = FREE_BLOCKS + bytes.length / LEAST_BLOCK_BYTES;
  let index = 0;
  for (let at = 0; at < bytes.length; index++) {
    const block = index < maxBlocks && reading.state === undefined ? readBlock(bytes, at, index) : undefined;
    if (block === undefined) return { ok: false, fault: `the copy is truncated or corrupt at byte ${at}` };
    at = block.end;
    try {
      const fault = index === 0 ? headerFault(block, self) : "";
      if (fault !== "") return { ok: false, fault };
      if (index > 0) take(reading, block);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      return { ok: false, fault: error.message };
    }
    yield;
  }
  const { state, ...rest } = reading;
  return state === undefined
    ? { ok: false, fault: "the copy is truncated: its last block is missing" }
    : { ok: true, copy: { state, ...rest } };
}

function headerFault(block: FileBlock, self: FileOwner): string {
  return block.kind === COPY_KIND.HEADER ? ownerFault(block, self, COPY_FORMAT) : "the copy does not begin with a header";
}

/** Adds the content of a block to the copy. Throws `invalid_argument` for an invalid block. */
function take(reading: CopyReading, block: FileBlock): void {
  const { kind, payload } = block;
  if (kind === COPY_KIND.ENTRIES || kind === COPY_KIND.HELD) {
    if (payload.length > MAX_ENTRIES_BYTES) throw malformedFile("size of entries", payload.length);
    (kind === COPY_KIND.HELD ? reading.held : reading.entries).push(payload);
  } else if (kind === COPY_KIND.POLICY) {
    if (reading.versions.length >= MAX_VERSIONS || payload.length > MAX_VERSION_BYTES)
      throw malformedFile("policy versions", payload.length);
    reading.versions.push({ version: policyVersion(payload), sizeBytes: payload.length });
  } else if (kind === COPY_KIND.PLACE) {
    if (payload.length > MAX_STATE_BYTES) throw malformedFile("size of the cursor", payload.length);
    const text = DECODER.decode(payload);
    const cursor = parseCursor(text);
    if (cursor.kind !== "portable") throw malformedFile("cursor", text);
    reading.place = { text, cursor };
  } else if (kind === COPY_KIND.STATE) reading.state = readState(block);
}

function policyVersion(bytes: Uint8Array): PolicyVersion {
  const read = decodeVersion(bytes);
  if (!read.ok) throw new WaymarkError("invalid_argument", `the copy contains an unreadable policy version: ${read.fault}`);
  if (hasErrors(validate(read.version.set))) throw new WaymarkError("invalid_argument", "the copy contains an invalid policy version");
  return read.version;
}
