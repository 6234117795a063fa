/**
 * Token buckets that threads share, as exact as the buckets of a single thread (`token-bucket.ts`). They are in shared memory, in a table of 64-bit
 * slots. Each slot has 24 bits for the key's hash and 40 bits for the time at which the bucket is full. A slot is changed as a whole, by
 * compare-and-exchange. A thread tries again if another thread has changed the slot in the meantime. Therefore, a thread never waits for another
 * thread, and a thread that ends does not leave an incomplete change.
 *
 * A key can be in any of the eight slots of its group. A new key uses the slot that was full the earliest. This loses nothing if one of the eight is
 * full now. Otherwise, the bucket that is nearest to full is dropped. It is treated as full when its key is used again. Two threads that add the same
 * new key at the same moment choose the same slot, because times only increase. Therefore, one of them tries again and finds the other thread's slot.
 * Times decrease only when a token is returned or when a bucket that is not full is dropped. If a key gets two slots at such a moment, the slot with
 * fewer tokens is used.
 */
import type { Hash64 } from "../hash64.ts";
import { type HashKey, keyedHash } from "./keyed-hash.ts";
import type { BucketOptions, KeyedBuckets } from "./token-bucket.ts";

export interface SharedBucketsOptions extends BucketOptions {
  /** The memory that `bucketTable` returned for the same `maxKeys`. */
  readonly table: SharedArrayBuffer;
  /** The hash key, which is the same in all threads. */
  readonly hashKey: HashKey;
  /** The offset from this thread's monotonic ms to a clock that is shared by all threads. */
  readonly originMs: number;
}

const GROUP_SLOTS = 8;
/**
 * Minimum number of slots per stored key. While there are at most `maxKeys` keys, fewer than one key in a thousand finds its group full. Two keys in
 * the same group share a bucket with a probability of one in 16 million.
 */
const SLOTS_A_KEY = 4;
/**
 * Times are stored modulo this number, in units of at most a sixteenth of a millisecond. The span is two years if refilling a token needs a millisecond or
 * more.
 */
const SPAN = 2 ** 40;
const UNITS_A_MS = 16;
/**
 * A bucket is full at most one window after the most recent time. A caller may pass times from up to two windows ago, and the clocks of threads
 * differ slightly.
 */
const MAX_AHEAD_WINDOWS = 4;

/** Allocates memory for the buckets of this many keys. Initially, all buckets are full. */
export function bucketTable(maxKeys: number): SharedArrayBuffer {
  const slotCount = 2 ** Math.ceil(Math.log2(Math.max(GROUP_SLOTS, maxKeys * SLOTS_A_KEY)));
  return new SharedArrayBuffer(slotCount * BigInt64Array.BYTES_PER_ELEMENT);
}

export class SharedBuckets implements KeyedBuckets {
  readonly #hashKey: HashKey;
  readonly #originMs: number;
  readonly #slots: BigInt64Array;
  /**
   * The same slots. The first half of each slot contains the lower 32 bits of the time. The second half contains 24 bits of the hash, followed by the
   * upper 8 bits of the time.
   */
  readonly #halves: Int32Array;
  readonly #groupMask: number;
  /** The interval is a whole number of units, so that no sum of intervals is rounded. */
  readonly #intervalUnits: number;
  readonly #windowUnits: number;
  readonly #unitMs: number;
  /** The slot as it was read and its new value. HOT: arithmetic with 64-bit numbers is slow, so they are only copied. */
  readonly #change = new BigInt64Array(2);
  readonly #changeHalves = new Int32Array(this.#change.buffer);
  /** The result of `#look`: the slot of the key, or the slot that the key may use, and the time until that slot is full. */
  #slot = 0;
  #isFound = false;
  #aheadUnits = 0;
  /** The time of the last `take`. */
  #nowUnits = 0;

  constructor({ table, hashKey, originMs, limit, windowMs }: SharedBucketsOptions) {
    this.#hashKey = hashKey;
    this.#originMs = originMs;
    this.#slots = new BigInt64Array(table);
    this.#halves = new Int32Array(table);
    this.#groupMask = this.#slots.length / GROUP_SLOTS - 1;
    this.#intervalUnits = Math.ceil((windowMs / limit) * UNITS_A_MS);
    this.#windowUnits = limit * this.#intervalUnits;
    this.#unitMs = windowMs / this.#windowUnits;
  }

  get size(): number {
    return this.#slots.reduce((count, slot) => (slot === 0n ? count : count + 1), 0);
  }

  // HOT: runs for each rate-limited call if threads share the limits.
  take(key: string, monoMs: number): number {
    const hash = keyedHash(key, this.#hashKey);
    this.#nowUnits = Math.round((monoMs + this.#originMs) / this.#unitMs);
    do {
      this.#look(hash);
      this.#aheadUnits = this.#isFound ? Math.max(this.#aheadUnits, 0) : 0;
      const waitUnits = this.#aheadUnits + this.#intervalUnits - this.#windowUnits;
      // Rounding can change the window by a fraction of a unit.
      if (waitUnits > 1e-6 * this.#windowUnits) return waitUnits * this.#unitMs;
    } while (!this.#write(hash, this.#aheadUnits + this.#intervalUnits));
    return 0;
  }

  giveBack(key: string): void {
    const hash = keyedHash(key, this.#hashKey);
    do {
      this.#look(hash);
      if (!this.#isFound) return;
    } while (!this.#write(hash, this.#aheadUnits - this.#intervalUnits));
  }

  /**
   * Finds the slot of a key or, if there is none, the slot that was full the earliest. It reads each slot's time before its hash. The algorithm for
   * two threads depends on this order.
   */
  #look(hash: Hash64): void {
    const tag = tagOf(hash);
    const first = (hash.low & this.#groupMask) * GROUP_SLOTS;
    this.#isFound = false;
    this.#aheadUnits = Infinity;
    for (let slot = first; slot < first + GROUP_SLOTS; slot += 1) {
      const low = Atomics.load(this.#halves, 2 * slot);
      const high = Atomics.load(this.#halves, 2 * slot + 1);
      const isKeys = high >>> 8 === tag;
      if (!isKeys && this.#isFound) continue;
      const aheadUnits = this.#aheadOf(low, high);
      const isBetter = isKeys ? !this.#isFound || aheadUnits > this.#aheadUnits : aheadUnits < this.#aheadUnits;
      if (!isBetter) continue;
      this.#slot = slot;
      this.#isFound = isKeys;
      this.#aheadUnits = aheadUnits;
      this.#changeHalves[0] = low;
      this.#changeHalves[1] = high;
    }
  }

  /** Time until a slot is full, which is below 0 if it is full now. A time far in the future belongs to the previous span. */
  #aheadOf(low: number, high: number): number {
    if (high === 0 && low === 0) return -SPAN;
    const aheadUnits = modulo((high & 0xff) * 2 ** 32 + (low >>> 0) - this.#nowUnits);
    return aheadUnits > MAX_AHEAD_WINDOWS * this.#windowUnits ? aheadUnits - SPAN : aheadUnits;
  }

  /** Changes the slot that was found, unless another thread has changed it. */
  #write(hash: Hash64, aheadUnits: number): boolean {
    const time = modulo(this.#nowUnits + aheadUnits);
    this.#changeHalves[2] = time;
    this.#changeHalves[3] = (tagOf(hash) << 8) | Math.floor(time / 2 ** 32);
    const seen = this.#change[0] ?? 0n;
    return Atomics.compareExchange(this.#slots, this.#slot, seen, this.#change[1] ?? 0n) === seen;
  }
}

/** The part of a hash that is stored. It is never 0, because 0 marks slots that have never been used. */
function tagOf(hash: Hash64): number {
  return hash.high >>> 8 || 1;
}

function modulo(units: number): number {
  return units - Math.floor(units / SPAN) * SPAN;
}
