/** A typed client that uses several servers. A call has one deadline, and is retried on the next server when a server is unavailable. */
import {
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  isMessage,
  type Message,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService, RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService, RegisterNameRequestSchema } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { ZoneLocality } from "../consumer/locality-levels.ts";
import { backoffMs } from "../lib/backoff.ts";
import {
  type CallOptions,
  checkCallOptions,
  checkStreamOptions,
  checkSummaryCall,
  type DuplexStream,
  type ServerChannel,
  type StreamOptions,
  type SummaryCallOptions,
} from "./calls.ts";
import { type LeaderTerm, type LeadOptions, lead } from "./lead.io.ts";
import { type Choice, checkResolveOptions, type ResolveOptions } from "./live/choice.ts";
import type { CountsOfName } from "./live/live-entries.ts";
import { OneOffLookups } from "./live/lookups.io.ts";
import { type LiveMap, type WatchingCalls, type WatchOptions, type WatchRequest, watch } from "./live/watch.io.ts";
import { Query, type QueryRequest } from "./query.io.ts";
import { type RegisterOptions, type RegistrationHandle, register } from "./register.io.ts";
import { created } from "./request-bytes.ts";
import { closedFailure, RequestError } from "./request-error.ts";
import type { CallUse, ServerList } from "./servers/server-list.ts";
import { nodesNamedIn, RetryBudget } from "./servers/server-list.ts";
import { ShardClient, type ShardsOptions } from "./shards/shard-client.io.ts";

export interface ClientOptions {
  /** Default deadline of a call. */
  readonly timeoutMs: number;
  /** Time for which the answer to a one-off lookup is fresh. */
  readonly lookupTtlMs: number;
  /** Monotonic clock. */
  readonly nowMs: () => number;
  /** Returns a uniform random number in [0, 1), for jitter. */
  readonly random: () => number;
  /** Resolves after this time, or when the signal is aborted. */
  readonly wait: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
  /** Starts server discovery. Called once, after the first answer. */
  readonly startFinding?: (client: Client) => { close(): void };
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

/** Minimum time before the deadline for a retry on another server. */
const LEAST_TRY_MS = 100;
/**
 * Delays before retries on other servers. They are short, because another server is probably available. They are random, because all clients of a
 * failed server switch at the same time.
 */
const RETRY = { baseMs: 50, maxMs: 1000 } as const;

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
  readonly #servers: ServerList;
  readonly #open: (server: string) => ServerChannel;
  readonly #options: ClientOptions;
  readonly #channels = new Map<string, ServerChannel>();
  readonly #budget = new RetryBudget();
  #finding: { close(): void } | undefined;
  #lookups: OneOffLookups | undefined;
  /** The parts that follow shards, by namespace. */
  readonly #shardClients = new Map<string, ShardClient>();
  #elsewhere: OtherClusterCalls | undefined;
  #isClosed = false;

  constructor(servers: ServerList, open: (server: string) => ServerChannel, options: ClientOptions) {
    this.#servers = servers;
    this.#open = open;
    this.#options = options;
  }

  /** All servers: first the seeds in their given order, then the discovered servers. */
  get servers(): readonly string[] {
    return this.#servers.list();
  }

  /**
   * Calls a unary method. If a server is unavailable, the call is retried once on each other server, if a retry is safe: for a read, a renewal,
   * a removal, a registration with an idempotency key, an operation on a node with a request id, or a call that certainly had no effect. The number of retries is at most a tenth of the
   * calls, plus an initial budget of ten (`RetryBudget`). Throws the last `RequestError`.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    checkCallOptions(method.localName, options);
    const deadlineMonoMs = this.#options.nowMs() + (options.timeoutMs ?? this.#options.timeoutMs);
    const message = created(method.input, request, this.#servers.current(useOf(method)));
    const isRepeatable = isSafeToRepeat(method, message);
    const tried = new Set<string>();
    let failure: unknown;
    this.#budget.earn();
    for (let server = this.#servers.current(useOf(method)); !tried.has(server); server = this.#servers.current(useOf(method))) {
      if (tried.size > 0 && !(await this.#mayRetry(tried.size, deadlineMonoMs, options.signal))) break;
      tried.add(server);
      try {
        return await this.#tryAt(server, method, message, { ...options, deadlineMonoMs });
      } catch (error) {
        failure = error;
        if (!(error instanceof RequestError && (error.isAway || isReadOnly(error))) || !(isRepeatable || isUndone(error))) throw error;
      }
    }
    throw failure;
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

  /** Makes one attempt on one server. Throws a `RequestError`. */
  async callAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    checkCallOptions(method.localName, options);
    const deadlineMonoMs = this.#options.nowMs() + (options.timeoutMs ?? this.#options.timeoutMs);
    return this.#tryAt(server, method, created(method.input, request, server), { ...options, deadlineMonoMs });
  }

  /** Opens a server stream on the current server. `follow` resumes streams on other servers. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: StreamOptions = {},
  ): AsyncIterable<MessageShape<O>> {
    yield* this.streamAt(this.#servers.current(useOf(method)), method, request, options);
  }

  /** Opens a server stream on the given server. */
  async *streamAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: StreamOptions = {},
  ): AsyncIterable<MessageShape<O>> {
    checkStreamOptions(method.localName, options);
    yield* this.#observed(server, this.#channel(server).serverStream(method, created(method.input, request, server), options));
  }

  /** Opens a stream of requests and answers on the given server. */
  duplexAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodBiDiStreaming<I, O>,
    options: StreamOptions = {},
  ): DuplexStream<I, O> {
    checkStreamOptions(method.localName, options);
    const stream = this.#channel(server).duplex?.(method, options);
    if (stream === undefined) throw closedFailure("a client that was created for another cluster cannot lead scopes or own shards", server);
    return { ...stream, answers: this.#observed(server, stream.answers) };
  }

  async *#observed<T>(server: string, answers: AsyncIterable<T>): AsyncIterable<T> {
    for await (const answer of answers) {
      this.#answered(server);
      yield answer;
    }
  }

  /**
   * The location of the program: as passed to `connect` or, by default, the location of the first server that reports one. Undefined before that.
   */
  get place(): ZoneLocality | undefined {
    return this.#servers.place;
  }

  /** Default deadline of a call, in ms. */
  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  /** The server to use for the next read or watch. */
  get server(): string {
    return this.#servers.current("read");
  }

  /** The server to use for the next write. */
  get writeServer(): string {
    return this.#servers.current("write");
  }

  /**
   * Switches to the next server, unless another call already switched away from `server`. If the error is a resolver's rejection of a write, only
   * writes switch.
   */
  failOver(server: string, error?: unknown): void {
    if (error instanceof RequestError && isReadOnly(error)) this.#refusedWrites(server, error);
    else this.#servers.failed(server, this.#options.nowMs());
  }

  /**
   * Returns another server for one read or watch that the given servers have rejected: a server that has answered before or, if there is none, a
   * seed. Other calls continue to use their server. Returns undefined if all servers have rejected it.
   */
  serverBeside(refused: ReadonlySet<string>): string | undefined {
    return this.#servers.beside(refused, this.#options.nowMs());
  }

  /** Closes the connections to servers that are no longer known. Calls in progress are not interrupted. */
  dropUnlisted(): void {
    const listed = new Set(this.#servers.list());
    for (const [server, channel] of this.#channels) {
      if (listed.has(server)) continue;
      channel.close();
      this.#channels.delete(server);
    }
  }

  /**
   * Closes the client: later calls fail, and connections close when their calls in progress have ended. Owners of shards stop immediately, as with
   * `ShardClient.close`. Close all registrations and live maps first.
   */
  close(): void {
    this.#isClosed = true;
    this.#finding?.close();
    this.#elsewhere?.close();
    for (const shards of this.#shardClients.values()) shards.close();
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  async #tryAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodUnary<I, O>,
    message: MessageShape<I>,
    { deadlineMonoMs, signal }: { readonly deadlineMonoMs: number; readonly signal?: AbortSignal },
  ): Promise<MessageShape<O>> {
    const timeoutMs = Math.max(deadlineMonoMs - this.#options.nowMs(), 1);
    try {
      const answer = await this.#channel(server).unary(method, message, { timeoutMs, ...(signal && { signal }) });
      this.#answered(server);
      return answer;
    } catch (error) {
      if (error instanceof RequestError && (error.isAway || isReadOnly(error))) this.failOver(server, error);
      throw error;
    }
  }

  /** Handles the rejection of a write by a resolver. If discovery is enabled, the nodes listed in the error are added as discovered servers. */
  #refusedWrites(server: string, { facts }: RequestError): void {
    const nowMs = this.#options.nowMs();
    if (this.#options.startFinding !== undefined) this.#servers.named(nodesNamedIn(facts.metadata["urls"] ?? ""), nowMs);
    this.#servers.refusedWrites(server, nowMs);
  }

  /** Waits before a retry. Returns false if the deadline or the retry budget does not allow a retry. */
  async #mayRetry(tryCount: number, deadlineMonoMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    const waitMs = backoffMs(tryCount - 1, this.#options.random(), RETRY);
    if (deadlineMonoMs - this.#options.nowMs() - waitMs < LEAST_TRY_MS || !this.#budget.spend()) return false;
    await this.#options.wait(waitMs, signal);
    return true;
  }

  #others(): OtherClusterCalls {
    if (this.#isClosed) throw closedFailure("the client is closed", this.server);
    this.#elsewhere ??= this.#options.elsewhere?.(this);
    if (this.#elsewhere === undefined)
      throw closedFailure("a client that was created for another cluster cannot call any other cluster", this.server);
    return this.#elsewhere;
  }

  #answered(server: string): void {
    this.#servers.answered(server);
    if (!this.#isClosed) this.#finding ??= this.#options.startFinding?.(this);
  }

  #channel(server: string): ServerChannel {
    let channel = this.#channels.get(server);
    if (channel === undefined) {
      if (this.#isClosed) throw closedFailure("the client is closed", server);
      channel = this.#open(server);
      this.#channels.set(server, channel);
    }
    return channel;
  }
}

/** Whether a resolver rejected a write. */
function isReadOnly({ facts }: RequestError): boolean {
  return facts.reason === "READ_ONLY";
}

/** Whether a resolver can serve the call. Only nodes serve the other services. */
function useOf(method: DescMethod): CallUse {
  const isAtResolvers = method.parent === DiscoveryService || method.parent === DnsService;
  return isAtResolvers && (method.methodKind === "server_streaming" || isRead(method)) ? "read" : "write";
}

function isRead(method: DescMethod): boolean {
  return method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/** Whether executing the call a second time has no further effect. */
function isSafeToRepeat(method: DescMethod, message: Message): boolean {
  const { renew, unregister } = DiscoveryService.method;
  if (isMessage(message, RegisterRequestSchema) || isMessage(message, RegisterNameRequestSchema)) return message.idempotencyKey !== "";
  // Only the operations on nodes have a request id.
  if ("requestId" in message && message.requestId !== "") return true;
  return isRead(method) || method === renew || method === unregister || method === DnsService.method.unregisterName;
}

/** Whether the call certainly had no effect, because it was not sent or the server gave a reason for rejecting it. */
function isUndone({ facts }: RequestError): boolean {
  return !facts.isSent || facts.reason !== undefined;
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
