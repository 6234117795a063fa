/**
 * Indexes entries by the addresses of their targets, for the address blocks of DNS reverse zones. An entry without an address in these blocks uses no
 * memory.
 */
import type { EntryView } from "../catalog/entry/view.ts";
import { SortedBlocks } from "../catalog/query/sorted-blocks.ts";
import { type KeyText, nameOfKey } from "../catalog/record/record.ts";
import { advertisedTargets } from "../consumer/hosting.ts";
import { type AddressBlock, blockHolds, type IpAddress, parseAddress } from "../lib/addresses.ts";

/**
 * An entry at an address. Including its positions in both lists, it needs about 80 bytes, which is the total memory cost of a name in a reverse zone.
 */
interface AddressedKey {
  /** The address in `addressText` form. */
  readonly address: string;
  readonly key: KeyText;
}

export class AddressNames {
  readonly #blocks: readonly AddressBlock[];
  /** Items sorted by address, then by key, so that the entries of a name are adjacent. */
  readonly #byAddress = new SortedBlocks<AddressedKey>((a, b) => a.address < b.address || (a.address === b.address && a.key < b.key));
  readonly #byKey = new SortedBlocks<AddressedKey>((a, b) => a.key < b.key || (a.key === b.key && a.address < b.address));

  constructor(blocks: readonly AddressBlock[]) {
    this.#blocks = blocks;
  }

  /** Returns the keys of the entries at this address, whether visible or not, grouped by name (`nameOfKey`), in key order. */
  *namesAt(address: IpAddress): Generator<readonly [name: string, keys: Iterable<KeyText>]> {
    const text = addressText(address);
    let [next] = this.#at(text, "");
    while (next !== undefined) {
      const name = nameOfKey(next.key);
      yield [name, this.#keysOf(text, name)];
      // The caller may read only a few entries of a name, so a search finds the next name without iterating over the remaining entries.
      [next] = this.#at(text, `${name}\u0001`);
    }
  }

  /** Returns all indexed addresses without duplicates, in `addressText` form. */
  *addresses(): Generator<string> {
    let last: string | undefined;
    for (const { address } of this.#byAddress.from(() => true)) {
      if (address !== last) yield address;
      last = address;
    }
  }

  /** Returns the keys of all entries with an indexed address, possibly with duplicates. */
  keys(): readonly KeyText[] {
    return this.#byKey.list().map(({ key }) => key);
  }

  /** Sets an entry, or removes it if `entry` is undefined. Calls `onAddress` with each address that the entry has or had. */
  set(key: KeyText, entry: EntryView | undefined, onAddress: (address: string) => void): void {
    const before = [...this.#of(key)];
    const after = entry === undefined ? new Set<string>() : this.#addressesIn(entry);
    for (const placed of before) {
      onAddress(placed.address);
      // After this loop, `after` contains only the new addresses.
      if (after.delete(placed.address)) continue;
      this.#byAddress.remove(placed);
      this.#byKey.remove(placed);
    }
    for (const address of after) {
      onAddress(address);
      const placed = { address, key };
      this.#byAddress.add(placed);
      this.#byKey.add(placed);
    }
  }

  #addressesIn(entry: EntryView): Set<string> {
    const found = new Set<string>();
    for (const { host } of [...entry.targets, ...advertisedTargets(entry.read("detail"))]) {
      const address = parseAddress(host);
      if (address !== undefined && this.#blocks.some((block) => blockHolds(block, address))) found.add(addressText(address));
    }
    return found;
  }

  /** Returns the items at an address, starting at a key. */
  *#at(address: string, from: string): Generator<AddressedKey> {
    for (const placed of this.#byAddress.from((each) => each.address > address || (each.address === address && each.key >= from))) {
      if (placed.address !== address) return;
      yield placed;
    }
  }

  *#keysOf(address: string, name: string): Generator<KeyText> {
    for (const { key } of this.#at(address, `${name}\0`)) {
      if (!key.startsWith(`${name}\0`)) return;
      yield key;
    }
  }

  *#of(key: KeyText): Generator<AddressedKey> {
    for (const placed of this.#byKey.from((each) => each.key >= key)) {
      if (placed.key !== key) return;
      yield placed;
    }
  }
}

/** Converts an address to a short text with one character per byte. */
export function addressText(address: IpAddress): string {
  return String.fromCharCode(...address);
}
