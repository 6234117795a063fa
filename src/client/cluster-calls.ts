/** The calls of a client to the servers of its cluster. A call has one deadline, and is retried on the next server when a server is unavailable. */
import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { ZoneLocality } from "../consumer/locality-levels.ts";
import { backoffMs } from "../lib/backoff.ts";
import {
  type CallOptions,
  type ClientCalls,
  checkCallOptions,
  checkStreamOptions,
  type DuplexStream,
  type ServerChannel,
  type StreamOptions,
} from "./calls.ts";
import { created } from "./request-bytes.ts";
import { closedFailure, RequestError } from "./request-error.ts";
import { type CallUse, nodesNamedIn, RetryBudget, type ServerList } from "./servers/server-list.ts";

export interface ClusterCallsOptions {
  /** Default deadline of a call. */
  readonly timeoutMs: number;
  /** Monotonic clock. */
  readonly nowMs: () => number;
  /** Returns a uniform random number in [0, 1), for jitter. */
  readonly random: () => number;
  /** Resolves after this time, or when the signal is aborted. */
  readonly wait: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
  /** Starts server discovery. Called once, after the first answer. */
  readonly startFinding?: (calls: ClusterCalls) => { close(): void };
}

/** Minimum time before the deadline for a retry on another server. */
const LEAST_TRY_MS = 100;
/**
 * Delays before retries on other servers. They are short, because another server is probably available. They are random, because all clients of a
 * failed server switch at the same time.
 */
const RETRY = { baseMs: 50, maxMs: 1000 } as const;

/** Selects a server for each call, and retries calls on other servers if that is safe. */
export class ClusterCalls implements ClientCalls {
  readonly #servers: ServerList;
  readonly #open: (server: string) => ServerChannel;
  readonly #options: ClusterCallsOptions;
  readonly #channels = new Map<string, ServerChannel>();
  readonly #budget = new RetryBudget();
  #finding: { close(): void } | undefined;
  #isClosed = false;

  constructor(servers: ServerList, open: (server: string) => ServerChannel, options: ClusterCallsOptions) {
    this.#servers = servers;
    this.#open = open;
    this.#options = options;
  }

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

  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: StreamOptions = {},
  ): AsyncIterable<MessageShape<O>> {
    yield* this.streamAt(this.#servers.current(useOf(method)), method, request, options);
  }

  async *streamAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: StreamOptions = {},
  ): AsyncIterable<MessageShape<O>> {
    checkStreamOptions(method.localName, options);
    yield* this.#observed(server, this.#channel(server).serverStream(method, created(method.input, request, server), options));
  }

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

  get servers(): readonly string[] {
    return this.#servers.list();
  }

  get place(): ZoneLocality | undefined {
    return this.#servers.place;
  }

  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  get server(): string {
    return this.#servers.current("read");
  }

  get writeServer(): string {
    return this.#servers.current("write");
  }

  failOver(server: string, error?: unknown): void {
    if (error instanceof RequestError && isReadOnly(error)) this.#refusedWrites(server, error);
    else this.#servers.failed(server, this.#options.nowMs());
  }

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

  /** Closes the connections when their calls in progress have ended. Later calls fail. */
  close(): void {
    this.#isClosed = true;
    this.#finding?.close();
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

// Methods are compared by name, so that a program loads only the services that it calls.

const AT_RESOLVERS: ReadonlySet<string> = new Set(["waymark.discovery.v1.DiscoveryService", "waymark.dns.v1.DnsService"]);
/** The methods of these services that are not reads, but have no further effect when they are executed a second time. */
const REPEATABLE: ReadonlySet<string> = new Set(["Renew", "Unregister", "UnregisterName"]);

/** Whether a resolver can serve the call. Only nodes serve the other services. */
function useOf(method: DescMethod): CallUse {
  const isAtResolvers = AT_RESOLVERS.has(method.parent.typeName);
  return isAtResolvers && (method.methodKind === "server_streaming" || isRead(method)) ? "read" : "write";
}

function isRead(method: DescMethod): boolean {
  return method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/** Whether executing the call a second time has no further effect. */
function isSafeToRepeat(method: DescMethod, message: Message): boolean {
  // Only registrations have an idempotency key, and only the operations on nodes have a request id.
  if ("idempotencyKey" in message) return message.idempotencyKey !== "";
  if ("requestId" in message && message.requestId !== "") return true;
  return isRead(method) || (AT_RESOLVERS.has(method.parent.typeName) && REPEATABLE.has(method.name));
}

/** Whether the call certainly had no effect, because it was not sent or the server gave a reason for rejecting it. */
function isUndone({ facts }: RequestError): boolean {
  return !facts.isSent || facts.reason !== undefined;
}
