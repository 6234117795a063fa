/** The `ControlStore` of several nodes: keys in etcd (version 3.4 or later), below one prefix. */
import {
  type ControlStore,
  checkKey,
  checkLimit,
  checkPrefix,
  checkTransaction,
  MAX_PAGE_ITEMS,
  type StoreCondition,
  type StoreItem,
  type StorePage,
  type StorePageRequest,
  type StoreWatch,
  type StoreWrite,
  type SwapResult,
  type TransactResult,
} from "../control/store.ts";
import { EtcdClient, type EtcdOptions, ifWithoutHistory } from "./client.io.ts";
import { ETCD_METHODS } from "./codec.ts";
import { EtcdWatch } from "./watch.io.ts";

/** Maximum size of a value. etcd refuses requests above 1.5 MiB by default. */
export const MAX_ETCD_VALUE_BYTES = 1024 * 1024;

/**
 * Opens the store without connecting to etcd, so that a node can start while etcd is down. Requests connect when necessary, and then also read the
 * files that the options name.
 */
export function openEtcdStore(options: EtcdOptions): ControlStore {
  return new EtcdStore(new EtcdClient(options));
}

class EtcdStore implements ControlStore {
  readonly #client: EtcdClient;
  readonly #watches = new Set<EtcdWatch>();

  constructor(client: EtcdClient) {
    this.#client = client;
  }

  async get(key: string): Promise<StoreItem | undefined> {
    checkKey(key);
    const { codec } = this.#client;
    return codec.readItem(await this.#client.call(ETCD_METHODS.range, codec.itemRequest(key)));
  }

  async list(prefix: string, { after = "", limit = MAX_PAGE_ITEMS }: StorePageRequest = {}): Promise<StorePage> {
    checkPrefix(prefix);
    checkLimit(limit);
    const { items, revision, nextAfter } = await this.#client.page(prefix, { after, limit, revision: 0 });
    return { items, revision, nextAfter };
  }

  async transact(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): Promise<TransactResult> {
    checkTransaction(conditions, changes, MAX_ETCD_VALUE_BYTES);
    const { codec } = this.#client;
    return codec.readTransact(await this.#client.call(ETCD_METHODS.transact, codec.transactRequest(conditions, changes)));
  }

  async compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<SwapResult> {
    const { isCommitted, versions } = await this.transact([{ key, version: expectedVersion }], [{ key, value }]);
    return { isSwapped: isCommitted, version: versions[0] ?? 0 };
  }

  watch(prefix: string): StoreWatch {
    checkPrefix(prefix);
    const watch = new EtcdWatch(this.#client, prefix, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    return watch;
  }

  async compact(revision: number): Promise<void> {
    await this.#client.call(ETCD_METHODS.compact, this.#client.codec.compactRequest(revision)).catch(ifWithoutHistory);
  }

  close(): Promise<void> {
    for (const watch of this.#watches) watch.close();
    return this.#client.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
