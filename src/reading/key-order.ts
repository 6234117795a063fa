/** Members in the order of their keys, from which the next after a key is found at once when it is asked for in turn. */

export interface Keyed {
  readonly key: string;
}

/** A full block is split in two. */
const BLOCK_SIZE = 256;

/** Put and remove cost O(log n) and moving one block; `after` costs O(1) in turn, else O(log n). Keys are unique. */
export class KeyOrder<M extends Keyed> {
  // Sorted blocks in order. Only the block of an empty order is empty.
  readonly #blocks: M[][] = [[]];
  #size = 0;
  /** The place of the key that `after` was asked for last. Its member may have moved since. */
  #block = 0;
  #index = 0;

  get size(): number {
    return this.#size;
  }

  /** Adds a member whose key is not there. */
  put(member: M): void {
    const at = this.#blockOf(member.key);
    const block = this.#blocks[at] ?? [];
    block.splice(indexIn(block, member.key), 0, member);
    this.#size += 1;
    if (block.length > BLOCK_SIZE) this.#blocks.splice(at + 1, 0, block.splice(BLOCK_SIZE >>> 1));
  }

  /** Removes the member, if it is there. */
  remove(member: M): void {
    const at = this.#blockOf(member.key);
    const block = this.#blocks[at] ?? [];
    const index = indexIn(block, member.key);
    if (block[index] !== member) return;
    block.splice(index, 1);
    this.#size -= 1;
    if (block.length === 0 && this.#blocks.length > 1) this.#blocks.splice(at, 1);
  }

  /** The member with the next higher key, after the last one the first. Undefined if there are none. */
  after(key: string): M | undefined {
    // HOT: once a choice in turn, mostly for the key asked for before or the one found then. A search among 100,000 keys takes longer than a
    // choice may (bench/choose.ts).
    if (this.#keyAt(this.#block, this.#index) !== key) {
      if (this.#keyAt(this.#block, this.#index + 1) === key) this.#index += 1;
      else this.#seek(key);
    }
    const block = this.#blocks[this.#block];
    if (this.#index + 1 < (block?.length ?? 0)) return block?.[this.#index + 1];
    return this.#blocks[this.#block + 1]?.[0] ?? this.#blocks[0]?.[0];
  }

  /** The member with the highest key. */
  last(): M | undefined {
    return this.#blocks[this.#blocks.length - 1]?.at(-1);
  }

  /** The member at an index in key order. Cost: the number of blocks. */
  at(index: number): M | undefined {
    let left = index;
    for (const block of this.#blocks) {
      if (left < block.length) return block[left];
      left -= block.length;
    }
    return undefined;
  }

  #keyAt(block: number, index: number): string | undefined {
    return this.#blocks[block]?.[index]?.key;
  }

  /** Finds the last member with a key ≤ `key`. Its index is -1 if there is none. */
  #seek(key: string): void {
    this.#block = this.#blockOf(key);
    const block = this.#blocks[this.#block] ?? [];
    const index = indexIn(block, key);
    this.#index = block[index]?.key === key ? index : index - 1;
  }

  /** The last block that starts at or before the key, else the first. */
  #blockOf(key: string): number {
    let [low, high] = [0, this.#blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const first = this.#blocks[middle]?.[0];
      if (first !== undefined && first.key <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Index of the first member with a key ≥ `key`. */
function indexIn(block: readonly Keyed[], key: string): number {
  let [low, high] = [0, block.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const member = block[middle];
    if (member !== undefined && member.key < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
