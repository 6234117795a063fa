/** A client that folds one stream, and fails at the first END or bookmark that does not say what it folded. */
import assert from "node:assert/strict";
import type { EntryFilter } from "../../src/catalog/query/filter.ts";
import { deltaId } from "../../src/catalog/record/record.ts";
import { WatchFeed } from "../../src/catalog/watch/feed.ts";
import { ACTION, type FeedMessage, SNAPSHOT } from "../../src/catalog/watch/reader.ts";
import type { WatchStream } from "../../src/discovery/fanout.ts";
import type { CatalogReads } from "../../src/discovery/reads.ts";
import { sha256 } from "../../src/lib/crypto.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import { at } from "./registry.ts";

export interface ClientOptions {
  readonly filter: EntryFilter;
  readonly budgetBytes: number;
  /** Compares with a query as well, which costs as much as there is. */
  readonly isQueried: boolean;
  readonly bookmarkIntervalMs?: number;
}

export class FoldingClient {
  readonly watcher: WatchStream;
  readonly feed: WatchFeed;
  readonly #reads: CatalogReads;
  readonly #caller: Caller;
  readonly #options: ClientOptions;
  /** Key to delta id. */
  readonly #held = new Map<string, string>();
  #sum = 0n;
  #staged: { readonly replaces: readonly string[]; readonly seen: Set<string> } | undefined;
  /** ENDs and bookmarks. */
  settledCount = 0;
  /** Snapshots of everything after the first. */
  restartCount = -1;
  onWake: () => void = () => undefined;

  constructor(reads: CatalogReads, who: Caller, options: ClientOptions) {
    [this.#reads, this.#caller, this.#options] = [reads, who, options];
    const { filter, bookmarkIntervalMs = 1 } = options;
    const reader = reads.reader(who, { filter, isNamesOnly: false, withDigest: true });
    const feed = new WatchFeed(reader, { from: undefined, bookmarkIntervalMs }, at(0));
    this.feed = feed;
    this.watcher = { feed, isReady: false, wake: () => this.onWake(), stop: () => undefined };
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** Takes at most so many messages, up to a bookmark; returns whether there may be more. */
  pull(atMs: number, maxCount: number): boolean {
    for (let n = 0; n < maxCount; n++) {
      const message = this.feed.next(at(atMs), this.#options.budgetBytes, true);
      if (message === undefined) return false;
      this.#fold(message);
      if (message.isBookmark) return false;
    }
    return true;
  }

  #fold(message: FeedMessage): void {
    if (message.snapshot === SNAPSHOT.BEGIN) this.#staged = { replaces: message.replaces, seen: new Set() };
    if (message.snapshot === SNAPSHOT.BEGIN && message.replaces.length === 0) this.restartCount += 1;
    for (const { action, record } of message.changes) {
      this.#put(record.key, action === ACTION.REMOVE ? undefined : deltaId(record));
      this.#staged?.seen.add(record.key);
    }
    const isEnd = message.snapshot === SNAPSHOT.END;
    if (isEnd) this.#swap();
    if (!isEnd && !message.isBookmark) return;
    this.settledCount += 1;
    const { filter, isQueried } = this.#options;
    const what = `${this.#caller.tenant} ${JSON.stringify(filter.namespace + filter.prefix)}`;
    if (isQueried) assert.deepEqual([...this.#held.values()].toSorted(), this.#queried(), what);
    assert.deepEqual(message.digest, { count: this.#held.size, digest: this.#sum }, what);
  }

  #put(key: string, id: string | undefined): void {
    const before = this.#held.get(key);
    if (before !== undefined) this.#sum = BigInt.asUintN(64, this.#sum - halfOf(before));
    if (id === undefined) this.#held.delete(key);
    else {
      this.#held.set(key, id);
      this.#sum = BigInt.asUintN(64, this.#sum + halfOf(id));
    }
  }

  #queried(): readonly string[] {
    const page = { filter: this.#options.filter, limit: 1000, token: "", isExplained: false, salt: "q" };
    const { records } = this.#reads.page(this.#caller, page);
    return records.map((record) => deltaId(record)).toSorted();
  }

  #swap(): void {
    const { replaces, seen } = this.#staged ?? { replaces: [], seen: new Set() };
    this.#staged = undefined;
    const isCovered = (key: string) => replaces.length === 0 || replaces.includes(key.split("\0")[0] ?? "");
    for (const key of this.#held.keys()) if (isCovered(key) && !seen.has(key)) this.#put(key, undefined);
  }
}

const HALVES = new Map<string, bigint>();

/** The same ids are held by many clients. */
function halfOf(id: string): bigint {
  let half = HALVES.get(id);
  if (half === undefined) HALVES.set(id, (half = Buffer.from(sha256(id)).readBigUInt64BE()));
  return half;
}
