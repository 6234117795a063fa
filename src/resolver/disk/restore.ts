/** Restores a copy on disk into a resolver that has just started (semantics.md, Resolver 18). */
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { SNAPSHOT } from "../../catalog/watch/reader.ts";
import { UnconfirmedKeys } from "../../consumer/unconfirmed-keys.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { FileOwner } from "../../lib/file-blocks.ts";
import type { Time } from "../../lib/machine.ts";
import { readWatchMessage, type UpstreamWatchMessage } from "../codec.ts";
import type { WatchedPolicy } from "../policy/watched-policy.ts";
import type { UpstreamFreshness } from "../upstream-freshness.ts";
import type { WatchBookmarks } from "../watching/bookmarks.ts";
import type { UpstreamWatches } from "../watching/upstream-watches.ts";
import type { WatchSelection } from "../watching/watch-selection.ts";
import { UpstreamWatch } from "../watching/watched-catalog.ts";
import type { CopyState } from "./codec.ts";
import { type DiskCopy, readCopy } from "./disk-copy.ts";
import { checkCount, type RestoreTarget, restoreRetained } from "./retained-copy.ts";

/** Result of restoring a copy, or the reason why the copy is unusable. `ageMs` is infinite if the age is unknown. */
export type RestoredCopy =
  | { readonly ok: true; readonly entryCount: number; readonly ageMs: number }
  | { readonly ok: false; readonly fault: string };

/** The parts of a resolver that has just started. */
interface FreshParts extends Omit<EntriesParts, "kept"> {
  readonly owner: FileOwner;
  readonly following: WatchSelection;
  readonly watches: UpstreamWatches;
  readonly policy: WatchedPolicy;
  readonly freshness: UpstreamFreshness;
  readonly configured: readonly string[];
}

interface EntriesParts extends RestoreTarget {
  readonly bookmarks: WatchBookmarks;
}

const EVERYTHING = new NamespacePrefixes([""]);
const NOTHING = new NamespacePrefixes([]);
/** A message outside a snapshot and without a cursor. */
const CHANGES: Omit<UpstreamWatchMessage, "deltas"> = {
  snapshot: SNAPSHOT.NONE,
  replaces: [],
  place: undefined,
  ageMs: undefined,
  isStale: false,
  servedBy: "",
  policyEpoch: "",
  via: [],
  digest: undefined,
};

/** Restores the state from a copy. If the copy is unusable, returns the reason without changing any state. Yields between slices of work. */
export function* restoreCopy(bytes: Uint8Array, parts: FreshParts, time: Time): Generator<void, RestoredCopy> {
  const { owner, followed, following, watches, policy, freshness, configured } = parts;
  const read = yield* readCopy(bytes, owner);
  if (!read.ok) return read;
  const { copy } = read;
  const { state } = copy;
  const resumed = following.resumable(state.unconfigured);
  // The policy must be in force before entries are restored.
  policy.restore(copy.versions, state.policy);
  try {
    const watch = yield* restoreEntries(copy, { ...parts, kept: keptPrefixes(state, configured, resumed) }, time);
    if (watch !== undefined) {
      following.resume(resumed, time.monoMs);
      watches.restore(watch);
      freshness.restore({ ageMs: state.ageMs ?? Number.POSITIVE_INFINITY, savedWallMs: state.savedWallMs }, time);
    }
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    policy.forget();
    return { ok: false, fault: error.message };
  }
  return { ok: true, entryCount: followed.entryCount, ageMs: freshness.ageMs(time) };
}

/**
 * Returns the prefixes in a copy that the current settings need: the configured prefixes, and prefixes that were not configured when the copy was
 * created.
 */
function keptPrefixes({ prefixes }: CopyState, configured: readonly string[], unconfigured: readonly string[]): NamespacePrefixes {
  const [held, wanted] = [new NamespacePrefixes(prefixes), new NamespacePrefixes(configured)];
  const isHeld = (prefix: string) => held.covers(prefix);
  const isWanted = (prefix: string) => wanted.covers(prefix);
  return new NamespacePrefixes([...wanted.list.filter(isHeld), ...held.list.filter(isWanted), ...unconfigured.filter(isHeld)]);
}

/**
 * Restores the entries, each checked like an entry from an upstream. Returns the watch that resumes from the restored entries, or undefined if none
 * of the prefixes is needed. If the copy is invalid or does not fit, removes all restored entries and throws `invalid_argument`.
 */
function* restoreEntries(copy: DiskCopy, parts: EntriesParts, time: Time): Generator<void, UpstreamWatch | undefined> {
  const { state, entries, place } = copy;
  const { followed, kept, bookmarks } = parts;
  if (kept.list.length === 0) return undefined;
  const doubts = new UnconfirmedKeys();
  for (const key of state.doubted) doubts.noteChange(key);
  const watch = new UpstreamWatch(EVERYTHING, { doubts });
  try {
    yield* takeEntries(entries, parts, time);
    if (state.gone.length > 0) followed.forget(new Set(state.gone), time);
    yield* restoreRetained(copy, parts, time);
  } catch (error) {
    followed.drop(EVERYTHING, NOTHING, time);
    throw error;
  }
  followed.drop(EVERYTHING, kept, time);
  watch.isComplete = true;
  watch.isFromDisk = true;
  watch.place = place;
  // Readers that resume from the cursor do not know about changes after it, so the bookmark is recorded only if there are no such changes.
  if (place !== undefined && state.doubted.length === 0) bookmarks.note(place.cursor);
  return watch.narrowed(kept);
}

function* takeEntries(entries: readonly Uint8Array[], { followed, maxEntries, fits }: EntriesParts, time: Time): Generator<void> {
  // This watch is temporary and is dropped at the end, together with the keys that it records.
  const taken = new UpstreamWatch(EVERYTHING);
  let count = 0;
  for (const bytes of entries) {
    const { deltas } = readWatchMessage(bytes);
    count += deltas.length;
    checkCount(count, maxEntries);
    followed.hear(taken, { ...CHANGES, deltas }, time);
    if (!fits()) throw new WaymarkError("invalid_argument", "the copy exceeds resolver.max_entries or resolver.max_bytes of this resolver");
    yield;
  }
}
