/**
 * Which namespaces a resolver follows with a watch: those that it is configured to follow, those that its callers watch, and those that are asked for often
 * (semantics.md, Resolver 11).
 */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { counted } from "../../lib/text/visible-text.ts";

export interface WatchSelectionOptions {
  /** Prefixes that are always followed. An empty text stands for all namespaces. */
  readonly configured: readonly string[];
  /** Most prefixes that are followed. The configured ones are among them. */
  readonly maxWatches: number;
  /** About how often a namespace was asked for lately. */
  readonly asksOf: (namespace: string) => number;
}

/** The watches of one prefix: how many there are, and how many of them each caller has that has a share. */
interface PrefixWatchers {
  count: number;
  readonly callers: Map<string, number>;
}

interface RequestCount {
  count: number;
  sinceMonoMs: number;
}

/** A namespace that is asked for more often than this within the time is followed. */
const OFTEN = 3;
const OFTEN_MS = 10_000;
/** Most namespaces of which asks are counted. Above it the counts begin anew: an often asked name soon has its count again. */
const MAX_COUNTED = 10_000;
/** The watches of one caller may make a resolver follow one in so many of all that it may follow, and at least one. */
const CALLER_PART = 4;
/** A namespace that found no room is tried again after this time. */
const NO_ROOM_MS = 60_000;

/** After so long without an ask, a namespace that is followed only because it was asked for is followed no more. */
export const UNASKED_MS = 600_000;

export class WatchSelection {
  readonly #options: WatchSelectionOptions;
  /** Prefixes that callers watch. */
  readonly #watched = new Map<string, PrefixWatchers>();
  /** Callers that have a share, with the number of prefixes that they watch and nobody configured. */
  readonly #taken = new Map<string, number>();
  /** Namespaces that are followed because they are asked for, with the time of the last ask. */
  readonly #hot = new Map<string, number>();
  readonly #asked = new Map<string, RequestCount>();
  /** Until when a namespace is not followed, because it found no room. */
  readonly #roomless = new Map<string, number>();
  /** Prefixes that callers watch and that have more entries than there is room for, with the time until which they are not followed. */
  readonly #refused = new Map<string, number>();
  #prefixes: NamespacePrefixes;

  constructor(options: WatchSelectionOptions) {
    this.#options = options;
    this.#prefixes = new NamespacePrefixes(options.configured);
  }

  /** All that is to be followed now. It is another object after each change. */
  get prefixes(): NamespacePrefixes {
    return this.#prefixes;
  }

  /** Whether a prefix is followed though nobody configured it. */
  isUnconfigured(prefix: string): boolean {
    return !this.#options.configured.some((configured) => namespaceCovers(configured, prefix));
  }

  /** Of prefixes that were followed before a restart those that nobody configured, as many as there is room for. */
  resumable(prefixes: readonly string[]): readonly string[] {
    return prefixes.filter((prefix) => this.isUnconfigured(prefix)).slice(0, Math.max(0, this.#options.maxWatches - this.#count));
  }

  /** Follows these prefixes again, as if they had been asked for. */
  resume(prefixes: readonly string[], monoMs: number): void {
    for (const prefix of prefixes) this.#hot.set(prefix, monoMs);
    if (prefixes.length > 0) this.#change();
  }

  /** Whether a namespace must stay followed: it is configured, or a caller watches it. */
  isPinned(namespace: string): boolean {
    const covers = (prefix: string) => namespaceCovers(prefix, namespace);
    return this.#options.configured.some(covers) || [...this.#watched.keys()].some(covers);
  }

  /** Somebody who may see the namespace asked for it. */
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
   * A caller watches all below a prefix. Call `unwatch` with the same arguments when its watch ends. `caller`: whose share it takes; undefined for a resolver,
   * which reads for many and has no share. Throws `quota_exceeded` if no more can be followed, or no more for this caller.
   */
  watch(prefix: string, caller?: string): void {
    if (this.#refused.has(prefix))
      throw new WaymarkError(
        "quota_exceeded",
        `this resolver has no room for what is below "${prefix}" (resolver.max_entries, resolver.max_bytes); watch a node`,
      );
    const watchers = this.#watched.get(prefix) ?? { count: 0, callers: new Map<string, number>() };
    const isUnconfigured = this.isUnconfigured(prefix);
    if (isUnconfigured && caller !== undefined && !watchers.callers.has(caller)) this.#checkShare(caller);
    if (isUnconfigured && watchers.count === 0 && !this.#hot.has(prefix) && !this.#makeRoom(Number.POSITIVE_INFINITY))
      throw new WaymarkError(
        "quota_exceeded",
        `this resolver follows as many namespaces as it may (resolver.max_watches is ${this.#options.maxWatches}); watch one that others watch, or watch a node`,
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
      `the watches of this caller make the resolver follow ${counted(share, "namespace")}, and it may have no more (one in ${CALLER_PART} of resolver.max_watches, which is ${maxWatches}); watch one prefix above them, or watch a node`,
    );
  }

  /**
   * Follows namespaces before somebody asks for them. They pass like those that are asked for often. Returns those of them that were not followed before.
   * Throws `quota_exceeded`, and follows none, if there is no free room for all.
   */
  prewarm(namespaces: readonly string[], monoMs: number): readonly string[] {
    const { maxWatches } = this.#options;
    const added = new NamespacePrefixes(namespaces).list.filter((namespace) => !this.#prefixes.covers(namespace));
    const left = maxWatches - this.#count;
    if (added.length > left)
      throw new WaymarkError(
        "quota_exceeded",
        `these are ${added.length} more namespaces to follow, and there is room for ${Math.max(0, left)} (resolver.max_watches is ${maxWatches}); prewarm fewer, or evict others`,
      );
    for (const namespace of namespaces) if (this.#hot.has(namespace) || added.includes(namespace)) this.#hot.set(namespace, monoMs);
    if (added.length > 0) this.#change();
    return added;
  }

  /** Follows these no more, unless they are configured or watched. */
  release(namespaces: readonly string[]): void {
    if (namespaces.filter((namespace) => this.#hot.delete(namespace)).length > 0) this.#change();
  }

  /** Follows no more what is only followed because it was asked for, below these prefixes. */
  evict(prefixes: NamespacePrefixes): void {
    let isChanged = false;
    for (const namespace of this.#hot.keys()) if (prefixes.covers(namespace) && this.#hot.delete(namespace)) isChanged = true;
    if (isChanged) this.#change();
  }

  /** A namespace that is asked for often has more entries than there is room for. */
  hasNoRoom(namespace: string, monoMs: number): void {
    if (this.#roomless.size >= MAX_COUNTED) this.#roomless.clear();
    this.#roomless.set(namespace, monoMs + NO_ROOM_MS);
    if (this.#hot.delete(namespace)) this.#change();
  }

  /** Whether a namespace that is asked for was let go less than a minute ago because it did not fit. */
  isRoomless(namespace: string, monoMs: number): boolean {
    return (this.#roomless.get(namespace) ?? 0) > monoMs;
  }

  /** Namespaces that are followed only because they are asked for. */
  get asked(): readonly string[] {
    return [...this.#hot.keys()].filter((namespace) => !this.isPinned(namespace));
  }

  /** Of the namespaces that are followed only because they are asked for, the one of the least share. Undefined if there is none. */
  leastAsked(shareOf: (namespace: string) => number): string | undefined {
    let least: string | undefined;
    let leastShare = Number.POSITIVE_INFINITY;
    for (const namespace of this.#hot.keys()) {
      const share = shareOf(namespace);
      if (least === undefined || share < leastShare) [least, leastShare] = [namespace, share];
    }
    return least;
  }

  /** What is below a prefix does not fit: it is not followed for a minute. Returns false for what is configured. */
  refuse(prefix: string, monoMs: number): boolean {
    if (!this.isUnconfigured(prefix)) return false;
    if (this.#watched.has(prefix)) this.#refused.set(prefix, monoMs + NO_ROOM_MS);
    this.hasNoRoom(prefix, monoMs);
    this.#change();
    return true;
  }

  /** Prefixes in the order in which they are to find room: configured ones, watched ones from the oldest, and those that are asked for, the largest share first. */
  inOrder(prefixes: readonly string[], shareOf: (namespace: string) => number): readonly string[] {
    const isConfigured = (prefix: string) => !this.isUnconfigured(prefix);
    const watched = [...this.#watched.keys()].filter((prefix) => prefixes.includes(prefix) && !isConfigured(prefix));
    const rest = prefixes.filter((prefix) => !isConfigured(prefix) && !watched.includes(prefix));
    return [...prefixes.filter(isConfigured), ...watched, ...rest.toSorted((a, b) => shareOf(b) - shareOf(a))];
  }

  /** There is no room for what callers watch: what was watched last, and nobody configured, is not followed for a minute. Returns false if there is nothing. */
  refuseNewest(monoMs: number): boolean {
    const newest = [...this.#watched.keys()].findLast((prefix) => this.isUnconfigured(prefix) && !this.#refused.has(prefix));
    if (newest === undefined) return false;
    this.#refused.set(newest, monoMs + NO_ROOM_MS);
    this.#change();
    return true;
  }

  /** Whether callers' watches of a prefix must end with `quota_exceeded`, because what it has does not fit. */
  isRefused(prefix: string): boolean {
    return this.#refused.has(prefix);
  }

  /** What found no room is tried again after some time. */
  tick(monoMs: number): void {
    for (const [prefix, untilMonoMs] of this.#refused) {
      if (untilMonoMs > monoMs) continue;
      this.#refused.delete(prefix);
      if (this.#watched.has(prefix)) this.#change();
    }
  }

  /** Lets go what nobody asked for since then. */
  prune(sinceMonoMs: number): void {
    let isChanged = false;
    for (const [namespace, lastMonoMs] of this.#hot) if (lastMonoMs < sinceMonoMs && this.#hot.delete(namespace)) isChanged = true;
    if (isChanged) this.#change();
  }

  /** Whether one more, which is asked for so often, can be followed; if need be the least asked of those that are asked for less goes. */
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

  /** What is watched below another prefix that is watched counts, since it is followed when that one is followed no more. */
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
    // What is followed now anyhow needs no reason of its own.
    for (const namespace of this.#asked.keys()) if (this.#prefixes.covers(namespace)) this.#asked.delete(namespace);
  }
}

/** Counts one less. Returns whether none is left. */
function less(counts: Map<string, number>, key: string): boolean {
  const left = (counts.get(key) ?? 0) - 1;
  if (left > 0) counts.set(key, left);
  else counts.delete(key);
  return left === 0;
}
