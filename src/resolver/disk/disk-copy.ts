/**
 * A copy on disk of what a resolver holds, from which a restart serves at once (semantics.md, Resolver 18). It is to a later self what an upstream is:
 * entries as they were shown, the place from which to go on, and the versions of the policy. `codec.ts` has its blocks.
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

/** Of entries in one block, so that making it takes a millisecond or two. */
const BLOCK_BYTES = 64 * 1024;
/** Most bytes of a block of entries, and of a version of the policy. */
const MAX_ENTRIES_BYTES = 1 << 20;
const MAX_VERSION_BYTES = 16 * 1024 * 1024;
/** Most versions in a copy: the newest, and the one in force. */
const MAX_VERSIONS = 2;
/** Blocks of a copy of whatever size, and bytes for each one more: those of entries have several times as many. */
const FREE_BLOCKS = 100_000;
const LEAST_BLOCK_BYTES = 16 * 1024;
const DECODER = new TextDecoder();
const ENCODER = new TextEncoder();

/** Most bytes of a copy of what takes so many bytes in memory, where each entry has its bookkeeping. The rest is for the policy and the state. */
export function copyBound(heldBytes: number): number {
  return heldBytes + MAX_VERSIONS * MAX_VERSION_BYTES + 2 * MAX_STATE_BYTES;
}

/** What is copied, as it is when it is asked. */
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
 * The blocks of a copy. What is copied may change between two of them: whatever was touched comes once more, so that the copy is of the moment at which
 * its last block is made. Throws if that cannot be known, or if too much goes meanwhile; another copy is then to be made later.
 */
export function* copyBlocks(copied: CopySource, now: () => Time): Generator<Uint8Array> {
  const { replica } = copied;
  const begunAt = replica.revision;
  const gone = new Set<KeyText>();
  const holds = new RetainedEntriesCopy(copied.held, replica.slab);
  let index = 0;
  yield headerBlock(copied.owner);
  for (let after = 0; ; ) {
    // The end of an entry that is in the copy may have been collected before it was seen here.
    if (replica.collectedRevision > begunAt) throw new Error("tombstones were collected meanwhile");
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
  // From here to the last block nothing may change, so they are made at once.
  for (const block of lastBlocks(copied, { gone, holds }, index, now())) yield block;
}

/** The entries that were touched after a revision, as many as a block takes. `through`: the revision of the last one. */
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

/** Records that are looked at for one block. */
const LOOKED_A_SLICE = 10_000;

function copiedEntry({ slab }: Replica, stored: StoredRecord, { loads }: Pick<WatchedCatalog, "loads">): CopiedEntry {
  const { at, sizeBytes, origin, key } = stored;
  return { deltaId: deltaId(stored), shown: shownBytes(slab.view(at, sizeBytes), origin.life !== "live", loads.get(key)) };
}

/** What is in the copy and was over before it was whole. */
interface OutdatedKeys {
  readonly gone: ReadonlySet<KeyText>;
  readonly holds: RetainedEntriesCopy;
}

function lastBlocks(copied: CopySource, { gone, holds }: OutdatedKeys, index: number, time: Time): readonly Uint8Array[] {
  const watch = copied.watches.held;
  const { versions, state: policy } = copied.policy.kept;
  const blocks = versions.map((version, i) => blockOf(index + 1 + i, COPY_KIND.POLICY, encodeVersion(version)));
  const [goneList, released] = [listed(gone), listed(holds.released(time))];
  if (goneList === undefined || released === undefined) throw new Error("too much is gone since the copy was begun");
  const doubted = listed(watch?.doubts.keys ?? []);
  // More is held than at such a place, of which only this upstream can tell.
  const place = watch?.isAheadOfCheckpoint === true || doubted === undefined ? undefined : watch?.place;
  if (place !== undefined) blocks.push(blockOf(index + 1 + blocks.length, COPY_KIND.PLACE, ENCODER.encode(place.text)));
  const ageMs = copied.freshness.ageMs(time);
  const prefixes = watch?.prefixes.list ?? [];
  const state: CopyState = {
    savedWallMs: time.wallMs,
    ...(Number.isFinite(ageMs) && { ageMs }),
    prefixes,
    // What is followed for some seconds more is not followed again.
    unconfigured: prefixes.filter((prefix) => copied.following.isUnconfigured(prefix) && copied.following.prefixes.covers(prefix)),
    doubted: place === undefined ? [] : (doubted ?? []),
    gone: goneList,
    released,
    policy,
  };
  return [...blocks, stateBlock(index + 1 + blocks.length, state)];
}

/** Undefined: they are too many for a copy. */
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

/** A copy that is whole, and ours. Its entries are read when it is restored. */
export interface DiskCopy {
  readonly state: CopyState;
  readonly versions: readonly { readonly version: PolicyVersion; readonly sizeBytes: number }[];
  readonly place: UpstreamWatchMessage["place"];
  /** Messages of a watch. */
  readonly entries: readonly Uint8Array[];
  /** Payloads of blocks of held entries. */
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

/** Reads a copy as a whole; or says why it is of no use. Yields after each block. */
export function* readCopy(bytes: Uint8Array, self: FileOwner): Generator<void, ReadCopy> {
  const reading: CopyReading = { versions: [], entries: [], held: [], place: undefined, state: undefined };
  const maxBlocks = FREE_BLOCKS + bytes.length / LEAST_BLOCK_BYTES;
  let index = 0;
  for (let at = 0; at < bytes.length; index++) {
    const block = index < maxBlocks && reading.state === undefined ? readBlock(bytes, at, index) : undefined;
    if (block === undefined) return { ok: false, fault: `it is cut off or changed at byte ${at}` };
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
  return state === undefined ? { ok: false, fault: "its end is missing" } : { ok: true, copy: { state, ...rest } };
}

function headerFault(block: FileBlock, self: FileOwner): string {
  return block.kind === COPY_KIND.HEADER ? ownerFault(block, self, COPY_FORMAT) : "it does not begin with a header";
}

/** Throws `invalid_argument` on what no version writes. */
function take(reading: CopyReading, block: FileBlock): void {
  const { kind, payload } = block;
  if (kind === COPY_KIND.ENTRIES || kind === COPY_KIND.HELD) {
    if (payload.length > MAX_ENTRIES_BYTES) throw malformedFile("entries", payload.length);
    (kind === COPY_KIND.HELD ? reading.held : reading.entries).push(payload);
  } else if (kind === COPY_KIND.POLICY) {
    if (reading.versions.length >= MAX_VERSIONS || payload.length > MAX_VERSION_BYTES) throw malformedFile("the policy", payload.length);
    reading.versions.push({ version: policyVersion(payload), sizeBytes: payload.length });
  } else if (kind === COPY_KIND.PLACE) {
    if (payload.length > MAX_STATE_BYTES) throw malformedFile("its place", payload.length);
    const text = DECODER.decode(payload);
    const cursor = parseCursor(text);
    if (cursor.kind !== "portable") throw malformedFile("its place", text);
    reading.place = { text, cursor };
  } else if (kind === COPY_KIND.STATE) reading.state = readState(block);
}

function policyVersion(bytes: Uint8Array): PolicyVersion {
  const read = decodeVersion(bytes);
  if (!read.ok) throw new WaymarkError("invalid_argument", `a version of the policy in it cannot be read: ${read.fault}`);
  if (hasErrors(validate(read.version.set)))
    throw new WaymarkError("invalid_argument", "a version of the policy in it breaks the rules for policies");
  return read.version;
}
