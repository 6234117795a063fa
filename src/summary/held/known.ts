/** What is known of each key of a source: the version that counts, its tag, and the number of its last change. Kept in few bytes, because there are many keys. */
import { SortedBlocks } from "../../catalog/query/sorted-blocks.ts";
import type { KeyText } from "../../catalog/record/record.ts";

export interface Fact {
  /** Of the live summary; below 0 that of a withdrawal, or of what is dropped; 0 while nothing of it is proven. */
  readonly version: number;
  /** Of that version; 0 while nothing is proven. */
  readonly tag: bigint;
}

/** A fact, and the number of the last change of its key (`Changes`); 0 while it has none. */
export interface Row extends Fact {
  readonly order: number;
}

export const NOTHING: Fact = { version: 0, tag: 0n };
/** Keys for which room is made at once. */
const BLOCK = 256;
/** Changes until numbers need more room: seven weeks of 1,000 a second. */
const MAX_UINT32 = 2 ** 32 - 1;

interface Block {
  /** Undefined at places that are free. */
  readonly keys: (KeyText | undefined)[];
  readonly versions: Float64Array;
  readonly tags: BigUint64Array;
  /** Undefined where nobody reads changes. */
  orders: Uint32Array | Float64Array | undefined;
}

export class Known {
  readonly #blocks: Block[] = [];
  /** The places of the keys, in the order of the keys. With the keys in the blocks it takes 17 bytes a key. A map took 28 to 56, by how full it was. */
  readonly #places = new SortedBlocks<number>((a, b) => this.#keyAt(a) < this.#keyAt(b));
  readonly #free: number[] = [];
  #size = 0;
  /** The key that was asked for last, and its place. HOT: a change asks for its key several times in a row. */
  #soughtKey: KeyText | undefined;
  #sought: number | undefined;

  get size(): number {
    return this.#size;
  }

  get(key: KeyText): Fact | undefined {
    const place = this.#placeOf(key);
    return place === undefined ? undefined : this.#at(place);
  }

  set(key: KeyText, { version, tag }: Fact): void {
    const place = this.#placeOf(key) ?? this.#add(key);
    const block = this.#blocks[place >>> 8];
    if (block === undefined) return;
    block.versions[place % BLOCK] = version;
    block.tags[place % BLOCK] = tag;
  }

  #add(key: KeyText): number {
    const place = this.#free.pop() ?? this.#size;
    const block = (this.#blocks[place >>> 8] ??= {
      keys: new Array<KeyText | undefined>(BLOCK).fill(undefined),
      versions: new Float64Array(BLOCK),
      tags: new BigUint64Array(BLOCK),
      orders: undefined,
    });
    block.keys[place % BLOCK] = key;
    this.#places.add(place);
    this.#size += 1;
    this.#sought = place;
    return place;
  }

  /** The number of the last change of a key (`Changes`); 0 while it has none. */
  orderOf(key: KeyText): number {
    const place = this.#placeOf(key);
    return place === undefined ? 0 : (this.#blocks[place >>> 8]?.orders?.[place % BLOCK] ?? 0);
  }

  /** Of a key that is known. */
  setOrder(key: KeyText, order: number): void {
    const place = this.#placeOf(key) ?? -1;
    const block = this.#blocks[place >>> 8];
    if (block === undefined) return;
    block.orders ??= new Uint32Array(BLOCK);
    if (order > MAX_UINT32) block.orders = Float64Array.from(block.orders);
    block.orders[place % BLOCK] = order;
  }

  /** The key has no number any more. */
  delete(key: KeyText): void {
    const place = this.#placeOf(key);
    const block = place === undefined ? undefined : this.#blocks[place >>> 8];
    if (place === undefined || block === undefined) return;
    this.#places.remove(place);
    block.keys[place % BLOCK] = undefined;
    if (block.orders !== undefined) block.orders[place % BLOCK] = 0;
    this.#sought = undefined;
    this.#size -= 1;
    this.#free.push(place);
    if (this.#size > 0) return;
    this.#blocks.length = 0;
    this.#free.length = 0;
  }

  /** In no order. What is added meanwhile may be passed over. */
  *keys(): Generator<KeyText, void> {
    for (const [key] of this.entries()) yield key;
  }

  /** As `keys`. */
  *entries(): Generator<readonly [KeyText, Row], undefined> {
    for (let place = 0; place < this.#blocks.length * BLOCK; place++) {
      const key = this.#blocks[place >>> 8]?.keys[place % BLOCK];
      if (key !== undefined) yield [key, this.#at(place)];
    }
    return undefined;
  }

  #placeOf(key: KeyText): number | undefined {
    if (key === this.#soughtKey) return this.#sought;
    const place = this.#places.first((each) => this.#keyAt(each) >= key);
    this.#soughtKey = key;
    this.#sought = place !== undefined && this.#keyAt(place) === key ? place : undefined;
    return this.#sought;
  }

  /** Of a place that is taken. */
  #keyAt(place: number): string {
    return this.#blocks[place >>> 8]?.keys[place % BLOCK] ?? "";
  }

  #at(place: number): Row {
    const block = this.#blocks[place >>> 8];
    const at = place % BLOCK;
    return { version: block?.versions[at] ?? 0, tag: block?.tags[at] ?? 0n, order: block?.orders?.[at] ?? 0 };
  }
}
