/** A copy of the items below a prefix of the control store, kept up to date by a watch. */
import type { StoreChanges } from "../../store/control/store.ts";

export interface CopiedItem<T> {
  readonly version: number;
  /** Undefined if the value is unreadable. */
  readonly value: T | undefined;
  /** Monotonic time (ms) at which this process learned of this version. */
  readonly sinceMs: number;
}

/** A change that the copy has taken. An item is undefined if it did not exist before, or does not exist any more. */
export interface CopyChange<T> {
  readonly key: string;
  readonly before: CopiedItem<T> | undefined;
  readonly after: CopiedItem<T> | undefined;
  readonly revision: number;
}

export class StoreCopy<T> {
  readonly items = new Map<string, CopiedItem<T>>();
  readonly #decode: (bytes: Uint8Array) => T | undefined;
  /** The keys that the watch has reported since it started over. Undefined if it has reported all items. */
  #reported: Set<string> | undefined;
  #isComplete = false;

  constructor(decode: (bytes: Uint8Array) => T | undefined) {
    this.#decode = decode;
  }

  /** Whether the copy has had all items at least once. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Number of items that cannot be read. */
  get unreadableCount(): number {
    return [...this.items.values()].filter(({ value }) => value === undefined).length;
  }

  /** Takes a step of the watch. Returns the changes that are news, in order. */
  take({ isReset, changes, revision, isCurrent }: StoreChanges, monoMs: number): readonly CopyChange<T>[] {
    if (isReset) this.#reported = new Set();
    const taken: CopyChange<T>[] = [];
    for (const { key, version, item } of changes) {
      this.#reported?.add(key);
      const before = this.items.get(key);
      if (before !== undefined && before.version >= version) continue;
      const after = item === undefined ? undefined : { version, value: this.#decode(item.value), sinceMs: monoMs };
      this.#set(key, after);
      if (before !== undefined || after !== undefined) taken.push({ key, before, after, revision: version });
    }
    if (isCurrent && this.#reported !== undefined) taken.push(...this.#removeUnreported(this.#reported, revision));
    if (isCurrent) this.#isComplete = true;
    return taken;
  }

  /** Takes an item that this process has written or read itself, which can be newer than what the watch has reported. */
  note(key: string, version: number, value: T | undefined, monoMs: number): void {
    const known = this.items.get(key);
    if (known === undefined || known.version < version) this.items.set(key, { version, value, sinceMs: monoMs });
  }

  #set(key: string, item: CopiedItem<T> | undefined): void {
    if (item === undefined) this.items.delete(key);
    else this.items.set(key, item);
  }

  /** Removes the items that were removed while the watch was interrupted. Items above `revision` are this process's own, and newer. */
  #removeUnreported(reported: ReadonlySet<string>, revision: number): readonly CopyChange<T>[] {
    this.#reported = undefined;
    const gone = [...this.items].filter(([key, { version }]) => !reported.has(key) && version <= revision);
    for (const [key] of gone) this.items.delete(key);
    return gone.map(([key, before]) => ({ key, before, after: undefined, revision }));
  }
}
