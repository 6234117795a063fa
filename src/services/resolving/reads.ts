/**
 * The read operations of a resolver. The operations are the same as on a node, but use watched and fetched data. Before each read, the resolver
 * ensures that the requested data is available and determines its age. Nothing is looked up, fetched or watched for a caller before the verdict on
 * the namespace is known (semantics.md, Resolver).
 */
import { create, type Message } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Source } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import {
  type CatalogQueryRequest,
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  type CatalogWatchRequest,
  type NamespaceStatusRequest,
  type ResolveRequest,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { type ResolveRequest as NamedRequest, ResolveResponseSchema } from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import { findKind } from "../../catalog/entry/kinds.ts";
import { CONTROL_NAMESPACE, namespaceCovers, PROTOCOL_BOUNDS, parseNamespace } from "../../catalog/entry/names.ts";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import type { EntryFilter } from "../../catalog/query/filter.ts";
import { type PageStart, pageLimit, queryPage } from "../../catalog/query/query.ts";
import { KIND } from "../../catalog/record/record.ts";
import { subjectTest } from "../../discovery/candidates.ts";
import { namedIn, openAliasOwners, type RequestedNames } from "../../discovery/dns-alias-owners.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { type Caller, viewerOf } from "../../policy/identity/caller.ts";
import { callerKey } from "../../policy/limits/rate-limits.ts";
import { BELOW } from "../../policy/set/rules.ts";
import { mayBeSeen, type PolicySource, seesAll } from "../../policy/set/verdict.ts";
import type { AnswerQuality } from "../../resolver/io-types.ts";
import { MAX_VIA } from "../../resolver/upstreams.ts";
import { openHolding } from "../admission.ts";
import { durationMs } from "../contract.ts";
import { DeferredStream } from "../deferred-stream.ts";
import { checkAge, SOURCE } from "../discovery/answer-age.ts";
import { filterOf, namesOf } from "../discovery/filter.ts";
import { unreachableField } from "../discovery/nodes.ts";
import { querySalt, type ReadHandlers, type ReadParts, readHandlers } from "../discovery/read-handlers.ts";
import type { CallContext, HttpRoute, MethodHandler, RouteAnswer, ServerStreamHandler, StreamSource, UnaryHandler } from "../service.ts";
import { demandResolver } from "../service.ts";
import { AWAY, NameCalls, type NamesOutcome, type NamesRequest, tooStale } from "./name-calls.ts";
import { changesTooFast, PolicyGate, TRIES } from "./policy-gate.ts";
import { ageOf, type ResolverPorts } from "./ports.ts";
import { type RetainedPage, retainedPage } from "./retained-entries.ts";
import { encodedPage, FollowedSource, proxyQuery, querySourceOf, UPSTREAM_PART, type UpstreamPage } from "./upstream-query.ts";

/** How long a watch, or a call that needs a complete namespace, waits for the first snapshot, in ms. */
const SNAPSHOT_WAIT_MS = 10_000;
const RETRY_MS = 500;

export interface ResolvingParts extends ReadParts {
  readonly ports: ResolverPorts;
  readonly policies: PolicySource;
}

/** The part of `ReadHandlers` that a resolver serves. */
type ResolvingHandlers = Omit<ReadHandlers, "maySee" | "query">;

/** Returns the read handlers for a resolver, based on `readHandlers`. */
export function resolvingHandlers(parts: ResolvingParts): ResolvingHandlers {
  const methods = new ResolvingReads(parts);
  return methods.handlers();
}

/** The result of a call that is answered immediately, or after the requested data has arrived. */
type MaybeWaiting<T> = T | Promise<T>;

type HandlerAnswer = Awaited<ReturnType<UnaryHandler>>;

/** A query that is proxied to an upstream, and its caller. */
interface ProxiedQuery {
  readonly request: CatalogQueryRequest;
  readonly filter: EntryFilter;
  readonly caller: Caller;
}

/** The parameters of a watch: its filter, its viewer, and the caller whose quota of watched namespaces it uses. */
interface FollowedFor {
  readonly filter: EntryFilter;
  readonly caller: Caller;
  /** Undefined if the caller is a resolver. */
  readonly share: string | undefined;
}

class ResolvingReads {
  readonly #parts: ResolvingParts;
  readonly #ports: ResolverPorts;
  readonly #node: ReadHandlers;
  readonly #gate: PolicyGate;
  readonly #names: NameCalls;

  constructor(parts: ResolvingParts) {
    const { ports } = parts;
    this.#parts = parts;
    this.#ports = ports;
    this.#gate = new PolicyGate(ports, parts.policies);
    this.#names = new NameCalls({
      machine: ports.machine,
      ask: (name, asked, told) => ports.ask(name, asked, told),
      isSeen: (caller, namespace) => parts.reads.verdict(caller, namespace).allowed,
      now: parts.now,
    });
    this.#node = readHandlers({
      ...parts,
      followedAge: (time) => ageOf(ports.machine.followedAnswer(time), time),
      via: () => ports.machine.via,
      checkVia: (via) => checkVia(ports.machine.via, via),
    });
  }

  handlers(): ResolvingHandlers {
    const node = this.#node;
    const resolve = unary<ResolveRequest>(node.handlers.resolve);
    const status = unary<NamespaceStatusRequest>(node.handlers.namespaceStatus);
    const named = unary<NamedRequest>(node.resolveName);
    return {
      handlers: {
        serverInfo: node.handlers.serverInfo,
        catalogQuery: {
          kind: "unary",
          handle: (request: CatalogQueryRequest, context) =>
            this.#gate.whenOpen<HandlerAnswer>(request.namespace, () => this.#query(request, context)),
        },
        catalogWatch: { kind: "server_streaming", open: (request: CatalogWatchRequest, context) => this.#watch(request, context) },
        resolve: {
          kind: "unary",
          handle: (request: ResolveRequest, context) =>
            this.#gate.whenOpen<HandlerAnswer>(request.namespace, () => this.#named(request, undefined, context, resolve)),
        },
        namespaceStatus: {
          kind: "unary",
          handle: (request: NamespaceStatusRequest, context) =>
            this.#gate.whenOpen<HandlerAnswer>(request.namespace, () => this.#status(request, context, status)),
        },
      },
      routes: node.routes.map((route) => this.#whole(route)),
      resolveName: {
        kind: "unary",
        handle: (request: NamedRequest, context) => {
          const { maxStaleness } = request;
          const maxAgeMs = maxStaleness === undefined ? undefined : durationMs(maxStaleness);
          return this.#gate.whenOpen<HandlerAnswer>(request.namespace, () => this.#named(request, maxAgeMs, context, named));
        },
      },
    };
  }

  // ---- names ----
  #named<R extends ResolveRequest | NamedRequest>(
    request: R,
    maxAgeMs: number | undefined,
    context: CallContext,
    handle: UnaryHandler<R>,
  ): MaybeWaiting<HandlerAnswer> {
    const { namespace, name } = request;
    const caller = this.#viewer(context.caller, request.viewer);
    const kind = findKind(request.kind) ?? KIND.SERVICE;
    const isSeen = this.#parts.reads.verdict(caller, namespace).allowed;
    if (isSeen && "maxStaleness" in request && this.#isTooOld(namespace, maxAgeMs, context.time))
      return this.#namedUpstream(request, maxAgeMs, caller, context);
    const names = { caller, names: [{ kind, namespace, name }], maxAgeMs };
    return this.#answered<HandlerAnswer>(names, context, (asked) => handle(request, asked));
  }

  /** Returns whether a namespace is watched and its data is older than the caller accepts. */
  #isTooOld(namespace: string, maxAgeMs: number | undefined, time: Time): boolean {
    const { machine } = this.#ports;
    return maxAgeMs !== undefined && machine.isComplete(namespace) && machine.followedAnswer(time).ageMs > maxAgeMs;
  }

  /** Answers a call for a name by querying the upstream, because the local data is too old. */
  async #namedUpstream(asked: NamedRequest, maxAgeMs: number | undefined, caller: Caller, context: CallContext): Promise<HandlerAnswer> {
    const { namespace, name, limit, pageToken } = asked;
    const kinds = [asked.kind === EntryKind.UNSPECIFIED ? EntryKind.SERVICE : asked.kind];
    const { maxStalenessStrict } = asked;
    const request = create(CatalogQueryRequestSchema, { namespace, names: [name], kinds, limit, pageToken, maxStalenessStrict });
    if (asked.maxStaleness !== undefined) request.maxStaleness = asked.maxStaleness;
    const filter = filterOf(request);
    try {
      const { response: page } = await this.#passOn({ request, filter, caller }, context);
      const { nodeId: servedBy } = this.#parts.identity;
      const { items: entries, nextPageToken, age, stale, source, unreachableNodes } = page;
      this.#parts.onRead(context.caller, namespace);
      const said = { ...(age !== undefined && { age }), ...(unreachableNodes !== undefined && { unreachableNodes }) };
      return create(ResolveResponseSchema, { entries, nextPageToken, stale, source, servedBy, ...said });
    } catch (error) {
      throw error instanceof WaymarkError ? tooStale(error, maxAgeMs) : error;
    }
  }

  /** Answers from the cached data for these names, either in this turn or in the turn in which the last of them arrives. */
  #answered<T>(
    asked: NamesRequest,
    context: CallContext,
    answer: (context: CallContext) => MaybeWaiting<T>,
    tries = TRIES,
  ): MaybeWaiting<T> {
    const goOn = (outcome: NamesOutcome, time: Time): MaybeWaiting<T> => {
      switch (outcome.kind) {
        case "here":
          return answer({ ...context, time, age: ageOf(outcome.answer, time) });
        case "again":
          return this.#askedAgain(asked, context, answer, tries - 1);
        case "refused":
          throw outcome.error;
      }
    };
    // HOT: a cache hit does not wait and does not create a promise.
    let later: (outcome: NamesOutcome) => void = () => {};
    const outcome = this.#names.ask(asked, { isAgain: tries < TRIES, time: context.time }, (told) => later(told));
    if (outcome !== undefined) return goOn(outcome, context.time);
    const waiting = Promise.withResolvers<T>();
    let isOver = false;
    later = (told) => {
      isOver = true;
      settle(waiting, () => goOn(told, this.#parts.now()));
    };
    this.#endInTime(asked, context, { isOver: () => isOver, refuse: waiting.reject });
    return waiting.promise;
  }

  /**
   * Rejects a call with `too_stale` shortly before its deadline, if an answer exists but is too old. The deadline error would not state this reason.
   */
  #endInTime(
    asked: NamesRequest,
    { deadlineMonoMs, time }: CallContext,
    { isOver, refuse }: { readonly isOver: () => boolean; readonly refuse: (error: WaymarkError) => void },
  ): void {
    if (asked.maxAgeMs === undefined || deadlineMonoMs === undefined) return;
    const late = (isInTime: boolean) => {
      const refusal = isInTime ? undefined : this.#names.tooOld(asked);
      if (refusal !== undefined) refuse(refusal);
    };
    // `until` rejects when the process stops. The call then ends with its lookup, so the rejection is ignored.
    this.#ports.until(isOver, UPSTREAM_PART * (deadlineMonoMs - time.monoMs)).then(late, () => {});
  }

  /**
   * Repeats a call because the received data names a policy that has not arrived, or because the data is already outdated. The statistics count such
   * a call only once.
   */
  async #askedAgain<T>(
    asked: NamesRequest,
    context: CallContext,
    answer: (context: CallContext) => MaybeWaiting<T>,
    tries: number,
  ): Promise<T> {
    if (tries === 0) throw changesTooFast();
    // The machine is still processing the input that contained the data.
    await Promise.resolve();
    const namespace = asked.names[0]?.namespace ?? "";
    return this.#gate.whenOpen(namespace, () => this.#answered(asked, { ...context, time: this.#parts.now() }, answer, tries));
  }

  // ---- queries ----
  #query(request: CatalogQueryRequest, context: CallContext): MaybeWaiting<HandlerAnswer> {
    const { machine } = this.#ports;
    const { time } = context;
    if (request.forResolver) this.#demandResolver(request.via, context.caller);
    const filter = filterOf(request);
    const caller = this.#viewer(context.caller, request.viewer);
    const maxAgeMs = request.maxStaleness === undefined ? undefined : durationMs(request.maxStaleness);
    const hereAs = (answer: AnswerQuality) => this.#node.query(request, { ...context, age: ageOf(answer, time) }, filter);
    if (!request.forResolver && this.#isHidden(filter, caller)) return hereAs(machine.hiddenAnswer(baseOfFilter(filter), time));
    const named = namesOf(request);
    const source = named === undefined ? querySourceOf(filter, machine.isComplete.bind(machine)) : this.#querySourceOfAliases(filter);
    // Queries from resolvers are proxied unchanged, because the rules for viewers do not apply to them.
    if (source.from === "names" && !request.forResolver)
      return this.#answered<HandlerAnswer>({ caller, names: source.names, maxAgeMs }, context, (asked) =>
        this.#node.query(request, asked, filter),
      );
    const sees = request.forResolver ? seesAll : this.#parts.reads.allowed(caller);
    const followed = machine.followedAnswer(time, (held) => this.#hasMatch(held, filter, named, sees));
    if (source.from === "followed" && (maxAgeMs === undefined || followed.ageMs <= maxAgeMs)) {
      machine.counts.hit(followed);
      return hereAs(followed);
    }
    const here = (now: Time) => {
      const answer = machine.followedAnswer(now, (held) => this.#hasMatch(held, filter, named, sees));
      return this.#node.query(request, { ...context, time: now, age: ageOf(answer, now) }, filter);
    };
    return this.#passed({ request, filter, caller }, context, here);
  }

  /** Returns whether the policy hides everything that a query covers: either a namespace, or all namespaces below a prefix. */
  #isHidden({ namespace, prefix }: EntryFilter, caller: Caller): boolean {
    const { reads, policies } = this.#parts;
    if (namespace !== "") return !reads.verdict(caller, namespace).allowed;
    if (policies.policy.showsUnder(prefix, { clusterId: caller.cluster, tenant: caller.tenant })) return false;
    reads.noteHidden(caller, [prefix]);
    return true;
  }

  /** Returns whether any of these entries matches. Returns true if the search is too long to complete. */
  #hasMatch(lookup: EntryIndex, filter: EntryFilter, named: RequestedNames | undefined, allowed: (namespace: string) => boolean): boolean {
    const open = named && ((start: PageStart) => openAliasOwners(named, namedIn(this.#parts.dnsNames, lookup), filter, start));
    const options = { limit: 1, afterKey: "", self: this.#parts.reads.node, allowed, explain: false, open };
    const { records, nextKey } = queryPage(lookup, filter, options);
    return records.length > 0 || nextKey !== undefined;
  }

  /** Only watched entries can be found by DNS name on the resolver itself. */
  #querySourceOfAliases(filter: EntryFilter) {
    return { from: this.#ports.machine.isComplete(baseOfFilter(filter)) ? ("followed" as const) : ("upstream" as const) };
  }

  async #passed(query: ProxiedQuery, context: CallContext, here: (now: Time) => MaybeWaiting<HandlerAnswer>): Promise<HandlerAnswer> {
    const { filter } = query;
    const { following, counts } = this.#ports.machine;
    const base = baseOfFilter(filter);
    counts.miss();
    if (filter.namespace !== "") following.ask(filter.namespace, context.time.monoMs);
    try {
      const { response, entries } = await this.#passOn(query, context);
      this.#parts.onRead(context.caller, filter.namespace);
      return encodedPage(response, entries);
    } catch (error) {
      const { maxStaleness } = query.request;
      const isBounded = maxStaleness !== undefined && this.#ports.machine.isComplete(base);
      const maxAgeMs = isBounded ? durationMs(maxStaleness) : undefined;
      return this.#fallback(error instanceof WaymarkError ? tooStale(error, maxAgeMs) : error, { ...query, here });
    }
  }

  async #passOn(
    { request, filter, caller }: ProxiedQuery,
    { deadlineMonoMs }: CallContext,
  ): Promise<Pick<UpstreamPage, "entries" | "response">> {
    const { identity, policies, now } = this.#parts;
    const { machine } = this.#ports;
    // Pages are filtered by the policy that is in force when they arrive.
    const seesIn = (namespace: string) => request.forResolver || this.#parts.reads.verdict(caller, namespace).allowed;
    const { clusterId } = identity;
    const isShown: Parameters<typeof proxyQuery>[1]["isShown"] = (entry) => mayBeSeen(policies.policy, entry, entry, clusterId);
    const via = [machine.via[0] ?? "", ...request.via];
    const heldAfter = (afterKey: string) => this.#heldAfter({ request, filter, caller }, { afterKey, allowed: seesIn });
    const passed = { request, filter, salt: querySalt(request), seesIn, isShown, heldAfter, via, clusterId, deadlineMonoMs, now };
    const {
      response: found,
      entries,
      ageMs,
      isStale,
      unreachable,
      hidden,
    } = await this.#gate.judged(filter.namespace, () => proxyQuery(this.#ports, passed));
    checkAge({ ageMs, unreachable, source: SOURCE.FETCHED }, request);
    this.#parts.reads.noteHidden(caller, hidden);
    const resolved = request.forResolver ? { policyEpoch: this.#parts.reads.policyEpoch, via: [...machine.via] } : {};
    const response = create(CatalogQueryResponseSchema, {
      ...found,
      ...resolved,
      servedBy: identity.nodeId,
      generatedAt: timestampFromMs(now().wallMs),
      age: durationFromMs(ageMs),
      stale: isStale,
      source: Source.FETCHED,
      ...unreachableField(unreachable),
    });
    return { response, entries };
  }

  /** Returns the retained entries that match a proxied query. */
  #heldAfter({ request, filter }: ProxiedQuery, start: PageStart): RetainedPage | undefined {
    const { reads, bytes, dnsNames } = this.#parts;
    const { lookup } = this.#ports.machine.held;
    const named = namesOf(request);
    const open = named && ((from: PageStart) => openAliasOwners(named, namedIn(dnsNames, lookup), filter, from));
    const test = request.subject === "" ? undefined : subjectTest(request.subject, filter, reads.replica);
    return retainedPage(lookup, filter, { ...start, limit: pageLimit(request.limit), self: reads.node, open, test }, bytes);
  }

  /** Used to answer when no server does. Watched data is served regardless of its age, unless the caller sets a limit. */
  #fallback(
    error: unknown,
    { filter, here }: { readonly filter: EntryFilter; readonly here: (now: Time) => MaybeWaiting<HandlerAnswer> },
  ): MaybeWaiting<HandlerAnswer> {
    if (!(error instanceof WaymarkError) || !(AWAY.has(error.reason) || error.reason === "too_stale")) throw error;
    const { machine } = this.#ports;
    if (!machine.isComplete(baseOfFilter(filter))) throw error;
    this.#gate.check(filter.namespace);
    return here(this.#parts.now());
  }

  // ---- calls that need a complete namespace ----
  #status(
    request: NamespaceStatusRequest,
    context: CallContext,
    handle: UnaryHandler<NamespaceStatusRequest>,
  ): MaybeWaiting<HandlerAnswer> {
    const { namespace } = request;
    const { machine } = this.#ports;
    const isSeen = () => this.#parts.reads.verdict(context.caller, namespace).allowed;
    const answer = (time: Time) => {
      const its = isSeen()
        ? machine.followedAnswer(time, (held) => held.namespaceCount(namespace) > 0)
        : machine.hiddenAnswer(namespace, time);
      return handle(request, { ...context, time, age: ageOf(its, time) });
    };
    if (!isSeen() || machine.isComplete(namespace)) return answer(context.time);
    return this.#followedFor<HandlerAnswer>(namespace, context.caller, () => answer(this.#parts.now()));
  }

  /** Wraps a route of a node that reads one namespace or all namespaces. */
  #whole(route: HttpRoute): HttpRoute {
    return {
      ...route,
      answer: (parameters, context) => {
        const { namespace = "" } = parameters;
        // The namespace is validated before anything is watched for the call.
        if (namespace !== "") parseNamespace(namespace, "namespace", PROTOCOL_BOUNDS);
        const answer = () => route.answer(parameters, context);
        return this.#gate.whenOpen<RouteAnswer>(namespace, () => {
          if (this.#parts.reads.verdict(context.caller, namespace).allowed)
            return this.#followedFor<RouteAnswer>(namespace, context.caller, () => whole(answer()));
          if (namespace !== "") return answer();
          throw new WaymarkError(
            "discovery_access_denied",
            "permission denied: namespace: is required on a resolver, because policy hides some namespaces from this caller",
          );
        });
      },
    };
  }

  /** Watches a namespace until the answer is complete. */
  async #followedFor<T>(namespace: string, caller: Caller, answer: () => MaybeWaiting<T>): Promise<T> {
    const release = this.#follow([namespace], callerKey(caller));
    try {
      await this.#complete([namespace]);
      this.#gate.check(namespace);
      return await answer();
    } finally {
      release();
    }
  }

  // ---- watches ----
  #watch(request: CatalogWatchRequest, context: CallContext): StreamSource {
    const watch = streaming<CatalogWatchRequest>(this.#node.handlers.catalogWatch);
    if (request.forResolver) this.#demandResolver(request.via, context.caller);
    const filter = filterOf(request);
    const caller = this.#viewer(context.caller, request.viewer);
    if (!request.forResolver && this.#ports.machine.policy.isReady) this.#parts.reads.checkWatch(caller, filter.namespace);
    const { machine } = this.#ports;
    // A caller that uses another view still consumes its own quota. A resolver reads for many callers, so it does not have a quota.
    const share = request.forResolver ? undefined : callerKey(context.caller);
    const begin = () => this.#openFollowed({ filter, caller, share }, () => watch(request, { ...context, time: this.#parts.now() }));
    // Before the policy is known, a watch does not cause the resolver to watch any namespace.
    if (machine.policy.isReady) return begin();
    const opened = this.#gate.whenOpen<StreamSource>("", begin);
    return opened instanceof Promise ? new DeferredStream(opened) : opened;
  }

  #openFollowed(watched: FollowedFor, watch: () => StreamSource): StreamSource {
    const prefixes = this.#prefixesOf(watched);
    const { epoch } = this.#parts.policies.policy;
    const release = this.#follow(prefixes, watched.share);
    const isMoved = () => this.#parts.policies.policy.epoch !== epoch && this.#prefixesOf(watched).join() !== prefixes.join();
    const over = () => this.#refusal(prefixes) ?? (isMoved() ? policyMoved() : undefined);
    const open = () => openHolding(() => new FollowedSource(watch(), over), release);
    if (prefixes.every((prefix) => this.#ports.machine.isComplete(prefix))) return open();
    return new DeferredStream(this.#openLater(prefixes, open, release));
  }

  async #openLater(prefixes: readonly string[], open: () => StreamSource, release: () => void): Promise<StreamSource> {
    try {
      await this.#complete(prefixes);
    } catch (error) {
      release();
      throw error;
    }
    return open();
  }

  /**
   * Returns the prefixes that the resolver must watch. Below a prefix that is hidden from the caller, it watches only the prefixes that a rule shows
   * to the caller.
   */
  #prefixesOf({ filter, caller }: Pick<FollowedFor, "caller" | "filter">): readonly string[] {
    if (filter.resolved !== undefined) return filter.resolved.list;
    const { reads, policies } = this.#parts;
    const asked = baseOfFilter(filter);
    if (reads.verdict(caller, asked).allowed) return [asked];
    const bases = [CONTROL_NAMESPACE, ...(policies.policy.set?.rules ?? []).map(({ pattern }) => baseOf(pattern))];
    return bases.filter((base) => namespaceCovers(asked, base) && isShownAt(base)).toSorted();

    function isShownAt(base: string): boolean {
      return reads.verdict(caller, base).allowed || reads.verdict(caller, `${base}.x`).allowed;
    }
  }

  /**
   * Watches the prefixes until the returned function is called. `share` is the caller whose quota is charged, as in `Following.watch`. Throws
   * `quota_exceeded`.
   */
  #follow(prefixes: readonly string[], share: string | undefined): () => void {
    const { following } = this.#ports.machine;
    const followed: string[] = [];
    const release = () => {
      for (const prefix of followed.splice(0)) following.unwatch(prefix, share);
      this.#ports.adjust();
    };
    try {
      for (const prefix of prefixes) {
        following.watch(prefix, share);
        followed.push(prefix);
      }
    } catch (error) {
      release();
      throw error;
    }
    this.#ports.adjust();
    return release;
  }

  async #complete(prefixes: readonly string[]): Promise<void> {
    const { machine } = this.#ports;
    const isThere = () => machine.policy.isReady && prefixes.every((prefix) => machine.isComplete(prefix));
    const isOver = () => isThere() || this.#refusal(prefixes) !== undefined;
    await this.#ports.until(isOver, SNAPSHOT_WAIT_MS);
    const refusal = this.#refusal(prefixes);
    if (refusal !== undefined) throw refusal;
    if (isThere()) return;
    throw new WaymarkError("not_ready", `this resolver has not received all requested namespaces yet; retry in ${RETRY_MS} ms`, {
      retryMs: RETRY_MS,
    });
  }

  /** Returns the error if a caller needs one of the prefixes but it cannot be watched. Undefined if all of them can be watched. */
  #refusal(prefixes: readonly string[]): WaymarkError | undefined {
    const { following } = this.#ports.machine;
    if (!prefixes.some((prefix) => following.isRefused(prefix))) return undefined;
    const message =
      "the requested namespaces do not fit in the cache of this resolver (resolver.max_entries, resolver.max_bytes): request fewer, or use a node";
    return new WaymarkError("quota_exceeded", message);
  }

  // ---- callers ----
  #demandResolver(via: readonly string[], caller: Caller): void {
    demandResolver(caller, this.#parts.isTls);
    checkVia(this.#ports.machine.via, via);
  }

  #viewer(caller: Caller, asked: Parameters<typeof viewerOf>[1]): Caller {
    return viewerOf(caller, asked, this.#parts.allowsViewerOverride);
  }
}

/**
 * Throws if a reader behind the resolvers in `via` would read from itself, or would be behind too many resolvers. `own` contains the resolver that is
 * being read and the resolvers through which its data passes.
 */
export function checkVia(own: readonly string[], via: readonly string[]): void {
  if (via.some((name) => own.includes(name)))
    throw new WaymarkError(
      "not_ready",
      `resolver loop: this resolver reads through the calling resolver (via ${via.join(", ")}), so neither would receive changes: set a node in resolver.upstreams of one of them`,
    );
  if (via.length + own.length > MAX_VIA + 1)
    throw new WaymarkError("not_ready", `the chain of resolvers is longer than ${MAX_VIA}: read from a node`);
}

export function unary<R extends Message>(handler: MethodHandler | undefined): UnaryHandler<R> {
  if (handler?.kind !== "unary") throw new TypeError("the handler is not unary");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler belongs to these requests
  return handler.handle as UnaryHandler<R>;
}

export function streaming<R extends Message>(handler: MethodHandler | undefined): ServerStreamHandler<R> {
  if (handler?.kind !== "server_streaming") throw new TypeError("the handler is not server-streaming");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
  return handler.open as ServerStreamHandler<R>;
}

/** Reads all pieces of an answer now, because the resolver may no longer watch the namespace when the pieces are sent. */
async function whole(answer: RouteAnswer | Promise<RouteAnswer>): Promise<RouteAnswer> {
  const said = await answer;
  return said.kind === "pieces" ? { kind: "pieces", pieces: [...said.pieces] } : said;
}

/** Returns the namespace or the prefix in a filter. An empty text is the prefix that covers all namespaces. */
function baseOfFilter({ namespace, prefix }: EntryFilter): string {
  return namespace === "" ? prefix : namespace;
}

/** Returns the namespace to which a rule applies. For a rule that applies to namespaces below a prefix, returns that prefix. */
function baseOf(pattern: string): string {
  return pattern.endsWith(BELOW) ? pattern.slice(0, -BELOW.length) : pattern;
}

function policyMoved(): WaymarkError {
  return new WaymarkError("not_ready", "a policy change affects the namespaces of this watch: resume with the last cursor", {
    retryMs: RETRY_MS,
  });
}

function settle<T>({ resolve, reject }: PromiseWithResolvers<T>, make: () => MaybeWaiting<T>): void {
  try {
    resolve(make());
  } catch (error) {
    reject(error);
  }
}
