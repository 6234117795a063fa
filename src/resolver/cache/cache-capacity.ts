/**
 * Keeps all of a resolver's data within its bounds on entries and bytes. Configured prefixes are never released, and watched prefixes are released
 * last. Of the other data, whether followed or fetched, the data with the fewest requests per entry is released first. While room is short,
 * namespaces that are followed only because of requests can use a limited part of the room (semantics.md, Resolver 22).
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
 * Result of `fit`. `fits` means that all data fits. `less` means that fewer prefixes must be followed from now on. `full` means that the configured
 * prefixes do not fit, although all other data was released. `admitted` means that there is room for the counted prefixes, which can now be fetched.
 */
export type CapacityFit = "fits" | "less" | "full" | "admitted";

/** While fetched answers do not fit, namespaces that are followed only because of requests may use at most this fraction (1/4) of all entries or bytes. */
const ASKED_PART = 4;
/** Room is treated as short for this long after a fetched answer did not fit. */
const CROWDED_MS = 10_000;
/** Interval between checks while no snapshot is being received. */
const LOOK_MS = 500;
/** Time after which prefixes that did not fit are retried. */
export const FULL_MS = 60_000;
/** Estimated bytes of a tombstone, of a load report, and of a key recorded by a watch. */
const TOMBSTONE_BYTES = 300;
const LOAD_BYTES = 200;
const KEY_BYTES = 64;
/** Maximum number of tombstones removed per collection to make room. */
const COLLECTED_AT_A_TIME = 10_000;

export class CacheCapacity {
  readonly parts: CacheCapacityParts;
  /** Weight that must be kept while a snapshot is being counted, measured when counting began. */
  #kept: CacheWeight = { entries: 0, bytes: 0 };
  /** Number of fetched answers that did not fit, as of the last check. */
  #evictedCount = 0;
  /** Number of evicted answers whose namespaces are followed. */
  #evictedCopies = 0;
  /** When the number of answers that did not fit last increased, or the bounds were last exceeded. */
  #crowdedMonoMs = Number.NEGATIVE_INFINITY;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  #droppedMonoMs = Number.NEGATIVE_INFINITY;
  /** The prefixes to follow at the last check. */
  #prefixes: NamespacePrefixes | undefined;

  constructor(parts: CacheCapacityParts) {
    this.parts = parts;
  }

  /** Must be called when the cache evicts a name. */
  evicted(name: FetchedName): void {
    const { cache, fetched, following } = this.parts;
    fetched.evicted(name);
    if (following.prefixes.covers(name.namespace) && cache.worthOf(name) > 0) this.#evictedCopies += 1;
  }

  /** Whether the current data is within the bounds. */
  get isEnough(): boolean {
    this.#reserve();
    return !this.parts.cache.isOver;
  }

  /**
   * Releases data that does not fit. Followed prefixes are released one at a time. Data is released for new prefixes only after their size is known.
   * HOT: runs per upstream message. While everything fits, the cost is a few additions.
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
      // Held entries no longer exist upstream, so they are released before entries that exist.
      if (held.releaseOldest()) {
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
   * Returns whether the bounds are exceeded or a fetched answer did not fit in the last seconds. Checked with each message while a snapshot is being
   * received, otherwise twice a second.
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

  /**
   * Returns the weight of the fetched answers whose namespaces are followed, or will be followed soon. These answers are released when those
   * namespaces are complete.
   */
  #copiesWeight(): CacheWeight {
    const { cache, following } = this.parts;
    return cache.weightOf(({ namespace }) => following.prefixes.covers(namespace));
  }

  /**
   * Before any other data, releases fetched answers whose namespaces are now followed, because lookups use the followed entries. While room is
   * constantly short, runs twice a second.
   */
  #dropCopies({ monoMs }: Time): void {
    const { cache, watches } = this.parts;
    if (monoMs - this.#droppedMonoMs < LOOK_MS) return;
    this.#droppedMonoMs = monoMs;
    cache.evictAll(({ namespace }) => watches.isComplete(namespace));
  }

  /**
   * Releases namespaces that are followed only because of requests and exceed their part, the least requested first. Such a namespace includes all of
   * its names, most of which may be requested less often than the fetched answers evicted for them. Namespaces that have not yet been received are
   * also released, so that they are not counted repeatedly. Returns whether any namespace was released.
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

  /**
   * Returns whether the snapshot that is being counted would fit if all releasable data were released. Prefixes that do not fit are refused without
   * releasing any data for them.
   */
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

  /** Returns the weight of configured and watched prefixes, including bookkeeping. */
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

  /** Returns the weight of all data except fetched answers. The slab also contains the bytes of held, remembered and temporary entries. */
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

  /** Returns the number of recent requests for a namespace, divided by its number of entries. */
  #shareOf(namespace: string): number {
    return this.parts.cache.asksOf(namespace) / Math.max(1, this.#countOf(namespace));
  }

  /**
   * Returns the number of entries of a namespace and of the namespaces below it. While a snapshot is being received, the counted number may exceed
   * the stored number.
   */
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

/** Returns the fault to report when the configured namespaces do not fit. */
export function fullFault({ maxEntries, maxBytes }: { readonly maxEntries: number; readonly maxBytes: number }): string {
  return `the entries of resolver.namespaces do not fit: raise resolver.max_entries (${maxEntries}) or resolver.max_bytes (${maxBytes}), or follow fewer namespaces`;
}
