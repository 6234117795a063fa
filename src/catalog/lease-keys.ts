/**
 * Maps keys to owners and owners to keys, with 35–52 B per key and 11–22 B per owner, not including the strings. These figures hold for one owner
 * with a million keys as well as for a million owners with one key each.
 */
import type { KeyText } from "./record/record.ts";

const NONE = -1;
const START_CAPACITY = 16;
/**
 * Number of partitions of the hash table. A table that grows is rebuilt within one turn of the event loop. Rebuilding a single table of a million
 * keys would block the loop for 25 ms; rebuilding a partition needs a sixteenth of that time.
 */
const PARTS = 16;
/** The upper four bits of a hash select the partition. */
const PART_SHIFT = 28;
/** Placeholder that makes a check for undefined unnecessary. It is never used, because there is a partition for every hash. */
const NO_TABLE = new Int32Array(1).fill(NONE);

/** Maps keys to owners, which are small integers. Every operation is O(1), except those that return a list. */
export class LeaseKeys {
  readonly #seed: number;
  // Each partition is a hash table with open addressing and linear probing. A Map would cost 28–56 B per key, and would also need a Set for each
  // owner.
  readonly #tables = Array.from({ length: PARTS }, () => new Int32Array(START_CAPACITY).fill(NONE));
  /** Number of links in each partition. */
  readonly #sizes = new Int32Array(PARTS);
  // Indexed by link number; free links form a chain through #next.
  readonly #keys: (KeyText | undefined)[] = [];
  #hashes = new Int32Array(START_CAPACITY);
  #owners = new Int32Array(START_CAPACITY);
  #next = new Int32Array(START_CAPACITY);
  #previous = new Int32Array(START_CAPACITY);
  #freeLink = NONE;
  #size = 0;
  /**
   * The last requested key and its hash. HOT: a registration or its end looks up its key three times in a row (benchmark `versions`, keys that come
   * and go).
   */
  #hashedKey: KeyText | undefined;
  #hash = 0;
  // Indexed by owner: the owner's newest link, and the number of its links.
  #heads = new Int32Array(START_CAPACITY).fill(NONE);
  #counts = new Int32Array(START_CAPACITY);

  /** `seed` is any 32-bit integer. If the seed is secret, attackers cannot choose keys that collide. */
  constructor(seed: number) {
    this.#seed = seed | 0;
  }

  /** Number of keys that have an owner. */
  get size(): number {
    return this.#size;
  }

  /**
   * Capacity of each table and each list, at 4 B per slot. A full table or list is rebuilt with twice as many slots, in the same turn in which it
   * becomes full.
   */
  get slots(): { readonly tables: readonly number[]; readonly lists: readonly number[] } {
    const lists = [this.#hashes, this.#owners, this.#next, this.#previous, this.#heads, this.#counts];
    return { tables: this.#tables.map(({ length }) => length), lists: lists.map(({ length }) => length) };
  }

  ownerOf(key: KeyText): number | undefined {
    const hash = this.#hashOf(key);
    const table = this.#tableOf(hash);
    const link = table[this.#find(table, key, hash)] ?? NONE;
    return link === NONE ? undefined : this.#owners[link];
  }

  countOf(owner: number): number {
    return this.#counts[owner] ?? 0;
  }

  /** Assigns the key to the owner. Returns the previous owner, if any. */
  attach(key: KeyText, owner: number): number | undefined {
    const hash = this.#hashOf(key);
    let table = this.#tableOf(hash);
    let place = this.#find(table, key, hash);
    let link = table[place] ?? NONE;
    let before: number | undefined;
    if (link === NONE) {
      const part = hash >>> PART_SHIFT;
      const size = (this.#sizes[part] ?? 0) + 1;
      if (size * 4 > table.length * 3) {
        table = this.#rehashed(table);
        this.#tables[part] = table;
        place = this.#find(table, key, hash);
      }
      link = this.#newLink(key, hash);
      table[place] = link;
      this.#sizes[part] = size;
      this.#size += 1;
    } else {
      before = this.#owners[link];
      if (before === owner) return before;
      this.#unlink(link);
    }
    this.#linkTo(owner, link);
    return before;
  }

  /** Removes the key from its owner. Unknown keys are ignored. */
  detach(key: KeyText): void {
    const hash = this.#hashOf(key);
    const table = this.#tableOf(hash);
    const place = this.#find(table, key, hash);
    const link = table[place] ?? NONE;
    if (link === NONE) return;
    this.#unlink(link);
    this.#free(link);
    this.#sizes[hash >>> PART_SHIFT] = (this.#sizes[hash >>> PART_SHIFT] ?? 0) - 1;
    this.#closeGap(table, place);
  }

  /** Returns the owner's keys, newest first. */
  listOf(owner: number): readonly KeyText[] {
    const keys: KeyText[] = [];
    for (let link = this.#heads[owner] ?? NONE; link !== NONE; link = this.#next[link] ?? NONE) {
      const key = this.#keys[link];
      if (key !== undefined) keys.push(key);
    }
    return keys;
  }

  /** Removes all keys from the owner and returns them, newest first. */
  clear(owner: number): readonly KeyText[] {
    const keys = this.listOf(owner);
    for (const key of keys) this.detach(key);
    return keys;
  }

  #hashOf(key: KeyText): number {
    if (key !== this.#hashedKey) {
      this.#hashedKey = key;
      this.#hash = hashOf(key, this.#seed);
    }
    return this.#hash;
  }

  #tableOf(hash: number): Int32Array<ArrayBuffer> {
    return this.#tables[hash >>> PART_SHIFT] ?? NO_TABLE;
  }

  /** Returns the position of the key's link in its partition's table, or the empty position where it can be inserted. */
  #find(table: Int32Array, key: KeyText, hash: number): number {
    const mask = table.length - 1;
    let place = spread(hash) & mask;
    for (;;) {
      const link = table[place] ?? NONE;
      if (link === NONE || (this.#hashes[link] === hash && this.#keys[link] === key)) return place;
      place = (place + 1) & mask;
    }
  }

  #newLink(key: KeyText, hash: number): number {
    let link = this.#freeLink;
    if (link === NONE) {
      link = this.#keys.length;
      // The lists grow at different times, because copying a list of a million links needs several ms.
      this.#hashes = withRoom(this.#hashes, link, 0);
      this.#owners = withRoom(this.#owners, link, 1);
      this.#next = withRoom(this.#next, link, 2);
      this.#previous = withRoom(this.#previous, link, 3);
    } else {
      this.#freeLink = this.#next[link] ?? NONE;
    }
    this.#keys[link] = key;
    this.#hashes[link] = hash;
    return link;
  }

  #linkTo(owner: number, link: number): void {
    // These two lists must not grow at the same time as each other or as a list of links. If each owner has one key, there are as many owners as
    // links.
    this.#heads = withRoom(this.#heads, owner, 4, NONE);
    this.#counts = withRoom(this.#counts, owner, 5);
    const head = this.#heads[owner] ?? NONE;
    this.#owners[link] = owner;
    this.#next[link] = head;
    this.#previous[link] = NONE;
    if (head !== NONE) this.#previous[head] = link;
    this.#heads[owner] = link;
    this.#counts[owner] = this.countOf(owner) + 1;
  }

  #unlink(link: number): void {
    const owner = this.#owners[link] ?? 0;
    const next = this.#next[link] ?? NONE;
    const previous = this.#previous[link] ?? NONE;
    if (next !== NONE) this.#previous[next] = previous;
    if (previous === NONE) this.#heads[owner] = next;
    else this.#next[previous] = next;
    this.#counts[owner] = this.countOf(owner) - 1;
  }

  #free(link: number): void {
    this.#keys[link] = undefined;
    this.#next[link] = this.#freeLink;
    this.#freeLink = link;
    this.#size -= 1;
  }

  /** Moves later members of the probe run back into the gap, so that removed keys leave no markers in the table. */
  #closeGap(table: Int32Array, place: number): void {
    const mask = table.length - 1;
    let hole = place;
    let probe = (place + 1) & mask;
    for (;;) {
      const link = table[probe] ?? NONE;
      if (link === NONE) break;
      const home = spread(this.#hashes[link] ?? 0) & mask;
      if (((probe - home) & mask) >= ((probe - hole) & mask)) {
        table[hole] = link;
        hole = probe;
      }
      probe = (probe + 1) & mask;
    }
    table[hole] = NONE;
  }

  /** Returns a table that is twice as large and has the same links. */
  #rehashed(old: Int32Array): Int32Array<ArrayBuffer> {
    const table = new Int32Array(old.length * 2).fill(NONE);
    const mask = table.length - 1;
    // HOT: with an iterator, the first 100,000 keys of a process need 63 ms instead of 49 ms.
    for (let i = 0; i < old.length; i++) {
      const link = old[i] ?? NONE;
      if (link === NONE) continue;
      let place = spread(this.#hashes[link] ?? 0) & mask;
      while (table[place] !== NONE) place = (place + 1) & mask;
      table[place] = link;
    }
    return table;
  }
}

/** Returns the 32-bit FNV-1a hash of the string's code units, starting from a seed. */
function hashOf(key: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < key.length; i += 1) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return hash;
}

/** Mixes the upper bits into the lower ones. FNV's low bits are weak, and the table uses only the low bits. */
function spread(hash: number): number {
  return (hash ^ (hash >>> 15)) >>> 0;
}

/**
 * Returns a list that has room for this index. A list grows by a few sixteenths of its length before it is full. New slots contain `empty`.
 */
function withRoom(from: Int32Array<ArrayBuffer>, index: number, sixteenths: number, empty = 0): Int32Array<ArrayBuffer> {
  let list = from;
  while (index >= list.length - sixteenths * (list.length >>> 4)) {
    const { length } = list;
    const twice = new Int32Array(length * 2);
    twice.set(list);
    list = empty === 0 ? twice : twice.fill(empty, length);
  }
  return list;
}
