/** Members in key order, with a cursor that moves from one member to the next and stays valid while others are added and removed. */
import { firstIndex } from "../lib/bisect.ts";
import { assert } from "../lib/errors.ts";

export interface Keyed {
  readonly key: string;
}

/** A full block is split in two. */
const BLOCK_SIZE = 256;
const HALF = BLOCK_SIZE >>> 1;

/** Members in key order. Put and remove cost O(log n) plus moving one block, and moving the cursor by one member costs O(1). Keys are unique. */
export class KeyOrder<M extends Keyed> {
  // Sorted blocks in order. There is an empty block only if there are no members.
  readonly #blocks: M[][] = [[]];
  #size = 0;
  // The cursor is on member `#index` of `#block`, which is block number `#number`. The index is -1 if the cursor is before all members.
  #block: M[];
  #number = 0;
  #index = -1;

  constructor() {
    this.#block = this.#blockAt(0);
  }

  get size(): number {
    return this.#size;
  }

  /** Whether the cursor is on the last member. */
  get isAtEnd(): boolean {
    return this.#number === this.#blocks.length - 1 && this.#index === this.#block.length - 1;
  }

  /** Adds a member with a new key. */
  put(member: M): void {
    const number = this.#numberOf(member.key);
    const block = this.#blockAt(number);
    const index = indexIn(block, member.key);
    block.splice(index, 0, member);
    this.#size += 1;
    if (number === this.#number && index <= this.#index) this.#index += 1;
    if (block.length <= BLOCK_SIZE) return;
    this.#blocks.splice(number + 1, 0, block.splice(HALF));
    if (number === this.#number && this.#index >= HALF) this.#move(number + 1, this.#index - HALF);
    else if (number < this.#number) this.#move(this.#number + 1, this.#index);
  }

  /** Removes the member, if it exists. */
  remove(member: M): void {
    const number = this.#numberOf(member.key);
    const block = this.#blockAt(number);
    const index = indexIn(block, member.key);
    if (block[index] !== member) return;
    block.splice(index, 1);
    this.#size -= 1;
    if (number === this.#number && index <= this.#index) this.#move(number, this.#index - 1);
    if (block.length > 0 || this.#blocks.length === 1) return;
    this.#blocks.splice(number, 1);
    // The cursor is in the removed block only if it is before all members.
    if (number < this.#number) this.#move(this.#number - 1, this.#index);
    else if (number === this.#number) this.#move(0, -1);
  }

  /**
   * Moves the cursor to the next member, or from the last member to the first. Returns undefined if there are none. HOT: runs once per round-robin
   * choice (bench/resolve.ts).
   */
  next(): M | undefined {
    if (this.#index + 1 < this.#block.length) this.#index += 1;
    else this.#move(this.#number + 1 < this.#blocks.length ? this.#number + 1 : 0, 0);
    return this.#block[this.#index];
  }

  /** The member at the cursor. Undefined if the cursor is before the first member. */
  current(): M | undefined {
    return this.#block[this.#index];
  }

  /** The member to which `next` would move. */
  peek(): M | undefined {
    return this.#block[this.#index + 1] ?? this.#blocks[this.#number + 1]?.[0] ?? this.#blocks[0]?.[0];
  }

  /** Moves the cursor so that the member with this index in key order is next. Cost: one step per block. */
  placeBefore(index: number): void {
    let left = index;
    let number = 0;
    for (; number < this.#blocks.length - 1 && left >= this.#blockAt(number).length; number++) left -= this.#blockAt(number).length;
    this.#move(number, left - 1);
  }

  /** Moves the cursor so that the member with the next higher key is next, or the first member if there is no higher key. */
  placeAfter(key: string): void {
    const number = this.#numberOf(key);
    const block = this.#blockAt(number);
    const index = indexIn(block, key);
    this.#move(number, block[index]?.key === key ? index : index - 1);
  }

  /**
   * A position before all members of a block is stored as the last member of the previous block, so that a member added in between is next.
   */
  #move(number: number, index: number): void {
    const isBefore = index === -1 && number > 0;
    this.#number = isBefore ? number - 1 : number;
    this.#block = this.#blockAt(this.#number);
    this.#index = isBefore ? this.#block.length - 1 : index;
  }

  #blockAt(number: number): M[] {
    const block = this.#blocks[number];
    assert(block !== undefined, "the key order has no block with this number", { number });
    return block;
  }

  /** The last block that starts at or before the key, or the first block. */
  #numberOf(key: string): number {
    // The last block is checked first, because snapshots and lists add their members in key order.
    const last = this.#blocks.length - 1;
    if ((this.#blocks[last]?.[0]?.key ?? "") <= key) return last;
    return Math.max(0, firstIndex(this.#blocks.length, (number) => (this.#blocks[number]?.[0]?.key ?? "") > key) - 1);
  }
}

/** Index of the first member with a key ≥ `key`. */
function indexIn(block: readonly Keyed[], key: string): number {
  if ((block.at(-1)?.key ?? "") < key) return block.length;
  return firstIndex(block.length, (index) => (block[index]?.key ?? "") >= key);
}
