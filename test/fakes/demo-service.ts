/** A DiscoveryService with behaviour a listener test can steer, and a chain with recording ports. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type CatalogQueryRequest,
  CatalogQueryResponseSchema,
  type CatalogWatchRequest,
  DiscoveryService,
  type KeepAliveRequest,
  KeepAliveResponseSchema,
  type RegisterRequest,
  RegisterResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { RECORD_BOUNDS } from "../../src/lib/bounds.ts";
import { MAX_TIMER_MS } from "../../src/lib/duration.ts";
import { invalid, type WaymarkError } from "../../src/lib/errors.ts";
import { type LabelsOf, MetricSeries, Metrics } from "../../src/lib/metrics/metrics.ts";
import { anonymousCaller, MESH_ROLES } from "../../src/policy/identity/caller.ts";
import { CallChain, type ChainPorts } from "../../src/server/chain.ts";
import { grpcMethods } from "../../src/server/grpc-methods.ts";
import { statusFrom } from "../../src/server/status.ts";
import { TurnBudget } from "../../src/server/turn-budget.ts";
import { answeringEach } from "../../src/services/answered-stream.ts";
import type { CallContext, ServiceDefinition, StreamSource, UnaryHandler } from "../../src/services/service.ts";

/** A source a test pushes into: it remembers how often it was pulled and closed. */
export class DemoSource implements StreamSource {
  pullCount = 0;
  closeCount = 0;
  /** Messages still to give; "endless" gives `chunk` for ever. */
  readonly queue: Uint8Array[] = [];
  chunk: Uint8Array | undefined;
  isDrained = false;
  wake: () => void = () => {};
  end: (error: WaymarkError | undefined) => void = () => {};

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    this.wake = wake;
    this.end = end;
  }

  pull(): Uint8Array | undefined {
    this.pullCount += 1;
    return this.queue.shift() ?? this.chunk;
  }

  close(): void {
    this.closeCount += 1;
  }
}

export interface Demo {
  readonly service: ServiceDefinition;
  readonly sources: DemoSource[];
  readonly contexts: CallContext[];
  /** One for each call for "held", which answers it. */
  readonly held: ((answer: Uint8Array) => void)[];
}

const LONG_TEXT = "a".repeat(285_000);

/** CatalogQuery by namespace: "" answers bytes, and the words below misbehave; CatalogWatch hands out DemoSources. */
export function demoService(answer: Uint8Array = queryAnswer(1_400)): Demo {
  const sources: DemoSource[] = [];
  const contexts: CallContext[] = [];
  const held: ((answer: Uint8Array) => void)[] = [];
  const query = (request: CatalogQueryRequest, context: CallContext) => {
    if (request.namespace === "") return answer;
    contexts.push(context);
    switch (request.namespace) {
      case "refuse":
        throw invalid("namespace", "must not be refuse");
      case "bug":
        throw new TypeError("secret of the stack");
      case "late":
        return new Promise<Uint8Array>((resolve) => setTimeout(() => resolve(answer), 60).unref());
      case "held":
        return new Promise<Uint8Array>((resolve) => held.push(resolve));
      case "never":
        return new Promise<Uint8Array>(() => {});
      case "long":
        return create(CatalogQueryResponseSchema, { servedBy: LONG_TEXT });
      case "reject":
        return Promise.reject(invalid("namespace", "was rejected"));
      default:
        return create(CatalogQueryResponseSchema, { servedBy: request.namespace });
    }
  };
  const open = (request: CatalogWatchRequest) => {
    if (request.namespace === "refuse") throw invalid("namespace", "must not be refuse");
    const source = new DemoSource();
    if (request.namespace === "endless") source.chunk = answer;
    sources.push(source);
    return source;
  };
  const echo = (request: KeepAliveRequest) => {
    const response = create(KeepAliveResponseSchema, { expiredLeaseIds: request.leaseIds });
    if (request.leaseIds[0] === "refuse") throw invalid("lease_ids", "must not be refuse");
    return request.leaseIds[0] === "late" ? new Promise<typeof response>((resolve) => setTimeout(() => resolve(response), 30)) : response;
  };
  const register = (request: RegisterRequest) => create(RegisterResponseSchema, { revision: BigInt(request.entries.length) });
  const service: ServiceDefinition = {
    desc: DiscoveryService,
    handlers: {
      catalogQuery: { kind: "unary", handle: query satisfies UnaryHandler<CatalogQueryRequest> },
      register: { kind: "unary", handle: register satisfies UnaryHandler<RegisterRequest> },
      catalogWatch: { kind: "server_streaming", open },
      keepAlive: answeringEach(echo),
    },
    routes: [
      {
        path: "/sd/prometheus",
        parameters: [],
        isScraped: true,
        rpc: "catalogQuery",
        answer: () => ({ kind: "pieces", pieces: ["[]"] }),
      },
    ],
  };
  return { service, sources, contexts, held };
}

/** A query response of about so many bytes. */
export function queryAnswer(sizeBytes: number): Uint8Array {
  return toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { servedBy: "x".repeat(sizeBytes) }));
}

export interface DemoChain {
  readonly chain: CallChain;
  /** As they were counted. */
  readonly observed: Counted[];
  readonly faults: unknown[];
}

/** One call that ended. */
export type Counted = LabelsOf<"rpc_requests_total">;

/** Gives each call that ended to `count`. */
export function countedBy(count: (call: Counted) => void): ChainPorts["metrics"] {
  const metrics = new Metrics();
  return {
    counter: (_name, labels) => Object.assign(new MetricSeries(labels), { inc: () => count(labels as unknown as Counted) }),
    histogram: (name, labels) => metrics.histogram(name, labels),
  };
}

/** Real clocks, anonymous callers, ids demo-1, demo-2, … and what was observed. */
export function demoChain(overrides: Partial<ChainPorts> = {}): DemoChain {
  const observed: Counted[] = [];
  const faults: unknown[] = [];
  const chain = new CallChain({
    now: () => ({ monoMs: performance.now(), wallMs: Date.now() }),
    identify: (_header, { address }) => anonymousCaller("local", address, MESH_ROLES),
    later: (act, delayMs) => {
      const timer = setTimeout(act, Math.min(delayMs, MAX_TIMER_MS));
      return () => clearTimeout(timer);
    },
    // No turn is too long.
    turn: new TurnBudget({ nowMs: () => 0, onEnd: setImmediate }),
    listBounds: RECORD_BOUNDS,
    idPrefix: "demo",
    metrics: countedBy((call) => void observed.push(call)),
    onBug: (fault) => void faults.push(fault),
    ...overrides,
  });
  return { chain, observed, faults };
}

/** What a thrown value is answered with. */
export function statusOf(thrown: unknown): ReturnType<typeof statusFrom> {
  return statusFrom(thrown, () => {});
}

/** gRPC methods of services behind a chain that lets everybody in. */
export function demoMethods(services: readonly ServiceDefinition[]): ReturnType<typeof grpcMethods> {
  return grpcMethods(services, demoChain().chain);
}
