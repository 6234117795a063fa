/**
 * Many keys, spread over maps of their own: a map that grows is made anew, which for half a million keys holds a turn for 30 ms
 * (semantics.md, Watch 11).
 */

const SHARDS = 64;
/** A map of so many is made anew in no time. */
const MAX_FEW = 1024;
const NONE: readonly never[] = [];
/** Letters at the end of a key that decide on its shard. */
const HASHED_LETTERS = 24;

/** Below `SHARDS`. */
export function shardOf(key: string): number {
  let hash = 0;
  for (let i = Math.max(0, key.length - HASHED_LETTERS); i < key.length; i++) hash = (hash * 31 + key.charCodeAt(i)) | 0;
  return (hash >>> 8) % SHARDS;
}

/** A map of keys; one map as long as they are few. */
export class KeyShards<K extends string, V> {
  #few: Map<K, V> | undefined = new Map<K, V>();
  #shards: readonly Map<K, V>[] = NONE;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  // HOT: at every change of a record. Mostly nothing is in it.
  get(key: K): V | undefined {
    return this.#size === 0 ? undefined : this.#mapOf(key)?.get(key);
  }

  /** Without a value it is taken out. */
  // HOT: at every change of a record.
  replace(key: K, value: V | undefined): void {
    if (value === undefined && this.#size === 0) return;
    const map = this.#mapOf(key);
    if (map === undefined) return;
    this.#size -= map.size;
    if (value === undefined) map.delete(key);
    else map.set(key, value);
    this.#size += map.size;
    if (this.#few !== undefined && this.#size > MAX_FEW) this.#spread(this.#few);
  }

  /** In no order. */
  *keys(): Generator<K> {
    if (this.#few !== undefined) yield* this.#few.keys();
    for (const shard of this.#shards) yield* shard.keys();
  }

  #mapOf(key: K): Map<K, V> | undefined {
    return this.#few ?? this.#shards[shardOf(key)];
  }

  #spread(few: Map<K, V>): void {
    this.#shards = Array.from({ length: SHARDS }, () => new Map<K, V>());
    for (const [key, value] of few) this.#shards[shardOf(key)]?.set(key, value);
    this.#few = undefined;
  }
}
