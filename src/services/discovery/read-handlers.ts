/** DiscoveryService's reads: all that a copy of the catalog can answer, without the parts of a node that write. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type CatalogQueryRequest,
  type CatalogWatchRequest,
  type NamespaceStatusRequest,
  type ResolveRequest,
  ServerInfoResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { ResolveRequest as NamedRequest } from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import { findKind } from "../../catalog/entry/kinds.ts";
import { ANY, type EntryFilter, isNamespaceOnly } from "../../catalog/query/filter.ts";
import { type EntryTest, type PageStart, pageLimit } from "../../catalog/query/query.ts";
import { KIND } from "../../catalog/record/record.ts";
import { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { CursorSource } from "../../catalog/watch/cursor-gap.ts";
import { subjectTest } from "../../discovery/candidates.ts";
import { type AliasNames, openAliasOwners } from "../../discovery/dns-alias-owners.ts";
import type { Fanout } from "../../discovery/fanout.ts";
import type { CatalogReads, QueryPageRequest } from "../../discovery/reads.ts";
import type { LoadReports } from "../../discovery/registrar/load-reports.ts";
import { PROTOCOL_VERSIONS } from "../../fabric/links/peer-auth.ts";
import { invalid } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Histogram, Metrics } from "../../lib/metrics/metrics.ts";
import { type Caller, viewerOf } from "../../policy/identity/caller.ts";
import { prometheusRoute } from "../prometheus-sd.ts";
import type { CallContext, MethodHandler, NodeIdentity, ServiceDefinition, StreamSource } from "../service.ts";
import { demandResolver } from "../service.ts";
import type { PeerDirectory } from "./answer-age.ts";
import { type AnswerAge, answerAge, checkAge, AnswerPositions as ShortPlaces, SOURCE, type StalenessBound } from "./answer-age.ts";
import { filterOf, namesOf } from "./filter.ts";
import { namespaceStatus, type StatusParts } from "./namespace-status.ts";
import type { ClusterRedirects } from "./resolve.ts";
import { encodeExplanations, resolveHandler } from "./resolve.ts";
import type { DiscoveryBytes } from "./response-bytes.ts";
import { type RequestedWatch, WatchOpener } from "./watch-opener.ts";

export interface ReadParts {
  /** `ServerInfo` tells it. */
  readonly identity: NodeIdentity;
  readonly reads: CatalogReads;
  readonly fanout: Fanout;
  readonly dnsNames: AliasNames;
  readonly bytes: DiscoveryBytes;
  /** The last reports about entries of this node, including those that were not sent to other nodes. */
  readonly loads: Pick<LoadReports, "of">;
  /** Static entries of this node that ended. */
  readonly endedStaticCount: () => number;
  readonly mesh: Pick<PeerDirectory, "ageMs" | "hasPeers" | "unreachable">;
  readonly isReady: () => boolean;
  /** Throws `not_ready` while this node may hold only a part of the catalog. */
  readonly checkCaughtUp: () => void;
  /** Throws `not_ready` while another process runs under this node's id. Watches must then go to another node too. */
  readonly checkStart: () => void;
  /**
   * Of a read worker: resolves when its copy has everything that its node had at the call. The node and its other workers may have given out
   * cursors that this copy does not cover yet. Undefined where the catalog is no copy: a cursor of its own that is ahead of it was forged.
   */
  readonly caughtUp: (() => Promise<void>) | undefined;
  readonly now: () => Time;
  readonly random: () => number;
  /** Whether callers without a credential may ask for the view of another cluster and tenant. */
  readonly allowsViewerOverride: boolean;
  readonly metrics: Metrics;
  /** Whether every connection of the listeners is encrypted. */
  readonly isTls: boolean;
  /** Of a resolver: how good what it follows is. Absent at a node, which has `mesh.ageMs`. */
  readonly followedAge?: ((time: Time) => AnswerAge) | undefined;
  /** Of a resolver: itself, and the resolvers through which its data comes, the nearest first. Absent at a node. */
  readonly via?: (() => readonly string[]) | undefined;
  /** Of a resolver: throws for a reader behind which it is itself, or that is behind too many. Absent at a node. */
  readonly checkVia?: ((via: readonly string[]) => void) | undefined;
  /** Of a resolver: whether it knows that it lacks a version of the policy, so that watches are told nothing. Absent at a node. */
  readonly isPaused?: (() => boolean) | undefined;
  /** Of a resolver: the places that its readers can be told, in the place of a vector. Absent at a node. */
  readonly resumes?: Pick<CursorSource, "gap"> | undefined;
  /** As in `ResolveParts`. */
  readonly redirects?: ClusterRedirects | undefined;
  /** As in `StatusParts`. */
  readonly exportsOf?: StatusParts["exportsOf"];
  /** Tells the audit of an answered read. */
  readonly onRead: (caller: Caller, namespace: string) => void;
}

/** Nothing comes through a resolver. */
const NOBODY: readonly string[] = [];

/** Calls that any copy of the catalog answers. A new one is to say at a resolver, too, how it is judged there (`resolvingHandlers`). */
export type ReadMethod = "catalogQuery" | "catalogWatch" | "resolve" | "namespaceStatus" | "serverInfo";

/** What a copy of the catalog answers. */
export interface ReadHandlers extends Required<Pick<ServiceDefinition, "routes">> {
  readonly handlers: Readonly<Record<ReadMethod, MethodHandler>>;
  /** `Resolve` of ResolverService. */
  readonly resolveName: MethodHandler;
  /** Whether the caller of `Resolve` may see the namespace. The audit is not told. */
  readonly maySee: (request: Pick<ResolveRequest, "namespace" | "viewer">, caller: Caller) => boolean;
  /** `CatalogQuery` for a caller that has made the filter of the request already. */
  readonly query: (request: CatalogQueryRequest, context: CallContext, filter: EntryFilter) => Uint8Array;
}

export function readHandlers(parts: ReadParts): ReadHandlers {
  const methods = new ReadMethods(parts);
  const handlers: ReadHandlers["handlers"] = {
    catalogQuery: { kind: "unary", handle: (request: CatalogQueryRequest, context) => methods.query(request, context) },
    catalogWatch: { kind: "server_streaming", open: (request: CatalogWatchRequest, context) => methods.watch(request, context) },
    resolve: resolveHandler(parts),
    namespaceStatus: { kind: "unary", handle: (request: NamespaceStatusRequest, context) => namespaceStatus(parts, request, context) },
    serverInfo: { kind: "unary", handle: (_request, context) => methods.serverInfo(context) },
  };
  const resolveName: MethodHandler = { kind: "unary", handle: (request: NamedRequest, context) => methods.resolveName(request, context) };
  return {
    handlers,
    routes: [prometheusRoute(parts)],
    resolveName,
    maySee: ({ namespace, viewer }, caller) => parts.reads.verdict(viewerOf(caller, viewer, parts.allowsViewerOverride), namespace).allowed,
    query: (request, context, filter) => methods.query(request, context, filter),
  };
}

interface RequestedPage {
  readonly request: Pick<CatalogQueryRequest, "limit" | "pageToken" | "viewer">;
  readonly filter: EntryFilter;
  readonly test: EntryTest | undefined;
  readonly open: QueryPageRequest["open"];
  readonly salt: string;
  readonly isExplained: boolean;
  /** Whether a watch can go on from the first page. */
  readonly isFollowed: boolean;
}

class ReadMethods {
  readonly #parts: ReadParts;
  readonly #places: ShortPlaces;
  readonly #queryLatency: Histogram;
  readonly #opener: WatchOpener;
  readonly #via: () => readonly string[];

  constructor(parts: ReadParts) {
    const { reads, metrics, identity } = parts;
    this.#parts = parts;
    this.#via = parts.via ?? (() => NOBODY);
    this.#places = new ShortPlaces(reads);
    this.#queryLatency = metrics.histogram("discovery_query_latency_ms", {});
    this.#opener = new WatchOpener(parts, {
      ...parts,
      ageOf: parts.followedAge ?? ((time) => answerAge(parts, { time })),
      via: this.#via,
      nodeId: identity.nodeId,
      policyEpoch: () => reads.policyEpoch,
      deltaLag: metrics.histogram("discovery_delta_lag_ms", {}),
      dropped: metrics.counter("discovery_delta_dropped_total", {}),
      release: (released) => reads.release(released),
    });
  }

  query(request: CatalogQueryRequest, context: CallContext, made?: EntryFilter): Uint8Array {
    const { reads, identity, bytes, dnsNames } = this.#parts;
    const age = this.#ageWithin(request, context);
    if (request.forResolver) {
      this.#checkResolver(request, context.caller);
      // A resolver keeps the answer in the place of what it has, and says to others that nothing else exists.
      this.#parts.checkCaughtUp();
    }
    const asked = made ?? filterOf(request);
    const { subject } = request;
    const test = subject === "" ? undefined : subjectTest(subject, asked, reads.replica);
    const filter = test === undefined ? asked : { ...asked, kindMask: 1 << KIND.TOPIC };
    const names = namesOf(request);
    const open = names && ((start: PageStart) => openAliasOwners(names, dnsNames, filter, start));
    const salt = querySalt(request);
    // A watch cannot filter by subject or name. A resolver's cursor is good for any filter, and this answer has one.
    const isFollowed = test === undefined && open === undefined && !request.forResolver && context.age?.source !== SOURCE.FETCHED;
    const { page, revision, cursor } = this.#page({ request, filter, test, open, salt, isExplained: request.explain, isFollowed }, context);
    const answer = bytes.query({
      records: page.records,
      nextToken: page.nextToken,
      revision,
      cursor,
      servedBy: identity.nodeId,
      age,
      generatedWallMs: context.time.wallMs,
      explanations: page.considered === undefined ? [] : encodeExplanations(page.considered),
      resolved: request.forResolver ? { policyEpoch: reads.policyEpoch, via: this.#via() } : undefined,
    });
    this.#answered(context, filter.namespace);
    return answer;
  }

  /** A page of a name, by the code and with the page tokens of a query that asks for the same. */
  resolveName(request: NamedRequest, context: CallContext): Uint8Array {
    const age = this.#ageWithin(request, context);
    const { namespace, name } = request;
    const filter = { ...ANY, namespace, names: [name], kindMask: 1 << (findKind(request.kind) ?? KIND.SERVICE) };
    const asked = {
      request,
      filter,
      test: undefined,
      open: undefined,
      salt: "query",
      isExplained: false,
      isFollowed: context.age?.source !== SOURCE.FETCHED,
    };
    const { page, cursor } = this.#page(asked, context);
    const servedBy = this.#parts.identity.nodeId;
    const first = request.pageToken === "" ? cursor : "";
    const answer = this.#parts.bytes.named({ records: page.records, nextToken: page.nextToken, cursor: first, servedBy, age });
    this.#answered(context, namespace);
    return answer;
  }

  /** The age of the data. Throws `too_stale` if the caller does not accept it. */
  #ageWithin(bound: StalenessBound, context: CallContext): AnswerAge {
    const age = answerAge(this.#parts, context);
    checkAge(age, bound);
    return age;
  }

  #page({ request, filter, test, open, salt, isExplained, isFollowed }: RequestedPage, context: CallContext) {
    const { reads, allowsViewerOverride } = this.#parts;
    const caller = viewerOf(context.caller, request.viewer, allowsViewerOverride);
    const page = reads.page(caller, { filter, test, open, limit: pageLimit(request.limit), token: request.pageToken, isExplained, salt });
    // A reader that starts from the cursor of a later page would miss changes on the earlier pages.
    // An entry that a resolver holds although it is gone is in no watch, so a reader that went on from here would keep it for ever.
    const isFirst = isFollowed && request.pageToken === "" && page.records.every((record) => record instanceof StoredRecord);
    return { page, ...this.#places.now(isFirst ? reads.readerText(caller, { filter, isNamesOnly: false }) : undefined) };
  }

  #answered({ caller, time }: CallContext, namespace: string): void {
    this.#queryLatency.observe(this.#parts.now().monoMs - time.monoMs);
    this.#parts.onRead(caller, namespace);
  }

  watch(request: CatalogWatchRequest, context: CallContext): StreamSource {
    this.#parts.checkStart();
    if (request.forResolver) this.#checkResolver(request, context.caller);
    const filter = filterOf(request);
    if (request.forResolver && !isForResolver(request, filter))
      throw invalid("for_resolver", "goes with namespace_prefixes, cursor, bookmark_interval, with_digest and via only");
    if (request.withDigest && !isNamespaceOnly(filter))
      throw invalid("with_digest", "goes with namespace or namespace_prefix filters only");
    return this.#opener.open({ ...watched(request), filter }, context);
  }

  /** Throws for a caller that may not read for others, and where others could read along. */
  #checkResolver({ via }: Pick<CatalogQueryRequest, "via">, caller: Caller): void {
    demandResolver(caller, this.#parts.isTls);
    this.#parts.reads.checkResolved();
    this.#parts.checkVia?.(via);
  }

  serverInfo(context: CallContext) {
    const { identity, reads } = this.#parts;
    return create(ServerInfoResponseSchema, {
      version: identity.version,
      nodeId: identity.nodeId,
      clusterId: identity.clusterId,
      region: identity.region,
      zone: identity.zone,
      roles: [...identity.roles],
      listeners: { ...identity.listeners },
      uptime: durationFromMs(Math.round(context.time.monoMs - identity.startedMonoMs)),
      revision: BigInt(reads.replica.revision),
      generation: BigInt(identity.generation),
      protocolVersions: [...PROTOCOL_VERSIONS],
      staticEntriesEnded: BigInt(this.#parts.endedStaticCount()),
      via: [...this.#via()],
    });
  }
}

/** Distinguishes the lists that queries with further terms ask for, in page tokens. */
export function querySalt(request: CatalogQueryRequest): string {
  const { subject } = request;
  const names = namesOf(request);
  return `query${subject === "" ? "" : `\0\0${subject}`}${names === undefined ? "" : `\0\0\0${JSON.stringify(names)}`}`;
}

function watched({ cursor, bookmarkInterval, viewer, namesOnly, withDigest }: CatalogWatchRequest): Omit<RequestedWatch, "filter"> {
  return { cursor, bookmarkInterval, viewer, isNamesOnly: namesOnly, withDigest };
}

/** Whether a resolver's watch asks for nothing but namespaces. */
function isForResolver({ namesOnly }: CatalogWatchRequest, filter: EntryFilter): boolean {
  return isNamespaceOnly(filter) && filter.namespace === "" && filter.prefix === "" && !namesOnly;
}
