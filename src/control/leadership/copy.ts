/** A copy of the items below a prefix of the control store, kept up to date by a watch. */
import type { StoreChange, StoreChanges } from "../../store/control/store.ts";

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

/** All changes of the copy up to one revision of the store, in order. */
export interface CopyStep<T> {
  /** Whether the watch has started over, so that the changes are the differences from the previous items. */
  readonly isReset: boolean;
  readonly changes: readonly CopyChange<T>[];
}

export class StoreCopy<T> {
  readonly items = new Map<string, CopiedItem<T>>();
  readonly #decode: (bytes: Uint8Array, version: number) => T | undefined;
  /** The changes that were reported since the last step with `isCurrent`. Earlier steps can omit items that changed again later. */
  readonly #reported = new Map<string, StoreChange>();
  #isReset = false;
  #revision: number | undefined;

  /** `decode` returns undefined for a value that cannot be read. */
  constructor(decode: (bytes: Uint8Array, version: number) => T | undefined) {
    this.#decode = decode;
  }

  /** The revision of the store that the copy shows. Undefined until it has had all items once. */
  get revision(): number | undefined {
    return this.#revision;
  }

  /** Applies a step of the watch. Returns undefined, and changes nothing, until the watch has reported all changes up to one revision. */
  take({ isReset, changes, revision, isCurrent }: StoreChanges, monoMs: number): CopyStep<T> | undefined {
    if (isReset) this.#reported.clear();
    this.#isReset ||= isReset;
    for (const change of changes) {
      // The newest change of a key decides its place in the order.
      this.#reported.delete(change.key);
      this.#reported.set(change.key, change);
    }
    if (!isCurrent) return undefined;
    if (this.#isReset)
      for (const key of this.items.keys())
        if (!this.#reported.has(key)) this.#reported.set(key, { key, version: revision, item: undefined });
    const reported = [...this.#reported.values()].filter((change) => this.#isReset || !this.#isOlder(change));
    const step = { isReset: this.#isReset, changes: reported.flatMap((change) => this.#apply(change, monoMs)) };
    this.#reported.clear();
    this.#isReset = false;
    this.#revision = revision;
    return step;
  }

  /** Whether the answer to a request has shown a later change of the item. Versions decrease only when the watch starts over. */
  #isOlder({ key, version }: StoreChange): boolean {
    return version < (this.items.get(key)?.version ?? 0);
  }

  #apply({ key, version, item }: StoreChange, monoMs: number): readonly CopyChange<T>[] {
    const before = this.items.get(key);
    const after = item && { version, value: this.#decode(item.value, version), sinceMs: monoMs };
    // After the watch has started over, another item in another store can have the same version.
    if (before?.version === after?.version && JSON.stringify(before?.value) === JSON.stringify(after?.value)) return [];
    if (after === undefined) this.items.delete(key);
    else this.items.set(key, after);
    return [{ key, before, after, revision: version }];
  }
}
