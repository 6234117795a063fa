/** The methods of a service as functions with types: `client.discovery.catalogQuery({ namespacePrefix: "svc" })`. */
import type {
  DescMessage,
  DescMethod,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";

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

/** Carries out the calls. `Client` is one. */
export interface Caller {
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options?: Pick<CallOptions, "signal">,
  ): AsyncIterable<MessageShape<O>>;
}

/** The functions of `service`, each a call of `caller`. Failures are `RequestError`s. */
export function serviceClient<S extends DescService>(service: S, caller: Caller): ServiceClient<S> {
  const functions: Record<string, unknown> = {};
  for (const method of service.methods) {
    if (isUnary(method)) functions[method.localName] = (request: Init, options?: CallOptions) => caller.call(method, request, options);
    else if (isStream(method))
      functions[method.localName] = (request: Init, options?: CallOptions) => caller.stream(method, request, options);
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
