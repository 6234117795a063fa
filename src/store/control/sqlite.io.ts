/**
 * The `ControlStore` of one node: an SQLite file in the data directory, in the same thread as the audit log, or an in-memory database for
 * `--ephemeral`.
 */
import { WaymarkError } from "../../lib/errors.ts";
import { ThreadCalls } from "../thread.io.ts";
import { ControlFile, type ControlFileOptions, type TransactRequest } from "./file.io.ts";
import {
  type ControlStore,
  checkKey,
  checkLimit,
  checkPrefix,
  checkTransaction,
  MAX_PAGE_ITEMS,
  STORE_BOUNDS,
  type StoreBounds,
  type StoreChange,
  type StoreCondition,
  type StoreItem,
  type StorePage,
  type StorePageRequest,
  type StoreWatch,
  type StoreWrite,
  type SwapResult,
  swapResult,
  type TransactResult,
} from "./store.ts";
import { StoreWatches } from "./store-watches.io.ts";

/** The calls that the store makes to its database. */
interface StoreQueries {
  get(key: string): Promise<StoreItem | undefined>;
  list(request: Required<StorePageRequest> & { readonly prefix: string }): Promise<StorePage>;
  transact(request: TransactRequest): Promise<TransactResult>;
  close(): Promise<void>;
}

/**
 * Opens `control.db` in a directory, creating missing files, and locks it against other processes until it is closed. Rejects with
 * `store_unavailable`, without changes on disk, if the file is in use, is damaged, or was written by a newer program; `metadata.problem` contains the
 * reason.
 */
export async function openSqliteStore(directory: string, options: Partial<ControlFileOptions> = {}): Promise<ControlStore> {
  const { bounds = STORE_BOUNDS, takesAsItIs = false } = options;
  const calls = new ThreadCalls<ControlFile, ControlFileOptions>("control");
  await calls.open({ directory, bounds, takesAsItIs });
  return new SqliteStore({
    get: (key) => calls.call("get", key),
    list: (request) => calls.call("list", request),
    transact: (request) => calls.call("transact", request),
    close: () => calls.close(),
  });
}

/** Opens a store that exists only until the process ends. Such a store never waits for a disk, so it needs no thread. */
export function openMemoryStore(bounds: StoreBounds = STORE_BOUNDS): ControlStore {
  const database = new ControlFile({ directory: undefined, bounds, takesAsItIs: false });
  return new SqliteStore({
    get: (key) => Promise.try(() => database.get(key)),
    list: (request) => Promise.try(() => database.list(request)),
    transact: (request) => Promise.try(() => database.transact(request)),
    close: () => Promise.try(() => database.close()),
  });
}

class SqliteStore implements ControlStore {
  readonly #asked: StoreQueries;
  readonly #watches = new StoreWatches((prefix, page) => this.list(prefix, page));
  #closed: Promise<void> | undefined;

  constructor(asked: StoreQueries) {
    this.#asked = asked;
  }

  async get(key: string): Promise<StoreItem | undefined> {
    checkKey(key);
    this.#checkOpen();
    return this.#asked.get(key);
  }

  async list(prefix: string, { after = "", limit = MAX_PAGE_ITEMS }: StorePageRequest = {}): Promise<StorePage> {
    checkPrefix(prefix);
    checkLimit(limit);
    this.#checkOpen();
    return this.#asked.list({ prefix, after, limit });
  }

  async transact(conditions: readonly StoreCondition[], changes: readonly StoreWrite[]): Promise<TransactResult> {
    checkTransaction(conditions, changes);
    this.#checkOpen();
    // The values are copied, because the caller may change the bytes that it passed.
    const copies = changes.map(({ key, value }) => ({ key, value: value === undefined ? undefined : Uint8Array.from(value) }));
    const result = await this.#asked.transact({ conditions, changes: copies });
    if (result.isCommitted) this.#watches.changed(changesWith(copies, result.versions));
    return result;
  }

  async compareAndSwap(key: string, expectedVersion: number, value: Uint8Array | undefined): Promise<SwapResult> {
    return swapResult(await this.transact([{ key, version: expectedVersion }], [{ key, value }]));
  }

  watch(prefix: string): StoreWatch {
    checkPrefix(prefix);
    return this.#watches.open(prefix);
  }

  async compact(): Promise<void> {
    this.#checkOpen();
  }

  close(): Promise<void> {
    this.#watches.closeAll();
    this.#closed ??= this.#asked.close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new WaymarkError("store_unavailable", "the store is closed");
  }
}

/** The changes that had an effect, with their versions. */
function changesWith(writes: readonly StoreWrite[], versions: readonly number[]): readonly StoreChange[] {
  const changes = writes.map(({ key, value }, at) => {
    const version = versions[at] ?? 0;
    return { key, version, item: value && { key, value, version } };
  });
  return changes.filter(({ version }) => version > 0);
}
