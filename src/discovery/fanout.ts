/**
 * Finds the watchers that a change affects, because they follow its namespace, a prefix, or everything, and queues them to be woken.
 */

import type { WatchFeed } from "../catalog/watch/feed.ts";
import { type NamedReader, NameIndex, type NameIndexBounds } from "../catalog/watch/name-index.ts";

/** An open stream, as seen by the fan-out. */
export interface WatchStream {
  /**
   * The stream's queue of messages. The fan-out reads which changes affect the stream and when its bookmark is due. A policy change reads its
   * position.
   */
  readonly feed: Pick<WatchFeed, "bookmarkDueMonoMs" | "isTelling" | "reader" | "refresh" | "revision" | "settledRevision">;
  /** Whether the stream is in the queue to be woken. Only the fan-out writes this field. */
  isReady: boolean;
  wake(): void;
  /** Ends the stream: when woken, the stream sends its last position, from which the client can resume, and then closes. */
  stop(): void;
}

/** Receives events that affect all watchers, for watchers in other threads. */
export interface FanoutObserver {
  readiesAll(): void;
  ends(): void;
  drains(share: number): void;
}

export class Fanout {
  readonly followers = new Set<FanoutObserver>();
  readonly #exact = new Map<string, Set<WatchStream>>();
  readonly #prefix = new Map<string, Set<WatchStream>>();
  readonly #everything = new Set<WatchStream>();
  readonly #watchers = new Set<WatchStream>();
  /** The watchers that are woken only by changes to their names, by reader. */
  readonly #named = new Map<NamedReader, Set<WatchStream>>();
  #names: NameIndex | undefined;
  /**
   * The watchers to wake, in order, each at most once. HOT: bench/watch.ts; a single Set took a quarter of the fan-out's time, because removing its
   * first element skips all previously removed elements.
   */
  #ready: WatchStream[] = [];
  /** The watchers that are being woken, and how many of them have been woken. */
  #waking: WatchStream[] = [];
  #wokenCount = 0;
  #isEnding = false;
  /** The part of the watchers that a drain has asked to end, and their number when it began. */
  #drain = { share: 0, total: 0, endedCount: 0 };
  readonly #onAgain: () => void;

  readonly #nameBounds: NameIndexBounds | undefined;

  /** `onAgain` is called when a watcher must be woken again. */
  constructor(onAgain: () => void = () => undefined, nameBounds?: NameIndexBounds) {
    this.#onAgain = onAgain;
    this.#nameBounds = nameBounds;
  }

  /** Number of names in the index of watchers by name. See `NameIndex`. */
  get nameCount(): number {
    return this.#names?.nameCount ?? 0;
  }

  /** Whether all watchers have been asked to end. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** The part of the watchers (0 to 1) that a drain has asked to end. 0 without a drain. */
  get drainShare(): number {
    return this.#drain.share;
  }

  get size(): number {
    return this.#watchers.size;
  }

  get readyCount(): number {
    return this.#ready.length + this.#waking.length - this.#wokenCount;
  }

  /** Whether any watcher must be woken, or any changes must still be matched with watchers. */
  get hasPendingWork(): boolean {
    return this.readyCount > 0 || this.#names?.isBehind === true;
  }

  add(watcher: WatchStream): void {
    const { namespace, prefix, resolved } = watcher.feed.reader.options.filter;
    this.#watchers.add(watcher);
    if (resolved !== undefined) this.#addBelow(resolved.list, watcher);
    else if (namespace !== "") join(this.#exact, namespace, watcher);
    else if (prefix !== "") join(this.#prefix, prefix, watcher);
    else this.#everything.add(watcher);
    if (this.#isEnding || this.#drain.share > 0) watcher.stop();
  }

  remove(watcher: WatchStream): void {
    const { namespace, prefix, resolved } = watcher.feed.reader.options.filter;
    this.#watchers.delete(watcher);
    watcher.isReady = false;
    this.#everything.delete(watcher);
    leave(this.#exact, namespace, watcher);
    for (const below of resolved?.list ?? [prefix]) leave(this.#prefix, below, watcher);
    const { reader } = watcher.feed;
    leave(this.#named, reader, watcher);
    if (reader.touches !== undefined && !this.#named.has(reader)) this.#names?.remove(reader);
  }

  /**
   * Called when the watcher is up to date, so that from now on only new changes wake it. If its filter has names, changes to other names no longer
   * wake it.
   */
  narrow(watcher: WatchStream): void {
    const { reader } = watcher.feed;
    const { names, namespace, prefix } = reader.options.filter;
    if (names.length === 0 || !this.#watchers.has(watcher)) return;
    this.#names ??= new NameIndex(reader.replica, this.#nameBounds);
    // If the index is full, every change in its namespace still wakes the watcher.
    if (!this.#named.has(reader) && !this.#names.add(reader)) return;
    join(this.#named, reader, watcher);
    this.#everything.delete(watcher);
    leave(this.#exact, namespace, watcher);
    leave(this.#prefix, prefix, watcher);
    // Changes to its names may already have been matched for other watchers of the same reader. These changes will not be matched again, so this
    // watcher is woken for them now.
    if (this.#names.isBehind) this.#readyOne(watcher);
  }

  /**
   * Queues the watchers affected by changes in these namespaces. Cost: O(affected watchers), not O(watchers). If many changes arrive at the same
   * time, watchers by name are matched in slices. See `offerMore`.
   */
  changed(namespaces: Iterable<string>): void {
    for (const namespace of namespaces) {
      this.#readyAll(this.#exact.get(namespace));
      if (this.#prefix.size === 0) continue;
      for (let dot = namespace.indexOf("."); dot >= 0; dot = namespace.indexOf(".", dot + 1))
        this.#readyAll(this.#prefix.get(namespace.slice(0, dot)));
      this.#readyAll(this.#prefix.get(namespace));
    }
    this.#readyAll(this.#everything);
    this.offerMore();
  }

  /**
   * Continues to match changes with watchers by name. Must be called once per turn, because `take` does not return any watchers until all changes
   * have been matched.
   */
  offerMore(): void {
    this.#names?.offer((reader) => this.#readyAll(this.#named.get(reader)));
  }

  /** Queues the watchers whose bookmark is due. Each call costs one comparison per watcher, so call it at most a few times per second. */
  due(monoMs: number): void {
    this.#names?.tidy();
    for (const watcher of this.#watchers) if (watcher.feed.bookmarkDueMonoMs <= monoMs) this.#readyOne(watcher);
  }

  /** Queues all watchers, because the node's readiness changed. */
  all(): void {
    this.#readyAll(this.#watchers);
    for (const follower of this.followers) follower.readiesAll();
  }

  /**
   * Ends all watchers, each with a position from which it can resume on another node. Watchers that are added after this call also end, because their
   * streams were admitted before the call.
   */
  end(): void {
    this.#isEnding = true;
    for (const watcher of this.#watchers) {
      watcher.stop();
      this.#readyOne(watcher);
    }
    for (const follower of this.followers) follower.ends();
    this.#onAgain();
  }

  /**
   * Ends watchers like `end`, until this part of them (0 to 1) has been asked to end. Watchers that are added meanwhile end immediately. With 0, watchers are
   * accepted again.
   */
  drain(share: number): void {
    const { total, endedCount } = this.#drain.share === 0 ? { total: this.size, endedCount: 0 } : this.#drain;
    const count = Math.ceil(total * share) - endedCount;
    // Watchers that were asked to end are removed when their streams have closed.
    for (const watcher of [...this.#watchers].slice(0, share === 1 ? this.size : Math.max(0, count))) {
      watcher.stop();
      this.#readyOne(watcher);
    }
    this.#drain = { share, total, endedCount: endedCount + Math.max(0, count) };
    for (const follower of this.followers) follower.drains(share);
    this.#onAgain();
  }

  /** Queues the watcher again, because it has not processed all changes yet or has a message to send. */
  again(watcher: WatchStream): void {
    if (!this.#watchers.has(watcher)) return;
    this.#readyOne(watcher);
    this.#onAgain();
  }

  /**
   * Returns the next watcher to wake. Returns undefined until all changes have been matched by name, so that a woken watcher processes
   * them together.
   */
  take(): WatchStream | undefined {
    if (this.#names?.isBehind === true) return undefined;
    while (this.readyCount > 0) {
      if (this.#wokenCount === this.#waking.length) {
        this.#waking = this.#ready;
        this.#ready = [];
        this.#wokenCount = 0;
      }
      const watcher = this.#waking[this.#wokenCount++];
      // The watcher has been removed in the meantime.
      if (watcher?.isReady !== true) continue;
      watcher.isReady = false;
      return watcher;
    }
    this.#waking = [];
    this.#wokenCount = 0;
    return undefined;
  }

  watchers(): Iterable<WatchStream> {
    return this.#watchers;
  }

  #addBelow(prefixes: readonly string[], watcher: WatchStream): void {
    for (const prefix of prefixes) {
      if (prefix === "") this.#everything.add(watcher);
      else join(this.#prefix, prefix, watcher);
    }
  }

  #readyAll(watchers: ReadonlySet<WatchStream> | undefined): void {
    if (watchers !== undefined) for (const watcher of watchers) this.#readyOne(watcher);
  }

  #readyOne(watcher: WatchStream): void {
    if (watcher.isReady) return;
    watcher.isReady = true;
    this.#ready.push(watcher);
  }
}

function join<K>(map: Map<K, Set<WatchStream>>, key: K, watcher: WatchStream): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([watcher]));
  else set.add(watcher);
}

function leave<K>(map: Map<K, Set<WatchStream>>, key: K, watcher: WatchStream): void {
  const set = map.get(key);
  if (set?.delete(watcher) === true && set.size === 0) map.delete(key);
}
