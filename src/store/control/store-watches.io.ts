/**
 * Watches of a store that only this process changes. Each watch reads all items, page by page, and keeps the changes that the store reports meanwhile and
 * later. A watch that must keep too many changes starts over.
 */
import { assert, WaymarkError } from "../../lib/errors.ts";
import { changesOf, PendingChanges } from "./pending-changes.ts";
import type { ControlStore, StoreChange, StoreChanges, StoreWatch } from "./store.ts";

/** The open watches of one store. */
export class StoreWatches {
  readonly #list: ControlStore["list"];
  readonly #open = new Set<OpenStoreWatch>();

  constructor(list: ControlStore["list"]) {
    this.#list = list;
  }

  open(prefix: string): StoreWatch {
    const watch = new OpenStoreWatch(this.#list, prefix, () => this.#open.delete(watch));
    this.#open.add(watch);
    return watch;
  }

  /** Must be called with the changes of every transaction, before the answer to any later request is used. */
  changed(changes: readonly StoreChange[]): void {
    for (const watch of this.#open) watch.changed(changes);
  }

  closeAll(): void {
    for (const watch of this.#open) watch.close();
  }
}

class OpenStoreWatch implements StoreWatch {
  readonly #list: ControlStore["list"];
  readonly #prefix: string;
  readonly #onClose: () => void;
  /** The next page of items, after a key. Undefined if all items have been read. */
  #page: { readonly after: string } | undefined = { after: "" };
  /** The revision of the last page. */
  #revision = 0;
  readonly #pending = new PendingChanges();
  #wake: (() => void) | undefined;
  #isBusy = false;
  #isClosed = false;

  constructor(list: ControlStore["list"], prefix: string, onClose: () => void) {
    this.#list = list;
    this.#prefix = prefix;
    this.#onClose = onClose;
  }

  async next(): Promise<StoreChanges | undefined> {
    assert(!this.#isBusy, "next() was called on a watch before its previous call ended", { prefix: this.#prefix });
    this.#isBusy = true;
    try {
      let found: StoreChanges | undefined;
      while (!this.#isClosed && found === undefined) found = await this.#step();
      return this.#isClosed ? undefined : found;
    } catch (error) {
      // The store was closed, and the watch was closed with it. All other errors are passed to the reader.
      if (this.#isClosed && error instanceof WaymarkError) return undefined;
      throw error;
    } finally {
      this.#isBusy = false;
    }
  }

  changed(changes: readonly StoreChange[]): void {
    for (const change of changes) if (change.key.startsWith(this.#prefix)) this.#pending.add(change);
    if (this.#pending.isAboveBounds) {
      this.#pending.clear();
      this.#page = { after: "" };
    }
    this.#wake?.();
  }

  close(): void {
    this.#isClosed = true;
    this.#onClose();
    this.#wake?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Returns the next changes. Undefined if another step must follow. */
  async #step(): Promise<StoreChanges | undefined> {
    if (this.#page !== undefined) return this.#read(this.#page);
    const found = this.#pending.take(Number.POSITIVE_INFINITY);
    if (found !== undefined) return { ...found, revision: Math.max(found.revision, this.#revision) };
    return new Promise((resolve) => {
      this.#wake = () => resolve(undefined);
    });
  }

  async #read(page: { readonly after: string }): Promise<StoreChanges | undefined> {
    const { items, revision, nextAfter } = await this.#list(this.#prefix, page);
    // The watch has started over meanwhile.
    if (this.#page !== page) return undefined;
    this.#page = nextAfter === undefined ? undefined : { after: nextAfter };
    this.#revision = revision;
    // This page and the later pages show these changes.
    this.#pending.dropAfter(page.after, revision);
    const isCurrent = nextAfter === undefined && this.#pending.isEmpty;
    return { isReset: page.after === "", changes: changesOf(items), revision, isCurrent };
  }
}
