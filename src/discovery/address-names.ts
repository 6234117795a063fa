/** Which entries have a target at an address, for the blocks of addresses that reverse zones of DNS cover. An entry without an address in them costs nothing here. */
import { advertisedTargets } from "../catalog/entry/advertised.ts";
import type { EntryView } from "../catalog/entry/view.ts";
import { KeyShards } from "../catalog/key-shards.ts";
import { type KeyText, nameOfKey } from "../catalog/record/record.ts";
import { type Address, type AddressBlock, blockHolds, parseAddress } from "../lib/addresses.ts";

const NONE: readonly never[] = [];

export class AddressNames {
  readonly #blocks: readonly AddressBlock[];
  /** By address, and where it has several entries by their names. Most have one entry and most entries have one address, which then stand here without a list around them. */
  readonly #keys = new KeyShards<string, KeyText | Map<string, Set<KeyText>>>();
  readonly #addressesOf = new KeyShards<KeyText, string | readonly string[]>();

  constructor(blocks: readonly AddressBlock[]) {
    this.#blocks = blocks;
  }

  /** Keys of the entries at this address, whoever may see them, those of each name together (`nameOfKey`), in no order. */
  *namesAt(address: Address): Generator<readonly [name: string, keys: Iterable<KeyText>]> {
    const keys = this.#keys.get(addressText(address));
    if (typeof keys === "string") yield [nameOfKey(keys), [keys]];
    else if (keys !== undefined) yield* keys;
  }

  /** All addresses here, each as `addressText` gives it. */
  addresses(): Iterable<string> {
    return this.#keys.keys();
  }

  /** Keys of all entries with an address here. */
  keys(): Iterable<KeyText> {
    return this.#addressesOf.keys();
  }

  /** An entry came or changed; without it, it went. `tell` hears the text of each address that it has or had. */
  set(key: KeyText, entry: EntryView | undefined, tell: (address: string) => void): void {
    const before = listOf(this.#addressesOf.get(key));
    const after = entry === undefined ? NONE : this.#addressesIn(entry);
    for (const address of before) {
      tell(address);
      if (!after.includes(address)) this.#remove(address, key);
    }
    for (const address of after) {
      if (before.includes(address)) continue;
      tell(address);
      this.#add(address, key);
    }
    this.#addressesOf.replace(key, after.length > 1 ? after : after[0]);
  }

  #addressesIn(entry: EntryView): readonly string[] {
    const found = new Set<string>();
    for (const { host } of [...entry.targets, ...advertisedTargets(entry)]) {
      const address = parseAddress(host);
      if (address !== undefined && this.#blocks.some((block) => blockHolds(block, address))) found.add(addressText(address));
    }
    return [...found];
  }

  #add(address: string, key: KeyText): void {
    const keys = this.#keys.get(address);
    if (keys === undefined) {
      this.#keys.replace(address, key);
      return;
    }
    const names = typeof keys === "string" ? new Map([[nameOfKey(keys), new Set([keys])]]) : keys;
    if (names !== keys) this.#keys.replace(address, names);
    const name = nameOfKey(key);
    const own = names.get(name);
    if (own === undefined) names.set(name, new Set([key]));
    else own.add(key);
  }

  #remove(address: string, key: KeyText): void {
    const keys = this.#keys.get(address);
    if (keys instanceof Map) {
      const name = nameOfKey(key);
      const own = keys.get(name);
      own?.delete(key);
      if (own?.size === 0) keys.delete(name);
      if (keys.size > 0) return;
    }
    this.#keys.replace(address, undefined);
  }
}

/** An address as short text: a character for each byte. */
export function addressText(address: Address): string {
  return String.fromCharCode(...address);
}

function listOf(addresses: string | readonly string[] | undefined): readonly string[] {
  return addresses === undefined ? NONE : typeof addresses === "string" ? [addresses] : addresses;
}
