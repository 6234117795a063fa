/** A control store in memory that several machines share: transactions, watches in pages, compaction, and restoring an earlier state. */
import type { StoreChange, StoreChanges, StoreCondition, StoreWrite, TransactResult } from "../../src/store/control/store.ts";

/** The position up to which a watch has read. */
export interface WatchPosition {
  /** All changes up to this revision have been returned. */
  readonly afterRevision: number;
  /** The reader does not need removals up to this revision. Undefined before the first changes are returned. */
  readonly completeTo: number | undefined;
}

export const WATCH_START: WatchPosition = { afterRevision: 0, completeTo: undefined };

/** The state of a store at one point in time. */
export interface StoreState {
  readonly revision: number;
  /** The newest change of each key. */
  readonly changes: ReadonlyMap<string, StoreChange>;
}

export class SharedStore {
  #changes = new Map<string, StoreChange>();
  /** All removals up to this revision are forgotten. */
  #floor = 0;
  revision = 0;
  restoreCount = 0;

  versionOf(key: string): number {
    const change = this.#changes.get(key);
    return change?.item === undefined ? 0 : change.version;
  }

  valueOf(key: string): Uint8Array | undefined {
    return this.#changes.get(key)?.item?.value;
  }

  /** The keys of the items with a prefix. */
  keys(prefix: string): readonly string[] {
    return [...this.#changes.keys()].filter((key) => key.startsWith(prefix) && this.versionOf(key) > 0).toSorted();
  }

  transact(conditions: readonly StoreCondition[], writes: readonly StoreWrite[]): TransactResult {
    const found = conditions.map(({ key }) => this.versionOf(key));
    if (conditions.some(({ version }, at) => version !== found[at]))
      return { isCommitted: false, revision: this.revision, versions: found };
    return { isCommitted: true, versions: this.write(writes), revision: this.revision };
  }

  /** Each change has its own revision, as in SQLite. */
  protected write(writes: readonly StoreWrite[]): readonly number[] {
    return writes.map(({ key, value }) => this.put(key, value));
  }

  /** Puts or removes an item. Returns the version of the change. */
  put(key: string, value: Uint8Array | undefined, version = this.revision + 1): number {
    if (value === undefined && this.versionOf(key) === 0) return 0;
    this.revision = version;
    this.#changes.set(key, { key, version, item: value && { key, value, version } });
    return version;
  }

  /** The next step of a watch, with at most `limit` changes, and its position afterwards. Undefined if there are no changes. */
  read(
    prefix: string,
    position: WatchPosition,
    limit = 1000,
  ): { readonly step: StoreChanges; readonly position: WatchPosition } | undefined {
    const isForgotten = position.completeTo === undefined || position.completeTo < this.#floor;
    const isReset = isForgotten || position.afterRevision > this.revision;
    const afterRevision = isReset ? 0 : position.afterRevision;
    const completeTo = isReset ? this.revision : (position.completeTo ?? 0);
    const found = [...this.#changes.values()]
      .filter(({ key, version, item }) => key.startsWith(prefix) && version > afterRevision && (item !== undefined || version > completeTo))
      .toSorted((a, b) => a.version - b.version);
    if (!isReset && found.length === 0) return undefined;
    const changes = found.slice(0, limit);
    const isCurrent = changes.length === found.length;
    const revision = isCurrent ? this.revision : (changes.at(-1)?.version ?? 0);
    return {
      step: { isReset, changes, revision, isCurrent },
      position: { afterRevision: revision, completeTo: Math.max(completeTo, revision) },
    };
  }

  /** Forgets the removals up to a revision, so that watches that are behind it start over. Does nothing for a revision that it has not reached. */
  compact(revision: number): void {
    if (revision <= this.revision) this.#floor = Math.max(this.#floor, revision);
  }

  get state(): StoreState {
    return { revision: this.revision, changes: new Map(this.#changes) };
  }

  /** Restores an earlier state, as from a backup. All watches must start over. */
  restore({ revision, changes }: StoreState): void {
    this.restoreCount += 1;
    this.revision = revision;
    this.#changes = new Map(changes);
    this.#floor = revision;
  }
}
