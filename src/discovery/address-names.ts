/** Which entries have a target at an address, for the blocks of addresses that reverse zones of DNS cover. An entry without an address in them costs nothing here. */
import type { EntryView } from "../catalog/entry/view.ts";
import { SortedBlocks } from "../catalog/query/sorted-blocks.ts";
import { type KeyText, nameOfKey } from "../catalog/record/record.ts";
import { advertisedTargets } from "../consumer/hosting.ts";
import { type AddressBlock, blockHolds, type IpAddress, parseAddress } from "../lib/addresses.ts";

/** An entry at an address. With its places in both lists it takes some 80 bytes, which is the whole cost of a name in a reverse zone. */
interface AddressedKey {
  /** As `addressText` gives it. */
  readonly address: string;
  readonly key: KeyText;
}

export class AddressNames {
  readonly #blocks: readonly AddressBlock[];
  /** By address, and those of one address in key order, so that the entries of a name stand together. */
  readonly #byAddress = new SortedBlocks<AddressedKey>((a, b) => a.address < b.address || (a.address === b.address && a.key < b.key));
  readonly #byKey = new SortedBlocks<AddressedKey>((a, b) => a.key < b.key || (a.key === b.key && a.address < b.address));

  constructor(blocks: readonly AddressBlock[]) {
    this.#blocks = blocks;
  }

  /** Keys of the entries at this address, whoever may see them, those of each name together (`nameOfKey`), in key order. */
  *namesAt(address: IpAddress): Generator<readonly [name: string, keys: Iterable<KeyText>]> {
    const text = addressText(address);
    let [next] = this.#at(text, "");
    while (next !== undefined) {
      const name = nameOfKey(next.key);
      yield [name, this.#keysOf(text, name)];
      // Whoever asks may look at few of the entries of a name, and the others are not walked either.
      [next] = this.#at(text, `${name}\u0001`);
    }
  }

  /** All addresses here, each as `addressText` gives it. */
  *addresses(): Generator<string> {
    let last: string | undefined;
    for (const { address } of this.#byAddress.from(() => true)) {
      if (address !== last) yield address;
      last = address;
    }
  }

  /** A list of the keys of all entries with an address here, some more than once. */
  keys(): readonly KeyText[] {
    return this.#byKey.list().map(({ key }) => key);
  }

  /** An entry came or changed; without it, it went. `tell` hears the text of each address that it has or had. */
  set(key: KeyText, entry: EntryView | undefined, tell: (address: string) => void): void {
    const before = [...this.#of(key)];
    const after = entry === undefined ? new Set<string>() : this.#addressesIn(entry);
    for (const placed of before) {
      tell(placed.address);
      // What it keeps is all that is left of these.
      if (after.delete(placed.address)) continue;
      this.#byAddress.remove(placed);
      this.#byKey.remove(placed);
    }
    for (const address of after) {
      tell(address);
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

  /** What is at an address, from a key on. */
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

/** An address as short text: a character for each byte. */
export function addressText(address: IpAddress): string {
  return String.fromCharCode(...address);
}
