/**
 * Limits and quotas that only the request tells: of the namespaces it concerns, and of open watches. Wraps a service's
 * handlers; where nothing is limited it leaves them as they are.
 */
import type { Message } from "@bufbuild/protobuf";
import type {
  CatalogQueryRequest,
  CatalogWatchRequest,
  ClusterMapRequest,
  NamespaceStatusRequest,
  RegisterRequest,
  ResolveRequest,
  UnregisterRequest,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { AskedViewer, Caller } from "../policy/identity/caller.ts";
import type { Cost } from "../policy/limits/rate-limits.ts";
import type { CallContext, Handler, Service, StreamSource } from "./service.ts";

export interface Admission {
  /**
   * Takes a token of each namespace, or of none and throws `discovery_rate_limited`. Undefined where namespaces have no
   * limit. `asked`: whose view the request asks to use.
   */
  readonly admitIn:
    | ((call: { context: CallContext; cost: Cost; namespaces: readonly string[]; asked: AskedViewer | undefined }) => void)
    | undefined;
  /**
   * Counts a watch until what it returns is called; undefined where nobody counts. Throws `discovery_rate_limited` or
   * `quota_exceeded`.
   */
  openWatch(caller: Caller, namespace: string, asked: AskedViewer | undefined): (() => void) | undefined;
}

interface Concern {
  readonly cost: Cost;
  readonly namespaces: readonly string[];
  readonly asked?: AskedViewer | undefined;
}

type ConcernOf<M extends Message> = (request: M) => Concern;

/**
 * What the methods of DiscoveryService concern. A prefix stands for a namespace of that name: who asks by prefix has no
 * allowance beside that of who asks by name. Ending a lease concerns whatever it holds, and is taken from the caller alone.
 */
const CONCERNS = {
  register: ((request: RegisterRequest) => ({
    cost: "write",
    namespaces: request.entries.map((entry) => entry.key?.namespace ?? ""),
  })) satisfies ConcernOf<RegisterRequest>,
  unregister: ((request: UnregisterRequest) => ({
    cost: "write",
    namespaces: request.keys.map((key) => key.namespace),
  })) satisfies ConcernOf<UnregisterRequest>,
  catalogQuery: ((request: CatalogQueryRequest) =>
    read(request.namespace || request.namespacePrefix, request.viewer)) satisfies ConcernOf<CatalogQueryRequest>,
  resolve: ((request: ResolveRequest) => read(request.namespace, request.viewer)) satisfies ConcernOf<ResolveRequest>,
  namespaceStatus: ((request: NamespaceStatusRequest) => read(request.namespace, undefined)) satisfies ConcernOf<NamespaceStatusRequest>,
  clusterMap: ((request: ClusterMapRequest) => read(request.namespaceFilter, undefined)) satisfies ConcernOf<ClusterMapRequest>,
} as const;

function read(namespace: string, asked: AskedViewer | undefined): Concern {
  return { cost: "read", namespaces: [namespace], asked };
}

/** The service, with limits and quotas before its handlers. */
export function admitted(service: Service, admission: Admission): Service {
  const handlers: Record<string, Handler> = { ...service.handlers };
  for (const [name, concernOf] of Object.entries(CONCERNS)) {
    const handler = handlers[name];
    if (handler?.kind === "unary") handlers[name] = admittedUnary(handler, admission, concernOf);
  }
  const watch = handlers["catalogWatch"];
  if (watch?.kind === "serverStream") handlers["catalogWatch"] = admittedWatch(watch, admission);
  return { ...service, handlers };
}

function admittedUnary(handler: Handler & { kind: "unary" }, { admitIn }: Admission, concernOf: ConcernOf<never>): Handler {
  if (admitIn === undefined) return handler;
  return {
    kind: "unary",
    handle: (request, context) => {
      const { cost, namespaces, asked } = concernOf(request);
      admitIn({ context, cost, namespaces, asked });
      return handler.handle(request, context);
    },
  };
}

function admittedWatch(handler: Handler & { kind: "serverStream" }, admission: Admission): Handler {
  return {
    kind: "serverStream",
    open: (request: CatalogWatchRequest, context) => {
      const { namespace, namespacePrefix, viewer } = request;
      const about = namespace || namespacePrefix;
      admission.admitIn?.({ context, cost: "read", namespaces: [about], asked: viewer });
      const release = admission.openWatch(context.caller, about, viewer);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler is that of this request
      const open = () => handler.open(request as never, context);
      if (release === undefined) return open();
      try {
        return new CountedSource(open(), release);
      } catch (error) {
        release();
        throw error;
      }
    },
  };
}

/** A stream that is counted while it is open. */
class CountedSource implements StreamSource {
  readonly #source: StreamSource;
  readonly #release: () => void;

  constructor(source: StreamSource, release: () => void) {
    this.#source = source;
    this.#release = release;
  }

  attach(...ports: Parameters<StreamSource["attach"]>): void {
    this.#source.attach(...ports);
  }

  pull(...at: Parameters<StreamSource["pull"]>): ReturnType<StreamSource["pull"]> {
    return this.#source.pull(...at);
  }

  close(): void {
    this.#release();
    this.#source.close();
  }
}
