/**
 * A resolver as a machine: which upstream it goes by, what it follows there, and what it answers its callers from (semantics.md, Resolver). It takes inputs and a
 * time, and appends orders to a list; the shell opens streams, probes and fetches. It judges nobody: who may see a namespace is asked before it is.
 */
import type { LoadView } from "../catalog/entry/view.ts";
import { type AskedName, askedCount, type WholeName } from "../catalog/query/instances.ts";
import type { Lookup } from "../catalog/query/lookup.ts";
import type { CatalogRecord, KeyText } from "../catalog/record/record.ts";
import type { OwnerOfFile } from "../lib/blocks.ts";
import { WaymarkError } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { copyBlocks } from "./disk/copy.ts";
import { type RestoredCopy, restoreCopy } from "./disk/restoring.ts";
import { NOT_READY_RETRY_MS } from "./fetching/fetch-calls.ts";
import type { Known } from "./fetching/fetched.ts";
import type { Outcome } from "./fetching/fetches.ts";
import type { Bookmarks } from "./following/bookmarks.ts";
import type { Following } from "./following/following.ts";
import type { Answer, Asked, ResolverInput, ResolverOptions, ResolverOrder } from "./io-types.ts";
import type { HeldEntries } from "./keeping/held-entries.ts";
import { ResolverParts, type ResolverRoomParts } from "./parts.ts";
import type { FollowedPolicy } from "./policy/followed-policy.ts";
import { AnswerCounts, type ResolverStatistics, statisticsOf } from "./upkeep/statistics.ts";
import type { Upstreams } from "./upstreams.ts";

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
  readonly #parts: ResolverParts;
  /** What `lookupsOf` gives. */
  readonly #lists: Readonly<Record<"fetched" | "followed" | "followedAndHeld", readonly Lookup[]>>;

  constructor(options: ResolverOptions, rooms: ResolverRoomParts, time: Time) {
    const parts = new ResolverParts(options, rooms, time);
    ({ bookmarks: this.bookmarks, following: this.following, policy: this.policy, held: this.held, upstreams: this.upstreams } = parts);
    this.#parts = parts;
    const { lookup } = rooms.replica;
    this.#lists = { followed: [lookup], followedAndHeld: [lookup, this.held.lookup], fetched: [parts.fetched.lookup] };
  }

  handle(input: ResolverInput, time: Time, out: Out): void {
    const { hearing, fetched, list } = this.#parts;
    const silentMonoMs = hearing.silentSince(time);
    if (silentMonoMs !== undefined) fetched.wereSilent(silentMonoMs, time);
    list.handle(input, time, out);
  }

  nextDeadlineMs(): number {
    return this.#parts.list.nextDeadlineMs();
  }

  /** A text that changes with what a copy would hold. Undefined while there is nothing that is worth one. */
  get copyMark(): string | undefined {
    const { held } = this.#parts.watches;
    return held === undefined
      ? undefined
      : [this.#parts.rooms.replica.revision, this.held.mark, this.policy.mark, ...held.prefixes.list].join(" ");
  }

  /** What is held, and the policy, in blocks for a file. It may go on changing while they are taken; throws as `copyBlocks`. */
  copy(now: () => Time): Generator<Uint8Array> {
    return copyBlocks(
      { ...this.#parts.space.parts, owner: this.#owner, policy: this.policy, freshness: this.#parts.hearing.freshness },
      now,
    );
  }

  /**
   * Takes a copy as the state to begin with; or says why it is of no use, with which nothing is changed. To be called before any input. Yields between slices
   * of work.
   */
  restore(bytes: Uint8Array, time: Time): Generator<void, RestoredCopy> {
    const parts = {
      ...this.#parts.space.parts,
      owner: this.#owner,
      policy: this.policy,
      freshness: this.#parts.hearing.freshness,
      configured: this.#parts.options.namespaces,
      maxEntries: this.#parts.options.maxEntries,
      fits: () => this.#parts.space.isEnough,
    };
    return restoreCopy(bytes, parts, time);
  }

  get #owner(): OwnerOfFile {
    return { nodeId: this.#parts.options.name, clusterId: this.#parts.options.clusterId };
  }

  /** Whether everything that is to be followed from the start is here, and the policy; and summaries, if they can be had. */
  get isReady(): boolean {
    const { seedOnStart, namespaces } = this.#parts.options;
    if (seedOnStart && this.#parts.rooms.summaries?.isPending === true) return false;
    return (
      this.policy.isReady &&
      this.#parts.fault === undefined &&
      (!seedOnStart || namespaces.every((prefix) => this.#parts.watches.isComplete(prefix)))
    );
  }

  /** Why it is not ready, where an operator must do something. Undefined without a fault. */
  get fault(): string | undefined {
    return this.#parts.fault;
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
    return this.#parts.watches.isComplete(namespace);
  }

  /** How good the answer to a name is, to somebody who has waited for it. Undefined: it may not be told, because more was heard while it was fetched. */
  fetchedAnswer(name: AskedName, time: Time): Answer | undefined {
    const known = this.#parts.fetched.look(name, time, this.#parts.hearing.silentSince(time));
    return known.state === "miss" ? undefined : this.#answerOf(known, time);
  }

  /**
   * What was fetched of a name at some time, for somebody who waited for it while no upstream answered. Undefined if nothing was; that nothing exists is not said
   * beyond its time.
   */
  lastAnswer(name: AskedName, time: Time): Answer | undefined {
    const known = this.#parts.fetched.look(name, time, time.monoMs);
    return known.state === "miss" || known.isNegative ? undefined : this.#answerOf({ ...known, state: "stale" }, time);
  }

  /** Whether the answer to a name was fetched and is here. */
  hasFetched(name: AskedName): boolean {
    return this.#parts.fetched.has(name);
  }

  /** How long the answer to a name that was fetched stays fresh, in ms; 0 or less when that is over. Undefined if it is not here. */
  readonly fetchedLeftMs = (name: AskedName, time: Time): number | undefined => this.#parts.fetched.leftMs(name, time);
  /** Another number after each change of what was fetched of a name; 0 for what is out of date. Undefined: nothing is here. */
  readonly fetchedMark = (name: WholeName): number | undefined => this.#parts.fetched.markOf(name);
  /** How often something that was followed was let go: what was asked before, by other ways than `ask`, may be older than what callers were told since. */
  get letGoCount(): number {
    return this.#parts.watches.letGoCount;
  }

  /** The last report about an entry that is followed or fetched. */
  loadOf(key: KeyText): LoadView | undefined {
    return this.#parts.followed.loads.get(key) ?? this.#parts.fetched.loads.get(key);
  }

  /** This resolver, and those through which its data comes, the nearest first. */
  get via(): readonly string[] {
    return [this.#parts.options.name, ...this.upstreams.via];
  }

  /** How good what is followed is. `isAsked` is given the entries that are held, and says whether one of them is in the answer. */
  followedAnswer(time: Time, isAsked: (held: Lookup) => boolean = () => false): Answer {
    const isHolding = this.held.lookup.size > 0 && isAsked(this.held.lookup);
    const { isFromDisk } = this.#parts.watches;
    const isStale = isFromDisk || this.#parts.isFull || isHolding || !this.#parts.hearing.isWell(time);
    const { freshness } = this.#parts.hearing;
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
    this.#parts.fetched.outdate();
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
    if (this.isComplete(namespace) && this.#parts.hearing.freshness.ageMs(time) <= maxAgeMs) {
      const answer = this.followedAnswer(time, (held) => askedCount(held, name) > 0);
      if (isCounted) this.counts.hit(answer);
      return answer;
    }
    const known = this.#parts.fetched.ask(name, time, this.#parts.hearing.silentSince(time));
    if (known.state === "miss" || known.ageMs > maxAgeMs) {
      if (isCounted) this.counts.miss();
      return this.#missed(name, told, time, out);
    }
    const answer = this.#answerOf(known, time);
    const upstream = this.upstreams.current;
    if (known.state === "stale" && upstream !== undefined && !this.#parts.fetched.isBusy)
      this.#parts.calls.begin(name, () => {}, upstream, time, out);
    if (isCounted) this.counts.hit(answer);
    return answer;
  }

  #answerOf({ state, name, ageMs, isNegative }: Exclude<Known, { readonly state: "miss" }>, time: Time): Answer {
    return {
      source: "fetched",
      isStale: state === "stale" || name.isStale || this.#parts.hearing.isAway(time),
      ageMs,
      unreachable: name.unreachable,
      isNegative,
    };
  }

  #askedFor(namespace: string, time: Time, out: Out): void {
    this.#parts.cache.ask(namespace);
    const { prefixes } = this.following;
    this.following.ask(namespace, time.monoMs);
    if (this.following.prefixes !== prefixes) this.#parts.want(time, out);
  }

  statistics(time: Time): ResolverStatistics {
    const told = {
      wholeMonoMs: this.#parts.wholeMonoMs,
      upstreamChangeCount: this.#parts.upstreamChangeCount,
      resyncs: this.#parts.acts.resyncs,
    };
    return statisticsOf(
      { ...this.#parts.space.parts, upstreams: this.upstreams, hearing: this.#parts.hearing, counts: this.counts },
      told,
      time,
    );
  }

  #missed(name: AskedName, told: (outcome: Outcome<readonly CatalogRecord[]>) => void, time: Time, out: Out): undefined {
    const upstream = this.upstreams.current;
    if (upstream === undefined)
      throw new WaymarkError("not_ready", "this resolver reaches no server, and does not know this name", { retryMs: NOT_READY_RETRY_MS });
    this.#parts.calls.begin(name, told, upstream, time, out);
    return undefined;
  }
}
