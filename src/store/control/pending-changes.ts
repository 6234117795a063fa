/** The changes that a watch has not reported yet. */
import { MAX_PAGE_ITEMS, MAX_TRANSACTION_ITEMS, type StoreChange, type StoreChanges, type StoreItem } from "./store.ts";

const MAX_PENDING_ITEMS = MAX_PAGE_ITEMS;
const MAX_PENDING_BYTES = 4 * 1024 * 1024;
/** A step can have more changes, so that its last transaction is complete. */
const STEP_ITEMS = MAX_PAGE_ITEMS - MAX_TRANSACTION_ITEMS;

export class PendingChanges {
  /** The newest change of each key, by version. */
  readonly #newest = new Map<string, StoreChange>();
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#newest.size === 0;
  }

  get isAboveBounds(): boolean {
    return this.#newest.size > MAX_PENDING_ITEMS || this.#bytes > MAX_PENDING_BYTES;
  }

  /** Adds a change that is newer than all others. */
  add(change: StoreChange): void {
    this.#drop(this.#newest.get(change.key));
    this.#newest.set(change.key, change);
    this.#bytes += sizeBytes(change);
  }

  /** Drops the changes of the keys after `after`, up to a revision. */
  dropAfter(after: string, revision: number): void {
    for (const change of this.#newest.values()) if (change.key > after && change.version <= revision) this.#drop(change);
  }

  clear(): void {
    this.#newest.clear();
    this.#bytes = 0;
  }

  /** Removes the next changes up to a revision, and returns them. Returns undefined if there are none. */
  take(revision: number): StoreChanges | undefined {
    const changes: StoreChange[] = [];
    for (const change of this.#newest.values()) {
      const last = changes.at(-1);
      if (change.version > revision || (changes.length >= STEP_ITEMS && change.version !== last?.version)) break;
      changes.push(change);
    }
    for (const change of changes) this.#drop(change);
    const last = changes.at(-1);
    return last && { isReset: false, changes, revision: last.version, isCurrent: this.isEmpty };
  }

  #drop(change: StoreChange | undefined): void {
    if (change === undefined) return;
    this.#newest.delete(change.key);
    this.#bytes -= sizeBytes(change);
  }
}

/** The items of a page as changes, ordered by version. */
export function changesOf(items: readonly StoreItem[]): readonly StoreChange[] {
  return items.map((item) => ({ key: item.key, version: item.version, item })).toSorted((a, b) => a.version - b.version);
}

function sizeBytes({ key, item }: StoreChange): number {
  return key.length + (item?.value.length ?? 0);
}
