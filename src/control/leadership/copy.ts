/** A copy of the items below a prefix of the control store, kept up to date by a watch. */
import type { StoreChanges } from "../../store/control/store.ts";

export interface CopiedItem<T> {
  readonly version: number;
  /** Undefined if the value is unreadable. */
  readonly value: T | undefined;
  /** Monotonic time (ms) at which this process learned of this version. */
  readonly sinceMs: number;
}

/** A change that the copy has made. An item is undefined if it did not exist before, or does not exist any more. */
export interface CopyChange<T> {
  readonly key: string;
  readonly before: CopiedItem<T> | undefined;
  readonly after: CopiedItem<T> | undefined;
  readonly revision: number;
}

export class StoreCopy<T> {
  readonly items = new Map<string, CopiedItem<T>>();
  readonly #decode: (bytes: Uint8Array) => T | undefined;
  /** The items that the watch has reported since it started over. Undefined if it has reported all items. */
  #reported: Map<string, CopiedItem<T>> | undefined;
  #revision = 0;
  #isComplete = false;

  constructor(decode: (bytes: Uint8Array) => T | undefined) {
    this.#decode = decode;
  }

  /** Whether the copy has had all items at least once. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** The revision of the store up to which the copy has all changes. */
  get revision(): number {
    return this.#revision;
  }

  /** Applies a step of the watch. Returns the new changes, in order. While the watch starts over, there are none until it has reported all items. */
  take({ isReset, changes, revision, isCurrent }: StoreChanges, monoMs: number): readonly CopyChange<T>[] {
    if (isReset) this.#reported = new Map();
    const taken: CopyChange<T>[] = [];
    for (const { key, version, item } of changes) {
      const after = item === undefined ? undefined : { version, value: this.#decode(item.value), sinceMs: monoMs };
      const before = this.items.get(key);
      if (this.#reported !== undefined) setItem(this.#reported, key, after);
      else if (before === undefined || before.version < version) {
        setItem(this.items, key, after);
        if (before !== undefined || after !== undefined) taken.push({ key, before, after, revision: version });
      }
    }
    // An earlier step omits items that changed again later.
    if (isCurrent) {
      if (this.#reported !== undefined) taken.push(...this.#startOver(this.#reported, revision));
      this.#revision = revision;
    }
    return taken;
  }

  /** Adds an item that this process has written or read itself, which can be newer than the items that the watch has reported. */
  note(key: string, { version, value, sinceMs }: CopiedItem<T>): void {
    const known = this.items.get(key);
    if (known === undefined || known.version < version) this.items.set(key, { version, value, sinceMs });
  }

  /**
   * Replaces all items by those that the watch has reported. Only items above `revision`, which are this process's own, are newer. If `revision` is
   * lower than before, the store was restored from a backup, and no item is newer.
   */
  #startOver(reported: ReadonlyMap<string, CopiedItem<T>>, revision: number): readonly CopyChange<T>[] {
    const keptRevision = revision < this.#revision ? Number.POSITIVE_INFINITY : revision;
    const taken: CopyChange<T>[] = [];
    for (const [key, after] of reported) {
      const before = this.items.get(key);
      if (before?.version === after.version || (before !== undefined && before.version > keptRevision)) continue;
      this.items.set(key, after);
      taken.push({ key, before, after, revision: after.version });
    }
    for (const [key, before] of this.items)
      if (!reported.has(key) && before.version <= keptRevision) {
        this.items.delete(key);
        taken.push({ key, before, after: undefined, revision });
      }
    this.#reported = undefined;
    this.#isComplete = true;
    return taken;
  }
}

function setItem<T>(items: Map<string, T>, key: string, item: T | undefined): void {
  if (item === undefined) items.delete(key);
  else items.set(key, item);
}
