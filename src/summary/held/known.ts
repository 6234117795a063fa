/** What is known of each key of a source: the version that counts, and its tag. Kept in few bytes, because there are many keys. */
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

interface Block {
  readonly versions: Float64Array;
  readonly tags: BigUint64Array;
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
    const block = this.#blocks[at] ?? { versions: new Float64Array(BLOCK), tags: new BigUint64Array(BLOCK) };
    this.#blocks[at] = block;
    block.versions[place % BLOCK] = version;
    block.tags[place % BLOCK] = tag;
  }

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
