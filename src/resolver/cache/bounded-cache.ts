/**
 * A cache bounded by entries and bytes and ordered by popularity per entry. A scan over many names therefore does not evict names that are requested
 * repeatedly. Items of lower worth are evicted first, regardless of popularity.
 */
import { NamePopularity } from "./popularity.ts";

export interface CacheWeight {
  readonly entries: number;
  readonly bytes: number;
}

export interface BoundedCacheOptions<T> {
  readonly maxEntries: number;
  /** Includes bookkeeping. */
  readonly maxBytes: number;
  /** Returns the worth of an item. Items of lower worth are evicted first. */
  readonly worthOf: (item: T) => number;
  /** Called for each item that is evicted to make room. */
  readonly onEvicted: (key: string, item: T) => void;
  /** Returns a random number x, 0 ≤ x < 1. */
  readonly random: () => number;
}

const NOTHING: CacheWeight = { entries: 0, bytes: 0 };

interface CacheSlot<T> {
  readonly key: string;
  item: T;
  weight: CacheWeight;
  /** Position in the list of all items. */
  index: number;
}

/** Bookkeeping bytes of one item: the slot, its references in the map and the list, and its key string. */
const ITEM_BYTES = 200;
/** Number of items sampled per eviction. With a larger sample, the evicted item is closer to the least popular item in the cache. */
const SAMPLE = 16;

export class BoundedCache<T> {
  readonly #options: BoundedCacheOptions<T>;
  readonly #places = new Map<string, CacheSlot<T>>();
  readonly #all: CacheSlot<T>[] = [];
  readonly #popularity: NamePopularity;
  #entries = 0;
  #bytes = 0;
  #contentBytes = 0;
  /** The part of the bounds used by data outside this cache. */
  #reserved: CacheWeight = { entries: 0, bytes: 0 };
  /** Number of items that were evicted to make room or did not fit. */
  evictedCount = 0;
  /** Number of evicted or refused items with a worth above 0. */
  missedCount = 0;

  constructor(options: BoundedCacheOptions<T>) {
    this.#options = options;
    this.#popularity = new NamePopularity(options.maxEntries);
    this.#bytes = this.#popularity.bytes;
  }

  /** Bytes used, including bookkeeping. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes used by bookkeeping only. */
  get bookkeepingBytes(): number {
    return this.#bytes - this.#contentBytes;
  }

  /** Sum of the weights of the items, in bytes. */
  get contentBytes(): number {
    return this.#contentBytes;
  }

  /** Whether the bounds are exceeded, including the reserved part. */
  get isOver(): boolean {
    return this.isOverBeside(NOTHING);
  }

  /** Returns whether the bounds would still be exceeded if this weight were removed. */
  isOverBeside({ entries, bytes }: CacheWeight): boolean {
    const { maxEntries, maxBytes } = this.#options;
    return this.#entries + this.#reserved.entries - entries > maxEntries || this.#bytes + this.#reserved.bytes - bytes > maxBytes;
  }

  /** Returns the fraction of the bounds that a weight uses: the larger of its entry fraction and its byte fraction. */
  partOf({ entries, bytes }: CacheWeight): number {
    const { maxEntries, maxBytes } = this.#options;
    return Math.max(entries / maxEntries, bytes / maxBytes);
  }

  /** Returns whether this weight would fit into an empty cache. */
  couldHold({ entries, bytes }: CacheWeight): boolean {
    const { maxEntries, maxBytes } = this.#options;
    return entries <= maxEntries && bytes + this.#popularity.bytes <= maxBytes;
  }

  /** Counts a request for the key, whether it is cached or not, and returns the item. HOT: runs per lookup. */
  ask(key: string): T | undefined {
    this.#popularity.ask(key);
    return this.#places.get(key)?.item;
  }

  /** Returns an estimate of how often the key was requested recently. */
  asksOf(key: string): number {
    return this.#popularity.of(key);
  }

  /** Returns the item of a key without counting a request. */
  peek(key: string): T | undefined {
    return this.#places.get(key)?.item;
  }

  /**
   * Stores or replaces an item and its weight. If there is no room, evicts other items of lower worth, or of equal worth but lower popularity per
   * entry. If there are no such items, evicts the new item itself. Returns whether the item was stored.
   */
  put(key: string, item: T, weight: CacheWeight): boolean {
    let place = this.#places.get(key);
    if (place === undefined) {
      place = { key, item, weight, index: this.#all.length };
      this.#places.set(key, place);
      this.#all.push(place);
    } else this.#weigh(place, -1);
    place.item = item;
    place.weight = weight;
    this.#weigh(place, 1);
    while (this.isOver) {
      const least = this.#leastOf(place);
      this.#evictSlot(least);
      if (least !== place) this.#options.onEvicted(least.key, least.item);
      else return false;
    }
    return true;
  }

  worthOf(item: T): number {
    return this.#options.worthOf(item);
  }

  /** Sets the part of the bounds that is used outside this cache. Items are evicted to make room only by `evict` or the next `put`. */
  reserve(weight: CacheWeight): void {
    this.#reserved = weight;
  }

  /**
   * Evicts the least worthy item in a sample if its worth is 0 or it was requested at most `share` times per entry. Returns whether an item was
   * evicted.
   */
  evict(share: number): boolean {
    const any = this.#all[Math.floor(this.#options.random() * this.#all.length)];
    if (any === undefined) return false;
    const least = this.#leastOf(any);
    // Items with a worth of 0 are evicted regardless of popularity.
    if (this.#options.worthOf(least.item) > 0 && this.#shareOf(least) > share) return false;
    this.#evictSlot(least);
    this.#options.onEvicted(least.key, least.item);
    return true;
  }

  /** Evicts all items that match. The cost is proportional to the number of items. */
  evictAll(isGone: (item: T) => boolean): void {
    for (const place of this.#all.filter(({ item }) => isGone(item))) {
      this.#evictSlot(place);
      this.#options.onEvicted(place.key, place.item);
    }
  }

  /** Returns the total weight of the items that match. The cost is proportional to the number of items. */
  weightOf(isMeant: (item: T) => boolean): CacheWeight {
    let [entries, bytes] = [0, 0];
    for (const { item, weight } of this.#all) {
      if (!isMeant(item)) continue;
      entries += weight.entries;
      bytes += weight.bytes;
    }
    return { entries, bytes };
  }

  #evictSlot(place: CacheSlot<T>): void {
    this.#remove(place);
    this.evictedCount += 1;
    if (this.#options.worthOf(place.item) > 0) this.missedCount += 1;
  }

  /** Removes and returns an item. Returns undefined if the item is not cached. */
  take(key: string): T | undefined {
    const place = this.#places.get(key);
    if (place === undefined) return undefined;
    this.#remove(place);
    return place.item;
  }

  *items(): Generator<readonly [string, T]> {
    for (const { key, item } of this.#all) yield [key, item];
  }

  #weigh({ key, weight }: CacheSlot<T>, sign: 1 | -1): void {
    this.#entries += sign * weight.entries;
    this.#contentBytes += sign * weight.bytes;
    this.#bytes += sign * (weight.bytes + ITEM_BYTES + 2 * key.length);
  }

  #remove(place: CacheSlot<T>): void {
    this.#weigh(place, -1);
    this.#places.delete(place.key);
    const last = this.#all.pop();
    if (last === undefined || last === place) return;
    this.#all[place.index] = last;
    last.index = place.index;
  }

  /**
   * Returns the least worthy item among a sample and the newly stored item. If items are equal, returns the new item, because it has been requested
   * for a shorter time.
   */
  #leastOf(put: CacheSlot<T>): CacheSlot<T> {
    const { random, worthOf } = this.#options;
    let least = put;
    let [worth, share] = [worthOf(put.item), this.#shareOf(put)];
    for (let i = 0; i < SAMPLE; i++) {
      const place = this.#all[Math.floor(random() * this.#all.length)] ?? put;
      const itsWorth = worthOf(place.item);
      if (itsWorth > worth) continue;
      const itsShare = this.#shareOf(place);
      if (itsWorth === worth && itsShare >= share) continue;
      [least, worth, share] = [place, itsWorth, itsShare];
    }
    return least;
  }

  /** Returns the number of requests for the item, divided by its number of entries. */
  #shareOf({ key, weight }: CacheSlot<T>): number {
    return this.#popularity.of(key) / Math.max(1, weight.entries);
  }
}
