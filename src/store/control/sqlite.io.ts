/** The `Store` of one node: an SQLite file in the data directory, owned by a thread of its own. */
import { WaymarkError } from "../../lib/errors.ts";
import { ThreadCalls } from "../thread.io.ts";
import type { ControlFile, ControlFileOptions } from "./file.io.ts";
import {
  checkKey,
  checkLimit,
  checkPrefix,
  checkValue,
  MAX_PAGE_ITEMS,
  type PageRequest,
  STORE_BOUNDS,
  type Store,
  type StoreItem,
  type StorePage,
  type StoreWatch,
  type Swap,
} from "./store.ts";
import { Watches } from "./watches.ts";

type Calls = ThreadCalls<ControlFile, ControlFileOptions>;

/**
 * Opens `control.db` in a directory, creates what is missing, and keeps every other process out of it until it is closed.
 * Rejects with `store_unavailable`, nothing on disk changed, when the file is in use, damaged, or written by a newer program;
 * `metadata.problem` tells which.
 */
export async function openSqliteStore(directory: string, options: Partial<ControlFileOptions> = {}): Promise<Store> {
  const { bounds = STORE_BOUNDS, takesAsItIs = false } = options;
  const calls: Calls = new ThreadCalls("control");
  await calls.open({ directory, bounds, takesAsItIs });
  return new SqliteStore(calls);
}

class SqliteStore implements Store {
  readonly #calls: Calls;
  readonly #watches: Watches;
  #closed: Promise<void> | undefined;

  constructor(calls: Calls) {
    this.#calls = calls;
    this.#watches = new Watches((prefix, position) => calls.call("changesSince", { prefix, position }));
  }

  async get(key: string): Promise<StoreItem | undefined> {
    checkKey(key);
    this.#checkOpen();
    return this.#calls.call("get", key);
  }

  async list(prefix: string, { after = "", limit = MAX_PAGE_ITEMS }: PageRequest = {}): Promise<StorePage> {
    checkPrefix(prefix);
    checkLimit(limit);
    this.#checkOpen();
    return this.#calls.call("list", { prefix, after, limit });
  }

  async compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<Swap> {
    checkKey(key);
    this.#checkOpen();
    checkValue(key, value);
    // A copy is moved to the thread, because the caller may change its own bytes.
    const copy = value === undefined ? undefined : Uint8Array.from(value);
    const swap = await this.#calls.call("compareAndSwap", { key, expectedVersion, value: copy }, copy === undefined ? [] : [copy.buffer]);
    if (swap.isSwapped) this.#watches.changed();
    return swap;
  }

  watch(prefix: string, fromRevision: number): StoreWatch {
    checkPrefix(prefix);
    return this.#watches.open(prefix, fromRevision);
  }

  close(): Promise<void> {
    this.#watches.closeAll();
    this.#closed ??= this.#calls.close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new WaymarkError("store_unavailable", "the store is closed");
  }
}
