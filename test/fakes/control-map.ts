/** What a control store answers, in a map and at once: the disk of the simulator's nodes, and of tests that run tasks without waiting. */
import {
  checkKey,
  checkPrefix,
  checkTransaction,
  MAX_PAGE_ITEMS,
  type StoreCondition,
  type StoreItem,
  type StorePage,
  type StoreWrite,
  type SwapResult,
  swapResult,
  type TransactResult,
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

  transact(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): TransactResult {
    checkTransaction(conditions, changes);
    const found = conditions.map(({ key }) => this.#versionOf(key));
    if (conditions.some(({ version }, at) => version !== found[at]))
      return { isCommitted: false, revision: this.#revision, versions: found };
    const versions = changes.map((change) => this.#write(change));
    return { isCommitted: true, revision: this.#revision, versions };
  }

  compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): SwapResult {
    return swapResult(this.transact([{ key, version: expectedVersion }], [{ key, value }]));
  }

  #versionOf(key: string): number {
    return this.#items.get(key)?.version ?? 0;
  }

  #write({ key, value }: StoreWrite): number {
    if (value === undefined && !this.#items.delete(key)) return 0;
    this.#revision++;
    if (value !== undefined) this.#items.set(key, { key, value: Uint8Array.from(value), version: this.#revision });
    return this.#revision;
  }
}
