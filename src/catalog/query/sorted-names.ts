/**
 * Names in order, in blocks: into one long list each new name would move all that come after it, which with 200,000 of them took 90 ms for the
 * 660 names of one frame.
 */

/** Names a block holds at most. */
const BLOCK_SIZE = 512;

export class SortedNames {
  /** At least one, and none but the only one empty. */
  readonly #blocks: string[][] = [[]];

  /** It must not be there yet. */
  add(name: string): void {
    const at = this.#blockOf(name);
    const block = this.#blocks[at] ?? [];
    block.splice(nameIndex(block, name), 0, name);
    if (block.length > BLOCK_SIZE) this.#blocks.splice(at + 1, 0, block.splice(BLOCK_SIZE >>> 1));
  }

  /** It must be there. */
  remove(name: string): void {
    const at = this.#blockOf(name);
    const block = this.#blocks[at] ?? [];
    block.splice(nameIndex(block, name), 1);
    if (!this.#join(at)) this.#join(at - 1);
  }

  /** Those from a name on; valid until one is added or removed. */
  *from(first: string): Generator<string> {
    for (let at = this.#blockOf(first); at < this.#blocks.length; at++) {
      const block = this.#blocks[at] ?? [];
      for (let i = nameIndex(block, first); i < block.length; i++) yield block[i] ?? "";
    }
  }

  /** All of them, as a copy. */
  list(): readonly string[] {
    return this.#blocks.flat();
  }

  /** Makes one of a block and the next, where that is short: the number of blocks follows that of the names. */
  #join(at: number): boolean {
    const [first, second] = [this.#blocks[at], this.#blocks[at + 1]];
    if (first === undefined || second === undefined) return false;
    if (first.length > 0 && second.length > 0 && first.length + second.length > BLOCK_SIZE >>> 1) return false;
    this.#blocks.splice(at, 2, [...first, ...second]);
    return true;
  }

  /** The last block that begins at or before the name. */
  #blockOf(name: string): number {
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const [first = ""] = this.#blocks[middle] ?? [];
      if (first <= name) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Index of the first name ≥ `name` in a sorted list, in code-unit order. */
export function nameIndex(names: readonly string[], name: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((names[middle] ?? "") < name) low = middle + 1;
    else high = middle;
  }
  return low;
}
