/** Which process answers an rpc, and that each kind of process has a way to answer every rpc of the protos, and every route of its services. */
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DiscoveryService, ListPeersRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { Act, AnsweredBy, Cost, call, ResolverBehavior } from "../../gen/waymark/options/v1/options_pb.js";
import { SERVICES } from "../../gen/waymark/services.ts";
import type { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { auditHandlers } from "../../src/services/audit.ts";
import { rpcName } from "../../src/services/contract.ts";
import { readHandlers } from "../../src/services/discovery/read-handlers.ts";
import { withNameReads } from "../../src/services/dns/name-answers.ts";
import { CallForwarder, FORWARDING_BOUNDS } from "../../src/services/forwarding/call-forwarder.ts";
import { workerServices } from "../../src/services/forwarding/worker-services.ts";
import { nodeCalls, resolverServices } from "../../src/services/resolving/services.ts";
import type { AnswerSink, MethodHandler, ServiceDefinition } from "../../src/services/service.ts";
import { checkAnswered } from "../../src/services/service-table.ts";
import { CONTEXT } from "../fakes/forwarding.ts";
import { stubServices } from "../fakes/stub-service.ts";

/** What these need to be made, and not to answer. */
const NOTHING = { metrics: new Metrics(), ports: {}, reads: {}, identity: {}, upstreams: [], cache: {} };

function ofWorker(hasSummaries: boolean): readonly ServiceDefinition[] {
  const worker = new CallForwarder({ ...FORWARDING_BOUNDS, wake: () => {} });
  const routes = Object.fromEntries(stubServices().map((service) => [service.desc.typeName, service.routes ?? []]));
  return workerServices(worker, { reads: readHandlers(NOTHING as never), routes, hasSummaries });
}

const ofResolver = () => resolverServices({ ...NOTHING, audit: auditHandlers({} as never) } as never);

/** As listeners have them. */
const served = (services: readonly ServiceDefinition[]) => withNameReads(services, { settings: { zones: [] } } as never);

const without = (services: readonly ServiceDefinition[], left: DescMethod): readonly ServiceDefinition[] =>
  services.map(({ handlers, ...rest }) => {
    const { [left.localName]: _left, ...others } = handlers;
    return { ...rest, handlers: rest.desc === left.parent ? others : handlers };
  });

const withoutRoute = (services: readonly ServiceDefinition[], left: string): readonly ServiceDefinition[] =>
  services.map((service) => ({ ...service, routes: (service.routes ?? []).filter(({ path }) => path !== left) }));

const METHODS = Object.values(SERVICES).flatMap(({ methods }) => [...methods]);
const isOfNodes = (method: DescMethod) => getOption(method, call).answeredBy === AnsweredBy.NODE;
const isOnlyOnNodes = (method: DescMethod) => getOption(method, call).resolver === ResolverBehavior.UNIMPLEMENTED;

test.each([
  { what: "node", services: stubServices(), isResolver: false },
  { what: "read worker", services: served(ofWorker(false)), isResolver: false },
  { what: "read worker of a node that holds summaries", services: served(ofWorker(true)), isResolver: false },
  { what: "resolver", services: served(ofResolver()), isResolver: true },
])("a $what has a way to answer every rpc and route; without one the start fails, and names it", ({ services, isResolver }) => {
  checkAnswered(services, isResolver);
  const paths = new Set(METHODS.filter((method) => !isResolver || !isOfNodes(method)).flatMap((method) => getOption(method, call).routes));
  expect(paths.size).toBeGreaterThan(4);
  for (const path of paths)
    expect(() => checkAnswered(withoutRoute(services, path), isResolver)).toThrow(
      `route has no handler in this process {"path":"${path}","rpc":`,
    );
  for (const method of METHODS) {
    if (isResolver && isOnlyOnNodes(method)) continue;
    expect(() => checkAnswered(without(services, method), isResolver)).toThrow(
      `rpc has no handler in this process {"rpc":"${rpcName(method)}"}`,
    );
  }
});

test("a route that the proto of its rpc does not name ends the start", () => {
  const answer = () => ({ kind: "page", page: 1 }) as const;
  for (const rpcs of [{ rpc: "clusterMap" }, { rpc: "lost" }, { rpc: "catalogQuery", rpcWith: { a: "lost" } }]) {
    const added = { path: "/new", parameters: [], ...rpcs, answer };
    const services = stubServices().map(({ routes = [], ...service }) => ({
      ...service,
      routes: service.desc === DiscoveryService ? [...routes, added] : routes,
    }));
    expect(() => checkAnswered(services, false)).toThrow(/route is not declared in the proto of its rpc .*"\/new"/);
  }
});

test("a resolver refuses the calls that its protos refuse, in each form that a call has, and names nodes", async () => {
  const urls = () => Promise.resolve(["grpc://a:1", "grpcs://b:1", "grpcs://c:1", "d", "e"]);
  const refused = METHODS.filter((method) => getOption(method, call).resolver === ResolverBehavior.REFUSE);
  expect(refused.length).toBeGreaterThan(10);
  for (const method of refused) {
    const handler = nodeCalls(method.parent, { urls, ports: {} as never })[method.localName];
    const error = await refusalOf(handler);
    expect(error).toMatchObject({ reason: "read_only", details: { metadata: { urls: "grpc://a:1 grpcs://b:1 grpcs://c:1 d" } } });
    expect(error.message).toContain("this server is a resolver, which ");
    expect(error.message).toContain(": send the call to a node, for example a:1 or b:1 (TLS) or c:1 (TLS) or d");
  }
});

/** How a handler refuses a call. */
function refusalOf(handler: MethodHandler | undefined): Promise<WaymarkError> {
  return new Promise((resolve, reject) => {
    if (handler?.kind === "unary") Promise.resolve(handler.handle({} as never, CONTEXT)).catch(resolve);
    else if (handler?.kind === "server_streaming") {
      const stream = handler.open({} as never, CONTEXT);
      const wake = (): void => {
        try {
          stream.pull(CONTEXT.time);
        } catch (error) {
          resolve(error as WaymarkError);
        }
      };
      stream.attach(wake, reject);
    } else if (handler?.kind === "bidi_streaming") handler.open({ fail: resolve } as Partial<AnswerSink> as AnswerSink, CONTEXT);
    else reject(new Error("no handler that refuses"));
  });
}

test.each([
  ["PolicyService", "policyHistory", "does not keep earlier versions of the policy"],
  ["PolicyService", "validatePolicy", "cannot validate policies"],
  ["PolicyService", "applyPolicy", "rejects writes"],
  ["DiscoveryService", "keepAlive", "rejects writes"],
  ["DnsService", "registerName", "rejects writes"],
] as const)("a resolver refuses %s %s because it %s", async (service, name, why) => {
  const handlers = nodeCalls(SERVICES[service], { urls: () => Promise.resolve([]), ports: {} as never });
  expect((await refusalOf(handlers[name])).message).toBe(`read_only: this server is a resolver, which ${why}: send the call to a node`);
});

test("a resolver passes a call on in the bytes that it came in, within the time of its caller, and answers with the bytes that it gets", async () => {
  const calls: unknown[] = [];
  const callBytes = (...asked: readonly unknown[]) => {
    calls.push(asked);
    return Promise.resolve({ bytes: Uint8Array.of(7), upstream: "a" });
  };
  const handlers = nodeCalls(DiscoveryService, { urls: () => Promise.resolve([]), ports: { callBytes } as never });
  // ClusterMap names a namespace, which is to be judged at the resolver.
  expect(Object.keys(handlers)).not.toContain("clusterMap");
  const { listPeers } = handlers;
  if (listPeers?.kind !== "unary") throw new Error("listPeers is unary");
  // A field that this version does not know.
  const bytes = Uint8Array.of(0xfa, 0x7f, 1, 9);
  const request = listPeers.read?.(bytes) as never;
  expect(request).toMatchObject({ $typeName: ListPeersRequestSchema.typeName });
  expect(await listPeers.handle(request, { ...CONTEXT, deadlineMonoMs: CONTEXT.time.monoMs + 40 })).toEqual(Uint8Array.of(7));
  await listPeers.handle(request, CONTEXT);
  expect(calls).toEqual([
    [DiscoveryService.method.listPeers, bytes, 40],
    [DiscoveryService.method.listPeers, bytes, undefined],
  ]);
});

test("a resolver passes on by itself only unary reads that the policy does not judge", () => {
  const proxied = METHODS.filter((method) => {
    const { [method.localName]: handler } = nodeCalls(method.parent, { ports: {} } as never);
    return handler !== undefined && getOption(method, call).resolver !== ResolverBehavior.REFUSE;
  });
  expect(proxied.map(({ name }) => name)).toContain("ListPeers");
  for (const method of proxied) {
    expect(getOption(method, call)).toMatchObject({
      answeredBy: AnsweredBy.NODE,
      cost: Cost.READ,
      act: Act.UNSPECIFIED,
      namespaceFields: [],
    });
    expect(method.methodKind).toBe("unary");
  }
});
