/** The `Store` of one node: an SQLite file in the data directory, owned by a thread of its own. */
import { WaymarkError } from "../../lib/errors.ts";
import { ThreadCalls } from "../thread-calls.io.ts";
import {
  checkKey,
  checkLimit,
  checkPrefix,
  checkValue,
  MAX_PAGE_ITEMS,
  STORE_BOUNDS,
  type Store,
  type StoreBounds,
  type StoreItem,
  type StorePage,
  type StoreWatch,
  type Swap,
} from "./store.ts";
import type { ControlAnswer, ControlRequest } from "./thread.ts";
import { Watches } from "./watches.ts";

type Calls = ThreadCalls<ControlRequest, ControlAnswer>;

export interface SqliteOptions {
  readonly bounds: StoreBounds;
  /** Whether a file that lost its log is taken as it is. */
  readonly takesAsItIs: boolean;
}

/**
 * Opens `control.db` in a directory, creating what is missing, and keeps every other process out of it until closed.
 * Rejects with `store_unavailable`, nothing on disk changed, when it is in use, was written by a newer program or is
 * damaged; `metadata.problem` tells which.
 */
export async function openSqliteStore(directory: string, options: Partial<SqliteOptions> = {}): Promise<Store> {
  const { bounds = STORE_BOUNDS, takesAsItIs = false } = options;
  const calls: Calls = new ThreadCalls("control");
  await calls.call({ kind: "open", directory, bounds, takesAsItIs }, "opened");
  return new SqliteStore(calls);
}

class SqliteStore implements Store {
  readonly #calls: Calls;
  readonly #watches: Watches;
  #closed: Promise<void> | undefined;

  constructor(calls: Calls) {
    this.#calls = calls;
    this.#watches = new Watches(async (prefix, position) => {
      return (await this.#calls.call({ kind: "changes", prefix, position }, "found")).found;
    });
  }

  async get(key: string): Promise<StoreItem | undefined> {
    checkKey(key);
    this.#checkOpen();
    return (await this.#calls.call({ kind: "get", key }, "item")).item;
  }

  async list(prefix: string, page: { readonly after?: string; readonly limit?: number } = {}): Promise<StorePage> {
    const { after = "", limit = MAX_PAGE_ITEMS } = page;
    checkPrefix(prefix);
    checkLimit(limit);
    this.#checkOpen();
    return (await this.#calls.call({ kind: "list", prefix, after, limit }, "page")).page;
  }

  async compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<Swap> {
    checkKey(key);
    this.#checkOpen();
    checkValue(key, value);
    // One copy, moved to the thread: the caller may change its own.
    const copy = value === undefined ? undefined : Uint8Array.from(value);
    const { swap } = await this.#calls.call(
      { kind: "swap", key, expectedVersion, value: copy },
      "swapped",
      copy === undefined ? [] : [copy.buffer],
    );
    if (swap.isSwapped) this.#watches.changed();
    return swap;
  }

  watch(prefix: string, fromRevision: number): StoreWatch {
    checkPrefix(prefix);
    return this.#watches.open(prefix, fromRevision);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#watches.closeAll();
    try {
      await this.#calls.call({ kind: "close" }, "closed");
    } catch (error) {
      // The thread is gone already, and its file with it.
      if (!(error instanceof WaymarkError)) throw error;
    }
    await this.#calls.ended();
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new WaymarkError("store_unavailable", "the store is closed");
  }
}
