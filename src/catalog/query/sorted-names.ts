/** Names in code-unit order. */
import { SortedBlocks } from "./sorted-blocks.ts";

export class SortedNames {
  readonly #names = new SortedBlocks<string>((a, b) => a < b);

  /** Adds a name that is not there yet. */
  add(name: string): void {
    this.#names.add(name);
  }

  /** Removes a name that is there. */
  remove(name: string): void {
    this.#names.remove(name);
  }

  /** The names from a given one on. Valid until a name is added or removed. */
  from(first: string): Generator<string> {
    return this.#names.from((name) => name >= first);
  }

  /** A copy of all names. */
  list(): readonly string[] {
    return this.#names.list();
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
