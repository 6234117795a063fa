/** Watches of a store. Each watch has a revision, and reads later changes when its reader requests them. */
import { assert, WaymarkError } from "../../lib/errors.ts";
import type { StoreChanges, StoreWatch } from "./store.ts";

/** The position up to which a watch has read. */
export interface WatchPosition {
  /** All changes up to this revision have been returned. */
  readonly afterRevision: number;
  /**
   * The reader does not need removals up to this revision. If the store has forgotten any later removal, the watch must start over. Undefined before
   * the first changes are returned. While pages are read after a reset, this revision is higher than `afterRevision`.
   */
  readonly completeTo: number | undefined;
}

/** The changes that a store finds for a watch, at most one page. */
export interface FoundChanges extends StoreChanges {
  /** The store's revision at the time of the read. */
  readonly storeRevision: number;
}

/** Whether a watch at `position` must start over in a store that has forgotten the removals up to `floor`. */
export function mustReset(
  { afterRevision, completeTo }: WatchPosition,
  { revision, floor }: { readonly revision: number; readonly floor: number },
): boolean {
  return completeTo === undefined || completeTo < floor || afterRevision > revision;
}

type ReadChanges = (prefix: string, position: WatchPosition) => Promise<FoundChanges>;

/** The open watches of one store. */
export class StoreWatches {
  readonly #read: ReadChanges;
  readonly #open = new Set<OpenStoreWatch>();

  constructor(read: ReadChanges) {
    this.#read = read;
  }

  open(prefix: string, fromRevision: number): StoreWatch {
    const watch = new OpenStoreWatch(this.#read, { prefix, fromRevision, onClose: () => this.#open.delete(watch) });
    this.#open.add(watch);
    return watch;
  }

  /** Wakes the watches. Must be called after every change. */
  changed(): void {
    for (const watch of this.#open) watch.wake();
  }

  closeAll(): void {
    for (const watch of this.#open) watch.close();
  }
}

class OpenStoreWatch implements StoreWatch {
  readonly #read: ReadChanges;
  readonly #prefix: string;
  readonly #onClose: () => void;
  #position: WatchPosition;
  #isBusy = false;
  #isClosed = false;
  /** The number of wake-ups, so that a wake-up during a read is not lost. */
  #wakes = 0;
  #sleeper: (() => void) | undefined;

  constructor(read: ReadChanges, options: { readonly prefix: string; readonly fromRevision: number; readonly onClose: () => void }) {
    this.#read = read;
    this.#prefix = options.prefix;
    const { fromRevision } = options;
    this.#position = { afterRevision: fromRevision, completeTo: fromRevision === 0 ? undefined : fromRevision };
    this.#onClose = options.onClose;
  }

  next(): Promise<StoreChanges | undefined> {
    assert(!this.#isBusy, "next() was called on a watch before its previous call ended", { prefix: this.#prefix });
    this.#isBusy = true;
    return this.#pull().finally(() => {
      this.#isBusy = false;
    });
  }

  wake(): void {
    this.#wakes++;
    this.#sleeper?.();
    this.#sleeper = undefined;
  }

  close(): void {
    this.#isClosed = true;
    this.#onClose();
    this.wake();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #pull(): Promise<StoreChanges | undefined> {
    if (this.#isClosed) return Promise.resolve(undefined);
    const wakesBefore = this.#wakes;
    return this.#read(this.#prefix, this.#position).then(
      (found) => this.#take(found, wakesBefore),
      (error: unknown) => {
        // The store was closed, and the watch was closed with it. All other errors are passed to the reader.
        if (this.#isClosed && error instanceof WaymarkError) return undefined;
        throw error;
      },
    );
  }

  #take(found: FoundChanges, wakesBefore: number): StoreChanges | Promise<StoreChanges | undefined> | undefined {
    if (this.#isClosed) return undefined;
    const { isReset, changes, revision, isCurrent, storeRevision } = found;
    // The position advances even if nothing was found, so that changes under other prefixes are not read again.
    const completeTo = isReset ? storeRevision : Math.max(this.#position.completeTo ?? 0, revision);
    this.#position = { afterRevision: revision, completeTo };
    if (isReset || changes.length > 0) return { isReset, changes, revision, isCurrent };
    if (this.#wakes !== wakesBefore) return this.#pull();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#sleeper = resolve;
    return promise.then(() => this.#pull());
  }
}
