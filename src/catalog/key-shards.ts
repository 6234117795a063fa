/**
 * Spreads a large number of keys over several maps. A map is copied when it grows. With half a million keys, the copy blocks the event loop for 30 ms
 * (semantics.md, Watch 11).
 */

const SHARDS = 64;
/**
 * Number of maps used when there are many keys. If there were a map for every possible shard, the tables for 100,000 keys would be small enough for
 * V8's young generation, which copies each of them twice. Those copies added 4 % to the cost of a registration.
 */
const MAPS = 16;
/** Maximum size of a single map. A map of this size is copied quickly. */
const MAX_FEW = 1024;
const NONE: readonly never[] = [];
/** Number of characters at the end of a key from which its shard is computed. */
const HASHED_LETTERS = 24;

/** Returns the shard of a key, a number below `SHARDS`. */
export function shardOf(key: string): number {
  let hash = 0;
  for (let i = Math.max(0, key.length - HASHED_LETTERS); i < key.length; i++) hash = (hash * 31 + key.charCodeAt(i)) | 0;
  return (hash >>> 8) % SHARDS;
}

/** A map of keys. Only one map is used while there are few keys. */
export class KeyShards<K extends string, V extends object | number | string | true> {
  #few: Map<K, V> | undefined = new Map<K, V>();
  #maps: readonly Map<K, V>[] = NONE;
  #size = 0;
  /**
   * The last requested key, its map, and its value. HOT: one registration looks up its key up to nine times in a row (benchmark `versions`, keys that
   * come and go).
   */
  #soughtKey: K | undefined;
  #soughtMap: Map<K, V> | undefined;
  #sought: V | undefined;

  get size(): number {
    return this.#size;
  }

  // HOT: runs for every change of a record. The map usually contains no more than a few keys.
  get(key: K): V | undefined {
    if (this.#size === 0) return undefined;
    this.#seek(key);
    return this.#sought;
  }

  /** Sets the value of a key. An undefined value removes the key. */
  // HOT: runs for every change of a record.
  replace(key: K, value: V | undefined): void {
    if (value === undefined && this.#size === 0) return;
    this.#seek(key);
    const before = this.#sought;
    if (value === before) return;
    this.#sought = value;
    if (value === undefined) this.#soughtMap?.delete(key);
    else this.#soughtMap?.set(key, value);
    this.#size += (value === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
    if (this.#few !== undefined && this.#size > MAX_FEW) this.#spread(this.#few);
  }

  #seek(key: K): void {
    if (key === this.#soughtKey) return;
    this.#soughtKey = key;
    this.#soughtMap = this.#few ?? this.#maps[shardOf(key) % MAPS];
    this.#sought = this.#soughtMap?.get(key);
  }

  /** Returns all keys, in no particular order. */
  *keys(): Generator<K> {
    if (this.#few !== undefined) yield* this.#few.keys();
    for (const map of this.#maps) yield* map.keys();
  }

  #spread(few: Map<K, V>): void {
    this.#maps = Array.from({ length: MAPS }, () => new Map<K, V>());
    for (const [key, value] of few) this.#maps[shardOf(key) % MAPS]?.set(key, value);
    this.#few = undefined;
    this.#soughtKey = undefined;
  }
}
