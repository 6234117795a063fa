/** What a control store answers, in a map and at once: the disk of the simulator's nodes, and of tests that run tasks without waiting. */
import {
  checkKey,
  checkPrefix,
  checkValue,
  MAX_PAGE_ITEMS,
  type StoreItem,
  type StorePage,
  type SwapResult,
} from "../../src/store/control/store.ts";

export class ControlMap {
  readonly #items = new Map<string, StoreItem>();
  #revision = 0;

  get(key: string): StoreItem | undefined {
    checkKey(key);
    return this.#items.get(key);
  }

  list(prefix: string, { after = "", limit = MAX_PAGE_ITEMS } = {}): StorePage {
    checkPrefix(prefix);
    const found = [...this.#items.values()].filter(({ key }) => key > after && key.startsWith(prefix));
    found.sort((a, b) => (a.key < b.key ? -1 : 1));
    const items = found.slice(0, limit);
    return { items, revision: this.#revision, nextAfter: items.length < found.length ? items.at(-1)?.key : undefined };
  }

  compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): SwapResult {
    checkKey(key);
    checkValue(key, value);
    const version = this.#items.get(key)?.version ?? 0;
    if (version !== expectedVersion) return { isSwapped: false, version };
    if (version === 0 && value === undefined) return { isSwapped: true, version: 0 };
    this.#revision++;
    if (value === undefined) this.#items.delete(key);
    else this.#items.set(key, { key, value: Uint8Array.from(value), version: this.#revision });
    return { isSwapped: true, version: this.#revision };
  }
}
