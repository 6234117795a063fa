/** A `Store` without a disk, for `--ephemeral`: it ends with the process. */
import { WaymarkError } from "../../lib/errors.ts";
import {
  checkKey,
  checkLimit,
  checkPrefix,
  checkRoom,
  checkValue,
  MAX_PAGE_BYTES,
  MAX_PAGE_ITEMS,
  type PageRequest,
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

export class MemoryStore implements Store {
  readonly #bounds: StoreBounds;
  readonly #watches: Watches;
  /** The newest change of each key, in order of version. */
  readonly #changes = new Map<string, StoreChange>();
  #revision = 0;
  /** Removals up to this revision are forgotten. */
  #floor = 0;
  #items = 0;
  #totalBytes = 0;
  #isClosed = false;

  constructor(bounds: StoreBounds = STORE_BOUNDS) {
    this.#bounds = bounds;
    this.#watches = new Watches((prefix, position) => this.#answer(() => this.#changesSince(prefix, position)));
  }

  get(key: string): Promise<StoreItem | undefined> {
    return this.#answer(() => {
      checkKey(key);
      return this.#changes.get(key)?.item;
    });
  }

  /** Cost: all keys; a control plane has few. */
  list(prefix: string, { after = "", limit = MAX_PAGE_ITEMS }: PageRequest = {}): Promise<StorePage> {
    return this.#answer(() => {
      checkPrefix(prefix);
      checkLimit(limit);
      const found: StoreItem[] = [];
      for (const { item } of this.#changes.values()) {
        if (item !== undefined && item.key > after && item.key.startsWith(prefix)) found.push(item);
      }
      found.sort((a, b) => (a.key < b.key ? -1 : 1));
      const items = found.slice(0, pageLength(found, limit));
      return { items, revision: this.#revision, nextAfter: items.length < found.length ? items.at(-1)?.key : undefined };
    });
  }

  compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<Swap> {
    return this.#answer(() => {
      checkKey(key);
      checkValue(key, value);
      const swap = this.#swap(key, expectedVersion, value);
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

  #swap(key: string, expectedVersion: number, value: Uint8Array | undefined): Swap {
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

  /** At most a page of the changes that a watch has not seen yet. Cost: all keys. */
  #changesSince(prefix: string, position: WatchPosition): FoundChanges {
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

/** How many of the items fit a page: at least one, if there is any. */
function pageLength(items: readonly (StoreItem | undefined)[], limit: number): number {
  let totalBytes = 0;
  for (const [at, item] of items.slice(0, limit).entries()) {
    totalBytes += item?.value.length ?? 0;
    if (totalBytes > MAX_PAGE_BYTES && at > 0) return at;
  }
  return Math.min(items.length, limit);
}
