/**
 * A sorted list in blocks without spare capacity. In one long list, each new item would move all items after it: with 200,000 names, adding
 * the 660 names of one frame took 90 ms.
 */
import { firstIndex } from "../../lib/bisect.ts";
import { assert } from "../../lib/errors.ts";

/**
 * Maximum number of items in a block. A block is copied whenever it changes, because an array that grows in place has a third more
 * capacity than it needs.
 */
const BLOCK_SIZE = 64;

export class SortedBlocks<T extends object | string | number> {
  readonly #isBefore: (a: T, b: T) => boolean;
  /** There is at least one block, and only a single block may be empty. */
  readonly #blocks: T[][] = [[]];

  /** `isBefore` is a strict order, in which no two items of the list are equal. `items` are the initial items, in order. */
  constructor(isBefore: (a: T, b: T) => boolean, items: readonly T[] = []) {
    this.#isBefore = isBefore;
    for (let at = 0; at < items.length; at += BLOCK_SIZE) this.#blocks[at / BLOCK_SIZE] = items.slice(at, at + BLOCK_SIZE);
  }

  /** Adds an item that is not in the list yet. */
  add(item: T): void {
    const { at, index } = this.#placeOf((other) => !this.#isBefore(other, item));
    const block = this.#block(at);
    if (index === BLOCK_SIZE && at === this.#blocks.length - 1) {
      // If items arrive in order, every block is filled. Splitting blocks in half would leave all of them half empty.
      this.#blocks.push([item]);
      return;
    }
    const grown = block.toSpliced(index, 0, item);
    if (grown.length <= BLOCK_SIZE) this.#blocks[at] = grown;
    else this.#blocks.splice(at, 1, grown.slice(0, grown.length >>> 1), grown.slice(grown.length >>> 1));
  }

  /** Removes an item from the list. `item` must be the stored object itself. */
  remove(item: T): void {
    const { at, index } = this.#find(item);
    this.#blocks[at] = this.#block(at).toSpliced(index, 1);
    if (!this.#join(at)) this.#join(at - 1);
  }

  /** Replaces an item in the list. HOT: usually the new item has the same neighbours, and nothing is moved or copied. */
  replace(item: T, next: T): void {
    const { at, index } = this.#find(item);
    const block = this.#block(at);
    const before = index === 0 ? this.#block(at - 1).at(-1) : block[index - 1];
    const after = block[index + 1] ?? this.#block(at + 1)[0];
    if ((before === undefined || this.#isBefore(before, next)) && (after === undefined || this.#isBefore(next, after))) {
      block[index] = next;
      return;
    }
    this.remove(item);
    this.add(next);
  }

  /**
   * Returns the items in order, starting with the first that `isReached` accepts. If `isReached` accepts an item, it must also accept all items after
   * it. The iteration is valid until the list changes.
   */
  *from(isReached: (item: T) => boolean): Generator<T> {
    const start = this.#placeOf(isReached);
    for (let { at, index } = start; at < this.#blocks.length; at++, index = 0) {
      const block = this.#block(at);
      for (let i = index; i < block.length; i++) {
        const item = block[i];
        if (item !== undefined) yield item;
      }
    }
  }

  /** Returns the first item that `isReached` accepts. If `isReached` accepts an item, it must also accept all items after it. */
  first(isReached: (item: T) => boolean): T | undefined {
    const { at, index } = this.#placeOf(isReached);
    return this.#block(at)[index] ?? this.#block(at + 1)[0];
  }

  /** Returns the last item that `isReached` does not accept. */
  before(isReached: (item: T) => boolean): T | undefined {
    const { at, index } = this.#placeOf(isReached);
    return this.#block(at)[index - 1];
  }

  /** Returns a copy of all items. */
  list(): readonly T[] {
    return this.#blocks.flat();
  }

  #block(at: number): T[] {
    return this.#blocks[at] ?? [];
  }

  #find(item: T): { readonly at: number; readonly index: number } {
    const place = this.#placeOf((other) => !this.#isBefore(other, item));
    const isAtEnd = place.index === this.#block(place.at).length;
    const found = isAtEnd ? { at: place.at + 1, index: 0 } : place;
    assert(this.#block(found.at)[found.index] === item, "the item to remove is not at its position in the list", found);
    return found;
  }

  /** Returns the position before all items that `isReached` accepts. This position may be the end of a block instead of the start of the next one. */
  #placeOf(isReached: (item: T) => boolean): { readonly at: number; readonly index: number } {
    const accepts = (item: T | undefined) => item === undefined || isReached(item);
    const at = Math.max(0, firstIndex(this.#blocks.length, (each) => accepts(this.#block(each)[0])) - 1);
    const block = this.#block(at);
    return { at, index: firstIndex(block.length, (each) => accepts(block[each])) };
  }

  /** Merges a block with the next one if both are short, so that the number of blocks remains proportional to the number of items. */
  #join(at: number): boolean {
    const [first, second] = [this.#blocks[at], this.#blocks[at + 1]];
    if (first === undefined || second === undefined) return false;
    if (first.length > 0 && second.length > 0 && first.length + second.length > BLOCK_SIZE >>> 1) return false;
    this.#blocks.splice(at, 2, first.concat(second));
    return true;
  }
}

// Names in code-unit order.

export class SortedNames {
  readonly #names = new SortedBlocks<string>((a, b) => a < b);

  /** Adds a name that is not in the list yet. */
  add(name: string): void {
    this.#names.add(name);
  }

  /** Removes a name that is in the list. */
  remove(name: string): void {
    this.#names.remove(name);
  }

  /** Returns all names from a given name onwards. The iteration is valid until a name is added or removed. */
  from(first: string): Generator<string> {
    return this.#names.from((name) => name >= first);
  }

  /** Returns a copy of all names. */
  list(): readonly string[] {
    return this.#names.list();
  }
}

/** Returns the index of the first name ≥ `name` in a sorted list, in code-unit order. */
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

// DNS names, sorted by comparing their characters from the end. In this order, a name is followed by all names below it. All names must be in the
// form that `plainName` returns.

const DOT = 0x2e;

/**
 * Whether a name comes before another name. HOT: runs about twenty times for each registered alias, and for each query that needs a search plan.
 */
export function isEndBefore(a: string, b: string): boolean {
  const [aLength, bLength] = [a.length, b.length];
  const shared = Math.min(aLength, bLength);
  for (let back = 1; back <= shared; back++) {
    const [aCode, bCode] = [a.charCodeAt(aLength - back), b.charCodeAt(bLength - back)];
    if (aCode === bCode) continue;
    // No character sorts before a dot, so no other name is between a name and the names below it.
    return aCode === DOT || (bCode !== DOT && aCode < bCode);
  }
  return aLength < bLength;
}

export function isAtOrBelow(name: string, suffix: string): boolean {
  return name.endsWith(suffix) && (name.length === suffix.length || name.charCodeAt(name.length - suffix.length - 1) === DOT);
}

/** Returns the name and all names above it, that is, each suffix that starts at a label. */
export function* suffixesOf(name: string): Generator<string> {
  for (let at = 0; ; ) {
    yield name.slice(at);
    const dot = name.indexOf(".", at);
    if (dot < 0) return;
    at = dot + 1;
  }
}
