/**
 * Applies the limits that depend on the request by wrapping the handlers of a service. These limits are namespace rate limits and quotas of open
 * watches. Handlers of methods without limits are not wrapped.
 */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { Time } from "../lib/machine.ts";
import type { Caller, RequestedViewer } from "../policy/identity/caller.ts";
import type { CallCost } from "../policy/limits/rate-limits.ts";
import { costOf, type NamespacesOf, namespacesOf } from "./contract.ts";
import { DeferredStream } from "./deferred-stream.ts";
import type { CallContext, MethodHandler, ServiceDefinition, StreamSource } from "./service.ts";

export interface CallAdmission {
  /**
   * Consumes one token from each namespace. If a namespace has no token left, consumes none and throws `discovery_rate_limited`. Undefined if
   * namespaces have no limit. `asked` is the viewer that the request specifies.
   */
  readonly admitIn:
    | ((call: { context: CallContext; cost: CallCost; namespaces: readonly string[]; asked: RequestedViewer | undefined }) => void)
    | undefined;
  /**
   * Counts a watch until the returned function is called. Returns undefined if watches are not counted, or a promise if another thread counts them.
   * Throws, or rejects with, `discovery_rate_limited` or `quota_exceeded`.
   */
  openWatch(caller: Caller, namespace: string, asked: RequestedViewer | undefined): (() => void) | Promise<() => void> | undefined;
}

/** The part of a method's options that the limits use. */
interface LimitOptions {
  readonly cost: CallCost;
  readonly namespacesOf: NamespacesOf;
  readonly hasViewer: boolean;
}

/**
 * Returns undefined for a method that is never limited, or whose requests contain no namespace. A prefix is treated as a namespace with the same
 * name, so that a query by prefix gets no extra allowance. A request to unregister a whole lease contains no namespace, so only the limit of the
 * caller applies.
 */
function concernOf(desc: DescMethod): LimitOptions | undefined {
  const cost = costOf(desc);
  const namespaces = namespacesOf(desc);
  if (cost === undefined || namespaces === undefined) return undefined;
  return { cost, namespacesOf: namespaces, hasViewer: desc.input.fields.some(({ name }) => name === "viewer") };
}

function askedOf({ hasViewer }: LimitOptions, request: Message): RequestedViewer | undefined {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the field is the contract's Viewer
  return hasViewer ? (request as { readonly viewer?: RequestedViewer }).viewer : undefined;
}

/** Returns the service with checks of its limits and quotas before its handlers run. */
export function admitted(service: ServiceDefinition, admission: CallAdmission): ServiceDefinition {
  const handlers: Record<string, MethodHandler> = { ...service.handlers };
  for (const method of service.desc.methods) {
    const handler = handlers[method.localName];
    const concern = concernOf(method);
    if (handler === undefined || concern === undefined) continue;
    if (handler.kind === "unary") handlers[method.localName] = admittedUnary(handler, admission, concern);
    if (handler.kind === "server_streaming") handlers[method.localName] = admittedWatch(handler, admission, concern);
  }
  return { ...service, handlers };
}

function admittedUnary(handler: MethodHandler & { kind: "unary" }, { admitIn }: CallAdmission, concern: LimitOptions): MethodHandler {
  if (admitIn === undefined) return handler;
  return {
    ...handler,
    handle: (request: Message, context: CallContext) => {
      admitIn({ context, cost: concern.cost, namespaces: concern.namespacesOf(request), asked: askedOf(concern, request) });
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler belongs to the request's method
      return handler.handle(request as never, context);
    },
  };
}

function admittedWatch(
  handler: MethodHandler & { kind: "server_streaming" },
  admission: CallAdmission,
  concern: LimitOptions,
): MethodHandler {
  return {
    ...handler,
    open: (request: Message, context: CallContext) => {
      const namespaces = concern.namespacesOf(request);
      const asked = askedOf(concern, request);
      admission.admitIn?.({ context, cost: concern.cost, namespaces, asked });
      const counted = admission.openWatch(context.caller, namespaces[0] ?? "", asked);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler belongs to the request's method
      const open = () => handler.open(request as never, context);
      if (counted === undefined) return open();
      if (counted instanceof Promise) return new DeferredStream(counted.then((release) => openHolding(open, release)));
      return openHolding(open, counted);
    },
  };
}

/** Opens a stream that holds a resource. `release` frees the resource when the stream closes, or immediately if it fails to open. */
export function openHolding(open: () => StreamSource, release: () => void): StreamSource {
  try {
    return new ReleasingStream(open(), release);
  } catch (error) {
    release();
    throw error;
  }
}

/** A stream that releases a resource when it closes, such as its slot among the open watches or a watched namespace. */
class ReleasingStream implements StreamSource {
  readonly #source: StreamSource;
  readonly #release: () => void;

  constructor(source: StreamSource, release: () => void) {
    this.#source = source;
    this.#release = release;
  }

  attach(...ports: Parameters<StreamSource["attach"]>): void {
    this.#source.attach(...ports);
  }

  pull(time: Time): Uint8Array | undefined {
    return this.#source.pull(time);
  }

  get isDrained(): boolean {
    return this.#source.isDrained === true;
  }

  close(): void {
    this.#release();
    this.#source.close();
  }
}
