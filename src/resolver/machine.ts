/**
 * The state machine of a resolver. It decides which upstream to use, which namespaces to follow, and the quality of answers (semantics.md, Resolver).
 * It receives inputs with a time and appends orders to a list. The caller opens streams, sends probes and fetches entries. It does not check
 * permissions: the caller must check first whether a client may see a namespace.
 */
import type { EntryStamper } from "../catalog/entry/codec.ts";
import type { LoadView } from "../catalog/entry/view.ts";
import type { EntryIndex } from "../catalog/query/entry-index.ts";
import { askedCount, type QueriedName, type WholeName } from "../catalog/query/instances.ts";
import type { NamespacePrefixes } from "../catalog/query/prefixes.ts";
import type { CatalogRecord, KeyText } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { GUARD_DEFAULTS } from "../consumer/mass-loss-guard.ts";
import { WaymarkError } from "../lib/errors.ts";
import type { FileOwner } from "../lib/file-blocks.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { type MachinePart, MachineParts } from "../lib/machine-part.ts";
import { mayBeSeen } from "../policy/set/verdict.ts";
import type { PolicyEngine } from "../policy/versions/engine.ts";
import { BoundedCache } from "./cache/bounded-cache.ts";
import { CacheCapacity } from "./cache/cache-capacity.ts";
import { RetainedEntries } from "./cache/retained-entries.ts";
import { copyBlocks } from "./disk/disk-copy.ts";
import { type RestoredCopy, restoreCopy } from "./disk/restore.ts";
import { FetchCalls, NOT_READY_RETRY_MS } from "./fetching/fetch-calls.ts";
import { type CachedName, FetchedCache, type FetchedName } from "./fetching/fetched-cache.ts";
import type { FetchOutcome } from "./fetching/shared-fetches.ts";
import type { AnswerQuality, LookupOptions, ResolverInput, ResolverOptions, ResolverOrder } from "./io-types.ts";
import { CacheOperations } from "./maintenance/cache-operations.ts";
import { DigestRounds } from "./maintenance/digest-rounds.ts";
import { AnswerCounts, type ResolverStatistics, statisticsOf } from "./maintenance/statistics.ts";
import { PolicyStream } from "./policy/policy-stream.ts";
import { WatchedPolicy } from "./policy/watched-policy.ts";
import type { FollowedSummaries } from "./summaries/followed-summaries.ts";
import { UpstreamLiveness } from "./upstream-liveness.ts";
import { UpstreamSet } from "./upstreams.ts";
import { WatchBookmarks } from "./watching/bookmarks.ts";
import { PrefixRefusals } from "./watching/prefix-refusals.ts";
import { UpstreamWatches } from "./watching/upstream-watches.ts";
import { WatchSelection } from "./watching/watch-selection.ts";
import { WatchedCatalog } from "./watching/watched-catalog.ts";

export interface ResolverParts {
  /** A replica whose own source node has no entries. */
  readonly replica: Replica;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  readonly policies: PolicyEngine;
  /** Absent when the resolver does not follow summaries. */
  readonly summaries?: FollowedSummaries | undefined;
}

export type ResolverNews =
  /** The resolver switched to another upstream or to none, or the configured namespaces stopped or resumed fitting into the cache. */
  | { readonly kind: "upstream changed"; readonly upstream: string | undefined; readonly isFull: boolean }
  /** All streams to the same upstream must be reopened with the new credentials. */
  | { readonly kind: "reopen" };

export type ResolverPart = MachinePart<ResolverInput | ResolverNews, ResolverOrder>;
type ResolverPartList = MachineParts<ResolverInput | ResolverNews, ResolverOrder>;

type Out = ResolverOrder[];

export class ResolverMachine {
  readonly list: ResolverPartList = new MachineParts();
  readonly bookmarks: WatchBookmarks;
  readonly following: WatchSelection;
  readonly policy: WatchedPolicy;
  /** Entries that the mass-loss guard holds although the upstream reported them as gone. */
  readonly held: RetainedEntries;
  readonly upstreams: UpstreamSet;
  /** Counters of answers. Code that answers without calling `ask` must update the counters itself. */
  readonly counts = new AnswerCounts();
  readonly options: ResolverOptions;
  readonly summaries: FollowedSummaries | undefined;
  readonly replica: Replica;
  readonly followed: WatchedCatalog;
  readonly fetched: FetchedCache;
  /** The possible results of `lookupsOf`. */
  readonly #lists: Readonly<Record<"fetched" | "followed" | "followedAndHeld", readonly EntryIndex[]>>;
  readonly cache: BoundedCache<FetchedName>;
  readonly watches: UpstreamWatches;
  readonly refusals: PrefixRefusals;
  readonly digests: DigestRounds;
  readonly acts: CacheOperations;
  readonly liveness: UpstreamLiveness;
  readonly calls: FetchCalls;
  readonly policyStream: PolicyStream;
  /** The upstream to which the watches are open. */
  used: string | undefined;
  /** Monotonic time at which all followed entries last matched a bookmark of the upstream. Undefined if they have never matched. */
  wholeMonoMs: number | undefined;
  upstreamChangeCount = 0;
  readonly space: CacheCapacity;
  /** Monotonic time before which no namespaces are followed, because the configured namespaces do not fit. */
  fullUntilMonoMs = Number.NEGATIVE_INFINITY;
  isFull = false;
  /** A fault that prevents the resolver from being ready until an operator acts. Undefined without a fault. */
  fault: string | undefined;

  /** `partsOf` returns the machine's parts in the order in which they run (`parts.ts`). */
  constructor(
    options: ResolverOptions,
    { replica, stamper, policies, summaries }: ResolverParts,
    partsOf: (machine: ResolverMachine, time: Time) => readonly ResolverPart[],
    time: Time,
  ) {
    const { maxEntries, maxBytes, maxWatches, ttls, maxStaleMs, random } = options;
    const { slab, lookup } = replica;
    this.options = options;
    this.summaries = summaries;
    this.replica = replica;
    this.bookmarks = new WatchBookmarks(replica);
    this.held = new RetainedEntries({
      lookup,
      slab,
      bounds: { ...GUARD_DEFAULTS, holdMs: options.guardHoldMs },
      admits: (record) => mayBeSeen(policies.policy, record, record.traits, options.clusterId),
    });
    // The worth of a fetched answer is 0 if its namespace is now followed, because lookups then use the followed entries.
    const worthOf = ({ content, namespace }: FetchedName) => Number(content.length > 0 && !this.isComplete(namespace));
    this.cache = new BoundedCache({ maxEntries, maxBytes, worthOf, onEvicted: (_, name) => this.space.evicted(name), random });
    this.fetched = new FetchedCache({ slab, stamper, cache: this.cache, ttls, maxStaleMs });
    this.calls = new FetchCalls(this.fetched, maxBytes);
    this.followed = new WatchedCatalog({ replica, bookmarks: this.bookmarks, stamper, onChange: this.held, onTold: this.fetched });
    this.watches = new UpstreamWatches(this.followed, this.bookmarks, { onSnapshot: (why, prefixes) => this.acts.resynced(why, prefixes) });
    this.#lists = { followed: [lookup], followedAndHeld: [lookup, this.held.lookup], fetched: [this.fetched.lookup] };
    this.following = new WatchSelection({
      configured: options.namespaces,
      maxWatches,
      asksOf: (namespace) => this.cache.asksOf(namespace),
    });
    const [watches, followed, fetched, following] = [this.watches, this.followed, this.fetched, this.following];
    const parts = { replica, bookmarks: this.bookmarks, followed, watches, policies, stamper };
    this.space = new CacheCapacity({ ...parts, following, held: this.held, fetched, cache: this.cache });
    this.refusals = new PrefixRefusals(random);
    this.policy = new WatchedPolicy(policies);
    this.policyStream = new PolicyStream(this.policy);
    this.upstreams = new UpstreamSet({ ...options, addresses: options.upstreams }, time.monoMs);
    this.liveness = new UpstreamLiveness({ upstreams: this.upstreams, watches });
    this.digests = new DigestRounds({ ...parts, intervalMs: options.resyncIntervalMs, random }, time);
    this.acts = new CacheOperations({ lookup, fetched, following, watches });
    this.list.add(partsOf(this, time));
  }

  handle(input: ResolverInput, time: Time, out: Out): void {
    const silentMonoMs = this.liveness.silentSince(time);
    if (silentMonoMs !== undefined) this.fetched.onSilence(silentMonoMs, time);
    this.list.handle(input, time, out);
  }

  nextDeadlineMs(): number {
    return this.list.nextDeadlineMs();
  }

  /** A string that changes whenever the content of a copy would change. Undefined while there is no data worth copying. */
  get copyMark(): string | undefined {
    const { held } = this.watches;
    return held === undefined ? undefined : [this.replica.revision, this.held.mark, this.policy.mark, ...held.prefixes.list].join(" ");
  }

  /**
   * Yields the cached entries and the policy as blocks of a file. The cache may change between blocks. Throws under the same conditions as
   * `copyBlocks`.
   */
  copy(now: () => Time): Generator<Uint8Array> {
    return copyBlocks({ ...this.space.parts, owner: this.#owner, policy: this.policy, freshness: this.liveness.freshness }, now);
  }

  /**
   * Restores the state from a copy. If the copy is unusable, returns the reason without changing any state. Must be called before the first input.
   * Yields between slices of work.
   */
  restore(bytes: Uint8Array, time: Time): Generator<void, RestoredCopy> {
    const parts = {
      ...this.space.parts,
      owner: this.#owner,
      policy: this.policy,
      freshness: this.liveness.freshness,
      configured: this.options.namespaces,
      maxEntries: this.options.maxEntries,
      fits: () => this.space.isEnough,
    };
    return restoreCopy(bytes, parts, time);
  }

  get #owner(): FileOwner {
    return { nodeId: this.options.name, clusterId: this.options.clusterId };
  }

  /** Whether the resolver is ready: it has the policy and, with `seedOnStart`, all configured namespaces and all available summaries. */
  get isReady(): boolean {
    const { seedOnStart, namespaces } = this.options;
    if (seedOnStart && this.summaries?.isPending === true) return false;
    return (
      this.policy.isReady && this.fault === undefined && (!seedOnStart || namespaces.every((prefix) => this.watches.isComplete(prefix)))
    );
  }

  /** Returns the indexes that contain a namespace's entries. If two indexes are returned, they have no keys in common. */
  lookupsOf(namespace: string): readonly EntryIndex[] {
    // HOT: runs per query. The guard rarely holds entries, so lookups usually read a single index.
    const { followed, followedAndHeld, fetched } = this.#lists;
    if (!this.isComplete(namespace)) return fetched;
    return this.held.lookup.size === 0 ? followed : followedAndHeld;
  }

  /** The indexes of followed and fetched entries, without the entries that the guard holds. */
  get lookups(): readonly EntryIndex[] {
    return [...this.#lists.followed, ...this.#lists.fetched];
  }

  /** Returns whether all entries of a namespace and the namespaces below it are followed and present. An empty string means all namespaces. */
  isComplete(namespace: string): boolean {
    return this.watches.isComplete(namespace);
  }

  /**
   * Returns the quality of a fetched answer for a caller that waited for the fetch. Returns undefined when the name changed during the fetch, so that
   * the answer must not be used.
   */
  fetchedAnswer(name: QueriedName, time: Time): AnswerQuality | undefined {
    const known = this.fetched.look(name, time, this.liveness.silentSince(time));
    return known.state === "miss" ? undefined : this.#answerOf(known, time);
  }

  /**
   * Returns the quality of the last fetched answer for a caller whose fetch failed. Returns undefined if there is no such answer. A negative answer
   * is never used beyond its TTL.
   */
  lastAnswer(name: QueriedName, time: Time): AnswerQuality | undefined {
    const known = this.fetched.look(name, time, time.monoMs);
    return known.state === "miss" || known.isNegative ? undefined : this.#answerOf({ ...known, state: "stale" }, time);
  }

  /** Returns whether the cache has a fetched answer for a name. */
  hasFetched(name: QueriedName): boolean {
    return this.fetched.has(name);
  }

  /** Time for which a fetched answer remains fresh, in ms, or a value of 0 or less once it is stale. Undefined if there is no fetched answer. */
  readonly fetchedLeftMs = (name: QueriedName, time: Time): number | undefined => this.fetched.leftMs(name, time);
  /** A number that changes with each new fetched answer for a name, or 0 when the answer is outdated. Undefined if there is no fetched answer. */
  readonly fetchedMark = (name: WholeName): number | undefined => this.fetched.markOf(name);
  /**
   * Number of times the resolver stopped following namespaces. After such a release, answers that were not obtained through `ask` may be older than
   * answers that clients have already received.
   */
  get releaseCount(): number {
    return this.watches.releaseCount;
  }

  /** Returns the latest load report of a followed or fetched entry. */
  loadOf(key: KeyText): LoadView | undefined {
    return this.followed.loads.get(key) ?? this.fetched.loads.get(key);
  }

  /** Names of this resolver and of the resolvers through which it receives its data, nearest first. */
  get via(): readonly string[] {
    return [this.options.name, ...this.upstreams.via];
  }

  /**
   * Returns the quality of an answer from followed entries. `isAsked` receives the held entries and returns whether the answer contains one of them.
   */
  followedAnswer(time: Time, isAsked: (held: EntryIndex) => boolean = () => false): AnswerQuality {
    const isHolding = this.held.lookup.size > 0 && isAsked(this.held.lookup);
    const { isFromDisk } = this.watches;
    const isStale = isFromDisk || this.isFull || isHolding || !this.liveness.isWell(time);
    const { freshness } = this.liveness;
    return { source: isFromDisk ? "disk" : "followed", isStale, ageMs: freshness.ageMs(time), unreachable: freshness.unreachable };
  }

  /**
   * Returns the answer quality for a caller that may not see a namespace. It is the same as for an empty namespace, regardless of other callers'
   * requests.
   */
  hiddenAnswer(namespace: string, time: Time): AnswerQuality {
    if (!this.following.isUnconfigured(namespace)) return this.followedAnswer(time);
    return { source: "fetched", isStale: this.upstreams.isCutOff, ageMs: 0 };
  }

  /** Must be called when another policy comes into force. Fetched answers become outdated, and held entries that the policy hides are released. */
  policyChanged(): void {
    this.held.policyChanged();
    this.fetched.outdate();
  }

  /**
   * Looks up a name for a caller that may see its namespace. Returns undefined when the caller must wait. `onOutcome` is then called once, later.
   * Throws `not_ready` when no upstream can be queried.
   */
  ask(
    name: QueriedName,
    onOutcome: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void,
    time: Time,
    out: Out,
    { maxAgeMs = NEVER, isFurther = false, isCounted = true }: LookupOptions = {},
  ): AnswerQuality | undefined {
    const { namespace } = name;
    if (!isFurther) this.#askedFor(namespace, time, out);
    if (this.isComplete(namespace) && this.liveness.freshness.ageMs(time) <= maxAgeMs) {
      const answer = this.followedAnswer(time, (held) => askedCount(held, name) > 0);
      if (isCounted) this.counts.hit(answer);
      return answer;
    }
    const known = this.fetched.ask(name, time, this.liveness.silentSince(time));
    if (known.state === "miss" || known.ageMs > maxAgeMs) {
      if (isCounted) this.counts.miss();
      return this.#missed(name, onOutcome, time, out);
    }
    const answer = this.#answerOf(known, time);
    const upstream = this.upstreams.current;
    if (known.state === "stale" && upstream !== undefined && !this.fetched.isBusy) this.calls.begin(name, () => {}, upstream, time, out);
    if (isCounted) this.counts.hit(answer);
    return answer;
  }

  #answerOf({ state, name, ageMs, isNegative }: Exclude<CachedName, { readonly state: "miss" }>, time: Time): AnswerQuality {
    return {
      source: "fetched",
      isStale: state === "stale" || name.isStale || this.liveness.isAway(time),
      ageMs,
      unreachable: name.unreachable,
      isNegative,
    };
  }

  #askedFor(namespace: string, time: Time, out: Out): void {
    this.cache.ask(namespace);
    const { prefixes } = this.following;
    this.following.ask(namespace, time.monoMs);
    if (this.following.prefixes !== prefixes) this.want(time, out);
  }

  statistics(time: Time): ResolverStatistics {
    const reported = { wholeMonoMs: this.wholeMonoMs, upstreamChangeCount: this.upstreamChangeCount, resyncs: this.acts.resyncs };
    return statisticsOf({ ...this.space.parts, upstreams: this.upstreams, liveness: this.liveness, counts: this.counts }, reported, time);
  }

  #missed(name: QueriedName, onOutcome: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void, time: Time, out: Out): undefined {
    const upstream = this.upstreams.current;
    if (upstream === undefined)
      throw new WaymarkError("not_ready", "this resolver cannot reach any upstream and has no cached answer for this name; retry", {
        retryMs: NOT_READY_RETRY_MS,
      });
    this.calls.begin(name, onOutcome, upstream, time, out);
    return undefined;
  }

  /** Runs `read`, which processes an upstream message. If the message is malformed, stops using that upstream and returns undefined. */
  parseOrDistrust<T>(upstream: string, read: () => T, time: Time, out: Out): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      this.distrust(upstream, error.message, time, out);
      return undefined;
    }
  }

  distrust(upstream: string, fault: string, { monoMs }: Time, out: Out): void {
    out.push({ kind: "garbled", upstream, fault });
    this.upstreams.garbled(upstream, monoMs);
  }

  /** Must be called when the upstream in use fails. */
  lose({ monoMs }: Time, retryMs?: number): void {
    if (this.used !== undefined) this.upstreams.broke(this.used, monoMs, retryMs);
  }

  /** Prefixes to follow, except prefixes that the upstream refuses. */
  get wanted(): NamespacePrefixes {
    return this.refusals.allowed(this.following.prefixes);
  }

  /** Opens, changes and closes watches so that they cover the wanted prefixes. */
  want(time: Time, out: Out): void {
    const wasOpen = this.watches.isOpen;
    this.watches.want(this.wanted, time, out);
    if (!this.refusals.isEmpty && !this.watches.isOpening && this.refusals.release(time.monoMs)) this.watches.want(this.wanted, time, out);
    // The upstream's silence is measured from now on, because no messages were expected before.
    if (!wasOpen && this.watches.isOpen) this.liveness.opened(time);
  }
}
