/** A store without a disk: a synchronous map with revisions, for simulators, and the `Store` over it for `--ephemeral`. */
import { WaymarkError } from "../../lib/errors.ts";
import {
  checkKey,
  checkLimit,
  checkPrefix,
  checkRoom,
  checkValue,
  MAX_PAGE_BYTES,
  MAX_PAGE_ITEMS,
  STORE_BOUNDS,
  type Store,
  type StoreBounds,
  type StoreChange,
  type StoreItem,
  type StorePage,
  type StoreWatch,
  type Swap,
} from "./store.ts";
import { type FoundChanges, mustReset, Watches, type WatchPosition } from "./watches.ts";

interface Page {
  readonly after?: string;
  readonly limit?: number;
}

/** The contract of `Store` with answers at once. */
export class MemoryMap {
  readonly #bounds: StoreBounds;
  /** The newest change of each key, in order of version. */
  readonly #changes = new Map<string, StoreChange>();
  #revision = 0;
  /** Removals up to here are forgotten. */
  #floor = 0;
  #items = 0;
  #totalBytes = 0;

  constructor(bounds: StoreBounds = STORE_BOUNDS) {
    this.#bounds = bounds;
  }

  get revision(): number {
    return this.#revision;
  }

  get(key: string): StoreItem | undefined {
    checkKey(key);
    return this.#changes.get(key)?.item;
  }

  /** Cost: all keys; a control plane has few. */
  list(prefix: string, { after = "", limit = MAX_PAGE_ITEMS }: Page = {}): StorePage {
    checkPrefix(prefix);
    checkLimit(limit);
    const found: StoreItem[] = [];
    for (const { item } of this.#changes.values()) {
      if (item !== undefined && item.key > after && item.key.startsWith(prefix)) found.push(item);
    }
    found.sort((a, b) => (a.key < b.key ? -1 : 1));
    const items = found.slice(0, pageLength(found, limit));
    return { items, revision: this.#revision, nextAfter: items.length < found.length ? items.at(-1)?.key : undefined };
  }

  compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Swap {
    checkKey(key);
    checkValue(key, value);
    const held = this.#changes.get(key)?.item;
    const version = held?.version ?? 0;
    if (version !== expectedVersion) return { isSwapped: false, version };
    if (held === undefined && value === undefined) return { isSwapped: true, version: 0 };
    const freedBytes = held === undefined ? undefined : key.length + held.value.length;
    const use = { items: this.#items, totalBytes: this.#totalBytes };
    if (value !== undefined) checkRoom({ key, value, freedBytes }, use, this.#bounds);
    this.#revision++;
    this.#items += Number(value !== undefined) - Number(held !== undefined);
    this.#totalBytes += (value === undefined ? 0 : key.length + value.length) - (freedBytes ?? 0);
    // Deleted first, so that the map's order is that of the versions.
    this.#changes.delete(key);
    const item = value === undefined ? undefined : { key, value: Uint8Array.from(value), version: this.#revision };
    this.#changes.set(key, { key, version: this.#revision, item });
    this.#forgetRemovals();
    return { isSwapped: true, version: this.#revision };
  }

  /** What a watch has not seen yet, at most a page. Cost: all keys. */
  changesSince(prefix: string, position: WatchPosition): FoundChanges {
    const storeRevision = this.#revision;
    const isReset = mustReset(position, { revision: storeRevision, floor: this.#floor });
    const from = isReset ? 0 : position.afterRevision;
    const found: StoreChange[] = [];
    for (const change of this.#changes.values()) {
      const isNews = !isReset || change.item !== undefined;
      if (change.version > from && isNews && change.key.startsWith(prefix)) found.push(change);
    }
    const length = pageLength(
      found.map(({ item }) => item),
      MAX_PAGE_ITEMS,
    );
    const isCurrent = length === found.length;
    const changes = found.slice(0, length);
    return { isReset, changes, revision: isCurrent ? storeRevision : (changes.at(-1)?.version ?? from), isCurrent, storeRevision };
  }

  #forgetRemovals(): void {
    if (this.#changes.size - this.#items <= this.#bounds.maxRemovals) return;
    for (const [key, { item, version }] of this.#changes) {
      if (item !== undefined) continue;
      this.#changes.delete(key);
      this.#floor = version;
      return;
    }
  }
}

/** How many of the items fit a page: at least one. */
function pageLength(items: readonly (StoreItem | undefined)[], limit: number): number {
  let totalBytes = 0;
  for (const [at, item] of items.slice(0, limit).entries()) {
    totalBytes += item?.value.length ?? 0;
    if (totalBytes > MAX_PAGE_BYTES && at > 0) return at;
  }
  return Math.min(items.length, limit);
}

/** A `Store` that ends with the process. */
export class MemoryStore implements Store {
  readonly #map: MemoryMap;
  readonly #watches: Watches;
  #isClosed = false;

  constructor(map: MemoryMap = new MemoryMap()) {
    this.#map = map;
    this.#watches = new Watches((prefix, position) => this.#answer(() => map.changesSince(prefix, position)));
  }

  get(key: string): Promise<StoreItem | undefined> {
    return this.#answer(() => this.#map.get(key));
  }

  list(prefix: string, page: Page = {}): Promise<StorePage> {
    return this.#answer(() => this.#map.list(prefix, page));
  }

  compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<Swap> {
    return this.#answer(() => {
      const swap = this.#map.compareAndSwap(key, expectedVersion, value);
      if (swap.isSwapped) this.#watches.changed();
      return swap;
    });
  }

  watch(prefix: string, fromRevision: number): StoreWatch {
    checkPrefix(prefix);
    return this.#watches.open(prefix, fromRevision);
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#watches.closeAll();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #answer<T>(ask: () => T): Promise<T> {
    if (this.#isClosed) return Promise.reject(new WaymarkError("store_unavailable", "the store is closed"));
    return Promise.try(ask);
  }
}
