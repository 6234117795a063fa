/** DiscoveryService: request → call → response. */
import { create } from "@bufbuild/protobuf";
import { type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import type { EntryKey as WireKey } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type CatalogQueryRequest,
  type CatalogWatchRequest,
  type ClusterMapRequest,
  DiscoveryService,
  type KeepAliveRequest,
  type ListPeersRequest,
  type NamespaceStatusRequest,
  NamespaceStatusResponseSchema,
  type RegisterRequest,
  RegisterResponseSchema,
  type RenewRequest,
  RenewResponseSchema,
  ServerInfoResponseSchema,
  type UnregisterRequest,
  UnregisterResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { type EntryStamper, parseKey, parseLoad, type Stamp } from "../../catalog/entry/codec.ts";
import type { Bounds } from "../../catalog/entry/names.ts";
import { isNamespaceOnly } from "../../catalog/query/filter.ts";
import { pageLimit } from "../../catalog/query/query.ts";
import { type Health, type KeyText, KIND } from "../../catalog/record/record.ts";
import { type Cursor, parseCursor } from "../../catalog/watch/cursor.ts";
import { Feed } from "../../catalog/watch/feed.ts";
import { isAhead } from "../../catalog/watch/resume.ts";
import type { DnsNames } from "../../discovery/dns-names.ts";
import { subjectTest } from "../../discovery/entry-tests.ts";
import type { Fanout } from "../../discovery/fanout.ts";
import type { Reads } from "../../discovery/reads.ts";
import type { Renewed, Report } from "../../discovery/registrar/loads.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import { PROTOCOL_VERSIONS } from "../../fabric/links/peer-auth.ts";
import { isKnownAge } from "../../lib/duration.ts";
import { invalid, rethrowBroken, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Histogram, Metrics, Series } from "../../lib/metrics/metrics.ts";
import type { RefusedAct } from "../../policy/audit/refusals.ts";
import { type Caller, hasRole, viewerOf } from "../../policy/identity/caller.ts";
import { exportScopesAt } from "../../policy/set/rules.ts";
import { HIDDEN_REASON } from "../../policy/set/visibility.ts";
import { answeringEach } from "../answered-stream.ts";
import type { PeerDirectory } from "../peer-directory.ts";
import { prometheusRoute } from "../prometheus-sd.ts";
import { bookmarkMs, checkAliases, durationMs } from "../request-checks.ts";
import type { CallContext, Service, StreamSource } from "../service.ts";
import { encodeExplanations } from "./explanations.ts";
import { filterOf } from "./filter.ts";
import { clusterMap, freshness, listPeers, wireScope } from "./nodes.ts";
import { Places } from "./places.ts";
import { readKeepAliveRequest, readRegisterRequest } from "./request-bytes.ts";
import { resolveHandler } from "./resolve.ts";
import { type DiscoveryBytes, keepAliveBytes } from "./response-bytes.ts";
import { WatchSource } from "./watch-source.ts";

/** The serving node. `ServerInfo` tells it, and entries are stamped with it. */
export interface NodeIdentity {
  readonly version: string;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly roles: readonly string[];
  readonly generation: number;
  readonly boot: string;
  /** Listener name to `host:port`. It is filled while the node starts. */
  readonly listeners: Readonly<Record<string, string>>;
  readonly startedMonoMs: number;
}

export interface DiscoveryParts {
  readonly identity: NodeIdentity;
  readonly bounds: Bounds;
  readonly registrar: Registrar;
  readonly reads: Reads;
  readonly fanout: Fanout;
  readonly stamper: EntryStamper;
  readonly bytes: DiscoveryBytes;
  readonly dnsNames: Pick<DnsNames, "isSingleLabel">;
  /** Resolves when all staged records are durable. Undefined if none are staged. */
  readonly durable: () => Promise<void> | undefined;
  readonly isReady: () => boolean;
  /** Throws `not_ready` while this node may hold only a part of the catalog. */
  readonly checkCaughtUp: () => void;
  /** After a standstill of this process: resolves when other nodes confirm that no other process has taken this node's id. Undefined otherwise. */
  readonly confirmed: () => Promise<void> | undefined;
  /** Throws `clock_skew` or `not_ready` while this node takes no writes. */
  readonly checkWrites: () => void;
  /** Throws `not_ready` while another process runs under this node's id. Renewals and watches must then go to another node too. */
  readonly checkStart: () => void;
  readonly mesh: PeerDirectory;
  readonly now: () => Time;
  readonly random: () => number;
  /** Whether callers without a credential may ask for the view of another cluster and tenant. */
  readonly allowsViewerOverride: boolean;
  readonly metrics: Metrics;
  /** Tells the audit of an accepted write. */
  readonly onWrite: (caller: Caller, action: "register" | "unregister", namespaces: readonly string[], count: number) => void;
  /** Tells the audit of a write that was refused for another reason than the policy. */
  readonly onRefused: (refusal: RefusedAct) => void;
  /** Tells the audit of an answered read. */
  readonly onRead: (caller: Caller, namespace: string) => void;
}

/** Time after which a client should try again when the data is too old. */
const STALE_RETRY_MS = 1000;
/** A little more than the time between two looks for due bookmarks. */
const BOOKMARK_SLACK_MS = 250;

export function discoveryService(parts: DiscoveryParts): Service {
  const methods = new DiscoveryMethods(parts);
  return {
    desc: DiscoveryService,
    handlers: {
      register: {
        kind: "unary",
        handle: (request: RegisterRequest, context) => methods.register(request, context),
        read: readRegisterRequest,
      },
      renew: { kind: "unary", handle: (request: RenewRequest, context) => methods.renew(request, context) },
      keepAlive: answeringEach((request: KeepAliveRequest, context) => methods.keepAlive(request, context), readKeepAliveRequest),
      unregister: { kind: "unary", handle: (request: UnregisterRequest, context) => methods.unregister(request, context) },
      catalogQuery: { kind: "unary", handle: (request: CatalogQueryRequest, context) => methods.query(request, context) },
      catalogWatch: { kind: "server_streaming", open: (request: CatalogWatchRequest, context) => methods.watch(request, context) },
      resolve: resolveHandler(parts),
      clusterMap: { kind: "unary", handle: (request: ClusterMapRequest, context) => clusterMap(parts, request, context) },
      listPeers: { kind: "unary", handle: (request: ListPeersRequest, context) => listPeers(parts, request, context) },
      namespaceStatus: { kind: "unary", handle: (request: NamespaceStatusRequest, context) => methods.namespaceStatus(request, context) },
      serverInfo: { kind: "unary", handle: (_request, context) => methods.serverInfo(context) },
    },
    routes: [prometheusRoute(parts)],
  };
}

class DiscoveryMethods {
  readonly #parts: DiscoveryParts;
  readonly #places: Places;
  readonly #queryLatency: Histogram;
  readonly #deltaLag: Histogram;
  readonly #dropped: Series;

  constructor(parts: DiscoveryParts) {
    this.#parts = parts;
    this.#places = new Places(parts.reads);
    this.#queryLatency = parts.metrics.histogram("discovery_query_latency_ms", {});
    this.#deltaLag = parts.metrics.histogram("discovery_delta_lag_ms", {});
    this.#dropped = parts.metrics.counter("discovery_delta_dropped_total", {});
  }

  async register(request: RegisterRequest, context: CallContext) {
    const { registrar, metrics, onWrite } = this.#parts;
    let registered: ReturnType<Registrar["register"]>;
    try {
      await this.#parts.confirmed();
      this.#parts.checkWrites();
      registered = registrar.register(context.caller, this.#command(request, context), context.time);
    } catch (error) {
      metrics.inc("waymark_register_total", { outcome: "refused" });
      throw error;
    }
    await this.#settled();
    const namespaces = request.entries.map((entry) => entry.key?.namespace ?? "");
    onWrite(context.caller, "register", namespaces, request.entries.length);
    const { revision, cursor } = this.#places.now();
    const ttl = registered.ttlMs === undefined ? {} : { ttl: durationFromMs(registered.ttlMs) };
    return create(RegisterResponseSchema, { leaseId: registered.leaseId, revision: BigInt(revision), cursor, ...ttl });
  }

  async renew(request: RenewRequest, context: CallContext) {
    const { expiredLeaseIds, ttlMs } = this.#renew(request, context);
    await this.#parts.durable();
    const ttl = ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) };
    return create(RenewResponseSchema, { expiredLeaseIds: [...expiredLeaseIds], ...ttl });
  }

  /** HOT: 200,000 leases a second. A renewal without reports creates no promise. */
  keepAlive(request: KeepAliveRequest, context: CallContext) {
    const response = keepAliveBytes(this.#renew(request, context));
    const durable = request.reports.length === 0 ? undefined : this.#parts.durable();
    return durable === undefined ? response : durable.then(() => response);
  }

  async unregister(request: UnregisterRequest, context: CallContext) {
    const { registrar } = this.#parts;
    if ((request.leaseId === "") === (request.keys.length === 0)) throw invalid("lease_id", "give either lease_id or keys");
    this.#checkCount(request.keys, "keys");
    await this.#parts.confirmed();
    this.#parts.checkWrites();
    const removed =
      request.leaseId === ""
        ? registrar.unregisterKeys(
            context.caller,
            request.keys.map((key, i) => this.#key(key, `keys[${i}]`)),
            context.time,
          )
        : registrar.unregisterLease(context.caller, request.leaseId, context.time);
    await this.#parts.durable();
    const namespaces = request.leaseId === "" ? request.keys.map((key) => key.namespace) : [""];
    this.#parts.onWrite(context.caller, "unregister", namespaces, removed);
    return create(UnregisterResponseSchema, { removed, revision: BigInt(this.#parts.reads.replica.revision) });
  }

  query(request: CatalogQueryRequest, context: CallContext): Uint8Array {
    const { reads, identity, bytes, allowsViewerOverride, mesh, now, onRead } = this.#parts;
    const ageMs = Math.round(mesh.ageMs(context.time));
    if (request.maxStaleness !== undefined) checkAge(ageMs, request.maxStaleness);
    const asked = filterOf(request);
    const { subject } = request;
    const test = subject === "" ? undefined : subjectTest(subject, asked, reads.replica);
    const filter = test === undefined ? asked : { ...asked, kindMask: 1 << KIND.TOPIC };
    const caller = viewerOf(context.caller, request.viewer, allowsViewerOverride);
    const page = reads.page(caller, {
      filter,
      test,
      limit: pageLimit(request.limit),
      token: request.pageToken,
      isExplained: request.explain,
      salt: test === undefined ? "query" : `query\0\0${subject}`,
    });
    // A watch cannot filter by subject. A reader that starts from the cursor of a later page would miss changes on the earlier pages.
    const isFirst = test === undefined && request.pageToken === "";
    const { revision, cursor } = this.#places.now(isFirst ? reads.readerText(caller, { filter, isNamesOnly: false }) : undefined);
    const answer = bytes.query({
      records: page.records,
      nextToken: page.nextToken,
      revision,
      cursor,
      servedBy: identity.nodeId,
      ageMs,
      generatedWallMs: context.time.wallMs,
      explanations: page.considered === undefined ? [] : encodeExplanations(page.considered),
    });
    this.#queryLatency.observe(now().monoMs - context.time.monoMs);
    onRead(context.caller, filter.namespace);
    return answer;
  }

  watch(request: CatalogWatchRequest, context: CallContext): StreamSource {
    const { reads, allowsViewerOverride, checkStart } = this.#parts;
    checkStart();
    const filter = filterOf(request);
    if (request.withDigest && !isNamespaceOnly(filter))
      throw invalid("with_digest", "goes with namespace or namespace_prefix filters only");
    const bookmarkIntervalMs = bookmarkMs(request.bookmarkInterval);
    const from = request.cursor === "" ? undefined : this.#from(parseCursor(request.cursor));
    const caller = viewerOf(context.caller, request.viewer, allowsViewerOverride);
    reads.checkWatch(caller, filter.namespace);
    const reader = reads.reader(caller, { filter, isNamesOnly: request.namesOnly, withDigest: request.withDigest });
    // Due bookmarks are found in ticks. The feed makes them due a little early, so that they are never late.
    const feed = new Feed(reader, { from, bookmarkIntervalMs: bookmarkIntervalMs - BOOKMARK_SLACK_MS }, context.time);
    return new WatchSource(feed, {
      ...this.#parts,
      ageMs: this.#parts.mesh.ageMs,
      nodeId: this.#parts.identity.nodeId,
      deltaLag: this.#deltaLag,
      dropped: this.#dropped,
      release: (released) => reads.release(released),
    });
  }

  namespaceStatus(request: NamespaceStatusRequest, context: CallContext) {
    const { reads } = this.#parts;
    const { namespace } = request;
    const { verdict, version, rule } = reads.rule(context.caller, namespace);
    const { allowed } = verdict;
    const endpointCount = allowed ? reads.replica.lookup.namespaceCount(namespace) : 0;
    return create(NamespaceStatusResponseSchema, {
      namespace,
      policyVersion: version,
      owners: [...(rule?.owners ?? [])],
      exportScopes: rule === undefined ? [] : exportScopesAt(rule, context.time.wallMs).map(wireScope),
      allowed,
      reason: allowed ? verdict.reason : HIDDEN_REASON,
      endpointCount: BigInt(endpointCount),
      ...freshness(this.#parts, context.time),
    });
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
      staticEntriesEnded: BigInt(this.#parts.registrar.endings.endedStaticCount),
    });
  }

  #command(request: RegisterRequest, { caller, time }: CallContext): Parameters<Registrar["register"]>[1] {
    const { stamper, registrar, dnsNames, onRefused } = this.#parts;
    if (request.entries.length === 0) throw invalid("entries", "at least one is required");
    this.#checkCount(request.entries, "entries");
    const ttlMs = request.ttl && durationMs(request.ttl);
    const stamp = this.#stamp(caller, time);
    const entryTtlMs = registrar.ttlOf(request.leaseId, ttlMs, request.staticLease);
    const ttl = entryTtlMs === undefined ? undefined : durationFromMs(Math.min(entryTtlMs, stamper.maxTtlMs));
    const isSingle = (alias: string) => dnsNames.isSingleLabel(alias);
    const stampedEntries = request.entries.map((entry, i) => {
      if (entry.ttl === undefined && ttl !== undefined) entry.ttl = ttl;
      if (entry.aliases.length > 0) checkAliases(entry, `entries[${i}].aliases`, caller, { isSingle, onRefused });
      return stamper.entryOf(entry, i, stamp);
    });
    return { stampedEntries, ttlMs, leaseId: request.leaseId, idempotencyKey: request.idempotencyKey, isStatic: request.staticLease };
  }

  #renew(request: Pick<RenewRequest, "leaseIds" | "reports">, context: CallContext): Renewed {
    const { leaseIds, reports } = request;
    this.#checkCount(leaseIds, "lease_ids");
    this.#checkCount(reports, "reports");
    // A report is stamped like every write, so a wrong clock refuses it. Leases are measured by the monotonic clock, so renewals go on.
    if (reports.length > 0) this.#parts.checkWrites();
    else this.#parts.checkStart();
    const said = reports.length === 0 ? NO_REPORTS : reports.map((report, i) => this.#report(report, `reports[${i}]`, context.time));
    return this.#parts.registrar.renew(context.caller, leaseIds, said, context.time);
  }

  #report(report: RenewRequest["reports"][number], path: string, time: Time): Report {
    if (report.key === undefined) throw invalid(`${path}.key`, "is required");
    const health: number = report.health;
    return {
      key: this.#key(report.key, `${path}.key`),
      path,
      health: health === 0 ? undefined : (health as Health), // oxlint-disable-line typescript/no-unsafe-type-assertion -- the contract's rules refuse any other
      load: report.load === undefined ? undefined : parseLoad(report.load, `${path}.load`, time.wallMs, this.#parts.bounds),
    };
  }

  #checkCount({ length }: readonly unknown[], field: string): void {
    const most = this.#parts.bounds.maxRequestEntries;
    if (length > most) throw invalid(field, `${length} are more than the ${most} of limits.max_request_entries`);
  }

  #key(key: WireKey, path: string): KeyText {
    return parseKey(key, path, this.#parts.identity.clusterId, this.#parts.bounds);
  }

  #stamp(caller: Caller, time: Time): Stamp {
    const { nodeId, clusterId, region, zone } = this.#parts.identity;
    const by = { tenantId: caller.tenant, registeredByAdmin: hasRole(caller, "mesh.admin") };
    return { nodeId, clusterId, region, zone, ...by, receivedWallMs: time.wallMs };
  }

  /** The cursor to start from. Undefined leads to a snapshot. Throws for a short cursor of this process with a future revision: it was forged. */
  #from(cursor: Cursor): Cursor | undefined {
    const { reads, mesh, isReady, identity } = this.#parts;
    if (cursor.kind === "portable") {
      // A node that came back without its disk and has no peers can never catch up with this cursor. While it still looks for its peers,
      // one of them may help it to catch up.
      const isAlone = isReady() && !mesh.hasPeers();
      return isAlone && isAhead(cursor, reads.replica) ? undefined : reads.placed(cursor);
    }
    const isOfThisLife = cursor.holder.startsWith(identity.boot);
    if (isOfThisLife && cursor.revision > reads.replica.revision) throw invalid("cursor", "is not a cursor this service gave out");
    return reads.placed(cursor);
  }

  async #settled(): Promise<void> {
    const { durable, metrics } = this.#parts;
    try {
      await durable();
      metrics.inc("waymark_register_total", { outcome: "ok" });
    } catch (error) {
      metrics.inc("waymark_register_total", { outcome: "failed" });
      rethrowBroken(error);
      if (error instanceof WaymarkError) throw error;
      throw new WaymarkError("store_unavailable", "the journal does not take writes", { cause: error, retryMs: 1000 });
    }
  }
}

/** Throws `too_stale` when the data of this node may be older than the caller accepts. */
function checkAge(ageMs: number, maxStaleness: Duration): void {
  const maxStalenessMs = durationMs(maxStaleness);
  if (ageMs <= maxStalenessMs) return;
  const message = isKnownAge(ageMs)
    ? `what this node holds may be ${ageMs} ms old, more than the ${maxStalenessMs} ms asked for`
    : `this node does not know yet how old what it holds is, and at most ${maxStalenessMs} ms were asked for`;
  throw new WaymarkError("too_stale", message, { retryMs: STALE_RETRY_MS });
}

const NO_REPORTS: readonly Report[] = [];
