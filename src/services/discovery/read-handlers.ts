/** The read handlers of DiscoveryService. The handlers need only a copy of the catalog. They do not need any part of a node that writes. */
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
import type { CallContext, HttpRoute, MethodHandler, NodeIdentity, StreamSource } from "../service.ts";
import { demandResolver } from "../service.ts";
import type { PeerDirectory } from "./answer-age.ts";
import { type AnswerAge, answerAge, checkAge, AnswerPositions as ShortPlaces, SOURCE, type StalenessBound } from "./answer-age.ts";
import { filterOf, namesOf } from "./filter.ts";
import { namespaceStatus, type StatusParts } from "./namespace-status.ts";
import type { ClusterRedirects } from "./resolve.ts";
import { encodeExplanations, resolveHandler } from "./resolve.ts";
import { type DiscoveryBytes, withHiddenBy } from "./response-bytes.ts";
import { type RequestedWatch, WatchOpener } from "./watch-opener.ts";

export interface ReadParts {
  /** The identity that `ServerInfo` reports. */
  readonly identity: NodeIdentity;
  readonly reads: CatalogReads;
  readonly fanout: Fanout;
  readonly dnsNames: AliasNames;
  readonly bytes: DiscoveryBytes;
  /** The last load reports for this node's entries, including reports that were not sent to other nodes. */
  readonly loads: Pick<LoadReports, "of">;
  /** Number of static entries of this node that have ended. */
  readonly endedStaticCount: () => number;
  readonly mesh: Pick<PeerDirectory, "ageMs" | "hasPeers" | "unreachable">;
  readonly isReady: () => boolean;
  /** Throws `not_ready` while this node may have only part of the catalog. */
  readonly checkCaughtUp: () => void;
  /** Throws `not_ready` while another process uses this node's id. In that case, watches must move to another node too. */
  readonly checkStart: () => void;
  /**
   * On a read worker: resolves when the copy has all changes that its node had at the time of the call. The node and its other workers may have
   * issued cursors that this copy does not cover yet. Undefined if the catalog is not a copy. A cursor ahead of the catalog is then forged.
   */
  readonly caughtUp: (() => Promise<void>) | undefined;
  readonly now: () => Time;
  readonly random: () => number;
  /** Whether callers without a credential may request the view of another cluster and tenant. */
  readonly allowsViewerOverride: boolean;
  readonly metrics: Metrics;
  /** Whether every connection of the listeners is encrypted. */
  readonly isTls: boolean;
  /** On a resolver: the age of its watched data. Absent on a node, which uses `mesh.ageMs`. */
  readonly followedAge?: ((time: Time) => AnswerAge) | undefined;
  /** On a resolver: its own id and the ids of the resolvers through which its data passes, nearest first. Absent on a node. */
  readonly via?: (() => readonly string[]) | undefined;
  /** On a resolver: throws if the reader's chain of resolvers contains this resolver or is too long. Absent on a node. */
  readonly checkVia?: ((via: readonly string[]) => void) | undefined;
  /** On a resolver: whether watches are paused because the resolver knows that it lacks a version of the policy. Absent on a node. */
  readonly isPaused?: (() => boolean) | undefined;
  /** On a resolver: the positions from which its readers can resume, used instead of a version vector. Absent on a node. */
  readonly resumes?: Pick<CursorSource, "gap"> | undefined;
  /** As in `ResolveParts`. */
  readonly redirects?: ClusterRedirects | undefined;
  /** As in `StatusParts`. */
  readonly exportsOf?: StatusParts["exportsOf"];
  /** Records in the audit log that a read was answered. */
  readonly onRead: (caller: Caller, namespace: string) => void;
}

/** The chain of resolvers on a node. The chain is empty, because a node's data does not pass through any resolver. */
const NOBODY: readonly string[] = [];

/**
 * Calls that any copy of the catalog can answer. A call that is added here also needs a handler on a resolver that checks its access
 * (`resolvingHandlers`).
 */
export type ReadMethod = "catalogQuery" | "catalogWatch" | "resolve" | "namespaceStatus" | "serverInfo";

/** The handlers for calls that a copy of the catalog answers. */
export interface ReadHandlers {
  readonly routes: readonly HttpRoute[];
  readonly handlers: Readonly<Record<ReadMethod, MethodHandler>>;
  /** `Resolve` of ResolverService. */
  readonly resolveName: MethodHandler;
  /** Whether the caller of `Resolve` may see the namespace. The check is not recorded in the audit log. */
  readonly maySee: (request: Pick<ResolveRequest, "namespace" | "viewer">, caller: Caller) => boolean;
  /** `CatalogQuery` with a filter that was already built from the request. */
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
  /** Whether a watch can continue from the cursor of the first page. */
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
      // A resolver replaces its data with the answer and then reports that no other entries exist, so the answer must be complete.
      this.#parts.checkCaughtUp();
    }
    const asked = made ?? filterOf(request);
    const { subject } = request;
    const test = subject === "" ? undefined : subjectTest(subject, asked, reads.replica);
    const filter = test === undefined ? asked : { ...asked, kindMask: 1 << KIND.TOPIC };
    const names = namesOf(request);
    const open = names && ((start: PageStart) => openAliasOwners(names, dnsNames, filter, start));
    const salt = querySalt(request);
    // A watch cannot filter by subject or name. A cursor for resolvers is valid for any filter, but this answer covers only one filter.
    const isFollowed = test === undefined && open === undefined && !request.forResolver && context.age?.source !== SOURCE.FETCHED;
    const { page, revision, cursor } = this.#page({ request, filter, test, open, salt, isExplained: request.explain, isFollowed }, context);
    const encoded = bytes.query({
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
    return withHiddenBy(encoded, page.hiddenBy);
  }

  /** Returns one page of a name's entries. Uses the code and the page tokens of the equivalent query. */
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

  /** Returns the age of the data. Throws `too_stale` if the caller does not accept this age. */
  #ageWithin(bound: StalenessBound, context: CallContext): AnswerAge {
    const age = answerAge(this.#parts, context);
    checkAge(age, bound);
    return age;
  }

  #page({ request, filter, test, open, salt, isExplained, isFollowed }: RequestedPage, context: CallContext) {
    const { reads, allowsViewerOverride } = this.#parts;
    const caller = viewerOf(context.caller, request.viewer, allowsViewerOverride);
    const page = reads.page(caller, { filter, test, open, limit: pageLimit(request.limit), token: request.pageToken, isExplained, salt });
    // A reader that starts from the cursor of a later page would miss changes on the earlier pages. A watch never reports an entry that a resolver
    // still serves after its removal, so a reader that continued from this cursor would keep the entry forever.
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
      throw invalid(
        "for_resolver",
        "must not be set with fields other than namespace_prefixes, cursor, bookmark_interval, with_digest and via",
      );
    if (request.withDigest && !isNamespaceOnly(filter))
      throw invalid("with_digest", "must not be set with filters other than namespace and namespace_prefix");
    return this.#opener.open({ ...watched(request), filter }, context);
  }

  /** Throws for a caller without the role for resolvers, for an unencrypted remote connection, and for an invalid chain of resolvers. */
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

/** Returns a text that makes page tokens specific to the subject and the names of a query. */
export function querySalt(request: CatalogQueryRequest): string {
  const { subject } = request;
  const names = namesOf(request);
  return `query${subject === "" ? "" : `\0\0${subject}`}${names === undefined ? "" : `\0\0\0${JSON.stringify(names)}`}`;
}

function watched({ cursor, bookmarkInterval, viewer, namesOnly, withDigest }: CatalogWatchRequest): Omit<RequestedWatch, "filter"> {
  return { cursor, bookmarkInterval, viewer, isNamesOnly: namesOnly, withDigest };
}

/** Returns whether a resolver's watch filters only by namespace prefixes. */
function isForResolver({ namesOnly }: CatalogWatchRequest, filter: EntryFilter): boolean {
  return isNamespaceOnly(filter) && filter.namespace === "" && filter.prefix === "" && !namesOnly;
}
