/** A DiscoveryService in memory behind a real gRPC server on a free port, and a PolicyService, PeerService, LeadershipService, ShardService and AuditService that answer as they are told: what the client and the command line need of one. */
import {
  create,
  type DescMessage,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { type handleUnaryCall, Metadata, Server, ServerCredentials, type ServerWritableStream, status } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import type { Entry, EntryKey, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type PeerSchema, PeerStatus } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { AuditService, type AuditServiceWatchRequest, AuditServiceWatchResponseSchema } from "../../gen/waymark/control/v1/audit_pb.js";
import { BootstrapService } from "../../gen/waymark/control/v1/bootstrap_pb.js";
import { ConfigService } from "../../gen/waymark/control/v1/config_pb.js";
import {
  LeadershipService,
  type LeadershipServiceSubscribeRequest,
  LeadershipServiceSubscribeResponseSchema,
} from "../../gen/waymark/control/v1/leadership_pb.js";
import { PeerService, type PeerServiceWatchRequest, PeerServiceWatchResponseSchema } from "../../gen/waymark/control/v1/peer_pb.js";
import { RebalanceService } from "../../gen/waymark/control/v1/rebalance_pb.js";
import { ShardService, type ShardServiceWatchRequest, ShardServiceWatchResponseSchema } from "../../gen/waymark/control/v1/shard_pb.js";
import {
  type CatalogQueryRequest,
  type CatalogWatchRequest,
  CatalogWatchResponseSchema,
  DiscoveryService,
  type NamespaceStatusResponseSchema,
  type RedirectSchema,
  type RegisterRequest,
  type RenewRequest,
  type ResolveRequest,
  type UnregisterRequest,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  type SummaryQueryRequest,
  type SummaryQueryResponseSchema,
  type SummaryWatchRequest,
  SummaryWatchResponseSchema,
} from "../../gen/waymark/discovery/v1/summary_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";

const CLUSTER = "test-cluster";
const NODE = "fake-1";

type WatchMessage = MessageInitShape<typeof CatalogWatchResponseSchema>;

/** Refuses every call of a method. */
export interface Refusal {
  readonly code: status;
  readonly message: string;
  readonly reason?: string;
  readonly violations?: readonly { readonly field: string; readonly description: string }[];
  readonly retryMs?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface Call {
  readonly method: string;
  readonly request: unknown;
  readonly authorization: string | undefined;
}

type PeerMessage = MessageInitShape<typeof PeerServiceWatchResponseSchema>;

export class FakeDiscovery {
  readonly #server = new Server();
  readonly #clusterId: string;
  /** Answers of PolicyService by method local name; a method without one answers with an empty message. */
  readonly policy = new Map<string, (request: never) => Record<string, unknown>>();
  /** Answers of PeerService, as those of PolicyService. */
  readonly mesh = new Map<string, (request: never) => Record<string, unknown>>();
  /** Answers of ResolverService, as those of PolicyService. */
  readonly cache = new Map<string, (request: never) => Record<string, unknown>>();
  /** What each PeerService.Watch gets; then it stays open. */
  meshScript: readonly PeerMessage[] = [];
  /** What the first ones get instead, one list a stream; those end after it. */
  meshScripts: (readonly PeerMessage[])[] = [];
  readonly meshRequests: PeerServiceWatchRequest[] = [];
  /** Answers of LeadershipService, as those of PolicyService; and what each Subscribe gets, as `meshScripts`. The last stream stays open. */
  readonly leaders = new Map<string, (request: never) => Record<string, unknown>>();
  leaderScripts: (readonly MessageInitShape<typeof LeadershipServiceSubscribeResponseSchema>[])[] = [];
  readonly leaderRequests: LeadershipServiceSubscribeRequest[] = [];
  /** Answers of ShardService, and what each Watch gets, as those of LeadershipService. */
  readonly shards = new Map<string, (request: never) => Record<string, unknown>>();
  /** Answers of AuditService, and what each Watch gets, as those of LeadershipService. */
  readonly audit = new Map<string, (request: never) => Record<string, unknown>>();
  auditScripts: (readonly MessageInitShape<typeof AuditServiceWatchResponseSchema>[])[] = [];
  readonly auditRequests: AuditServiceWatchRequest[] = [];
  /** The nodes in ClusterMap. */
  nodes: readonly MessageInitShape<typeof EntrySchema>[] = [];
  /** Answers of RebalanceService. */
  readonly rebalance = new Map<string, (request: never) => Record<string, unknown>>();
  shardScripts: (readonly MessageInitShape<typeof ShardServiceWatchResponseSchema>[])[] = [];
  readonly shardRequests: ShardServiceWatchRequest[] = [];
  readonly entries = new Map<string, Entry>();
  readonly calls: Call[] = [];
  /** By method local name. */
  readonly refusals = new Map<string, Refusal>();
  /** Holds back every answer to a method until this resolves; then it is answered or refused. */
  readonly held = new Map<string, Promise<void>>();
  /** Messages each watch gets, one list a stream; the last list's stream stays open. */
  watchScript: (readonly WatchMessage[])[] = [];
  readonly watchRequests: CatalogWatchRequest[] = [];
  /** Answers of SummaryQuery, and what each SummaryWatch gets; then it stays open. */
  summaries: (request: SummaryQueryRequest) => MessageInitShape<typeof SummaryQueryResponseSchema> = () => ({});
  summaryScript: readonly MessageInitShape<typeof SummaryWatchResponseSchema>[] = [];
  readonly summaryRequests: SummaryWatchRequest[] = [];
  /** Answers of ConfigService, as those of PolicyService. */
  readonly config = new Map<string, (request: never) => Record<string, unknown>>();
  readonly bootstrap = new Map<string, (request: never) => Record<string, unknown>>();
  /** What ListPeers says of other regions. */
  farPeers: readonly MessageInitShape<typeof PeerSchema>[] = [];
  /** What NamespaceStatus says beside what it says of all. */
  readonly namespaces = new Map<string, MessageInitShape<typeof NamespaceStatusResponseSchema>>();
  /** Leases that `renew` no longer knows. */
  readonly expired = new Set<string>();
  readonly listeners: Record<string, string> = {};
  /** What queries, resolutions and watches in the operator's view say of hidden namespaces. */
  hiddenBy: Record<string, string> = {};
  /** Where `resolve` sends callers that ask for a name without an entry. */
  redirect: (request: ResolveRequest) => MessageInitShape<typeof RedirectSchema> | undefined = () => undefined;
  #leases = 0;
  #revision = 0n;
  address = "";

  constructor(clusterId = CLUSTER) {
    this.#clusterId = clusterId;
  }

  async start(port = 0, credentials = ServerCredentials.createInsecure()): Promise<void> {
    const m = DiscoveryService.method;
    const handlers = [
      this.#unary(m.register, (request: RegisterRequest) => this.#register(request)),
      this.#unary(m.unregister, (request: UnregisterRequest) => this.#unregister(request)),
      this.#unary(m.renew, ({ leaseIds }: RenewRequest) => ({
        expiredLeaseIds: leaseIds.filter((id) => this.expired.has(id)),
        ttl: durationFromMs(30_000),
      })),
      this.#unary(m.catalogQuery, (request: CatalogQueryRequest) => this.#query(request)),
      this.#unary(m.resolve, (request: ResolveRequest) => {
        const entry = [...this.entries.values()].find(({ key }) => key?.name === request.name);
        const redirect = entry === undefined ? this.redirect(request) : undefined;
        return {
          ...(entry && { entry, ...(entry.targets[0] && { target: entry.targets[0] }) }),
          ...(redirect && { redirect }),
          ...(request.viewer?.asOperator === true && { hiddenBy: this.hiddenBy }),
          servedBy: NODE,
        };
      }),
      this.#unary(m.summaryQuery, (request: SummaryQueryRequest) => this.summaries(request)),
      this.#unary(m.clusterMap, () => ({ clusterId: this.#clusterId, nodes: [...this.nodes] })),
      this.#unary(m.listPeers, () => ({
        peers: [{ nodeId: "n2", clusterId: this.#clusterId, status: PeerStatus.ALIVE, urls: ["grpc://10.0.0.2:17420"] }, ...this.farPeers],
      })),
      this.#unary(m.namespaceStatus, ({ namespace }: { readonly namespace: string }) => ({
        namespace,
        allowed: true,
        reason: "policy_disabled",
        ...this.namespaces.get(namespace),
      })),
      this.#unary(m.serverInfo, () => ({ version: "9.9.9", nodeId: NODE, clusterId: this.#clusterId, listeners: this.listeners })),
    ];
    const definition = Object.fromEntries(handlers.map(({ name, definition: one }) => [name, one]));
    const watches = {
      catalogWatch: { ...definitionOf(m.catalogWatch), responseStream: true },
      summaryWatch: { ...definitionOf(m.summaryWatch), responseStream: true },
    };
    this.#server.addService(
      { ...definition, ...watches },
      {
        ...Object.fromEntries(handlers.map(({ name, handle }) => [name, handle])),
        catalogWatch: (call: ServerWritableStream<CatalogWatchRequest, unknown>) => this.#watch(call),
        summaryWatch: (call: ServerWritableStream<SummaryWatchRequest, unknown>) => {
          this.summaryRequests.push(call.request);
          for (const message of this.summaryScript) call.write(create(SummaryWatchResponseSchema, message));
        },
      },
    );
    for (const [{ methods }, answers] of [
      [PolicyService, this.policy] as const,
      [ResolverService, this.cache] as const,
      [ConfigService, this.config] as const,
      [BootstrapService, this.bootstrap] as const,
    ]) {
      const unary = methods.map((method) => this.#unary(method, (request) => answers.get(method.localName)?.(request as never) ?? {}));
      this.#server.addService(
        Object.fromEntries(unary.map(({ name, definition: one }) => [name, one])),
        Object.fromEntries(unary.map(({ name, handle }) => [name, handle])),
      );
    }
    this.#addMesh();
    const bound = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(`127.0.0.1:${port}`, credentials, (error, actual) => (error ? reject(error) : resolve(actual)));
    });
    this.address = `127.0.0.1:${bound}`;
  }

  #addMesh(): void {
    this.#addStreaming(PeerService, this.mesh, (call: ServerWritableStream<PeerServiceWatchRequest, unknown>) => {
      this.meshRequests.push(call.request);
      const script = this.meshScripts.shift();
      for (const message of script ?? this.meshScript) call.write(create(PeerServiceWatchResponseSchema, message));
      if (script !== undefined) call.end();
    });
    this.#addStreaming(LeadershipService, this.leaders, (call: ServerWritableStream<LeadershipServiceSubscribeRequest, unknown>) => {
      this.leaderRequests.push(call.request);
      for (const message of this.leaderScripts.shift() ?? []) call.write(create(LeadershipServiceSubscribeResponseSchema, message));
      if (this.leaderScripts.length > 0) call.end();
    });
    this.#addStreaming(ShardService, this.shards, (call: ServerWritableStream<ShardServiceWatchRequest, unknown>) => {
      this.shardRequests.push(call.request);
      for (const message of this.shardScripts.shift() ?? []) call.write(create(ShardServiceWatchResponseSchema, message));
      if (this.shardScripts.length > 0) call.end();
    });
    this.#addStreaming(AuditService, this.audit, (call: ServerWritableStream<AuditServiceWatchRequest, unknown>) => {
      this.auditRequests.push(call.request);
      const refusal = this.refusals.get("auditWatch");
      this.refusals.delete("auditWatch");
      if (refusal !== undefined) {
        call.emit("error", refused(refusal));
        return;
      }
      for (const message of this.auditScripts.shift() ?? []) call.write(create(AuditServiceWatchResponseSchema, message));
      if (this.auditScripts.length > 0) call.end();
    });
    this.#addStreaming(RebalanceService, this.rebalance, (call: ServerWritableStream<unknown, unknown>) => call.end());
  }

  /** Adds a service that has one stream. */
  #addStreaming<I>(
    { methods }: DescService,
    answers: ReadonlyMap<string, (request: never) => Record<string, unknown>>,
    handle: (call: ServerWritableStream<I, unknown>) => void,
  ): void {
    const unary = methods
      .filter((method) => method.methodKind === "unary")
      .map((method) => this.#unary(method, (request) => answers.get(method.localName)?.(request as never) ?? {}));
    const streams = methods.filter((method) => method.methodKind === "server_streaming");
    this.#server.addService(
      {
        ...Object.fromEntries(unary.map(({ name, definition }) => [name, definition])),
        ...Object.fromEntries(streams.map((method) => [method.localName, { ...definitionOf(method), responseStream: true }])),
      },
      {
        ...Object.fromEntries(unary.map(({ name, handle: one }) => [name, one])),
        ...Object.fromEntries(streams.map(({ localName }) => [localName, handle])),
      },
    );
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  callsOf(method: string): readonly Call[] {
    return this.calls.filter((call) => call.method === method);
  }

  #unary<I extends DescMessage, O extends DescMessage>(
    method: {
      readonly localName: string;
      readonly name: string;
      readonly parent: { readonly typeName: string };
      readonly input: I;
      readonly output: O;
    },
    answer: (request: MessageShape<I>) => MessageInitShape<O>,
  ) {
    const handle: handleUnaryCall<MessageShape<I>, MessageShape<O>> = (call, reply) => {
      this.calls.push({
        method: method.localName,
        request: call.request,
        authorization: call.metadata.get("authorization")[0]?.toString(),
      });
      const respond = () => {
        const refusal = this.refusals.get(method.localName);
        if (refusal) reply(refused(refusal));
        else reply(null, create(method.output, answer(call.request))); // oxlint-disable-line unicorn/no-null -- grpc-js wants null
      };
      const held = this.held.get(method.localName);
      if (held) void held.then(respond);
      else respond();
    };
    return { name: method.localName, definition: definitionOf(method), handle };
  }

  #register(request: RegisterRequest) {
    for (const entry of request.entries) {
      const { key } = entry;
      if (!key) continue;
      const stamped: Entry = {
        ...entry,
        key: { ...key, clusterId: this.#clusterId },
        clusterId: this.#clusterId,
        nodeId: NODE,
        zone: entry.zone === "" ? "local" : entry.zone,
      };
      this.entries.set(textOf(key), stamped);
    }
    this.#revision += 1n;
    if (request.leaseId === "") this.#leases += 1;
    return { leaseId: request.leaseId || `lease-${this.#leases}`, revision: this.#revision, ...(request.ttl && { ttl: request.ttl }) };
  }

  #unregister(request: UnregisterRequest) {
    let removed = 0;
    for (const key of request.keys) if (this.entries.delete(textOf(key))) removed += 1;
    return { removed: request.leaseId === "" ? removed : 1 };
  }

  #query(request: CatalogQueryRequest) {
    const prefix = request.namespacePrefix;
    const all = [...this.entries.entries()]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([, entry]) => entry)
      .filter(({ key }) => request.namespace === "" || key?.namespace === request.namespace)
      .filter(({ key }) => prefix === "" || key?.namespace === prefix || key?.namespace.startsWith(`${prefix}.`) === true)
      .filter(({ key }) => request.names.length === 0 || request.names.includes(key?.name ?? ""));
    const from = Number(request.pageToken || "0");
    const limit = request.limit === 0 ? 100 : Math.min(request.limit, 1000);
    const to = from + limit;
    const page = { items: all.slice(from, to), nextPageToken: to < all.length ? String(to) : "" };
    const hiddenBy = request.viewer?.asOperator === true ? { hiddenBy: this.hiddenBy } : {};
    return { ...page, revision: this.#revision, servedBy: NODE, ...hiddenBy };
  }

  #watch(call: ServerWritableStream<CatalogWatchRequest, unknown>): void {
    const refusal = this.refusals.get("catalogWatch");
    if (refusal) {
      call.emit("error", refused(refusal));
      return;
    }
    this.watchRequests.push(call.request);
    const script = this.watchScript.shift() ?? [];
    for (const message of script) call.write(create(CatalogWatchResponseSchema, message));
    if (this.watchScript.length > 0)
      call.emit("error", refused({ code: status.UNAVAILABLE, message: "draining: going away", reason: "DRAINING" }));
  }
}

function definitionOf<I extends DescMessage, O extends DescMessage>(method: {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: I;
  readonly output: O;
}) {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
    responseSerialize: (message: MessageShape<O>) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
  };
}

function textOf(key: EntryKey): string {
  return [key.namespace, key.name, key.kind, key.instanceId].join("\0");
}

function refused({ code, message, reason, violations, retryMs, metadata: facts = {} }: Refusal) {
  const metadata = new Metadata();
  if (reason !== undefined) {
    const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: "waymark", metadata: facts }))];
    if (violations) details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [...violations] })));
    if (retryMs !== undefined) details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(retryMs) })));
    metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))));
  }
  return Object.assign(new Error(message), { code, details: message, metadata });
}
