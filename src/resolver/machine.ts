/**
 * A resolver as a machine: which upstream it goes by, what it follows there, and what it answers its callers from (semantics.md, Resolver). It takes inputs and a
 * time, and appends orders to a list; the shell opens streams, probes and fetches. It judges nobody: who may see a namespace is asked before it is.
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
  /** Empty, and of no origin that has entries. */
  readonly replica: Replica;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  readonly policies: PolicyEngine;
  /** Absent where none are followed. */
  readonly summaries?: FollowedSummaries | undefined;
}

export type ResolverNews =
  /** Another upstream is used from now on, or none, or what is configured does not fit, or fits again. */
  | { readonly kind: "upstream changed"; readonly upstream: string | undefined; readonly isFull: boolean }
  /** The same streams are opened again, with other credentials. */
  | { readonly kind: "reopen" };

export type ResolverPart = MachinePart<ResolverInput | ResolverNews, ResolverOrder>;
type ResolverPartList = MachineParts<ResolverInput | ResolverNews, ResolverOrder>;

type Out = ResolverOrder[];

export class ResolverMachine {
  readonly list: ResolverPartList = new MachineParts();
  readonly bookmarks: WatchBookmarks;
  readonly following: WatchSelection;
  readonly policy: WatchedPolicy;
  /** What it holds beside what it follows. */
  readonly held: RetainedEntries;
  readonly upstreams: UpstreamSet;
  /** Of answers. Whoever answers without `ask` counts here. */
  readonly counts = new AnswerCounts();
  readonly options: ResolverOptions;
  readonly summaries: FollowedSummaries | undefined;
  readonly replica: Replica;
  readonly followed: WatchedCatalog;
  readonly fetched: FetchedCache;
  /** What `lookupsOf` gives. */
  readonly #lists: Readonly<Record<"fetched" | "followed" | "followedAndHeld", readonly EntryIndex[]>>;
  readonly cache: BoundedCache<FetchedName>;
  readonly watches: UpstreamWatches;
  readonly refusals: PrefixRefusals;
  readonly digests: DigestRounds;
  readonly acts: CacheOperations;
  readonly upstreamLiveness: UpstreamLiveness;
  readonly calls: FetchCalls;
  readonly policyStream: PolicyStream;
  /** The upstream of the watches that are open. */
  used: string | undefined;
  /** When everything that is followed was as it was at the upstream's bookmark. Undefined: never. */
  wholeMonoMs: number | undefined;
  upstreamChangeCount = 0;
  readonly space: CacheCapacity;
  /** Until when nothing is followed, because what is configured does not fit. */
  fullUntilMonoMs = Number.NEGATIVE_INFINITY;
  isFull = false;
  /** Why it is not ready, where an operator must do something. Undefined without a fault. */
  fault: string | undefined;

  /** `partsOf`: the parts in the order in which they work (`parts.ts`). */
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
    // What is followed now is told from there.
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
    this.upstreamLiveness = new UpstreamLiveness({ upstreams: this.upstreams, watches });
    this.digests = new DigestRounds({ ...parts, intervalMs: options.resyncIntervalMs, random }, time);
    this.acts = new CacheOperations({ lookup, fetched, following, watches });
    this.list.add(partsOf(this, time));
  }

  handle(input: ResolverInput, time: Time, out: Out): void {
    const silentMonoMs = this.upstreamLiveness.silentSince(time);
    if (silentMonoMs !== undefined) this.fetched.onSilence(silentMonoMs, time);
    this.list.handle(input, time, out);
  }

  nextDeadlineMs(): number {
    return this.list.nextDeadlineMs();
  }

  /** A text that changes with what a copy would hold. Undefined while there is nothing that is worth one. */
  get copyMark(): string | undefined {
    const { held } = this.watches;
    return held === undefined ? undefined : [this.replica.revision, this.held.mark, this.policy.mark, ...held.prefixes.list].join(" ");
  }

  /** What is held, and the policy, in blocks for a file. It may go on changing while they are taken; throws as `copyBlocks`. */
  copy(now: () => Time): Generator<Uint8Array> {
    return copyBlocks({ ...this.space.parts, owner: this.#owner, policy: this.policy, freshness: this.upstreamLiveness.freshness }, now);
  }

  /**
   * Takes a copy as the state to begin with; or says why it is of no use, with which nothing is changed. To be called before any input. Yields between slices
   * of work.
   */
  restore(bytes: Uint8Array, time: Time): Generator<void, RestoredCopy> {
    const parts = {
      ...this.space.parts,
      owner: this.#owner,
      policy: this.policy,
      freshness: this.upstreamLiveness.freshness,
      configured: this.options.namespaces,
      maxEntries: this.options.maxEntries,
      fits: () => this.space.isEnough,
    };
    return restoreCopy(bytes, parts, time);
  }

  get #owner(): FileOwner {
    return { nodeId: this.options.name, clusterId: this.options.clusterId };
  }

  /** Whether everything that is to be followed from the start is here, and the policy; and summaries, if they can be had. */
  get isReady(): boolean {
    const { seedOnStart, namespaces } = this.options;
    if (seedOnStart && this.summaries?.isPending === true) return false;
    return (
      this.policy.isReady && this.fault === undefined && (!seedOnStart || namespaces.every((prefix) => this.watches.isComplete(prefix)))
    );
  }

  /** Where lookups of a namespace find its entries. Those of two lists have no key in common. */
  lookupsOf(namespace: string): readonly EntryIndex[] {
    // HOT: once a query. Nearly always nothing is held, and one list is read without being joined.
    const { followed, followedAndHeld, fetched } = this.#lists;
    if (!this.isComplete(namespace)) return fetched;
    return this.held.lookup.size === 0 ? followed : followedAndHeld;
  }

  /** What it follows and what it fetched; without what is only held. */
  get lookups(): readonly EntryIndex[] {
    return [...this.#lists.followed, ...this.#lists.fetched];
  }

  /** Whether all that a namespace has, and all below it, is followed and here. An empty text stands for all namespaces. */
  isComplete(namespace: string): boolean {
    return this.watches.isComplete(namespace);
  }

  /** How good the answer to a name is, to somebody who has waited for it. Undefined: it may not be told, because more was heard while it was fetched. */
  fetchedAnswer(name: QueriedName, time: Time): AnswerQuality | undefined {
    const known = this.fetched.look(name, time, this.upstreamLiveness.silentSince(time));
    return known.state === "miss" ? undefined : this.#answerOf(known, time);
  }

  /**
   * What was fetched of a name at some time, for somebody who waited for it while no upstream answered. Undefined if nothing was; that nothing exists is not said
   * beyond its time.
   */
  lastAnswer(name: QueriedName, time: Time): AnswerQuality | undefined {
    const known = this.fetched.look(name, time, time.monoMs);
    return known.state === "miss" || known.isNegative ? undefined : this.#answerOf({ ...known, state: "stale" }, time);
  }

  /** Whether the answer to a name was fetched and is here. */
  hasFetched(name: QueriedName): boolean {
    return this.fetched.has(name);
  }

  /** How long the answer to a name that was fetched stays fresh, in ms; 0 or less when that is over. Undefined if it is not here. */
  readonly fetchedLeftMs = (name: QueriedName, time: Time): number | undefined => this.fetched.leftMs(name, time);
  /** Another number after each change of what was fetched of a name; 0 for what is out of date. Undefined: nothing is here. */
  readonly fetchedMark = (name: WholeName): number | undefined => this.fetched.markOf(name);
  /** How often something that was followed was let go: what was asked before, by other ways than `ask`, may be older than what callers were told since. */
  get releaseCount(): number {
    return this.watches.releaseCount;
  }

  /** The last report about an entry that is followed or fetched. */
  loadOf(key: KeyText): LoadView | undefined {
    return this.followed.loads.get(key) ?? this.fetched.loads.get(key);
  }

  /** This resolver, and those through which its data comes, the nearest first. */
  get via(): readonly string[] {
    return [this.options.name, ...this.upstreams.via];
  }

  /** How good what is followed is. `isAsked` is given the entries that are held, and says whether one of them is in the answer. */
  followedAnswer(time: Time, isAsked: (held: EntryIndex) => boolean = () => false): AnswerQuality {
    const isHolding = this.held.lookup.size > 0 && isAsked(this.held.lookup);
    const { isFromDisk } = this.watches;
    const isStale = isFromDisk || this.isFull || isHolding || !this.upstreamLiveness.isWell(time);
    const { freshness } = this.upstreamLiveness;
    return { source: isFromDisk ? "disk" : "followed", isStale, ageMs: freshness.ageMs(time), unreachable: freshness.unreachable };
  }

  /** How good the answer is to a caller that may not see a namespace: as if nothing were there, whatever others ask for. */
  hiddenAnswer(namespace: string, time: Time): AnswerQuality {
    if (!this.following.isUnconfigured(namespace)) return this.followedAnswer(time);
    return { source: "fetched", isStale: this.upstreams.isCutOff, ageMs: 0 };
  }

  /** Another policy is in force: what was fetched under the one before is asked for again, and what it hides is held no longer. */
  policyChanged(): void {
    this.held.policyChanged();
    this.fetched.outdate();
  }

  /**
   * Asks for a name, for a caller that may see its namespace. Undefined: the caller has to wait, and `told` is called once, later. Throws `not_ready` where
   * there is nobody to ask.
   */
  ask(
    name: QueriedName,
    told: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void,
    time: Time,
    out: Out,
    { maxAgeMs = NEVER, isFurther = false, isCounted = true }: LookupOptions = {},
  ): AnswerQuality | undefined {
    const { namespace } = name;
    if (!isFurther) this.#askedFor(namespace, time, out);
    if (this.isComplete(namespace) && this.upstreamLiveness.freshness.ageMs(time) <= maxAgeMs) {
      const answer = this.followedAnswer(time, (held) => askedCount(held, name) > 0);
      if (isCounted) this.counts.hit(answer);
      return answer;
    }
    const known = this.fetched.ask(name, time, this.upstreamLiveness.silentSince(time));
    if (known.state === "miss" || known.ageMs > maxAgeMs) {
      if (isCounted) this.counts.miss();
      return this.#missed(name, told, time, out);
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
      isStale: state === "stale" || name.isStale || this.upstreamLiveness.isAway(time),
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
    const told = { wholeMonoMs: this.wholeMonoMs, upstreamChangeCount: this.upstreamChangeCount, resyncs: this.acts.resyncs };
    return statisticsOf(
      { ...this.space.parts, upstreams: this.upstreams, upstreamLiveness: this.upstreamLiveness, counts: this.counts },
      told,
      time,
    );
  }

  #missed(name: QueriedName, told: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void, time: Time, out: Out): undefined {
    const upstream = this.upstreams.current;
    if (upstream === undefined)
      throw new WaymarkError("not_ready", "this resolver reaches no server, and does not know this name", { retryMs: NOT_READY_RETRY_MS });
    this.calls.begin(name, told, upstream, time, out);
    return undefined;
  }

  /** What an upstream said, unless no server of ours can have said it: then that upstream is left. */
  believed<T>(upstream: string, read: () => T, time: Time, out: Out): T | undefined {
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

  /** The upstream that is used failed. */
  lose({ monoMs }: Time, retryMs?: number): void {
    if (this.used !== undefined) this.upstreams.broke(this.used, monoMs, retryMs);
  }

  /** What is to be followed, without what the upstream refuses. */
  get wanted(): NamespacePrefixes {
    return this.refusals.allowed(this.following.prefixes);
  }

  /** Brings the watches in line with what is to be followed. */
  want(time: Time, out: Out): void {
    const wasOpen = this.watches.isOpen;
    this.watches.want(this.wanted, time, out);
    if (!this.refusals.isEmpty && !this.watches.isOpening && this.refusals.release(time.monoMs)) this.watches.want(this.wanted, time, out);
    // Until now there was nothing to say.
    if (!wasOpen && this.watches.isOpen) this.upstreamLiveness.opened(time);
  }
}
