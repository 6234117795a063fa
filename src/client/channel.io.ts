/** The connection to one server of the cluster, on our own gRPC client, and `openCalls`, which opens the calls of the command line. */
import { Readable } from "node:stream";
import {
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { CallResult, ClientCall } from "../grpc/client/client-call.ts";
import type { ClientConnection, ClientLimits } from "../grpc/client/connection.io.ts";
import { dialAddresses, type ServerDialOptions } from "../grpc/client/dial.io.ts";
import type { PendingConnection } from "../grpc/client/pool.io.ts";
import { DEFAULT_WINDOW_BYTES } from "../grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../grpc/wire/metadata.ts";
import type { StatusCode } from "../grpc/wire/status.ts";
import { GRPC_PORT } from "../lib/addresses.ts";
import { durationText, MAX_TIMER_MS } from "../lib/duration.ts";
import { CODES } from "../lib/errors.ts";
import { later, pause } from "../lib/stall-aware-time.io.ts";
import type { DuplexStream } from "./calls.ts";
import { ClusterCalls } from "./cluster-calls.ts";
import type { DirectedChannel } from "./clusters/proven-channel.ts";
import { type ConnectOptions, checkedServers, DEFAULT_TIMEOUT_MS } from "./connect-options.ts";
import type { FailedCall } from "./failure.ts";
import { requestBytes } from "./request-bytes.ts";
import { RequestError, SPEAKS_TLS } from "./request-error.ts";
import { ServerList } from "./servers/server-list.ts";
import type { ChannelCredentials } from "./tls.io.ts";

/** The server limits requests and calls, so these limits only bound the memory for its responses. */
const LIMITS: ClientLimits = {
  maxReceiveBytes: 64 * 1024 * 1024,
  maxSendBytes: 0xffff_ffff,
  maxBufferedBytes: 1024 * 1024 * 1024,
  maxCalls: 0xffff_ffff,
  maxSessionMemoryMiB: 1024,
  maxHeaderPairs: 128,
  maxHeaderListBytes: 65_536,
  streamWindowBytes: DEFAULT_WINDOW_BYTES,
  connectionWindowBytes: DEFAULT_WINDOW_BYTES,
  keepaliveTimeMs: 30_000,
  keepaliveTimeoutMs: 10_000,
};

/** A server that sends nothing during a call is considered lost if the call lasted at least this long. */
const SILENT_MS = 1000;

const CANCELLED = "Cancelled on client";

/**
 * Opens calls to the given servers, without the other parts of a client, so that a command loads only the services that it calls. Throws the errors
 * of `connect`.
 */
export async function openCalls(options: ConnectOptions): Promise<ClusterCalls> {
  const servers = new ServerList({ seeds: checkedServers(options), place: undefined, random: Math.random });
  const credentials = options.tls === undefined ? { tls: undefined } : (await import("./tls.io.ts")).credentialsOf(options.tls);
  return new ClusterCalls(servers, (server) => new GrpcChannel(server, credentials, options), {
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    nowMs: () => performance.now(),
    random: Math.random,
    wait: pause,
  });
}

/** A connection and its calls. It is retired when it is lost, and closed when its last call has ended. Only calls keep the process running. */
class ChannelConnection {
  readonly #dial: PendingConnection;
  #connection: ClientConnection | undefined;
  /** Time at which the server last sent any data, in monotonic ms. */
  lastReceivedMonoMs = Number.NEGATIVE_INFINITY;
  #callCount = 0;
  #isGivenUp = false;

  constructor(options: Pick<ServerDialOptions, "address" | "tls" | "checks">, addresses: readonly string[] | undefined) {
    const dialing = { ...options, defaultPort: GRPC_PORT, timeoutMs: MAX_TIMER_MS, connection: { limits: LIMITS } };
    this.#dial = dialAddresses(dialing, addresses);
    const adopt = (connection: ClientConnection): void => {
      this.#connection = connection;
    };
    this.#dial.done.then(adopt, () => this.giveUp());
  }

  /** Whether new calls can use the connection, or wait for it. */
  get isUsable(): boolean {
    return !this.#isGivenUp && this.#connection?.isOpen !== false;
  }

  /** Whether the HTTP/2 connection to the server is up. */
  get isUp(): boolean {
    return this.#connection !== undefined && this.isUsable;
  }

  received(): void {
    this.lastReceivedMonoMs = performance.now();
  }

  /** Resolves when the connection is established. `callEnded` must follow. */
  callBegins(): Promise<ClientConnection> {
    this.#callCount += 1;
    this.#connection?.ref();
    return this.#dial.done;
  }

  callEnded(): void {
    this.#callCount -= 1;
    if (this.#callCount > 0) return;
    this.#connection?.unref();
    if (this.#connection === undefined) this.giveUp();
    else this.#closeIdle();
  }

  giveUp(): void {
    this.#isGivenUp = true;
    this.#closeIdle();
  }

  #closeIdle(): void {
    if (!this.#isGivenUp || this.#callCount > 0) return;
    if (this.#connection === undefined) this.#dial.cancel();
    else this.#connection.destroy();
  }
}

/** How a call ended, for its error. */
type CallEnd = Pick<CallResult, "status" | "isFromServer" | "isUnprocessed">;

interface CallPlan {
  readonly method: DescMethod;
  /** The only request. Undefined if the caller writes requests. */
  readonly bytes: Uint8Array | undefined;
  /** Ms until the deadline. Undefined if only establishing the connection has a time limit. */
  readonly timeoutMs?: number;
  readonly signal: AbortSignal | undefined;
  readonly message: (bytes: Uint8Array) => void;
  /** Called once. */
  readonly closed: (failure: FailedCall | undefined) => void;
}

/** A call that waits for its connection, or has started on it. */
interface StartedCall {
  call: ClientCall | undefined;
  /** Resolves when the call has started, or has ended without a connection. */
  started: Promise<void>;
  readonly cancel: () => void;
}

export type GrpcChannelOptions = Pick<ConnectOptions, "timeoutMs" | "tls" | "token">;

export class GrpcChannel implements DirectedChannel {
  readonly server: string;
  readonly #credentials: ChannelCredentials;
  readonly #metadata: GrpcMetadata | undefined;
  readonly #timeoutMs: number;
  readonly #isTls: boolean;
  /** The addresses passed to `aim`. By default, the server's name is looked up. */
  #addresses: readonly string[] | undefined;
  #connection: ChannelConnection | undefined;
  /** Whether the server uses TLS. Undefined until this is checked. */
  #speaksTls: Promise<boolean> | undefined;

  constructor(server: string, channelCredentials: ChannelCredentials, { token, tls, timeoutMs = DEFAULT_TIMEOUT_MS }: GrpcChannelOptions) {
    this.server = server;
    this.#isTls = tls !== undefined;
    this.#timeoutMs = timeoutMs;
    this.#credentials = channelCredentials;
    this.#metadata = token === undefined ? undefined : new GrpcMetadata().add("authorization", `Bearer ${token}`);
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<MessageShape<O>> {
    const bytes = requestBytes(method.input, request, this.server);
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const closed = (failure: FailedCall | undefined): void => {
      if (failure !== undefined) reject(failure);
    };
    this.#start({ method, bytes, timeoutMs, signal, message: resolve, closed });
    return promise.then(
      (answer) => this.#decoded(method.output, answer),
      (failure: FailedCall) => this.#fail(failure),
    );
  }

  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    { signal }: { readonly signal?: AbortSignal },
  ): AsyncIterable<MessageShape<O>> {
    yield* this.#open(method, signal, requestBytes(method.input, request, this.server)).answers;
  }

  duplex<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    { signal }: { readonly signal?: AbortSignal },
  ): DuplexStream<I, O> {
    const { stream, answers } = this.#open(method, signal);
    const send = (request: MessageShape<I>): void => {
      const bytes = requestBytes(method.input, request, this.server);
      void stream.started.then(() => stream.call?.write(bytes));
    };
    return { send, answers };
  }

  #open<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O> | DescMethodBiDiStreaming<I, O>,
    signal: AbortSignal | undefined,
    bytes?: Uint8Array,
  ) {
    let failure: FailedCall | undefined;
    const messages = new Readable({
      objectMode: true,
      read: () => stream.call?.resume(),
      destroy: (error, done) => {
        stream.cancel();
        done(error);
      },
    });
    const stream = this.#start({
      method,
      bytes,
      signal,
      message: (answer) => {
        if (!messages.push(answer)) stream.call?.pause();
      },
      closed: (error) => {
        failure = error;
        messages.push(null); // oxlint-disable-line unicorn/no-null -- the end of a stream of Node.js
      },
    });
    return { stream, answers: this.#answers(method.output, messages, () => failure) };
  }

  async *#answers<O extends DescMessage>(
    schema: O,
    messages: AsyncIterable<Uint8Array>,
    failure: () => FailedCall | undefined,
  ): AsyncIterable<MessageShape<O>> {
    for await (const answer of messages) yield await this.#decoded(schema, answer);
    const error = failure();
    if (error !== undefined) await this.#fail(error);
  }

  /** Sets the addresses for subsequent calls. Calls in progress stay on their connection. */
  aim(addresses: readonly string[]): void {
    if (addresses.join() === this.#addresses?.join()) return;
    this.close();
    this.#addresses = addresses;
  }

  close(): void {
    this.#connection?.giveUp();
    this.#connection = undefined;
  }

  /** Starts a call when its connection is established. A call that the server did not process is started once more. */
  #start({ method, bytes, timeoutMs, signal, message, closed }: CallPlan): StartedCall {
    const beganMonoMs = performance.now();
    const limitMs = timeoutMs ?? this.#timeoutMs;
    let connection = this.#begin();
    let isOver = false;
    let isRetried = false;
    const end = (result: CallEnd): void => {
      if (isOver) return;
      isOver = true;
      cancelTimer();
      signal?.removeEventListener("abort", cancel);
      const isFailed = result.status.code !== CODES.OK;
      const failure = isFailed ? this.#failure(result, connection, { isUnary: timeoutMs !== undefined, limitMs, beganMonoMs }) : undefined;
      connection.callEnded();
      closed(failure);
    };
    const unsent = (code: StatusCode, why: string): void =>
      end({ status: { code, message: why }, isFromServer: false, isUnprocessed: true });
    const cancel = (): void => {
      if (started.call === undefined) unsent(CODES.CANCELLED, CANCELLED);
      else started.call.cancel(CANCELLED);
    };
    const started: StartedCall = { call: undefined, started: Promise.resolve(), cancel };
    const listener = {
      message: (answer: Uint8Array) => {
        connection.received();
        message(answer);
      },
      closed: (result: CallResult) => {
        if (isRetried || !result.isUnprocessed || bytes === undefined) return end(result);
        isRetried = true;
        started.call = undefined;
        connection.callEnded();
        connection = this.#begin();
        void attempt();
      },
    };
    const begin = (opened: ClientConnection): void => {
      if (isOver) return;
      const leftMs = timeoutMs === undefined ? undefined : Math.max(1, timeoutMs - (performance.now() - beganMonoMs));
      const target = { path: `/${method.parent.typeName}/${method.name}`, metadata: this.#metadata, timeoutMs: leftMs };
      started.call = opened.start({ ...target, isSingleResponse: method.methodKind === "unary" }, listener);
      if (bytes !== undefined) started.call.halfClose(bytes);
    };
    const attempt = (): Promise<void> => connection.callBegins().then(begin, (error: Error) => unsent(CODES.UNAVAILABLE, error.message));
    // A started call has its own timer, and a started stream has no deadline: the absence of messages means that nothing has changed.
    const cancelTimer = later(() => {
      if (started.call === undefined) unsent(CODES.DEADLINE_EXCEEDED, "");
    }, limitMs);
    started.started = attempt();
    if (signal?.aborted === true) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
    return started;
  }

  /** Returns the connection to use for a new call. */
  #begin(): ChannelConnection {
    if (this.#connection?.isUsable !== true)
      this.#connection = new ChannelConnection({ address: this.server, ...this.#credentials }, this.#addresses);
    return this.#connection;
  }

  #decoded<O extends DescMessage>(schema: O, answer: Uint8Array): MessageShape<O> | Promise<never> {
    try {
      return fromBinary(schema, answer);
    } catch (error) {
      const message = `Response message parsing error: ${error instanceof Error ? error.message : String(error)}`;
      return this.#fail({ code: CODES.INTERNAL, message, details: undefined, isReachable: true, server: this.server });
    }
  }

  /** Throws the failure. If a plaintext call was sent to a TLS server, throws an error with this cause instead, because neither side reports it. */
  async #fail(failed: FailedCall): Promise<never> {
    // Loaded only here, because building the descriptors of error details is slower than a call.
    const { decodeFailure, maySpeakTls } = await import("./failure.ts");
    const failure = decodeFailure(failed);
    if (!this.#isTls && !failure.facts.isReachable && maySpeakTls(failure.message)) {
      this.#speaksTls ??= import("./tls.io.ts").then(({ speaksTls }) => speaksTls(this.server));
      if (await this.#speaksTls) throw new RequestError(SPEAKS_TLS, failure.facts, failure);
    }
    throw failure;
  }

  /** Describes a failed call, and retires its connection if the server is unreachable or silent. */
  #failure(
    { status, isFromServer, isUnprocessed }: CallEnd,
    connection: ChannelConnection,
    { isUnary, limitMs, beganMonoMs }: { readonly isUnary: boolean; readonly limitMs: number; readonly beganMonoMs: number },
  ): FailedCall {
    const { code, details } = status;
    const isTransport = code === CODES.UNAVAILABLE || code === CODES.DEADLINE_EXCEEDED;
    if (!isTransport) connection.received();
    // A connection to a blocked server stays open until the client has waited 40 s for a ping response. Until then, every call on the connection
    // would fail.
    const isSilent = isUnary && code === CODES.DEADLINE_EXCEEDED && isSilentSince(beganMonoMs, connection);
    const isReachable = connection.isUp || !isTransport;
    if (!isReachable || isSilent) connection.giveUp();
    // Earlier attempts used part of the requested timeout, so the remaining time is rounded up.
    const isLate = code === CODES.DEADLINE_EXCEEDED && !isFromServer;
    const message = isLate ? `no answer within ${durationText(roundedUp(limitMs))}` : status.message;
    return { code, message, details, isReachable, isSilent, isSent: !isUnprocessed, server: this.server };
  }
}

function isSilentSince(beganMonoMs: number, { lastReceivedMonoMs }: ChannelConnection): boolean {
  return lastReceivedMonoMs < beganMonoMs && performance.now() - beganMonoMs >= SILENT_MS;
}

/** Rounds up to a tenth of a second, or to a millisecond for values up to 100 ms. */
function roundedUp(ms: number): number {
  const step = ms > 100 ? 100 : 1;
  return Math.ceil(ms / step) * step;
}
