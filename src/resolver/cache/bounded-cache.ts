/**
 * What a resolver keeps, within a bound of entries and one of bytes. What is asked for most per entry stays, so a scan over many names
 * pushes out nothing that is asked for again and again. Of two that are kept, the one that is worth less goes first, however often it is asked for.
 */
import { NamePopularity } from "./popularity.ts";

export interface CacheWeight {
  readonly entries: number;
  readonly bytes: number;
}

export interface BoundedCacheOptions<T> {
  readonly maxEntries: number;
  /** Bookkeeping is counted. */
  readonly maxBytes: number;
  /** What it is worth: of less worth goes first. */
  readonly worthOf: (item: T) => number;
  /** Told of what goes to make room. */
  readonly onEvicted: (key: string, item: T) => void;
  /** A random number, 0 ≤ x < 1. */
  readonly random: () => number;
}

const NOTHING: CacheWeight = { entries: 0, bytes: 0 };

interface CacheSlot<T> {
  readonly key: string;
  item: T;
  weight: CacheWeight;
  /** Its index in the list of all. */
  index: number;
}

/** Bytes of bookkeeping for one item: its place, its slot in the map and in the list, and the text of its key. */
const ITEM_BYTES = 200;
/** Candidates among which the one to go is chosen. With more the choice is nearer to the least popular of all. */
const SAMPLE = 16;

export class BoundedCache<T> {
  readonly #options: BoundedCacheOptions<T>;
  readonly #places = new Map<string, CacheSlot<T>>();
  readonly #all: CacheSlot<T>[] = [];
  readonly #popularity: NamePopularity;
  #entries = 0;
  #bytes = 0;
  #contentBytes = 0;
  /** What others hold of the same bounds. */
  #reserved: CacheWeight = { entries: 0, bytes: 0 };
  /** Items that went to make room for others, or found no room. */
  evictedCount = 0;
  /** Those of them that were worth something. */
  missedCount = 0;

  constructor(options: BoundedCacheOptions<T>) {
    this.#options = options;
    this.#popularity = new NamePopularity(options.maxEntries);
    this.#bytes = this.#popularity.bytes;
  }

  /** With all bookkeeping. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Of them those that are no content of what is kept. */
  get bookkeepingBytes(): number {
    return this.#bytes - this.#contentBytes;
  }

  /** As the weights of the items say. */
  get contentBytes(): number {
    return this.#contentBytes;
  }

  /** Whether too much is held, with what others hold. */
  get isOver(): boolean {
    return this.isOverBeside(NOTHING);
  }

  /** Whether too much is held besides so much. */
  isOverBeside({ entries, bytes }: CacheWeight): boolean {
    const { maxEntries, maxBytes } = this.#options;
    return this.#entries + this.#reserved.entries - entries > maxEntries || this.#bytes + this.#reserved.bytes - bytes > maxBytes;
  }

  /** How large a part of the bounds so much is: 1 is all of the one that it fills first. */
  partOf({ entries, bytes }: CacheWeight): number {
    const { maxEntries, maxBytes } = this.#options;
    return Math.max(entries / maxEntries, bytes / maxBytes);
  }

  /** Whether so much would fit if nothing were kept. */
  couldHold({ entries, bytes }: CacheWeight): boolean {
    const { maxEntries, maxBytes } = this.#options;
    return entries <= maxEntries && bytes + this.#popularity.bytes <= maxBytes;
  }

  /** Counts that somebody asked for the key, whether it is kept or not, and returns what is kept. HOT: once a lookup. */
  ask(key: string): T | undefined {
    this.#popularity.ask(key);
    return this.#places.get(key)?.item;
  }

  /** About how often the key was asked for lately. */
  asksOf(key: string): number {
    return this.#popularity.of(key);
  }

  /** What is kept under a key. It does not count as asked for. */
  peek(key: string): T | undefined {
    return this.#places.get(key)?.item;
  }

  /**
   * Keeps an item, or changes what is kept and its weight. Others go where there is no room, if each is worth or asked for less; otherwise it goes
   * itself. Returns whether it is kept.
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
      this.#goes(least);
      if (least !== place) this.#options.onEvicted(least.key, least.item);
      else return false;
    }
    return true;
  }

  worthOf(item: T): number {
    return this.#options.worthOf(item);
  }

  /** Others hold so much of the same bounds from now on. Nothing goes for it before `evict` or the next `put`. */
  reserve(weight: CacheWeight): void {
    this.#reserved = weight;
  }

  /** Lets the least of some items go, if it was asked for no more than `share` times for each of its entries. Returns whether one went. */
  evict(share: number): boolean {
    const any = this.#all[Math.floor(this.#options.random() * this.#all.length)];
    if (any === undefined) return false;
    const least = this.#leastOf(any);
    // What is worth nothing goes however often it is asked for.
    if (this.#options.worthOf(least.item) > 0 && this.#shareOf(least) > share) return false;
    this.#goes(least);
    this.#options.onEvicted(least.key, least.item);
    return true;
  }

  /** Lets all items go of which this is true. Cost: the number of items. */
  evictAll(isGone: (item: T) => boolean): void {
    for (const place of this.#all.filter(({ item }) => isGone(item))) {
      this.#goes(place);
      this.#options.onEvicted(place.key, place.item);
    }
  }

  /** What the items weigh of which this is true. Cost: the number of items. */
  weightOf(isMeant: (item: T) => boolean): CacheWeight {
    let [entries, bytes] = [0, 0];
    for (const { item, weight } of this.#all) {
      if (!isMeant(item)) continue;
      entries += weight.entries;
      bytes += weight.bytes;
    }
    return { entries, bytes };
  }

  #goes(place: CacheSlot<T>): void {
    this.#remove(place);
    this.evictedCount += 1;
    if (this.#options.worthOf(place.item) > 0) this.missedCount += 1;
  }

  /** Removes an item. Returns it, if it was there. */
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

  /** The least of a sample and of the one that was put. Of equals the one that was put: it was asked for less long. */
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

  /** Asks for each of its entries. */
  #shareOf({ key, weight }: CacheSlot<T>): number {
    return this.#popularity.of(key) / Math.max(1, weight.entries);
  }
}
