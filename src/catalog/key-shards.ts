/**
 * Many keys, spread over maps of their own: a map that grows is made anew, which for half a million keys holds a turn for 30 ms
 * (semantics.md, Watch 11).
 */

const SHARDS = 64;
/** Letters at the end of a key that decide on its shard. */
const HASHED_LETTERS = 24;

/** Below `SHARDS`. */
export function shardOf(key: string): number {
  let hash = 0;
  for (let i = Math.max(0, key.length - HASHED_LETTERS); i < key.length; i++) hash = (hash * 31 + key.charCodeAt(i)) | 0;
  return (hash >>> 8) % SHARDS;
}

/** A map of keys. */
export class KeyShards<K extends string, V> {
  readonly #shards: readonly Map<K, V>[] = Array.from({ length: SHARDS }, () => new Map<K, V>());
  #size = 0;

  // HOT: at every change of a record. Mostly nothing is in it.
  get(key: K): V | undefined {
    return this.#size === 0 ? undefined : this.#shards[shardOf(key)]?.get(key);
  }

  /** Without a value it is taken out. */
  // HOT: at every change of a record.
  replace(key: K, value: V | undefined): void {
    if (value === undefined && this.#size === 0) return;
    const shard = this.#shards[shardOf(key)];
    if (shard === undefined) return;
    this.#size -= shard.size;
    if (value === undefined) shard.delete(key);
    else shard.set(key, value);
    this.#size += shard.size;
  }
}
