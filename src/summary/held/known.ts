/** What is known of each key of a source: the version that counts, its tag, and the number of its last change. Kept in few bytes, because there are many keys. */
import type { KeyText } from "../../catalog/record/record.ts";

export interface Fact {
  /** Of the live summary; below 0 that of a withdrawal, or of what is dropped; 0 while nothing of it is proven. */
  readonly version: number;
  /** Of that version; 0 while nothing is proven. */
  readonly tag: bigint;
}

export const NOTHING: Fact = { version: 0, tag: 0n };
/** Keys for which room is made at once. */
const BLOCK = 256;
/** Changes until numbers need more room: seven weeks of 1,000 a second. */
const MAX_UINT32 = 2 ** 32 - 1;

interface Block {
  readonly versions: Float64Array;
  readonly tags: BigUint64Array;
  /** Undefined where nobody reads changes. */
  orders: Uint32Array | Float64Array | undefined;
}

export class Known {
  readonly #places = new Map<KeyText, number>();
  readonly #blocks: Block[] = [];
  readonly #free: number[] = [];

  get size(): number {
    return this.#places.size;
  }

  get(key: KeyText): Fact | undefined {
    const place = this.#places.get(key);
    return place === undefined ? undefined : this.#at(place);
  }

  set(key: KeyText, { version, tag }: Fact): void {
    const place = this.#places.get(key) ?? this.#free.pop() ?? this.#places.size;
    this.#places.set(key, place);
    const at = place >>> 8;
    const block = this.#blocks[at] ?? { versions: new Float64Array(BLOCK), tags: new BigUint64Array(BLOCK), orders: undefined };
    this.#blocks[at] = block;
    block.versions[place % BLOCK] = version;
    block.tags[place % BLOCK] = tag;
  }

  /** The number of the last change of a key (`Changes`); 0 while it has none. */
  orderOf(key: KeyText): number {
    const place = this.#places.get(key);
    return place === undefined ? 0 : (this.#blocks[place >>> 8]?.orders?.[place % BLOCK] ?? 0);
  }

  /** Of a key that is known. */
  setOrder(key: KeyText, order: number): void {
    const place = this.#places.get(key) ?? -1;
    const block = this.#blocks[place >>> 8];
    if (block === undefined) return;
    block.orders ??= new Uint32Array(BLOCK);
    if (order > MAX_UINT32) block.orders = Float64Array.from(block.orders);
    block.orders[place % BLOCK] = order;
  }

  /** The key has no number any more. */
  delete(key: KeyText): void {
    const place = this.#places.get(key);
    if (place === undefined) return;
    this.#places.delete(key);
    this.#free.push(place);
    if (this.#places.size > 0) return;
    this.#blocks.length = 0;
    this.#free.length = 0;
  }

  keys(): IterableIterator<KeyText> {
    return this.#places.keys();
  }

  *entries(): Generator<readonly [KeyText, Fact], undefined> {
    for (const [key, place] of this.#places) yield [key, this.#at(place)];
    return undefined;
  }

  #at(place: number): Fact {
    const block = this.#blocks[place >>> 8];
    return block === undefined ? NOTHING : { version: block.versions[place % BLOCK] ?? 0, tag: block.tags[place % BLOCK] ?? 0n };
  }
}
