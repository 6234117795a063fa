/** A typed client of several servers. Each call has one deadline, and goes to the next server when one is away. */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { RequestError } from "./request-error.ts";

/** The connection to one server. Failures are `RequestError`s. */
export interface Channel {
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

export interface ClientOptions {
  /** Deadline of a call that has none of its own. */
  readonly timeoutMs: number;
  /** Monotonic clock. */
  readonly nowMs: () => number;
}

/** What a call may have beside its request. */
export interface CallOptions {
  /** Deadline of the whole call, with its tries at other servers; the client's when absent. A stream has no deadline. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

type UnaryFunction<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: CallOptions,
) => Promise<MessageShape<O>>;

type StreamFunction<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: Omit<CallOptions, "timeoutMs">,
) => AsyncIterable<MessageShape<O>>;

type MethodFunction<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? UnaryFunction<I, O>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? StreamFunction<I, O>
      : never;

/** One function for each method, by its name in TypeScript, except methods to which the client streams. */
export type ServiceClient<S extends DescService> = {
  readonly [K in keyof S["method"] as MethodFunction<S["method"][K]> extends never ? never : K]: MethodFunction<S["method"][K]>;
};

/** A try at another server needs at least this much of the deadline. */
const LEAST_TRY_MS = 100;

export class Client {
  /** Register, renew, query, watch, resolve. */
  readonly discovery: ServiceClient<typeof DiscoveryService> = serviceClient(DiscoveryService, this);
  /** Namespace policy, who may see what and why, and the audit. */
  readonly policy: ServiceClient<typeof PolicyService> = serviceClient(PolicyService, this);
  /** The nodes of the mesh, as the server knows them. */
  readonly peers: ServiceClient<typeof PeerService> = serviceClient(PeerService, this);
  readonly #channels: readonly Channel[];
  readonly #options: ClientOptions;
  /** The server that answered last is asked first. */
  #current = 0;

  constructor(channels: readonly Channel[], options: ClientOptions) {
    if (channels.length === 0) throw new RangeError("a client needs at least one server");
    this.#channels = channels;
    this.#options = options;
  }

  /** Servers, in the order given. */
  get servers(): readonly string[] {
    return this.#channels.map((channel) => channel.server);
  }

  /**
   * Calls a unary method. If a server is away, the call goes to the next one, and to each server once. Every Waymark
   * method gives the same result when it is repeated. Throws the last `RequestError`.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const deadlineMonoMs = this.#options.nowMs() + (options.timeoutMs ?? this.#options.timeoutMs);
    const message = create(method.input, request);
    let failure: unknown;
    for (let tried = 0; tried < this.#channels.length; tried++) {
      const channel = this.#channel();
      const leftMs = deadlineMonoMs - this.#options.nowMs();
      if (tried > 0 && leftMs < LEAST_TRY_MS) break;
      try {
        return await channel.unary(method, message, { timeoutMs: Math.max(leftMs, 1), ...(options.signal && { signal: options.signal }) });
      } catch (error) {
        failure = error;
        if (!(error instanceof RequestError && error.isAway)) throw error;
        this.failOver(channel.server);
      }
    }
    throw failure;
  }

  /** Opens a server stream at the current server. `follow` resumes streams at other servers. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: { readonly signal?: AbortSignal } = {},
  ): AsyncIterable<MessageShape<O>> {
    return this.#channel().serverStream(method, create(method.input, request), options);
  }

  /** The server the next call goes to. */
  get server(): string {
    return this.#channel().server;
  }

  /** Turns to the next server, unless another call already left `server`. */
  failOver(server: string): void {
    if (this.#channel().server === server) this.#current = (this.#current + 1) % this.#channels.length;
  }

  close(): void {
    for (const channel of this.#channels) channel.close();
  }

  #channel(): Channel {
    const channel = this.#channels[this.#current];
    if (channel === undefined) throw new RangeError(`no server number ${this.#current}`);
    return channel;
  }
}

/** The functions of `service`, each a call of `client`. Failures are `RequestError`s. */
function serviceClient<S extends DescService>(service: S, client: Client): ServiceClient<S> {
  const functions: Record<string, unknown> = {};
  for (const method of service.methods) {
    if (isUnary(method)) functions[method.localName] = (request: Init, options?: CallOptions) => client.call(method, request, options);
    else if (isStream(method))
      functions[method.localName] = (request: Init, options?: CallOptions) => client.stream(method, request, options);
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- one function for each method that the type names, made above
  return functions as ServiceClient<S>;
}

type Init = MessageInitShape<DescMessage>;

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

function isStream(method: DescMethod): method is DescMethodServerStreaming {
  return method.methodKind === "server_streaming";
}
