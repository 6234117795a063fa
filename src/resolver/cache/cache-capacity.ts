/**
 * Holds everything that a resolver keeps within its bounds of entries and bytes: what is configured or watched stays, and of the rest the least asked for
 * each of its entries goes first, whether it is followed or was fetched; where room is short, what is followed for being asked for has a part of it
 * (semantics.md, Resolver 22).
 */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import type { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Time } from "../../lib/machine.ts";
import { type FetchedCache, type FetchedName, RECORD_BYTES } from "../fetching/fetched-cache.ts";
import type { WatchBookmarks } from "../watching/bookmarks.ts";
import type { UpstreamWatches } from "../watching/upstream-watches.ts";
import type { WatchSelection } from "../watching/watch-selection.ts";
import type { UpstreamWatch, WatchedCatalog } from "../watching/watched-catalog.ts";
import type { BoundedCache, CacheWeight } from "./bounded-cache.ts";
import type { RetainedEntries } from "./retained-entries.ts";

export interface CacheCapacityParts {
  readonly replica: Replica;
  readonly followed: WatchedCatalog;
  readonly following: WatchSelection;
  readonly held: RetainedEntries;
  readonly fetched: FetchedCache;
  readonly bookmarks: WatchBookmarks;
  readonly watches: UpstreamWatches;
  readonly cache: BoundedCache<FetchedName>;
}

/**
 * Whether everything fits. `less`: less is to be followed from now on. `full`: what is configured does not fit, though there is nothing else. `admitted`: there
 * is room for what was counted, which is to be fetched now.
 */
export type CapacityFit = "fits" | "less" | "full" | "admitted";

/** Namespaces that are followed only because they are asked for may take one in so many of all that may be kept, where fetched answers find no room. */
const ASKED_PART = 4;
/** So long after a fetched answer found no room others may find none. */
const CROWDED_MS = 10_000;
/** So often it is looked at while nothing arrives. */
const LOOK_MS = 500;
/** What did not fit is tried again after this time. */
export const FULL_MS = 60_000;
/** Bytes of a tombstone, of a report about load, and of a key that a watch notes. */
const TOMBSTONE_BYTES = 300;
const LOAD_BYTES = 200;
const KEY_BYTES = 64;
/** Most tombstones that are collected at a time to make room. */
const COLLECTED_AT_A_TIME = 10_000;

export class CacheCapacity {
  readonly parts: CacheCapacityParts;
  /** What may not go for what is being counted, as it was when that began. */
  #kept: CacheWeight = { entries: 0, bytes: 0 };
  /** How many fetched answers had found no room when this was last looked at. */
  #evictedCount = 0;
  /** How many went that are followed. */
  #evictedCopies = 0;
  /** When that had changed, or there was no room for all. */
  #crowdedMonoMs = Number.NEGATIVE_INFINITY;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  #droppedMonoMs = Number.NEGATIVE_INFINITY;
  /** What was to be followed when this last looked. */
  #prefixes: NamespacePrefixes | undefined;

  constructor(parts: CacheCapacityParts) {
    this.parts = parts;
  }

  /** The cache let a name go. */
  evicted(name: FetchedName): void {
    const { cache, fetched, following } = this.parts;
    fetched.evicted(name);
    if (following.prefixes.covers(name.namespace) && cache.worthOf(name) > 0) this.#evictedCopies += 1;
  }

  /** Whether what is here now is within the bounds. */
  get isEnough(): boolean {
    this.#reserve();
    return !this.parts.cache.isOver;
  }

  /**
   * Lets go what there is no room for, one thing at a time where that is followed. Nothing goes for what is followed anew before it is known how much that is.
   * HOT: once a message of the upstream; where all fits it costs some sums.
   */
  fit(time: Time): CapacityFit {
    const { cache, following, held, replica, watches } = this.parts;
    const { arriving } = watches;
    if (following.prefixes !== this.#prefixes) held.keepBelow(following.prefixes);
    this.#prefixes = following.prefixes;
    if (this.#isCrowded(time) && this.#releaseRequested(time)) return "less";
    if (arriving?.isCounting === true) {
      const fit = this.#fitCounted(arriving, time);
      if (fit !== "fits") return fit;
    }
    this.#reserve();
    if (!cache.isOver) return "fits";
    replica.collect(time, COLLECTED_AT_A_TIME, "count");
    this.#reserve();
    if (cache.isOver && arriving?.admission === "kept") {
      watches.count(time);
      this.#kept = this.#pinnedWeight();
      for (let count = -1; count !== replica.tombstoneCount; ) {
        count = replica.tombstoneCount;
        replica.collect(time, COLLECTED_AT_A_TIME, "count");
      }
      this.#reserve();
    }
    if (cache.isOver) this.#dropCopies(time);
    while (cache.isOver) {
      // What is held is gone upstream: it makes room for what is there.
      if (held.letOldestGo()) {
        this.#reserve();
        continue;
      }
      const namespace = following.leastAsked((name) => this.#shareOf(name));
      if (cache.evict(namespace === undefined ? Number.POSITIVE_INFINITY : this.#shareOf(namespace))) continue;
      if (namespace !== undefined) {
        following.hasNoRoom(namespace, time.monoMs);
        return "less";
      }
      return following.refuseNewest(time.monoMs) ? "less" : "full";
    }
    return "fits";
  }

  /**
   * Whether there is no room for all, or a fetched answer found none in the last seconds, and it is time to look what may go for that: with each message of
   * what arrives, else twice a second.
   */
  #isCrowded({ monoMs }: Time): boolean {
    const { cache, watches } = this.parts;
    if (watches.arriving === undefined && monoMs - this.#lookedMonoMs < LOOK_MS) return false;
    this.#lookedMonoMs = monoMs;
    this.#reserve();
    const evictedCount = cache.missedCount - this.#evictedCopies;
    const isOver = cache.isOver && cache.isOverBeside(this.#copiesWeight());
    if (isOver || evictedCount !== this.#evictedCount) this.#crowdedMonoMs = monoMs;
    this.#evictedCount = evictedCount;
    return monoMs - this.#crowdedMonoMs < CROWDED_MS;
  }

  /** Of fetched answers that are followed now, or soon. They go when that is here. */
  #copiesWeight(): CacheWeight {
    const { cache, following } = this.parts;
    return cache.weightOf(({ namespace }) => following.prefixes.covers(namespace));
  }

  /** What is followed now is told from there, so what was fetched of it goes before anything else. Where room is short all the time, twice a second. */
  #dropCopies({ monoMs }: Time): void {
    const { cache, watches } = this.parts;
    if (monoMs - this.#droppedMonoMs < LOOK_MS) return;
    this.#droppedMonoMs = monoMs;
    cache.evictAll(({ namespace }) => watches.isComplete(namespace));
  }

  /**
   * Lets go what is beyond the part of the namespaces that are followed only because they are asked for, the least asked first: each brings all of its names, of
   * which most may be asked for less than the fetched answers that go for them. What has not begun to arrive goes with it, so that it is not counted
   * again and again. Returns whether something went.
   */
  #releaseRequested({ monoMs }: Time): boolean {
    const { cache, fetched, following, replica, watches } = this.parts;
    const asked = following.asked.map((namespace) => ({ namespace, asks: cache.asksOf(namespace), count: this.#countOf(namespace) }));
    const bytesEach = RECORD_BYTES + replica.slab.stats().usedBytes / Math.max(1, replica.lookup.size + fetched.lookup.size);
    let sum = 0;
    const isBeyond = ({ count }: { readonly count: number }): boolean => {
      const more = sum + count;
      if (cache.partOf({ entries: more, bytes: more * bytesEach }) * ASKED_PART > 1) return true;
      sum = more;
      return false;
    };
    const beyond = asked.toSorted((a, b) => b.asks - a.asks).filter(isBeyond);
    if (beyond.length === 0) return false;
    const unknown = asked.filter(({ namespace, count }) => count === 0 && !watches.isComplete(namespace));
    for (const { namespace } of [...beyond, ...unknown]) following.hasNoRoom(namespace, monoMs);
    watches.release();
    return true;
  }

  /** Whether there may be room for what is being counted, when everything goes that may. What has none is refused, and nothing has gone for it. */
  #fitCounted(arriving: UpstreamWatch, time: Time): CapacityFit {
    const { cache, following } = this.parts;
    const { sizes, prefixes } = arriving;
    let sum = this.#kept;
    for (const prefix of following.inOrder(prefixes.list, (namespace) => this.#shareOf(namespace))) {
      const { entries, bytes } = sizes.of(prefix);
      sum = { entries: sum.entries + entries, bytes: sum.bytes + bytes + entries * (RECORD_BYTES + KEY_BYTES) };
      if (!cache.couldHold(sum)) return following.refuse(prefix, time.monoMs) ? "less" : "full";
    }
    return arriving.admission === "whole" ? "admitted" : "fits";
  }

  /** Of what is configured or watched, and of what goes with it. */
  #pinnedWeight(): CacheWeight {
    const { followed, following, watches, bookmarks } = this.parts;
    const { entries, bytes } = followed.sizeOf((namespace) => following.isPinned(namespace));
    return { entries, bytes: bytes + entries * RECORD_BYTES + watches.notedCount * KEY_BYTES + bookmarks.bytes };
  }

  #reserve(): void {
    const { entries, bytes } = this.#followedWeight();
    const count = this.parts.held.keptCount;
    this.parts.cache.reserve({ entries: entries + count, bytes: bytes + count * RECORD_BYTES });
  }

  /** Of all that is no fetched answer. Bytes of entries that are held, remembered or pass by are in the slab too. */
  #followedWeight(): CacheWeight {
    const { replica, followed, fetched, bookmarks, watches, cache } = this.parts;
    const { entryCount, loads } = followed;
    const bytes =
      replica.slab.stats().usedBytes +
      (entryCount + fetched.lookup.size) * RECORD_BYTES -
      cache.contentBytes +
      replica.tombstoneCount * TOMBSTONE_BYTES +
      loads.size * LOAD_BYTES +
      watches.notedCount * KEY_BYTES +
      bookmarks.bytes;
    return { entries: entryCount, bytes };
  }

  /** How often a namespace was asked for lately, for each of its entries. */
  #shareOf(namespace: string): number {
    return this.parts.cache.asksOf(namespace) / Math.max(1, this.#countOf(namespace));
  }

  /** Entries of a namespace and of all below it. Of what arrives more is known than is here. */
  #countOf(namespace: string): number {
    const { lookup } = this.parts.replica;
    let count = lookup.namespaceCount(namespace);
    for (const below of lookup.namespaces.from(`${namespace}.`)) {
      if (!namespaceCovers(namespace, below)) break;
      count += lookup.namespaceCount(below);
    }
    return Math.max(count, this.parts.watches.arriving?.sizes.of(namespace).entries ?? 0);
  }
}

/** Why a resolver is not ready that is full with what is configured. */
export function fullFault({ maxEntries, maxBytes }: { readonly maxEntries: number; readonly maxBytes: number }): string {
  return `what is below resolver.namespaces does not fit: raise resolver.max_entries (${maxEntries}) or resolver.max_bytes (${maxBytes}), or follow less`;
}
