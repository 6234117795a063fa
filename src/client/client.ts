/** A typed client of a cluster, with one function for each method, and registrations, queries, watches, leaders and shards. */
import type {
  DescMessage,
  DescMethod,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { ZoneLocality } from "../consumer/locality-levels.ts";
import {
  type CallOptions,
  type ClientCalls,
  checkSummaryCall,
  type ServerChannel,
  type StreamOptions,
  type SummaryCallOptions,
} from "./calls.ts";
import { ClusterCalls, type ClusterCallsOptions } from "./cluster-calls.ts";
import { type LeaderTerm, type LeadOptions, lead } from "./lead.io.ts";
import { type Choice, checkResolveOptions, type ResolveOptions } from "./live/choice.ts";
import type { CountsOfName } from "./live/live-entries.ts";
import { OneOffLookups } from "./live/lookups.io.ts";
import { type LiveMap, type WatchingCalls, type WatchOptions, type WatchRequest, watch } from "./live/watch.io.ts";
import { Query, type QueryRequest } from "./query.io.ts";
import { type RegisterOptions, type RegistrationHandle, register } from "./register.io.ts";
import { closedFailure } from "./request-error.ts";
import type { ServerList } from "./servers/server-list.ts";
import { ShardClient, type ShardsOptions } from "./shards/shard-client.io.ts";

export interface ClientOptions extends ClusterCallsOptions {
  /** Time for which the answer to a one-off lookup is fresh. */
  readonly lookupTtlMs: number;
  /** Creates the access to other clusters. Called once, on first use. If absent, other clusters cannot be called. */
  readonly elsewhere?: (client: Client) => OtherClusterCalls;
  /** Whether `resolve` follows redirects to other clusters. */
  readonly followsRedirects?: boolean;
}

/** Calls to other clusters. */
export interface OtherClusterCalls {
  /** Chooses an entry in the cluster to which the servers redirect the name. */
  resolve(namespace: string, name: string, options: ResolveOptions): Promise<Choice | undefined>;
  /** Runs a call on an ingress of the cluster. */
  run<T>(cluster: string, fn: (client: Client) => Promise<T>, options: SummaryCallOptions): Promise<T>;
  close(): void;
}

type UnaryFunction<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: CallOptions,
) => Promise<MessageShape<O>>;

type StreamFunction<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: StreamOptions,
) => AsyncIterable<MessageShape<O>>;

type MethodFunction<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? UnaryFunction<I, O>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? StreamFunction<I, O>
      : never;

/** One function for each method, by its TypeScript name. Client-streaming methods are excluded. */
export type ServiceClient<S extends DescService> = {
  readonly [K in keyof S["method"] as MethodFunction<S["method"][K]> extends never ? never : K]: MethodFunction<S["method"][K]>;
};

/** A client of a cluster, created by `connect`. It selects a server for each call, and retries calls on other servers if that is safe. */
export class Client implements WatchingCalls {
  /** Registration, renewal, queries, watches and lookups. */
  readonly discovery: ServiceClient<typeof DiscoveryService> = serviceClient(DiscoveryService, this);
  /** Namespace policies, explanations of access decisions, and the audit log. */
  readonly policy: ServiceClient<typeof PolicyService> = serviceClient(PolicyService, this);
  /** DNS names: registers, lists and describes them, and returns the DNS gateway's answer to a question. */
  readonly dns: ServiceClient<typeof DnsService> = serviceClient(DnsService, this);
  /** The nodes of the mesh, as seen by the server. */
  readonly peers: ServiceClient<typeof PeerService> = serviceClient(PeerService, this);
  readonly #calls: ClusterCalls;
  readonly #options: ClientOptions;
  #lookups: OneOffLookups | undefined;
  /** The parts that follow shards, by namespace. */
  readonly #shardClients = new Map<string, ShardClient>();
  #elsewhere: OtherClusterCalls | undefined;
  #isClosed = false;
  /**
   * Calls a unary method. If a server is unavailable, the call is retried once on each other server, if a retry is safe: for a read, a renewal,
   * a removal, a registration with an idempotency key, an operation on a node with a request id, or a call that certainly had no effect. The number of retries is at most a tenth of the
   * calls, plus an initial budget of ten (`RetryBudget`). Throws the last `RequestError`.
   */
  readonly call: ClientCalls["call"];
  readonly callAt: ClientCalls["callAt"];
  readonly stream: ClientCalls["stream"];
  readonly streamAt: ClientCalls["streamAt"];
  readonly duplexAt: ClientCalls["duplexAt"];
  readonly failOver: ClientCalls["failOver"];
  readonly serverBeside: ClientCalls["serverBeside"];

  constructor(servers: ServerList, open: (server: string) => ServerChannel, options: ClientOptions) {
    const calls = new ClusterCalls(servers, open, options);
    this.#calls = calls;
    this.#options = options;
    this.call = calls.call.bind(calls);
    this.callAt = calls.callAt.bind(calls);
    this.stream = calls.stream.bind(calls);
    this.streamAt = calls.streamAt.bind(calls);
    this.duplexAt = calls.duplexAt.bind(calls);
    this.failOver = calls.failOver.bind(calls);
    this.serverBeside = calls.serverBeside.bind(calls);
  }

  get servers(): readonly string[] {
    return this.#calls.servers;
  }

  /**
   * The location of the program: as passed to `connect` or, by default, the location of the first server that reports one. Undefined before that.
   */
  get place(): ZoneLocality | undefined {
    return this.#calls.place;
  }

  get timeoutMs(): number {
    return this.#calls.timeoutMs;
  }

  get server(): string {
    return this.#calls.server;
  }

  get writeServer(): string {
    return this.#calls.writeServer;
  }

  /**
   * Registers entries under a new lease, and keeps them registered until the handle is closed. Resolves when a server has accepted the
   * registration. Throws a `RequestError` if the registration is rejected or no server accepts it within the client's `timeoutMs`.
   */
  register(entries: readonly MessageInitShape<typeof EntrySchema>[], options: RegisterOptions = {}): Promise<RegistrationHandle> {
    return register(this, entries, options);
  }

  /**
   * Returns the entries that match a filter, ordered by key: `for await (const entry of client.query({ namespace }))`. Pages are requested
   * as they are read. The options apply to each page request.
   */
  query(request: QueryRequest, options: CallOptions = {}): Query {
    return new Query(this, request, options);
  }

  /**
   * Opens a live map of the entries that match a filter. Resolves when the first snapshot is complete. Throws a `RequestError` if the watch is
   * rejected or no server answers within the client's `timeoutMs`.
   */
  watch(request: WatchRequest, options: WatchOptions = {}): Promise<LiveMap> {
    return watch(this, request, options);
  }

  /**
   * Chooses an entry with a given name and one of its ports, without a watch. A server's answer is cached for `lookupTtlMs`, or longer while no
   * server answers. Returns undefined if no entry can be chosen. With `autoSummaryRedirect`, the entry may be in another cluster to which the servers
   * redirect requests for the name. Throws a `RequestError`.
   */
  async resolve(namespace: string, name: string, options: ResolveOptions = {}): Promise<Choice | undefined> {
    checkResolveOptions(options);
    this.#lookups ??= new OneOffLookups(this, this.#options.lookupTtlMs);
    const choice = await this.#lookups.resolve(namespace, name, options);
    return choice !== undefined || this.#options.followsRedirects !== true ? choice : this.#others().resolve(namespace, name, options);
  }

  /**
   * Runs a call on an ingress of the named cluster: `callWithSummary("us1", (us1) => us1.discovery.serverInfo({}))`. The ingress is found in service
   * summaries. The function receives a client for that cluster, and runs once. Throws the function's errors, or a `RequestError` if no ingress is
   * known or none can be called.
   */
  async callWithSummary<T>(cluster: string, fn: (client: Client) => Promise<T>, options: SummaryCallOptions = {}): Promise<T> {
    checkSummaryCall(cluster, fn, options);
    return this.#others().run(cluster, fn, options);
  }

  /**
   * Leads a scope of the program's own, such as `custom/orders/cleaner`, and runs `work` while it is the leader:
   * `client.lead("custom/orders/cleaner", async (term) => { ... })`. At most one program leads a scope at a time. `work` must stop when `term.signal` is
   * aborted, and must send the fence of the term (`term.fence`, or as text `term.fenceText`) with its writes, so that the receiver can reject writes of
   * earlier leaders.
   *
   * Resolves with the result of `work`, after the scope is free again. Rejects with the error of `work`, with the reason of `options.signal`, or with a
   * `RequestError` if no server can accept the campaign, for example because a permission is missing. If the program loses the scope, it waits until
   * `work` has ended, campaigns again, and runs `work` again in its next term, whether the lost run has returned or thrown.
   */
  lead<T>(scope: string, work: (term: LeaderTerm) => T | Promise<T>, options: LeadOptions = {}): Promise<T> {
    return lead(this, scope, work, options);
  }

  /**
   * Follows the shards of a namespace: `client.shards("orders").route(key)` returns the owner of a key, and `own` makes this program an owner. The
   * first call for a namespace opens a stream with the given options, which later calls share. Throws a TypeError that names an invalid option.
   */
  shards(namespace: string, options: ShardsOptions = {}): ShardClient {
    let shards = this.#shardClients.get(namespace);
    if (shards === undefined) {
      shards = new ShardClient(this, namespace, options, () => this.#shardClients.delete(namespace));
      this.#shardClients.set(namespace, shards);
    }
    return shards;
  }

  /**
   * Returns statistics for each name that `resolve` has cached: choices, choices based on load, and reported calls with their latencies. For a live
   * map, use `LiveMap.stats`.
   */
  stats(): readonly CountsOfName[] {
    return this.#lookups?.stats() ?? [];
  }

  /**
   * Closes the client: later calls fail, and connections close when their calls in progress have ended. Owners of shards stop immediately, as with
   * `ShardClient.close`. Close all registrations and live maps first.
   */
  close(): void {
    this.#isClosed = true;
    this.#elsewhere?.close();
    for (const shards of this.#shardClients.values()) shards.close();
    this.#calls.close();
  }

  #others(): OtherClusterCalls {
    if (this.#isClosed) throw closedFailure("the client is closed", this.server);
    this.#elsewhere ??= this.#options.elsewhere?.(this);
    if (this.#elsewhere === undefined)
      throw closedFailure("a client that was created for another cluster cannot call any other cluster", this.server);
    return this.#elsewhere;
  }
}

/** Returns the functions of `service`, each of which makes a call through `client`. Failures are `RequestError`s. */
function serviceClient<S extends DescService>(service: S, client: Client): ServiceClient<S> {
  const functions: Record<string, unknown> = {};
  for (const method of service.methods) {
    if (isUnary(method))
      functions[method.localName] = (request: RequestInit, options?: CallOptions) => client.call(method, request, options);
    else if (isStream(method))
      functions[method.localName] = (request: RequestInit, options?: CallOptions) => client.stream(method, request, options);
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the code above made one function for each method that the type names
  return functions as ServiceClient<S>;
}

type RequestInit = MessageInitShape<DescMessage>;

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

function isStream(method: DescMethod): method is DescMethodServerStreaming {
  return method.methodKind === "server_streaming";
}
