/**
 * Selects the namespaces that a resolver follows with a watch: configured namespaces, namespaces that its callers watch, and namespaces that callers
 * request often (semantics.md, Resolver 11).
 */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { counted } from "../../lib/text/visible-text.ts";

export interface WatchSelectionOptions {
  /** Prefixes that are always followed. An empty string means all namespaces. */
  readonly configured: readonly string[];
  /** Maximum number of followed prefixes, including the configured ones. */
  readonly maxWatches: number;
  /** Returns an estimate of how often a namespace was requested recently. */
  readonly asksOf: (namespace: string) => number;
}

/** Watches for one prefix: the total number, and the number for each caller that is charged a share. */
interface PrefixWatchers {
  count: number;
  readonly callers: Map<string, number>;
}

interface RequestCount {
  count: number;
  sinceMonoMs: number;
}

/** A namespace that is requested more often than this within `OFTEN_MS` is followed. */
const OFTEN = 3;
const OFTEN_MS = 10_000;
/**
 * Maximum number of namespaces whose requests are counted. Above this number, all counts are reset. A frequently requested namespace soon reaches its
 * count again.
 */
const MAX_COUNTED = 10_000;
/** The watches of one caller may use at most this fraction (1/4) of the maximum number of prefixes, but always at least one prefix. */
const CALLER_PART = 4;
/** Time after which a namespace for which there was no room is retried. */
const NO_ROOM_MS = 60_000;

/** After this time without a request, a namespace that is followed only because of requests is no longer followed. */
export const UNASKED_MS = 600_000;

export class WatchSelection {
  readonly #options: WatchSelectionOptions;
  /** Prefixes that callers watch. */
  readonly #watched = new Map<string, PrefixWatchers>();
  /** Callers that are charged a share, with the number of unconfigured prefixes that they watch. */
  readonly #taken = new Map<string, number>();
  /** Namespaces that are followed because of requests, with the time of the last request. */
  readonly #hot = new Map<string, number>();
  readonly #asked = new Map<string, RequestCount>();
  /** Namespaces for which there was no room, with the time until which they are not followed. */
  readonly #roomless = new Map<string, number>();
  /** Prefixes that callers watch but that do not fit into the cache, with the time until which they are not followed. */
  readonly #refused = new Map<string, number>();
  #prefixes: NamespacePrefixes;

  constructor(options: WatchSelectionOptions) {
    this.#options = options;
    this.#prefixes = new NamespacePrefixes(options.configured);
  }

  /** All prefixes to follow. The object is replaced whenever the prefixes change. */
  get prefixes(): NamespacePrefixes {
    return this.#prefixes;
  }

  /** Returns whether no configured prefix covers this prefix. */
  isUnconfigured(prefix: string): boolean {
    return !this.#options.configured.some((configured) => namespaceCovers(configured, prefix));
  }

  /** Returns the unconfigured prefixes that were followed before a restart, limited to the available room. */
  resumable(prefixes: readonly string[]): readonly string[] {
    return prefixes.filter((prefix) => this.isUnconfigured(prefix)).slice(0, Math.max(0, this.#options.maxWatches - this.#count));
  }

  /** Follows these prefixes again, as if callers had requested them. */
  resume(prefixes: readonly string[], monoMs: number): void {
    for (const prefix of prefixes) this.#hot.set(prefix, monoMs);
    if (prefixes.length > 0) this.#change();
  }

  /** Returns whether a namespace must continue to be followed because it is configured or a caller watches it. */
  isPinned(namespace: string): boolean {
    const covers = (prefix: string) => namespaceCovers(prefix, namespace);
    return this.#options.configured.some(covers) || [...this.#watched.keys()].some(covers);
  }

  /** Counts a request for a namespace by a caller that may see it. */
  ask(namespace: string, monoMs: number): void {
    if (this.#hot.has(namespace)) this.#hot.set(namespace, monoMs);
    if (this.#prefixes.covers(namespace)) return;
    const asked = this.#asked.get(namespace);
    if (asked === undefined || monoMs - asked.sinceMonoMs > OFTEN_MS) {
      if (this.#asked.size >= MAX_COUNTED) this.#asked.clear();
      this.#asked.set(namespace, { count: 1, sinceMonoMs: monoMs });
      return;
    }
    asked.count += 1;
    if (asked.count <= OFTEN || this.isRoomless(namespace, monoMs)) return;
    if (!this.#makeRoom(this.#options.asksOf(namespace))) return;
    this.#asked.delete(namespace);
    this.#hot.set(namespace, monoMs);
    this.#change();
  }

  /**
   * Records that a caller watches all namespaces below a prefix. `unwatch` must be called with the same arguments when the watch ends. `caller` is
   * charged a share. It is undefined for a downstream resolver, which reads for many callers and is not charged. Throws `quota_exceeded` if the
   * resolver or this caller cannot follow any more prefixes.
   */
  watch(prefix: string, caller?: string): void {
    if (this.#refused.has(prefix))
      throw new WaymarkError(
        "quota_exceeded",
        `the entries below "${prefix}" do not fit into this resolver (resolver.max_entries, resolver.max_bytes); watch a node instead`,
      );
    const watchers = this.#watched.get(prefix) ?? { count: 0, callers: new Map<string, number>() };
    const isUnconfigured = this.isUnconfigured(prefix);
    if (isUnconfigured && caller !== undefined && !watchers.callers.has(caller)) this.#checkShare(caller);
    if (isUnconfigured && watchers.count === 0 && !this.#hot.has(prefix) && !this.#makeRoom(Number.POSITIVE_INFINITY))
      throw new WaymarkError(
        "quota_exceeded",
        `this resolver already follows the maximum number of namespaces (resolver.max_watches is ${this.#options.maxWatches}); watch a namespace that it follows, or watch a node`,
      );
    watchers.count += 1;
    if (caller !== undefined) {
      if (isUnconfigured && !watchers.callers.has(caller)) this.#taken.set(caller, (this.#taken.get(caller) ?? 0) + 1);
      watchers.callers.set(caller, (watchers.callers.get(caller) ?? 0) + 1);
    }
    this.#watched.set(prefix, watchers);
    if (watchers.count === 1) this.#change();
  }

  unwatch(prefix: string, caller?: string): void {
    const watchers = this.#watched.get(prefix);
    if (watchers === undefined) return;
    watchers.count -= 1;
    if (caller !== undefined && less(watchers.callers, caller) && this.isUnconfigured(prefix)) less(this.#taken, caller);
    if (watchers.count === 0 && this.#watched.delete(prefix)) this.#change();
  }

  #checkShare(caller: string): void {
    const { maxWatches } = this.#options;
    const share = Math.max(1, Math.floor(maxWatches / CALLER_PART));
    if ((this.#taken.get(caller) ?? 0) < share) return;
    throw new WaymarkError(
      "quota_exceeded",
      `the watches of this caller already use its share of ${counted(share, "namespace")} (1/${CALLER_PART} of resolver.max_watches, which is ${maxWatches}); watch a common prefix of these namespaces, or watch a node`,
    );
  }

  /**
   * Follows namespaces before callers request them. These namespaces expire like namespaces that are followed because of requests. Returns the
   * namespaces that were not followed before. If there is not enough room for all, throws `quota_exceeded` and follows none of them.
   */
  prewarm(namespaces: readonly string[], monoMs: number): readonly string[] {
    const { maxWatches } = this.#options;
    const added = new NamespacePrefixes(namespaces).list.filter((namespace) => !this.#prefixes.covers(namespace));
    const left = maxWatches - this.#count;
    if (added.length > left)
      throw new WaymarkError(
        "quota_exceeded",
        `cannot follow ${counted(added.length, "more namespace")}: there is room for ${Math.max(0, left)} (resolver.max_watches is ${maxWatches}); prewarm fewer, or evict others`,
      );
    for (const namespace of namespaces) if (this.#hot.has(namespace) || added.includes(namespace)) this.#hot.set(namespace, monoMs);
    if (added.length > 0) this.#change();
    return added;
  }

  /** Stops following these namespaces, unless they are configured or watched. */
  release(namespaces: readonly string[]): void {
    if (namespaces.filter((namespace) => this.#hot.delete(namespace)).length > 0) this.#change();
  }

  /** Stops following the namespaces below these prefixes that are followed only because of requests. */
  evict(prefixes: NamespacePrefixes): void {
    let isChanged = false;
    for (const namespace of this.#hot.keys()) if (prefixes.covers(namespace) && this.#hot.delete(namespace)) isChanged = true;
    if (isChanged) this.#change();
  }

  /** Records that a frequently requested namespace did not fit into the cache. */
  hasNoRoom(namespace: string, monoMs: number): void {
    if (this.#roomless.size >= MAX_COUNTED) this.#roomless.clear();
    this.#roomless.set(namespace, monoMs + NO_ROOM_MS);
    if (this.#hot.delete(namespace)) this.#change();
  }

  /** Returns whether a requested namespace was released less than a minute ago because it did not fit. */
  isRoomless(namespace: string, monoMs: number): boolean {
    return (this.#roomless.get(namespace) ?? 0) > monoMs;
  }

  /** Namespaces that are followed only because of requests. */
  get asked(): readonly string[] {
    return [...this.#hot.keys()].filter((namespace) => !this.isPinned(namespace));
  }

  /**
   * Returns the namespace with the smallest share among the namespaces that are followed only because of requests. Returns undefined if there is no
   * such namespace.
   */
  leastAsked(shareOf: (namespace: string) => number): string | undefined {
    let least: string | undefined;
    let leastShare = Number.POSITIVE_INFINITY;
    for (const namespace of this.#hot.keys()) {
      const share = shareOf(namespace);
      if (least === undefined || share < leastShare) [least, leastShare] = [namespace, share];
    }
    return least;
  }

  /** Stops following a prefix for a minute, because its entries do not fit. Returns false for a configured prefix, which is still followed. */
  refuse(prefix: string, monoMs: number): boolean {
    if (!this.isUnconfigured(prefix)) return false;
    if (this.#watched.has(prefix)) this.#refused.set(prefix, monoMs + NO_ROOM_MS);
    this.hasNoRoom(prefix, monoMs);
    this.#change();
    return true;
  }

  /** Sorts prefixes by priority: configured prefixes, then watched prefixes from the oldest, then requested prefixes by descending share. */
  inOrder(prefixes: readonly string[], shareOf: (namespace: string) => number): readonly string[] {
    const isConfigured = (prefix: string) => !this.isUnconfigured(prefix);
    const watched = [...this.#watched.keys()].filter((prefix) => prefixes.includes(prefix) && !isConfigured(prefix));
    const rest = prefixes.filter((prefix) => !isConfigured(prefix) && !watched.includes(prefix));
    return [...prefixes.filter(isConfigured), ...watched, ...rest.toSorted((a, b) => shareOf(b) - shareOf(a))];
  }

  /**
   * Stops following the most recently watched unconfigured prefix for a minute, because there is no room for all prefixes. Returns false if there is
   * no such prefix.
   */
  refuseNewest(monoMs: number): boolean {
    const newest = [...this.#watched.keys()].findLast((prefix) => this.isUnconfigured(prefix) && !this.#refused.has(prefix));
    if (newest === undefined) return false;
    this.#refused.set(newest, monoMs + NO_ROOM_MS);
    this.#change();
    return true;
  }

  /** Returns whether callers' watches of a prefix must end with `quota_exceeded`, because its entries do not fit. */
  isRefused(prefix: string): boolean {
    return this.#refused.has(prefix);
  }

  /** Follows refused prefixes again when their pause has ended. */
  tick(monoMs: number): void {
    for (const [prefix, untilMonoMs] of this.#refused) {
      if (untilMonoMs > monoMs) continue;
      this.#refused.delete(prefix);
      if (this.#watched.has(prefix)) this.#change();
    }
  }

  /** Stops following namespaces that callers have not requested since this time. */
  prune(sinceMonoMs: number): void {
    let isChanged = false;
    for (const [namespace, lastMonoMs] of this.#hot) if (lastMonoMs < sinceMonoMs && this.#hot.delete(namespace)) isChanged = true;
    if (isChanged) this.#change();
  }

  /** Returns whether one more namespace with this request count can be followed. If necessary, drops the least requested namespace with a lower count. */
  #makeRoom(asks: number): boolean {
    const { maxWatches, asksOf } = this.#options;
    if (this.#count < maxWatches) return true;
    let least: string | undefined;
    let leastAsks = asks;
    for (const namespace of this.#hot.keys()) {
      const its = asksOf(namespace);
      if (its < leastAsks) [least, leastAsks] = [namespace, its];
    }
    return least !== undefined && this.#hot.delete(least);
  }

  /** Watched prefixes below other watched prefixes are counted separately, because they must still be followed when the wider watch ends. */
  get #count(): number {
    const added = new Set(this.#hot.keys());
    for (const prefix of this.#watched.keys()) if (this.isUnconfigured(prefix)) added.add(prefix);
    return this.#options.configured.length + added.size;
  }

  #change(): void {
    this.#prefixes = new NamespacePrefixes([
      ...this.#options.configured,
      ...this.#watched.keys().filter((prefix) => !this.#refused.has(prefix)),
      ...this.#hot.keys(),
    ]);
    // Namespaces that are now followed do not need a request count.
    for (const namespace of this.#asked.keys()) if (this.#prefixes.covers(namespace)) this.#asked.delete(namespace);
  }
}

/** Decrements a count. Returns whether the count reached zero. */
function less(counts: Map<string, number>, key: string): boolean {
  const left = (counts.get(key) ?? 0) - 1;
  if (left > 0) counts.set(key, left);
  else counts.delete(key);
  return left === 0;
}
