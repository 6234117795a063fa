/** What the parts of the client use of it: calls and streams, the servers that they go to, and the connection to one server. */
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
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
  /** Ends when the server ends it, throws when it fails; leaving the loop cancels it. */
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: { readonly signal?: AbortSignal },
  ): AsyncIterable<MessageShape<O>>;
  close(): void;
}

/** What a call may have beside its request. */
export interface CallOptions {
  /** Deadline of the whole call, with its tries at other servers; the client's when absent. A stream has no deadline. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export type StreamOptions = Omit<CallOptions, "timeoutMs">;

const CALL_RULES: OptionRules<CallOptions> = { timeoutMs: TIMEOUT, signal: SIGNAL };
const STREAM_RULES: OptionRules<StreamOptions> = { signal: SIGNAL };

/** Throws a TypeError or RangeError that names the option which is wrong. */
export function checkCallOptions(call: string, options: CallOptions): void {
  checkOptions(call, options, CALL_RULES);
}

/** As `checkCallOptions`, for a stream. */
export function checkStreamOptions(call: string, options: StreamOptions): void {
  checkOptions(call, options, STREAM_RULES);
}

/** What `callWithSummary` may be told beside the cluster and the call. */
export interface SummaryCallOptions {
  /** Namespace of a service that the cluster exports. Where clusters export many, that finds the ingress with fewer questions. */
  readonly namespace?: string;
  /** Name of that service. */
  readonly service?: string;
  /** Ends the questions for the ingress. */
  readonly signal?: AbortSignal;
}

const SUMMARY_CALL_RULES: OptionRules<SummaryCallOptions> = { namespace: TEXT, service: TEXT, signal: SIGNAL };
const CLUSTER: OptionRule = {
  isRight: (value) => typeof value === "string" && value !== "",
  what: "the id of a cluster",
  Wrong: TypeError,
};

/** Throws a TypeError that names what is wrong. */
export function checkSummaryCall(cluster: unknown, fn: unknown, options: SummaryCallOptions): void {
  checkOptions("callWithSummary", { cluster, fn }, { cluster: CLUSTER, fn: FUNCTION });
  checkOptions("callWithSummary", options, SUMMARY_CALL_RULES);
}

/** The calls of a client. Failures are `RequestError`s. */
export interface ClientCalls {
  /** Deadline of a call that has none of its own, in ms. */
  readonly timeoutMs: number;
  /** All servers: those given, in this order, then those that were found. */
  readonly servers: readonly string[];
  /** The server that the next read or watch goes to. */
  readonly server: string;
  /** The server that the next write goes to. */
  readonly writeServer: string;
  /** A call with its tries at other servers. */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  /** One try at one server. */
  callAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  /** A server stream at the current server. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options?: StreamOptions,
  ): AsyncIterable<MessageShape<O>>;
  /** As `stream`, at this server. */
  streamAt<I extends DescMessage, O extends DescMessage>(
    server: string,
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options?: StreamOptions,
  ): AsyncIterable<MessageShape<O>>;
  /** Turns to the next server, unless another call already left `server`. */
  failOver(server: string): void;
  /** The server for one read or watch that these servers refused, which other calls are not turned away from. Undefined when all refused it. */
  serverBeside(refused: ReadonlySet<string>): string | undefined;
}
