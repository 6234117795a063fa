/** One gRPC connection on grpc-js, and `connect`, which opens a client. */
import {
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  type ChannelCredentials,
  type ClientDuplexStream,
  connectivityState,
  Client as GrpcClient,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { durationText } from "../lib/duration.ts";
import { pause } from "../lib/stall-aware-time.io.ts";
import type { DuplexStream, SummaryCallOptions } from "./calls.ts";
import { Client, type ClientOptions, type OtherClusterCalls } from "./client.ts";
import { OwnCluster } from "./clusters/answer-cache.ts";
import { clusterAccess } from "./clusters/cluster-access.io.ts";
import { targetAt } from "./clusters/fixed-addresses.io.ts";
import { IngressCalls } from "./clusters/ingress-calls.ts";
import { type ClusterAccessRules, OtherClusters } from "./clusters/other-clusters.ts";
import type { DirectedChannel } from "./clusters/proven-channel.ts";
import { RedirectCache } from "./clusters/redirect-cache.ts";
import { type ConnectOptions, checkedServers, DEFAULT_LOOKUP_TTL_MS, DEFAULT_REFRESH_MS, DEFAULT_TIMEOUT_MS } from "./connect-options.ts";
import { decodeFailure, maySpeakTls, transportWords } from "./failure.ts";
import type { Choice, ResolveOptions } from "./live/choice.ts";
import { requestBytes } from "./request-bytes.ts";
import { RequestError, SPEAKS_TLS } from "./request-error.ts";
import { ServerFinder } from "./servers/find-servers.io.ts";
import { ServerList } from "./servers/server-list.ts";
import { credentialsOf, speaksTls } from "./tls.io.ts";

const MAX_RECEIVE_BYTES = 64 * 1024 * 1024;

const CHANNEL_OPTIONS = {
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // After a lost connection, the next call opens a new channel. A channel that is shared or reused would reject calls until its own backoff
  // ends.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.max_receive_message_length": MAX_RECEIVE_BYTES,
  // An HTTP proxy from the environment is meant for web traffic, and must not be used between a client and a server on the same machine.
  "grpc.enable_http_proxy": 0,
};

const NEEDED_NODE = 24;

/** A server that sends nothing during a call is considered lost if the call lasted at least this long. */
const SILENT_MS = 1000;

/** Error messages that grpc-js uses for calls that were not sent on any connection. */
const UNSENT = /^(?:No connection established|Name resolution failed)/;

/**
 * Opens a client. Connections are opened on first use. Throws a TypeError or RangeError that names the invalid option, and an Error if Node.js is
 * older than 24.
 */
export function connect(options: ConnectOptions): Client {
  return openClient(options, () => performance.now());
}

/** Like `connect`, with a monotonic clock (ms) that decides how long the client keeps answers. */
export function openClient(options: ConnectOptions, nowMs: () => number): Client {
  const { version, versions } = process;
  if (Number(versions.node.split(".", 1)[0]) < NEEDED_NODE)
    throw new Error(`waymark needs Node.js ${NEEDED_NODE} or newer; this is ${version}`);
  const seeds = checkedServers(options);
  const { region = "", zone = "", timeoutMs = DEFAULT_TIMEOUT_MS, findServers = true, refreshMs = DEFAULT_REFRESH_MS } = options;
  const place = region === "" && zone === "" ? undefined : { region, zone };
  const servers = new ServerList({ seeds, place, random: Math.random });
  const channelCredentials = credentialsOf(options.tls);
  const common = {
    timeoutMs,
    lookupTtlMs: options.lookupTtlMs ?? DEFAULT_LOOKUP_TTL_MS,
    nowMs,
    random: Math.random,
    wait: pause,
  };
  const ways = clusterAccess(options, (server, access) => new GrpcChannel(server, access.credentials, { ...access, timeoutMs }));
  return new Client(servers, (server) => new GrpcChannel(server, channelCredentials, options), {
    ...common,
    followsRedirects: options.autoSummaryRedirect === true,
    elsewhere: (client) => elsewhereOf(client, ways, common),
    ...(findServers && { startFinding: (client: Client) => new ServerFinder(client, servers, { refreshMs, random: Math.random }) }),
  });
}

/** A grpc-js channel and its calls. A channel is retired when its connection is lost, and closed when its last call has ended. */
class ChannelConnection {
  readonly client: GrpcClient;
  /** Time at which the server last sent any data, in monotonic ms. */
  lastReceivedMonoMs = Number.NEGATIVE_INFINITY;
  #callCount = 0;
  #isGivenUp = false;

  constructor(target: string, channelCredentials: ChannelCredentials) {
    this.client = new GrpcClient(target, channelCredentials, CHANNEL_OPTIONS);
  }

  /** Whether the HTTP/2 connection to the server is up. */
  get isUp(): boolean {
    return !this.#isGivenUp && this.client.getChannel().getConnectivityState(false) === connectivityState.READY;
  }

  received(): void {
    this.lastReceivedMonoMs = performance.now();
  }

  callBegins(): void {
    this.#callCount += 1;
  }

  callEnded(): void {
    this.#callCount -= 1;
    this.#closeIdle();
  }

  giveUp(): void {
    if (this.#isGivenUp) return;
    this.#isGivenUp = true;
    this.#closeIdle();
  }

  #closeIdle(): void {
    // The channel is closed in the next turn of the event loop, because grpc-js starts its address lookup one turn late. A channel that is closed
    // earlier would still connect and stay connected.
    if (this.#isGivenUp && this.#callCount === 0) setImmediate(() => this.client.close());
  }
}

type GrpcChannelOptions = Pick<ConnectOptions, "timeoutMs" | "tls" | "token">;

class GrpcChannel implements DirectedChannel {
  readonly server: string;
  readonly #credentials: ChannelCredentials;
  readonly #metadata: Metadata;
  readonly #timeoutMs: number;
  readonly #isTls: boolean;
  /** The grpc-js target: the server, or the addresses passed to `aim`. */
  #target: string;
  #connection: ChannelConnection | undefined;
  /** Whether the server uses TLS. Undefined until this is checked. */
  #speaksTls: Promise<boolean> | undefined;

  constructor(server: string, channelCredentials: ChannelCredentials, { token, tls, timeoutMs = DEFAULT_TIMEOUT_MS }: GrpcChannelOptions) {
    this.server = server;
    this.#target = server;
    this.#isTls = tls !== undefined;
    this.#timeoutMs = timeoutMs;
    this.#credentials = channelCredentials;
    this.#metadata = new Metadata();
    if (token !== undefined) this.#metadata.set("authorization", `Bearer ${token}`);
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<MessageShape<O>> {
    const bytes = requestBytes(method.input, request, this.server);
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    const connection = this.#begin();
    const beganMonoMs = performance.now();
    const call = connection.client.makeUnaryRequest(
      pathOf(method),
      asIs,
      (answer) => fromBinary(method.output, answer),
      bytes,
      this.#metadata,
      { deadline: Date.now() + timeoutMs },
      (error, response) => {
        signal?.removeEventListener("abort", cancel);
        if (error) reject(this.#failure(error, connection, { timeoutMs, beganMonoMs }));
        else connection.received();
        connection.callEnded();
        if (!error && response) resolve(response);
      },
    );
    const cancel = (): void => call.cancel();
    if (signal?.aborted === true) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    return promise.catch((failure: unknown) => this.#fail(failure));
  }

  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    { signal }: { readonly signal?: AbortSignal },
  ): AsyncIterable<MessageShape<O>> {
    const bytes = requestBytes(method.input, request, this.server);
    const { call, answers } = this.#open(method, signal);
    call.end(bytes);
    yield* answers;
  }

  duplex<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    { signal }: { readonly signal?: AbortSignal },
  ): DuplexStream<I, O> {
    const { call, answers } = this.#open(method, signal);
    return { send: (request) => void call.write(requestBytes(method.input, request, this.server)), answers };
  }

  #open<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O> | DescMethodBiDiStreaming<I, O>,
    signal: AbortSignal | undefined,
  ) {
    const connection = this.#begin();
    const decode = (answer: Buffer): MessageShape<O> => {
      connection.received();
      return fromBinary(method.output, answer);
    };
    const call = connection.client.makeBidiStreamRequest(pathOf(method), asIs, decode, this.#metadata);
    return { call, answers: this.#answers(call, connection, signal) };
  }

  async *#answers<T>(
    call: ClientDuplexStream<Buffer, T>,
    connection: ChannelConnection,
    signal: AbortSignal | undefined,
  ): AsyncIterable<T> {
    const cancel = (): void => call.cancel();
    if (signal?.aborted === true) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    // A stream has no deadline, but its connection must be established within a time limit. After that, the absence of messages means that nothing
    // has changed.
    let isMute = false;
    const opening = setTimeout(() => {
      isMute = !connection.isUp;
      if (isMute) call.cancel();
    }, this.#timeoutMs);
    try {
      const messages: AsyncIterable<T> = call;
      yield* messages;
    } catch (error) {
      if (isMute) throw this.#muteFailure(connection);
      if (isServiceError(error)) await this.#fail(this.#failure(error, connection));
      throw error;
    } finally {
      clearTimeout(opening);
      signal?.removeEventListener("abort", cancel);
      // After the reader has left, the error event of the cancellation still needs a listener.
      call.on("error", () => {});
      call.cancel();
      connection.callEnded();
    }
  }

  /** Sets the addresses for subsequent calls. Calls in progress stay on their connection. */
  aim(addresses: readonly string[]): void {
    const target = targetAt(this.server, addresses);
    if (target === this.#target) return;
    this.close();
    this.#target = target;
  }

  close(): void {
    this.#connection?.giveUp();
    this.#connection = undefined;
  }

  /** Returns the channel to use for a new call. */
  #begin(): ChannelConnection {
    this.#connection ??= new ChannelConnection(this.#target, this.#credentials);
    this.#connection.callBegins();
    return this.#connection;
  }

  #giveUp(connection: ChannelConnection): void {
    connection.giveUp();
    if (this.#connection === connection) this.#connection = undefined;
  }

  #muteFailure(connection: ChannelConnection): RequestError {
    this.#giveUp(connection);
    const message = `no answer within ${durationText(this.#timeoutMs)}`;
    const { server } = this;
    return decodeFailure({ code: status.DEADLINE_EXCEEDED, message, details: undefined, isReachable: false, isSent: false, server });
  }

  /** Throws the failure. If a plaintext call was sent to a TLS server, throws an error with this cause instead, because neither side reports it. */
  async #fail(failure: unknown): Promise<never> {
    if (failure instanceof RequestError && !this.#isTls && !failure.facts.isReachable && maySpeakTls(failure.message)) {
      this.#speaksTls ??= speaksTls(this.server);
      if (await this.#speaksTls) throw new RequestError(SPEAKS_TLS, failure.facts, failure);
    }
    throw failure;
  }

  /** Converts a failure to a RequestError. `unary` is set for a call with a deadline. */
  #failure(
    error: ServiceError,
    connection: ChannelConnection,
    unary?: { readonly timeoutMs: number; readonly beganMonoMs: number },
  ): RequestError {
    const details = error.metadata.get("grpc-status-details-bin")[0];
    const isTransport = error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED;
    if (!isTransport) connection.received();
    // A connection to a blocked server stays open until grpc-js has waited 40 s for a ping response. Until then, every call on the connection would
    // fail.
    const isSilent = unary !== undefined && error.code === status.DEADLINE_EXCEEDED && isSilentSince(unary.beganMonoMs, connection);
    const isReachable = connection.isUp || !isTransport;
    if (!isReachable || isSilent) this.#giveUp(connection);
    return decodeFailure({
      code: error.code,
      message: messageOf(error, unary?.timeoutMs),
      details: typeof details === "string" ? undefined : details,
      isReachable,
      isSilent,
      isSent: !(error.code === status.UNAVAILABLE && UNSENT.test(error.details)),
      server: this.server,
    });
  }
}

function isSilentSince(beganMonoMs: number, { lastReceivedMonoMs }: ChannelConnection): boolean {
  return lastReceivedMonoMs < beganMonoMs && performance.now() - beganMonoMs >= SILENT_MS;
}

/** Returns the message for a failure. The message of grpc-js for an exceeded deadline describes its internal state, so it is replaced. */
function messageOf({ code, details, message }: ServiceError, timeoutMs: number | undefined): string {
  const isOwn = code === status.DEADLINE_EXCEEDED && details.startsWith("Deadline exceeded");
  // Earlier attempts used part of the requested timeout, so the remaining time is rounded up.
  if (isOwn && timeoutMs !== undefined) return `no answer within ${durationText(roundedUp(timeoutMs))}`;
  return transportWords(details === "" ? message : details);
}

/** Rounds up to a tenth of a second, or to a millisecond for values up to 100 ms. */
function roundedUp(ms: number): number {
  const step = ms > 100 ? 100 : 1;
  return Math.ceil(ms / step) * step;
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error && error.metadata instanceof Metadata;
}

/**
 * Returns the calls to clusters other than the client's own. Their clients have the same options as this client, but do not discover servers.
 */
function elsewhereOf(
  home: Client,
  ways: ClusterAccessRules,
  options: Omit<ClientOptions, "elsewhere" | "startFinding">,
): OtherClusterCalls {
  const own = new OwnCluster(home);
  const { nowMs, lookupTtlMs } = options;
  const clusters = new OtherClusters(home, ways, { ...options, followsRedirects: false });
  const parts = { home, own, clusters, nowMs, lookupTtlMs };
  const redirects = new RedirectCache(parts);
  const calls = new IngressCalls(parts);
  return {
    resolve: (namespace: string, name: string, asked: ResolveOptions): Promise<Choice | undefined> =>
      redirects.resolve(namespace, name, asked),
    run: <T>(cluster: string, fn: (client: Client) => Promise<T>, asked: SummaryCallOptions): Promise<T> => calls.run(cluster, fn, asked),
    close: () => clusters.close(),
  };
}
