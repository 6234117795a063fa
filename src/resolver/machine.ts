/**
 * A resolver as a machine: which upstream it goes by, what it follows there, and what it answers its callers from (semantics.md, Resolver). It takes inputs and a
 * time, and appends orders to a list; the shell opens streams, probes and fetches. It judges nobody: who may see a namespace is asked before it is.
 */
import type { EntryStamper } from "../catalog/entry/codec.ts";
import type { LoadView } from "../catalog/entry/view.ts";
import { type AskedName, askedCount, type WholeName } from "../catalog/query/instances.ts";
import type { Lookup } from "../catalog/query/lookup.ts";
import type { Prefixes } from "../catalog/query/prefixes.ts";
import type { CatalogRecord, KeyText } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { SNAPSHOT } from "../catalog/watch/reader.ts";
import type { OwnerOfFile } from "../lib/blocks.ts";
import { WaymarkError } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { mayBeSeen } from "../policy/set/visibility.ts";
import type { PolicyEngine } from "../policy/versions/engine.ts";
import { GUARD_DEFAULTS } from "../reading/guard.ts";
import { readFetchedPage, readWatchMessage } from "./codec.ts";
import { copyBlocks } from "./disk/copy.ts";
import { type RestoredCopy, restoreCopy } from "./disk/restoring.ts";
import { FetchCalls, NOT_READY_RETRY_MS } from "./fetching/fetch-calls.ts";
import { Fetched, type FetchedName, type Known } from "./fetching/fetched.ts";
import type { Outcome } from "./fetching/fetches.ts";
import { Bookmarks } from "./following/bookmarks.ts";
import { Followed } from "./following/followed.ts";
import { Following, UNASKED_MS } from "./following/following.ts";
import { PrefixRefusals } from "./following/refusals.ts";
import { type StreamNumber, Watches } from "./following/watches.ts";
import { Hearing } from "./hearing.ts";
import type { Answer, Asked, CallNumber, ResolverInput, ResolverOptions, ResolverOrder } from "./io-types.ts";
import { BoundedCache } from "./keeping/bounded-cache.ts";
import { HeldEntries } from "./keeping/held-entries.ts";
import { FULL_MS, fullFault, Space } from "./keeping/space.ts";
import { FollowedPolicy } from "./policy/followed-policy.ts";
import { PolicyStream } from "./policy/policy-stream.ts";
import type { FollowedSummaries } from "./summaries/followed-summaries.ts";
import { CacheActs } from "./upkeep/cache-acts.ts";
import { DigestRounds } from "./upkeep/digest-rounds.ts";
import { Reopening } from "./upkeep/reopening.ts";
import { AnswerCounts, type ResolverStatistics, statisticsOf } from "./upkeep/statistics.ts";
import { Upstreams } from "./upstreams.ts";

export interface ResolverParts {
  /** Empty, and of no origin that has entries. */
  readonly replica: Replica;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  readonly policies: PolicyEngine;
  /** Absent where none are followed. */
  readonly summaries?: FollowedSummaries | undefined;
}

/** Most tombstones that are dropped at a time. */
const PRUNED_AT_A_TIME = 10_000;

type Out = ResolverOrder[];

export class ResolverMachine {
  readonly bookmarks: Bookmarks;
  readonly following: Following;
  readonly policy: FollowedPolicy;
  /** What it holds beside what it follows. */
  readonly held: HeldEntries;
  readonly upstreams: Upstreams;
  /** Of answers. Whoever answers without `ask` counts here. */
  readonly counts = new AnswerCounts();
  readonly #options: ResolverOptions;
  readonly #summaries: FollowedSummaries | undefined;
  readonly #replica: Replica;
  readonly #followed: Followed;
  readonly #fetched: Fetched;
  /** What `lookupsOf` gives. */
  readonly #lists: Readonly<Record<"fetched" | "followed" | "followedAndHeld", readonly Lookup[]>>;
  readonly #cache: BoundedCache<FetchedName>;
  readonly #watches: Watches;
  readonly #refusals: PrefixRefusals;
  readonly #digests: DigestRounds;
  readonly #acts: CacheActs;
  readonly #reopening: Reopening;
  readonly #hearing: Hearing;
  readonly #calls: FetchCalls;
  readonly #policyStream: PolicyStream;
  /** The upstream of the watches that are open. */
  #used: string | undefined;
  #pruneMonoMs: number;
  /** When everything that is followed was as it was at the upstream's bookmark. Undefined: never. */
  #wholeMonoMs: number | undefined;
  #upstreamChangeCount = 0;
  readonly #space: Space;
  /** Until when nothing is followed, because what is configured does not fit. */
  #fullUntilMonoMs = Number.NEGATIVE_INFINITY;
  #isFull = false;
  #fault: string | undefined;

  constructor(options: ResolverOptions, { replica, stamper, policies, summaries }: ResolverParts, time: Time) {
    const { monoMs } = time;
    const { maxEntries, maxBytes, maxWatches, ttls, maxStaleMs, random } = options;
    const { slab, lookup } = replica;
    this.#options = options;
    this.#summaries = summaries;
    this.#replica = replica;
    this.bookmarks = new Bookmarks(replica);
    this.held = new HeldEntries({
      lookup,
      slab,
      bounds: { ...GUARD_DEFAULTS, holdMs: options.guardHoldMs },
      admits: (record) => mayBeSeen(policies.policy, record, record.traits, options.clusterId),
    });
    // What is followed now is told from there.
    const worthOf = ({ content, namespace }: FetchedName) => Number(content.length > 0 && !this.isComplete(namespace));
    this.#cache = new BoundedCache({ maxEntries, maxBytes, worthOf, onEvicted: (_, name) => this.#space.evicted(name), random });
    this.#fetched = new Fetched({ slab, stamper, cache: this.#cache, ttls, maxStaleMs });
    this.#calls = new FetchCalls(this.#fetched, maxBytes);
    this.#followed = new Followed({ replica, bookmarks: this.bookmarks, stamper, onChange: this.held, onTold: this.#fetched });
    this.#watches = new Watches(this.#followed, this.bookmarks, { onSnapshot: (why, prefixes) => this.#acts.resynced(why, prefixes) });
    this.#lists = { followed: [lookup], followedAndHeld: [lookup, this.held.lookup], fetched: [this.#fetched.lookup] };
    this.following = new Following({ configured: options.namespaces, maxWatches, asksOf: (namespace) => this.#cache.asksOf(namespace) });
    const [watches, followed, fetched, following] = [this.#watches, this.#followed, this.#fetched, this.following];
    const parts = { replica, bookmarks: this.bookmarks, followed, watches, policies, stamper };
    this.#space = new Space({ ...parts, following, held: this.held, fetched, cache: this.#cache });
    this.#refusals = new PrefixRefusals(random);
    this.policy = new FollowedPolicy(policies);
    this.#policyStream = new PolicyStream(this.policy);
    this.upstreams = new Upstreams({ ...options, addresses: options.upstreams }, monoMs);
    this.#hearing = new Hearing({ upstreams: this.upstreams, watches });
    this.#pruneMonoMs = monoMs + options.pruneIntervalMs;
    this.#digests = new DigestRounds({ ...parts, intervalMs: options.resyncIntervalMs, random }, time);
    this.#reopening = new Reopening(random);
    this.#acts = new CacheActs({ lookup, fetched, following, watches });
  }

  handle(input: ResolverInput, time: Time, out: Out): void {
    const silentMonoMs = this.#hearing.silentSince(time);
    if (silentMonoMs !== undefined) this.#fetched.wereSilent(silentMonoMs, time);
    switch (input.kind) {
      case "tick":
        this.#tick(time, out);
        break;
      case "probed":
        this.upstreams.answered(input.upstream, input.latencyMs, input.facts, time.monoMs);
        break;
      case "probe failed":
        this.upstreams.failed(input.upstream, time.monoMs, input.retryMs);
        break;
      case "watch said":
        this.#watchSaid(input, time, out);
        break;
      case "watch ended":
        this.#watchEnded(input, time, out);
        break;
      case "policy said":
        this.#policySaid(input.stream, input.bytes, time, out);
        break;
      case "policy ended":
        if (this.#policyStream.ended(input.stream)) this.#lose(time, input.retryMs);
        break;
      case "summaries said":
        this.#summariesSaid(input, time, out);
        break;
      case "summaries ended":
        this.#summaries?.ended(input.stream, input.retryMs, input.refusal !== undefined, time);
        break;
      case "fetched":
        this.#fetchedPage(input.call, input.bytes, time, out);
        break;
      case "fetch failed":
        this.#fetchFailed(input, time, out);
        break;
      case "garbled":
        this.#distrust(input.upstream, input.fault, time, out);
        break;
      case "credentials changed":
        this.#reopening.ask(time.monoMs);
        break;
      case "act":
        this.#acts.begin(input, this.upstreams.isCutOff, time, out);
        break;
    }
    this.#adjust(time, out);
  }

  nextDeadlineMs(): number {
    const ownMs = Math.min(this.#digests.nextDeadlineMs(), this.#acts.nextDeadlineMs(), this.held.nextDeadlineMs());
    // What waits for its turn comes with what is tried before it.
    const refusedMonoMs = this.#refusals.isEmpty || this.#watches.isOpening ? NEVER : this.#refusals.nextDeadlineMs();
    const fullMonoMs = this.#isFull ? this.#fullUntilMonoMs : NEVER;
    return Math.min(
      this.upstreams.nextDeadlineMs(),
      this.policy.nextDeadlineMs(),
      ownMs,
      this.#pruneMonoMs,
      this.#hearing.deadMonoMs,
      fullMonoMs,
      refusedMonoMs,
      this.#watches.nextDeadlineMs(),
      this.#reopening.dueMonoMs,
      this.#summaries?.nextDeadlineMs() ?? NEVER,
    );
  }

  /** A text that changes with what a copy would hold. Undefined while there is nothing that is worth one. */
  get copyMark(): string | undefined {
    const { held } = this.#watches;
    return held === undefined ? undefined : [this.#replica.revision, this.held.mark, this.policy.mark, ...held.prefixes.list].join(" ");
  }

  /** What is held, and the policy, in blocks for a file. It may go on changing while they are taken; throws as `copyBlocks`. */
  copy(now: () => Time): Generator<Uint8Array> {
    return copyBlocks({ ...this.#space.parts, owner: this.#owner, policy: this.policy, freshness: this.#hearing.freshness }, now);
  }

  /**
   * Takes a copy as the state to begin with; or says why it is of no use, with which nothing is changed. To be called before any input. Yields between slices
   * of work.
   */
  restore(bytes: Uint8Array, time: Time): Generator<void, RestoredCopy> {
    const parts = {
      ...this.#space.parts,
      owner: this.#owner,
      policy: this.policy,
      freshness: this.#hearing.freshness,
      configured: this.#options.namespaces,
      maxEntries: this.#options.maxEntries,
      fits: () => this.#space.isEnough,
    };
    return restoreCopy(bytes, parts, time);
  }

  get #owner(): OwnerOfFile {
    return { nodeId: this.#options.name, clusterId: this.#options.clusterId };
  }

  /** Whether everything that is to be followed from the start is here, and the policy; and summaries, if they can be had. */
  get isReady(): boolean {
    const { seedOnStart, namespaces } = this.#options;
    if (seedOnStart && this.#summaries?.isPending === true) return false;
    return (
      this.policy.isReady && this.#fault === undefined && (!seedOnStart || namespaces.every((prefix) => this.#watches.isComplete(prefix)))
    );
  }

  /** Why it is not ready, where an operator must do something. Undefined without a fault. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** Where lookups of a namespace find its entries. Those of two lists have no key in common. */
  lookupsOf(namespace: string): readonly Lookup[] {
    // HOT: once a query. Nearly always nothing is held, and one list is read without being joined.
    const { followed, followedAndHeld, fetched } = this.#lists;
    if (!this.isComplete(namespace)) return fetched;
    return this.held.lookup.size === 0 ? followed : followedAndHeld;
  }

  /** What it follows and what it fetched; without what is only held. */
  get lookups(): readonly Lookup[] {
    return [...this.#lists.followed, ...this.#lists.fetched];
  }

  /** Whether all that a namespace has, and all below it, is followed and here. An empty text stands for all namespaces. */
  isComplete(namespace: string): boolean {
    return this.#watches.isComplete(namespace);
  }

  /** How good the answer to a name is, to somebody who has waited for it. Undefined: it may not be told, because more was heard while it was fetched. */
  fetchedAnswer(name: AskedName, time: Time): Answer | undefined {
    const known = this.#fetched.look(name, time, this.#hearing.silentSince(time));
    return known.state === "miss" ? undefined : this.#answerOf(known, time);
  }

  /**
   * What was fetched of a name at some time, for somebody who waited for it while no upstream answered. Undefined if nothing was; that nothing exists is not said
   * beyond its time.
   */
  lastAnswer(name: AskedName, time: Time): Answer | undefined {
    const known = this.#fetched.look(name, time, time.monoMs);
    return known.state === "miss" || known.isNegative ? undefined : this.#answerOf({ ...known, state: "stale" }, time);
  }

  /** Whether the answer to a name was fetched and is here. */
  hasFetched(name: AskedName): boolean {
    return this.#fetched.has(name);
  }

  /** How long the answer to a name that was fetched stays fresh, in ms; 0 or less when that is over. Undefined if it is not here. */
  readonly fetchedLeftMs = (name: AskedName, time: Time): number | undefined => this.#fetched.leftMs(name, time);
  /** Another number after each change of what was fetched of a name; 0 for what is out of date. Undefined: nothing is here. */
  readonly fetchedMark = (name: WholeName): number | undefined => this.#fetched.markOf(name);
  /** How often something that was followed was let go: what was asked before, by other ways than `ask`, may be older than what callers were told since. */
  get letGoCount(): number {
    return this.#watches.letGoCount;
  }

  /** The last report about an entry that is followed or fetched. */
  loadOf(key: KeyText): LoadView | undefined {
    return this.#followed.loads.get(key) ?? this.#fetched.loads.get(key);
  }

  /** This resolver, and those through which its data comes, the nearest first. */
  get via(): readonly string[] {
    return [this.#options.name, ...this.upstreams.via];
  }

  /** How good what is followed is. `isAsked` is given the entries that are held, and says whether one of them is in the answer. */
  followedAnswer(time: Time, isAsked: (held: Lookup) => boolean = () => false): Answer {
    const isHolding = this.held.lookup.size > 0 && isAsked(this.held.lookup);
    const { isFromDisk } = this.#watches;
    const isStale = isFromDisk || this.#isFull || isHolding || !this.#hearing.isWell(time);
    const { freshness } = this.#hearing;
    return { source: isFromDisk ? "disk" : "followed", isStale, ageMs: freshness.ageMs(time), unreachable: freshness.unreachable };
  }

  /** How good the answer is to a caller that may not see a namespace: as if nothing were there, whatever others ask for. */
  hiddenAnswer(namespace: string, time: Time): Answer {
    if (!this.following.isUnconfigured(namespace)) return this.followedAnswer(time);
    return { source: "fetched", isStale: this.upstreams.isCutOff, ageMs: 0 };
  }

  /** Another policy is in force: what was fetched under the one before is asked for again, and what it hides is held no longer. */
  policyChanged(): void {
    this.held.policyChanged();
    this.#fetched.outdate();
  }

  /**
   * Asks for a name, for a caller that may see its namespace. Undefined: the caller has to wait, and `told` is called once, later. Throws `not_ready` where
   * there is nobody to ask.
   */
  ask(
    name: AskedName,
    told: (outcome: Outcome<readonly CatalogRecord[]>) => void,
    time: Time,
    out: Out,
    { maxAgeMs = NEVER, isFurther = false, isCounted = true }: Asked = {},
  ): Answer | undefined {
    const { namespace } = name;
    if (!isFurther) this.#askedFor(namespace, time, out);
    if (this.isComplete(namespace) && this.#hearing.freshness.ageMs(time) <= maxAgeMs) {
      const answer = this.followedAnswer(time, (held) => askedCount(held, name) > 0);
      if (isCounted) this.counts.hit(answer);
      return answer;
    }
    const known = this.#fetched.ask(name, time, this.#hearing.silentSince(time));
    if (known.state === "miss" || known.ageMs > maxAgeMs) {
      if (isCounted) this.counts.miss();
      return this.#missed(name, told, time, out);
    }
    const answer = this.#answerOf(known, time);
    const upstream = this.upstreams.current;
    if (known.state === "stale" && upstream !== undefined && !this.#fetched.isBusy) this.#calls.begin(name, () => {}, upstream, time, out);
    if (isCounted) this.counts.hit(answer);
    return answer;
  }

  #answerOf({ state, name, ageMs, isNegative }: Exclude<Known, { readonly state: "miss" }>, time: Time): Answer {
    return {
      source: "fetched",
      isStale: state === "stale" || name.isStale || this.#hearing.isAway(time),
      ageMs,
      unreachable: name.unreachable,
      isNegative,
    };
  }

  #askedFor(namespace: string, time: Time, out: Out): void {
    this.#cache.ask(namespace);
    const { prefixes } = this.following;
    this.following.ask(namespace, time.monoMs);
    if (this.following.prefixes !== prefixes) this.#want(time, out);
  }

  statistics(time: Time): ResolverStatistics {
    const told = { wholeMonoMs: this.#wholeMonoMs, upstreamChangeCount: this.#upstreamChangeCount, resyncs: this.#acts.resyncs };
    return statisticsOf({ ...this.#space.parts, upstreams: this.upstreams, hearing: this.#hearing, counts: this.counts }, told, time);
  }

  #missed(name: AskedName, told: (outcome: Outcome<readonly CatalogRecord[]>) => void, time: Time, out: Out): undefined {
    const upstream = this.upstreams.current;
    if (upstream === undefined)
      throw new WaymarkError("not_ready", "this resolver reaches no server, and does not know this name", { retryMs: NOT_READY_RETRY_MS });
    this.#calls.begin(name, told, upstream, time, out);
    return undefined;
  }

  #tick(time: Time, out: Out): void {
    this.held.tick(time);
    this.following.tick(time.monoMs);
    this.#leaveLiars(time, out);
    this.#summaries?.work(time);
    if (time.monoMs >= this.#hearing.deadMonoMs) {
      this.#watches.wereSilent(this.#hearing.changesOnlyMs(time));
      this.#lose(time);
    }
    if (time.monoMs >= this.#reopening.dueMonoMs) this.#reopen(time, out);
    if (time.monoMs < this.#pruneMonoMs) return;
    this.#pruneMonoMs = time.monoMs + this.#options.pruneIntervalMs;
    this.#fetched.prune(time, this.#hearing.silentSince(time));
    if (!this.upstreams.isCutOff) this.following.prune(time.monoMs - UNASKED_MS);
    this.#replica.collect(time, PRUNED_AT_A_TIME);
  }

  /** The same streams again, with other credentials: each goes on from its place, so that nothing is fetched again and no answer is stale. */
  #reopen(time: Time, out: Out): void {
    this.#reopening.done();
    this.#hearing.opened(time);
    this.#digests.leave(out);
    this.#watches.reopen(out);
    this.#policyStream.reopen(out);
    this.#summaries?.reopen(out);
  }

  #summariesSaid({ stream, bytes, delayMs }: Extract<ResolverInput, { kind: "summaries said" }>, time: Time, out: Out): void {
    const said = this.#summaries?.hear(stream, bytes, delayMs, time, out);
    if (said !== undefined && this.#used !== undefined)
      this.policy.heardEpoch(said.policyEpoch, { upstream: this.#used, monoMs: time.monoMs });
  }

  #watchSaid({ stream, bytes, delayMs }: Extract<ResolverInput, { kind: "watch said" }>, time: Time, out: Out): void {
    if (this.#used === undefined) return;
    const upstream = this.#used;
    const said = this.#believed(upstream, () => readWatchMessage(bytes), time, out);
    if (said === undefined) return;
    // Before what was made under it: callers that wait for that are answered while it is taken.
    this.policy.heardEpoch(said.policyEpoch, { upstream, monoMs: time.monoMs });
    const isOfWatch = this.#believed(upstream, () => this.#watches.hear(stream, said, time, out), time, out);
    if (isOfWatch === false)
      this.#believed(upstream, () => this.#acts.repair(this.#digests.hear(stream, said, time, out) ?? [], time, out), time, out);
    if (isOfWatch !== true) return;
    this.#refusals.accepted();
    this.#hearing.freshness.heard(time, { isChangesOnly: said.snapshot === SNAPSHOT.NONE && said.ageMs === undefined });
    this.#fit(time, out);
    // Only the beginning and the end of a snapshot and bookmarks say how the upstream is.
    if (said.ageMs === undefined) return;
    this.upstreams.heardVia(upstream, said.via, time.monoMs);
    this.upstreams.heardStale(upstream, said.isStale, time.monoMs);
    this.#hearing.isUpstreamStale = said.isStale;
    if (said.snapshot === SNAPSHOT.BEGIN) return;
    if (time.monoMs >= this.#fullUntilMonoMs) this.#fault = undefined;
    if (this.#policyStream.hasSpoken) this.upstreams.goesWell(upstream);
    // A resolver's bookmark may be no place to go on from. Nothing is missing up to it all the same.
    if (!this.#watches.isInStep(stream)) return;
    this.#wholeMonoMs = time.monoMs;
    this.#hearing.freshness.stated(said.ageMs + delayMs, time, said.unreachable);
  }

  #watchEnded({ stream, retryMs, refusal }: Extract<ResolverInput, { kind: "watch ended" }>, time: Time, out: Out): void {
    const refused = refusal === undefined ? undefined : this.#watches.refused(stream, time, out);
    if (refused !== undefined && refusal !== undefined) {
      if (this.#refusals.refused(refused, refusal, time.monoMs)) this.#lose(time, retryMs);
    } else if (this.#watches.ended(stream, time, out)) this.#lose(time, retryMs);
    else this.#digests.ended(stream);
  }

  /** Lets go what there is no room for. Where what is configured does not fit, what is held whole stays as it is, and nothing is followed for a while. */
  #fit(time: Time, out: Out): void {
    if (this.#watches.isReplacing) return;
    let fit = this.#space.fit(time);
    for (; fit === "less"; fit = this.#space.fit(time)) this.#watches.wantLess(this.#wanted, time, out);
    if (fit === "fits") return;
    if (fit === "admitted") return this.#watches.admit(out);
    this.#fault = fullFault(this.#options);
    this.#fullUntilMonoMs = time.monoMs + FULL_MS;
  }

  #policySaid(stream: StreamNumber, bytes: Uint8Array, time: Time, out: Out): void {
    const upstream = this.#policyStream.upstreamOf(stream);
    if (upstream === undefined) return;
    if (this.#believed(upstream, () => this.#policyStream.hear(bytes, time.monoMs), time, out) !== true) return;
    if (!this.#watches.isOpen) this.upstreams.goesWell(upstream);
  }

  #fetchFailed({ call, error }: Extract<ResolverInput, { kind: "fetch failed" }>, time: Time, out: Out): void {
    const upstream = this.#calls.upstreamOf(call);
    // It has not caught up, and its probes do not say so. Another one may know more.
    if (upstream !== undefined && error.reason === "not_ready") this.upstreams.heardStale(upstream, true, time.monoMs);
    if (this.#calls.askNext(call, error, this.upstreams.usable, time, out)) return;
    this.#calls.failed(call, error);
  }

  #fetchedPage(call: CallNumber, bytes: Uint8Array, time: Time, out: Out): void {
    const upstream = this.#calls.upstreamOf(call);
    if (upstream === undefined) return;
    const read = (): true => {
      const page = readFetchedPage(bytes);
      this.policy.heardEpoch(page.policyEpoch, { upstream, monoMs: time.monoMs });
      this.upstreams.heardVia(upstream, page.via, time.monoMs);
      this.#calls.take(call, page, bytes.length, time, out);
      return true;
    };
    if (this.#believed(upstream, read, time, out)) return;
    this.#calls.failed(call, new WaymarkError("not_ready", "an upstream sent an answer that cannot be read"));
  }

  /** What an upstream said, unless no server of ours can have said it: then that upstream is left. */
  #believed<T>(upstream: string, read: () => T, time: Time, out: Out): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      this.#distrust(upstream, error.message, time, out);
      return undefined;
    }
  }

  #distrust(upstream: string, fault: string, { monoMs }: Time, out: Out): void {
    out.push({ kind: "garbled", upstream, fault });
    this.upstreams.garbled(upstream, monoMs);
  }

  /** Upstream servers that named a policy which they do not send are left, and what they named is waited for no more. */
  #leaveLiars({ monoMs }: Time, out: Out): void {
    for (const { upstream, epoch } of this.policy.takeUnmet(monoMs)) {
      const who = upstream === "" ? "the copy on disk" : "it";
      out.push({ kind: "garbled", upstream, fault: `${who} named policy ${epoch}, and no server has sent that version since` });
      this.upstreams.lied(upstream, monoMs);
    }
  }

  /** The upstream that is used failed. */
  #lose({ monoMs }: Time, retryMs?: number): void {
    if (this.#used !== undefined) this.upstreams.broke(this.#used, monoMs, retryMs);
  }

  /** Brings what is open in line with the upstream and with what is to be followed. */
  #adjust(time: Time, out: Out): void {
    this.#acts.tell(this.#used, time, out);
    for (const upstream of this.upstreams.takeProbes(time.monoMs)) out.push({ kind: "probe", upstream });
    for (const refused of this.upstreams.takeRefused()) out.push({ kind: "refused", ...refused });
    const { current } = this.upstreams;
    const isFull = time.monoMs < this.#fullUntilMonoMs;
    if (current !== this.#used || isFull !== this.#isFull) {
      this.#upstreamChangeCount += Number(current !== undefined && current !== this.#used);
      this.#used = current;
      this.#isFull = isFull;
      this.#hearing.opened(time);
      this.#reopening.done();
      this.#digests.leave(out);
      this.#acts.fail();
      this.#refusals.clear();
      this.#watches.use(isFull ? undefined : current, time, out);
    }
    this.#want(time, out);
    this.#policyStream.use(this.#used, out);
    this.#summaries?.use(this.#used, time, out);
    this.#digests.adjust(current, this.#wanted, time, out);
    this.#acts.adjust(time);
  }

  /** What is to be followed, without what the upstream refuses. */
  get #wanted(): Prefixes {
    return this.#refusals.allowed(this.following.prefixes);
  }

  #want(time: Time, out: Out): void {
    const wasOpen = this.#watches.isOpen;
    this.#watches.want(this.#wanted, time, out);
    if (!this.#refusals.isEmpty && !this.#watches.isOpening && this.#refusals.release(time.monoMs))
      this.#watches.want(this.#wanted, time, out);
    // Until now there was nothing to say.
    if (!wasOpen && this.#watches.isOpen) this.#hearing.opened(time);
  }
}
