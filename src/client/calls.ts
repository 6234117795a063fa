/** Defines the interfaces between the client and its parts: calls, streams, the servers that they use, and the connection to one server. */
import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { checkOptions, FUNCTION, type OptionRule, type OptionRules, SIGNAL, TEXT, TIMEOUT } from "./option-rules.ts";

/** The connection to one server. Failures are `RequestError`s. */
export interface ServerChannel {
  /** `host:port`. */
  readonly server: string;
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<MessageShape<O>>;
  /** The iteration ends when the server ends the stream, and throws if the stream fails. Leaving the loop early cancels the stream. */
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: { readonly signal?: AbortSignal },
  ): AsyncIterable<MessageShape<O>>;
  /** Opens a stream of requests and answers. Its answers must be iterated. Absent for servers of other clusters. */
  duplex?<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options: { readonly signal?: AbortSignal },
  ): DuplexStream<I, O>;
  close(): void;
}

/** An open stream of requests and answers. Leaving the loop over the answers early cancels the stream. */
export interface DuplexStream<I extends DescMessage, O extends DescMessage> {
  /** Has no effect after the stream has ended. */
  readonly send: (request: MessageShape<I>) => void;
  readonly answers: AsyncIterable<MessageShape<O>>;
}

/** Options of a call. */
export interface CallOptions {
  /** Deadline of the whole call, including retries on other servers. Defaults to the client's `timeoutMs`. A stream has no deadline. */
  readonly timeoutMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
}

/** Options of a stream. */
export type StreamOptions = Omit<CallOptions, "timeoutMs">;

const CALL_RULES: OptionRules<CallOptions> = { timeoutMs: TIMEOUT, signal: SIGNAL };
const STREAM_RULES: OptionRules<StreamOptions> = { signal: SIGNAL };

/** Throws a TypeError or RangeError that names the invalid option. */
export function checkCallOptions(call: string, options: CallOptions): void {
  checkOptions(call, options, CALL_RULES);
}

/** Checks the options of a stream, as `checkCallOptions` does. */
export function checkStreamOptions(call: string, options: StreamOptions): void {
  checkOptions(call, options, STREAM_RULES);
}

/** Options of `callWithSummary`. */
export interface SummaryCallOptions {
  /** Namespace of a service that is exported by the cluster. If given, the ingress is found faster when clusters export many services. */
  readonly namespace?: string;
  /** Name of that service. */
  readonly service?: string;
  /** Cancels the search for the ingress. */
  readonly signal?: AbortSignal;
}

const SUMMARY_CALL_RULES: OptionRules<SummaryCallOptions> = { namespace: TEXT, service: TEXT, signal: SIGNAL };
const CLUSTER: OptionRule = {
  isRight: (value) => typeof value === "string" && value !== "",
  what: "a cluster ID",
  Wrong: TypeError,
};

/** Throws a TypeError that names the invalid argument or option. */
export function checkSummaryCall(cluster: unknown, fn: unknown, options: SummaryCallOptions): void {
  checkOptions("callWithSummary", { cluster, fn }, { cluster: CLUSTER, fn: FUNCTION });
  checkOptions("callWithSummary", options, SUMMARY_CALL_RULES);
}

/** The calls of a client. Failures are `RequestError`s. */
export interface ClientCalls {
  /** Default deadline of a call, in ms. */
  readonly timeoutMs: number;
  /** All servers: first the seeds in their given order, then the discovered servers. */
  readonly servers: readonly string[];
  /** The server to use for the next read or watch. */
  readonly server: string;
  /** The server to use for the next write. */
  readonly writeServer: string;
  /** Makes a call and retries it on other servers. */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  /** Makes one attempt on one server. */
  callAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  /** Opens a server stream on the current server. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options?: StreamOptions,
  ): AsyncIterable<MessageShape<O>>;
  /** Opens a server stream on the given server. */
  streamAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options?: StreamOptions,
  ): AsyncIterable<MessageShape<O>>;
  /**
   * Switches to the next server, unless another call already switched away from `server`. If the error is a resolver's rejection of a write, only
   * writes switch.
   */
  failOver(server: string, error?: unknown): void;
  /**
   * Returns another server for one read or watch that the given servers have rejected. Other calls continue to use their server. Returns undefined if
   * all servers have rejected it.
   */
  serverBeside(refused: ReadonlySet<string>): string | undefined;
  /** Opens a stream of requests and answers on the given server. */
  duplexAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodBiDiStreaming<I, O>,
    options?: StreamOptions,
  ): DuplexStream<I, O>;
}
