/**
 * Finds the watchers that a change concerns, by the namespace, prefix or everything that they follow, and keeps the list of those to be
 * woken.
 */

import type { WatchFeed } from "../catalog/watch/feed.ts";
import { type NamedReader, NameIndex, type NameIndexBounds } from "../catalog/watch/name-index.ts";

/** An open stream, as the fan-out sees it. */
export interface WatchStream {
  /** What it is told next. The fan-out reads whom it concerns and when it is due, and a change of policy how far it came. */
  readonly feed: Pick<WatchFeed, "bookmarkDueMonoMs" | "isTelling" | "reader" | "refresh" | "revision" | "settledRevision">;
  /** Whether it is to be woken. Only the fan-out writes it. */
  isReady: boolean;
  wake(): void;
  /** Notes that it is to end: when it is woken, it gives the last position to resume from, and then the end. */
  stop(): void;
}

/** Hears of what concerns all watchers, for watchers in other threads. */
export interface FanoutObserver {
  readiesAll(): void;
  ends(): void;
}

export class Fanout {
  readonly followers = new Set<FanoutObserver>();
  readonly #exact = new Map<string, Set<WatchStream>>();
  readonly #prefix = new Map<string, Set<WatchStream>>();
  readonly #everything = new Set<WatchStream>();
  readonly #watchers = new Set<WatchStream>();
  /** The watchers that are told of changes by name, by their reader. */
  readonly #named = new Map<NamedReader, Set<WatchStream>>();
  #names: NameIndex | undefined;
  /**
   * The watchers to wake, in order. Each is in the list once. HOT: bench/watch.ts; a single Set cost a quarter of the fan-out, because
   * taking its first element skips all elements that were taken before.
   */
  #ready: WatchStream[] = [];
  /** The watchers being woken, and the number already woken. */
  #waking: WatchStream[] = [];
  #wokenCount = 0;
  #isEnding = false;
  readonly #onAgain: () => void;

  readonly #nameBounds: NameIndexBounds | undefined;

  /** `onAgain` is called when a watcher must be woken again. */
  constructor(onAgain: () => void = () => undefined, nameBounds?: NameIndexBounds) {
    this.#onAgain = onAgain;
    this.#nameBounds = nameBounds;
  }

  /** Names in the index of watchers by name: see `NameIndex`. */
  get nameCount(): number {
    return this.#names?.nameCount ?? 0;
  }

  /** Whether all watchers were told to end. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  get size(): number {
    return this.#watchers.size;
  }

  get readyCount(): number {
    return this.#ready.length + this.#waking.length - this.#wokenCount;
  }

  /** Whether somebody is to be woken, or it is still to be found out who. */
  get isOwing(): boolean {
    return this.readyCount > 0 || this.#names?.isBehind === true;
  }

  add(watcher: WatchStream): void {
    const { namespace, prefix, resolved } = watcher.feed.reader.options.filter;
    this.#watchers.add(watcher);
    if (resolved !== undefined) this.#addBelow(resolved.list, watcher);
    else if (namespace !== "") join(this.#exact, namespace, watcher);
    else if (prefix !== "") join(this.#prefix, prefix, watcher);
    else this.#everything.add(watcher);
    if (this.#isEnding) watcher.stop();
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
   * The watcher has been told everything, and from now on only changes concern it. If its filter has names, those of other names do not
   * wake it any more.
   */
  narrow(watcher: WatchStream): void {
    const { reader } = watcher.feed;
    const { names, namespace, prefix } = reader.options.filter;
    if (names.length === 0 || !this.#watchers.has(watcher)) return;
    this.#names ??= new NameIndex(reader.replica, this.#nameBounds);
    // Without room it goes on to be woken by every change of its namespace.
    if (!this.#named.has(reader) && !this.#names.add(reader)) return;
    join(this.#named, reader, watcher);
    this.#everything.delete(watcher);
    leave(this.#exact, namespace, watcher);
    leave(this.#prefix, prefix, watcher);
    // Changes of its names may have been offered to others of its reader, and those that follow them count as told to all.
    if (this.#names.isBehind) this.#readyOne(watcher);
  }

  /**
   * Something changed in these namespaces. Cost: the watchers concerned, not all watchers. Of many changes at once, watchers by name are told
   * in slices: see `offerMore`.
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

  /** Goes on to find the watchers that changes concern by their names. To be called once a turn while `take` may have nothing for that. */
  offerMore(): void {
    this.#names?.offer((reader) => this.#readyAll(this.#named.get(reader)));
  }

  /** Marks the watchers whose bookmark is due. Cost: one comparison for each watcher, so call it at most a few times a second. */
  due(monoMs: number): void {
    this.#names?.tidy();
    for (const watcher of this.#watchers) if (watcher.feed.bookmarkDueMonoMs <= monoMs) this.#readyOne(watcher);
  }

  /** Marks all watchers: the node's readiness changed. */
  all(): void {
    this.#readyAll(this.#watchers);
    for (const follower of this.followers) follower.readiesAll();
  }

  /** All watchers are to end, with a position to resume from at another node. So is one that comes later: its stream was admitted before. */
  end(): void {
    this.#isEnding = true;
    for (const watcher of this.#watchers) {
      watcher.stop();
      this.#readyOne(watcher);
    }
    for (const follower of this.followers) follower.ends();
    this.#onAgain();
  }

  /** The watcher has not looked at everything yet, or has noted something to send. */
  again(watcher: WatchStream): void {
    if (!this.#watchers.has(watcher)) return;
    this.#readyOne(watcher);
    this.#onAgain();
  }

  /** Takes the next watcher to wake. There is none until all that changed was offered by name: who is woken then looks at it in one go. */
  take(): WatchStream | undefined {
    if (this.#names?.isBehind === true) return undefined;
    while (this.readyCount > 0) {
      if (this.#wokenCount === this.#waking.length) {
        this.#waking = this.#ready;
        this.#ready = [];
        this.#wokenCount = 0;
      }
      const watcher = this.#waking[this.#wokenCount++];
      // It was removed meanwhile.
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
