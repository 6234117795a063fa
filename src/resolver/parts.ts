/** The parts of a resolver's machine: this file builds them, and has the one list of them. */
import type { EntryStamper } from "../catalog/entry/codec.ts";
import type { Prefixes } from "../catalog/query/prefixes.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import { SNAPSHOT } from "../catalog/watch/reader.ts";
import { WaymarkError } from "../lib/errors.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { type Part, Parts } from "../lib/part.ts";
import { mayBeSeen } from "../policy/set/visibility.ts";
import type { PolicyEngine } from "../policy/versions/engine.ts";
import { GUARD_DEFAULTS } from "../reading/guard.ts";
import { readFetchedPage, readWatchMessage } from "./codec.ts";
import { FetchCalls } from "./fetching/fetch-calls.ts";
import { Fetched, type FetchedName } from "./fetching/fetched.ts";
import { Bookmarks } from "./following/bookmarks.ts";
import { Followed } from "./following/followed.ts";
import { Following, UNASKED_MS } from "./following/following.ts";
import { PrefixRefusals } from "./following/refusals.ts";
import { Watches } from "./following/watches.ts";
import { Hearing } from "./hearing.ts";
import type { ResolverInput, ResolverOptions, ResolverOrder } from "./io-types.ts";
import { BoundedCache } from "./keeping/bounded-cache.ts";
import { HeldEntries } from "./keeping/held-entries.ts";
import { FULL_MS, fullFault, Space } from "./keeping/space.ts";
import { FollowedPolicy } from "./policy/followed-policy.ts";
import { PolicyStream } from "./policy/policy-stream.ts";
import type { FollowedSummaries } from "./summaries/followed-summaries.ts";
import { CacheActs } from "./upkeep/cache-acts.ts";
import { DigestRounds } from "./upkeep/digest-rounds.ts";
import { Reopening } from "./upkeep/reopening.ts";
import { Upstreams } from "./upstreams.ts";

export interface ResolverRoomParts {
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

type Out = ResolverOrder[];
export type ResolverPart = Part<ResolverInput | ResolverNews, ResolverOrder>;

/** Most tombstones that are dropped at a time. */
const PRUNED_AT_A_TIME = 10_000;

export class ResolverParts {
  readonly list = new Parts<ResolverInput | ResolverNews, ResolverOrder>();
  readonly options: ResolverOptions;
  readonly rooms: ResolverRoomParts;
  readonly bookmarks: Bookmarks;
  readonly following: Following;
  readonly followed: Followed;
  readonly fetched: Fetched;
  readonly cache: BoundedCache<FetchedName>;
  readonly watches: Watches;
  readonly refusals: PrefixRefusals;
  readonly policy: FollowedPolicy;
  readonly policyStream: PolicyStream;
  readonly held: HeldEntries;
  readonly upstreams: Upstreams;
  readonly hearing: Hearing;
  readonly digests: DigestRounds;
  readonly acts: CacheActs;
  readonly calls: FetchCalls;
  readonly space: Space;
  /** The upstream of the watches that are open. */
  used: string | undefined;
  upstreamChangeCount = 0;
  /** When everything that is followed was as it was at the upstream's bookmark. Undefined: never. */
  wholeMonoMs: number | undefined;
  /** Until when nothing is followed, because what is configured does not fit. */
  fullUntilMonoMs = Number.NEGATIVE_INFINITY;
  isFull = false;
  /** Why it is not ready, where an operator must do something. Undefined without a fault. */
  fault: string | undefined;

  constructor(options: ResolverOptions, rooms: ResolverRoomParts, time: Time) {
    const { replica, stamper, policies } = rooms;
    const { maxEntries, maxBytes, maxWatches, ttls, maxStaleMs, random } = options;
    const { slab, lookup } = replica;
    this.options = options;
    this.rooms = rooms;
    this.bookmarks = new Bookmarks(replica);
    this.held = new HeldEntries({
      lookup,
      slab,
      bounds: { ...GUARD_DEFAULTS, holdMs: options.guardHoldMs },
      admits: (record) => mayBeSeen(policies.policy, record, record.traits, options.clusterId),
    });
    // What is followed now is told from there.
    const worthOf = ({ content, namespace }: FetchedName) => Number(content.length > 0 && !this.watches.isComplete(namespace));
    this.cache = new BoundedCache({ maxEntries, maxBytes, worthOf, onEvicted: (_, name) => this.space.evicted(name), random });
    const { bookmarks, cache, held } = this;
    this.fetched = new Fetched({ slab, stamper, cache, ttls, maxStaleMs });
    this.calls = new FetchCalls(this.fetched, maxBytes);
    this.followed = new Followed({ replica, bookmarks, stamper, onChange: held, onTold: this.fetched });
    this.watches = new Watches(this.followed, bookmarks, { onSnapshot: (why, prefixes) => this.acts.resynced(why, prefixes) });
    this.following = new Following({ configured: options.namespaces, maxWatches, asksOf: (namespace) => cache.asksOf(namespace) });
    const { watches, followed, fetched, following } = this;
    const parts = { replica, bookmarks, followed, watches, policies, stamper };
    this.space = new Space({ ...parts, following, held, fetched, cache });
    this.refusals = new PrefixRefusals(random);
    this.policy = new FollowedPolicy(policies);
    this.policyStream = new PolicyStream(this.policy);
    this.upstreams = new Upstreams({ ...options, addresses: options.upstreams }, time.monoMs);
    this.hearing = new Hearing({ upstreams: this.upstreams, watches });
    this.digests = new DigestRounds({ ...parts, intervalMs: options.resyncIntervalMs, random }, time);
    this.acts = new CacheActs({ lookup, fetched, following, watches });
    this.list.add(rowsOf(this, time));
  }

  /** What is to be followed, without what the upstream refuses. */
  get wanted(): Prefixes {
    return this.refusals.allowed(this.following.prefixes);
  }

  /** Brings the watches in line with what is to be followed. */
  want(time: Time, out: Out): void {
    const { watches, refusals } = this;
    const wasOpen = watches.isOpen;
    watches.want(this.wanted, time, out);
    if (!refusals.isEmpty && !watches.isOpening && refusals.release(time.monoMs)) watches.want(this.wanted, time, out);
    // Until now there was nothing to say.
    if (!wasOpen && watches.isOpen) this.hearing.opened(time);
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
}

/** The parts of a resolver in the order in which they work. A new part is a row here. */
function rowsOf(made: ResolverParts, time: Time): readonly ResolverPart[] {
  const { acts, held, following, digests, options } = made;
  return [
    // Before the upstream changes: what was fetched again came from the one before.
    { look: (now, out) => acts.tell(made.used, now, out) },
    upstreamsRow(made),
    { handle: { tick: (_, now) => held.tick(now) }, nextDeadlineMs: () => held.nextDeadlineMs() },
    { handle: { tick: (_, { monoMs }) => following.tick(monoMs) } },
    usedRow(made),
    { handle: { "upstream changed": (_, _time, out) => digests.leave(out), reopen: (_, _time, out) => digests.leave(out) } },
    watchesRow(made),
    policyRow(made),
    summariesRow(made),
    hearingRow(made),
    reopeningRow(made, new Reopening(options.random)),
    pruneRow(made, time),
    { look: (now, out) => digests.adjust(made.used, made.wanted, now, out), nextDeadlineMs: () => digests.nextDeadlineMs() },
    {
      handle: {
        act: (input, now, out) => acts.begin(input, made.upstreams.isCutOff, now, out),
        "upstream changed": () => acts.fail(),
      },
      look: (now) => acts.adjust(now),
      nextDeadlineMs: () => acts.nextDeadlineMs(),
    },
    fetchesRow(made),
  ];
}

function upstreamsRow(made: ResolverParts): ResolverPart {
  const { upstreams } = made;
  return {
    handle: {
      probed: ({ upstream, latencyMs, facts }, { monoMs }) => upstreams.answered(upstream, latencyMs, facts, monoMs),
      "probe failed": ({ upstream, retryMs }, { monoMs }) => upstreams.failed(upstream, monoMs, retryMs),
      garbled: ({ upstream, fault }, time, out) => made.distrust(upstream, fault, time, out),
    },
    look: ({ monoMs }, out) => {
      for (const upstream of upstreams.takeProbes(monoMs)) out.push({ kind: "probe", upstream });
      for (const refused of upstreams.takeRefused()) out.push({ kind: "refused", ...refused });
    },
    nextDeadlineMs: () => upstreams.nextDeadlineMs(),
  };
}

/** Which upstream the watches are open at. */
function usedRow(made: ResolverParts): ResolverPart {
  return {
    look: (time, out) => {
      const { current } = made.upstreams;
      const isFull = time.monoMs < made.fullUntilMonoMs;
      if (current === made.used && isFull === made.isFull) return;
      made.upstreamChangeCount += Number(current !== undefined && current !== made.used);
      Object.assign(made, { used: current, isFull });
      made.list.deliver({ kind: "upstream changed", upstream: current, isFull }, time, out);
    },
    nextDeadlineMs: () => (made.isFull ? made.fullUntilMonoMs : NEVER),
  };
}

function watchesRow(made: ResolverParts): ResolverPart {
  const { watches, refusals, digests } = made;
  return {
    handle: {
      "watch said": (input, time, out) => watchSaid(made, input, time, out),
      "watch ended": ({ stream, retryMs, refusal }, time, out) => {
        const refused = refusal === undefined ? undefined : watches.refused(stream, time, out);
        if (refused !== undefined && refusal !== undefined) {
          if (refusals.refused(refused, refusal, time.monoMs)) made.lose(time, retryMs);
        } else if (watches.ended(stream, time, out)) made.lose(time, retryMs);
        else digests.ended(stream);
      },
      "upstream changed": ({ upstream, isFull }, time, out) => {
        refusals.clear();
        watches.use(isFull ? undefined : upstream, time, out);
      },
      reopen: (_, _time, out) => watches.reopen(out),
    },
    look: (time, out) => made.want(time, out),
    // What waits for its turn comes with what is tried before it.
    nextDeadlineMs: () => Math.min(refusals.isEmpty || watches.isOpening ? NEVER : refusals.nextDeadlineMs(), watches.nextDeadlineMs()),
  };
}

function watchSaid(
  made: ResolverParts,
  { stream, bytes, delayMs }: Extract<ResolverInput, { kind: "watch said" }>,
  time: Time,
  out: Out,
): void {
  const { used: upstream, watches, hearing, upstreams } = made;
  if (upstream === undefined) return;
  const said = made.believed(upstream, () => readWatchMessage(bytes), time, out);
  if (said === undefined) return;
  // Before what was made under it: callers that wait for that are answered while it is taken.
  made.policy.heardEpoch(said.policyEpoch, { upstream, monoMs: time.monoMs });
  const isOfWatch = made.believed(upstream, () => watches.hear(stream, said, time, out), time, out);
  if (isOfWatch === false)
    made.believed(upstream, () => made.acts.repair(made.digests.hear(stream, said, time, out) ?? [], time, out), time, out);
  if (isOfWatch !== true) return;
  made.refusals.accepted();
  hearing.freshness.heard(time, { isChangesOnly: said.snapshot === SNAPSHOT.NONE && said.ageMs === undefined });
  fit(made, time, out);
  // Only the beginning and the end of a snapshot and bookmarks say how the upstream is.
  if (said.ageMs === undefined) return;
  upstreams.heardVia(upstream, said.via, time.monoMs);
  upstreams.heardStale(upstream, said.isStale, time.monoMs);
  hearing.isUpstreamStale = said.isStale;
  if (said.snapshot === SNAPSHOT.BEGIN) return;
  if (time.monoMs >= made.fullUntilMonoMs) made.fault = undefined;
  if (made.policyStream.hasSpoken) upstreams.goesWell(upstream);
  // A resolver's bookmark may be no place to go on from. Nothing is missing up to it all the same.
  if (!watches.isInStep(stream)) return;
  made.wholeMonoMs = time.monoMs;
  hearing.freshness.stated(said.ageMs + delayMs, time, said.unreachable);
}

/** Lets go what there is no room for. Where what is configured does not fit, what is held whole stays as it is, and nothing is followed for a while. */
function fit(made: ResolverParts, time: Time, out: Out): void {
  const { watches, space } = made;
  if (watches.isReplacing) return;
  let result = space.fit(time);
  for (; result === "less"; result = space.fit(time)) watches.wantLess(made.wanted, time, out);
  if (result === "fits") return;
  if (result === "admitted") return watches.admit(out);
  made.fault = fullFault(made.options);
  made.fullUntilMonoMs = time.monoMs + FULL_MS;
}

function policyRow(made: ResolverParts): ResolverPart {
  const { policy, policyStream, upstreams, watches } = made;
  return {
    handle: {
      // Upstream servers that named a policy which they do not send are left, and what they named is waited for no more.
      tick: (_, { monoMs }, out) => {
        for (const { upstream, epoch } of policy.takeUnmet(monoMs)) {
          const who = upstream === "" ? "the copy on disk" : "it";
          out.push({ kind: "garbled", upstream, fault: `${who} named policy ${epoch}, and no server has sent that version since` });
          upstreams.lied(upstream, monoMs);
        }
      },
      "policy said": ({ stream, bytes }, time, out) => {
        const upstream = policyStream.upstreamOf(stream);
        if (upstream === undefined) return;
        if (made.believed(upstream, () => policyStream.hear(bytes, time.monoMs), time, out) !== true) return;
        if (!watches.isOpen) upstreams.goesWell(upstream);
      },
      "policy ended": ({ stream, retryMs }, time) => {
        if (policyStream.ended(stream)) made.lose(time, retryMs);
      },
      reopen: (_, _time, out) => policyStream.reopen(out),
    },
    look: (_, out) => policyStream.use(made.used, out),
    nextDeadlineMs: () => policy.nextDeadlineMs(),
  };
}

function summariesRow(made: ResolverParts): ResolverPart {
  const { summaries } = made.rooms;
  return {
    handle: {
      tick: (_, time) => summaries?.work(time),
      "summaries said": ({ stream, bytes, delayMs }, time, out) => {
        const said = summaries?.hear(stream, bytes, delayMs, time, out);
        const { used: upstream } = made;
        if (said !== undefined && upstream !== undefined) made.policy.heardEpoch(said.policyEpoch, { upstream, monoMs: time.monoMs });
      },
      "summaries ended": ({ stream, retryMs, refusal }, time) => summaries?.ended(stream, retryMs, refusal !== undefined, time),
      reopen: (_, _time, out) => summaries?.reopen(out),
    },
    look: (time, out) => summaries?.use(made.used, time, out),
    nextDeadlineMs: () => summaries?.nextDeadlineMs() ?? NEVER,
  };
}

function hearingRow(made: ResolverParts): ResolverPart {
  const { hearing, watches } = made;
  return {
    handle: {
      tick: (_, time) => {
        if (time.monoMs < hearing.deadMonoMs) return;
        watches.wereSilent(hearing.changesOnlyMs(time));
        made.lose(time);
      },
      "upstream changed": (_, time) => hearing.opened(time),
      reopen: (_, time) => hearing.opened(time),
    },
    nextDeadlineMs: () => hearing.deadMonoMs,
  };
}

/** Each stream continues from its place, so that nothing is fetched again and no answer is stale. */
function reopeningRow({ list }: ResolverParts, reopening: Reopening): ResolverPart {
  return {
    handle: {
      "credentials changed": (_, { monoMs }) => reopening.ask(monoMs),
      tick: (_, time, out) => {
        if (time.monoMs < reopening.dueMonoMs) return;
        reopening.done();
        list.deliver({ kind: "reopen" }, time, out);
      },
      "upstream changed": () => reopening.done(),
    },
    nextDeadlineMs: () => reopening.dueMonoMs,
  };
}

function pruneRow({ options, fetched, following, hearing, upstreams, rooms }: ResolverParts, { monoMs: startMonoMs }: Time): ResolverPart {
  let dueMonoMs = startMonoMs + options.pruneIntervalMs;
  return {
    handle: {
      tick: (_, time) => {
        if (time.monoMs < dueMonoMs) return;
        dueMonoMs = time.monoMs + options.pruneIntervalMs;
        fetched.prune(time, hearing.silentSince(time));
        if (!upstreams.isCutOff) following.prune(time.monoMs - UNASKED_MS);
        rooms.replica.collect(time, PRUNED_AT_A_TIME);
      },
    },
    nextDeadlineMs: () => dueMonoMs,
  };
}

function fetchesRow(made: ResolverParts): ResolverPart {
  const { calls, upstreams, policy } = made;
  return {
    handle: {
      fetched: ({ call, bytes }, time, out) => {
        const upstream = calls.upstreamOf(call);
        if (upstream === undefined) return;
        const read = (): true => {
          const page = readFetchedPage(bytes);
          policy.heardEpoch(page.policyEpoch, { upstream, monoMs: time.monoMs });
          upstreams.heardVia(upstream, page.via, time.monoMs);
          calls.take(call, page, bytes.length, time, out);
          return true;
        };
        if (made.believed(upstream, read, time, out)) return;
        calls.failed(call, new WaymarkError("not_ready", "an upstream sent an answer that cannot be read"));
      },
      "fetch failed": ({ call, error }, time, out) => {
        const upstream = calls.upstreamOf(call);
        // It has not caught up, and its probes do not say so. Another one may know more.
        if (upstream !== undefined && error.reason === "not_ready") upstreams.heardStale(upstream, true, time.monoMs);
        if (!calls.askNext(call, error, upstreams.usable, time, out)) calls.failed(call, error);
      },
    },
  };
}
