/** The chain every call passes: ids, callers, deadlines, drain, faults and what is observed. */
import type { Message } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Health, HealthCheckRequestSchema, HealthCheckResponse_ServingStatus } from "../../gen/grpc/health/v1/health_pb.js";
import { PeerService, PeerServiceListRequestSchema } from "../../gen/waymark/control/v1/peer_pb.js";
import { CatalogQueryRequestSchema, CatalogWatchRequestSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService, VerifyAuditRequestSchema, VerifyAuditResponseSchema } from "../../gen/waymark/policy/v1/policy_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import {
  type CallArrival,
  type CallChain,
  type ChainPorts,
  type MethodChain,
  type RefusedCall,
  sentRequestId,
  type UnaryExchange,
} from "../../src/server/chain.ts";
import { UndecodedRequest } from "../../src/server/request-shape/plan.ts";
import { HealthBoard } from "../../src/services/health.ts";
import type { CallContext, ServiceDefinition } from "../../src/services/service.ts";
import { demoChain, demoService } from "../fakes/demo-service.ts";

type RpcStatus = Parameters<UnaryExchange["fail"]>[0];

/** An exchange that keeps what it was answered with; `expire()` is its deadline. */
class FakeExchange implements CallArrival, UnaryExchange {
  readonly arrival = this;
  readonly transport = "test";
  readonly encoding = "none";
  readonly address = "192.0.2.1";
  readonly certificate = undefined;
  readonly timeoutMs: number | undefined;
  readonly header: (name: string) => string | undefined;
  readonly answers: (Message | Uint8Array | RpcStatus)[] = [];
  context: CallContext | undefined;
  requestId = "";
  expire: () => void = () => {};
  gone: () => void = () => {};
  cancelCount = 0;

  constructor(options: { readonly timeoutMs?: number; readonly headers?: Readonly<Record<string, string>> } = {}) {
    this.timeoutMs = options.timeoutMs;
    this.header = (name) => options.headers?.[name];
  }

  succeed(response: Message | Uint8Array, context: CallContext): void {
    this.answers.push(response);
    this.context = context;
  }

  fail(status: RpcStatus, requestId: string): void {
    this.answers.push(status);
    this.requestId = requestId;
  }

  onDeadline(expire: () => void): () => void {
    this.expire = expire;
    return () => {
      this.cancelCount += 1;
    };
  }

  onGone(gone: () => void): void {
    this.gone = gone;
  }
}

function queryOf(chain: CallChain): MethodChain {
  return chain.method(DiscoveryService.method.catalogQuery, demoService().service.handlers["catalogQuery"]);
}

const request = (namespace: string) => create(CatalogQueryRequestSchema, { namespace });
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

test("a synchronous answer is sent in the same turn, and observed", () => {
  const { chain, observed } = demoChain();
  const exchange = new FakeExchange();
  queryOf(chain).unary(request("a"), exchange);
  expect(exchange.answers).toMatchObject([{ servedBy: "a" }]);
  expect(observed).toMatchObject([
    { service: "waymark.discovery.v1.DiscoveryService", method: "CatalogQuery", code: "OK", transport: "test", encoding: "none" },
  ]);
});

test.each([
  { sent: "abc-1/~", kept: true },
  { sent: "x".repeat(128), kept: true },
  { sent: "x".repeat(129), kept: false },
  { sent: "", kept: false },
  { sent: "two words", kept: false },
  { sent: "naïve", kept: false },
  { sent: "line\nbreak", kept: false },
])("request id $sent is kept: $kept", ({ sent, kept }) => {
  const { chain } = demoChain();
  const exchange = new FakeExchange({ headers: { "x-request-id": sent } });
  queryOf(chain).unary(request("a"), exchange);
  expect(sentRequestId(exchange.header) !== undefined).toBe(kept);
  expect(exchange.context?.requestId).toBe(kept ? sent : "demo-1");
});

test("calls are logged with id and caller only when asked for", () => {
  const calls: object[] = [];
  const { chain } = demoChain({ onCall: (call) => void calls.push(call) });
  queryOf(chain).unary(request("a"), new FakeExchange());
  expect(calls).toMatchObject([{ requestId: "demo-1", method: "CatalogQuery", address: "192.0.2.1" }]);
});

test.each([
  { namespace: "refuse", reason: "invalid_argument", code: "INVALID_ARGUMENT" },
  { namespace: "bug", reason: "internal", code: "INTERNAL" },
])("a handler that throws ($namespace) answers $reason with the request's id", ({ namespace, reason, code }) => {
  const { chain, observed, faults } = demoChain();
  const exchange = new FakeExchange();
  queryOf(chain).unary(request(namespace), exchange);
  expect(exchange.answers).toMatchObject([{ reason }]);
  expect(exchange.requestId).toBe("demo-1");
  expect(observed).toMatchObject([{ code }]);
  expect(faults.length).toBe(reason === "internal" ? 1 : 0);
});

test("bytes that are no request are refused before the handler", () => {
  const { chain } = demoChain();
  const exchange = new FakeExchange();
  queryOf(chain).unary(new WaymarkError("invalid_argument", "not the bytes"), exchange);
  expect(exchange.answers).toMatchObject([{ reason: "invalid_argument" }]);
});

test("a request that breaks a rule of the contract is refused before the handler, of a stream too", () => {
  const { chain } = demoChain();
  const { service, contexts } = demoService();
  const exchange = new FakeExchange();
  chain.method(DiscoveryService.method.catalogQuery, service.handlers["catalogQuery"]).unary(request("No Namespace"), exchange);
  expect(exchange.answers).toMatchObject([{ reason: "invalid_argument" }]);
  const watch = chain.method(DiscoveryService.method.catalogWatch, service.handlers["catalogWatch"]);
  const context = { caller: anonymousCaller("demo", ""), time: { monoMs: 0, wallMs: 0 }, requestId: "" };
  const asked = create(CatalogWatchRequestSchema, { bookmarkInterval: { seconds: 11n } });
  expect(() => watch.openSource(asked, context)).toThrow("bookmark_interval: must be from 1 s to 10 s, got 11 s");
  expect(contexts).toEqual([]);
});

test("a method without handler is unimplemented", () => {
  const { chain } = demoChain();
  const exchange = new FakeExchange();
  chain.method(DiscoveryService.method.summaryQuery, undefined).unary(request(""), exchange);
  chain.method(PeerService.method.list, undefined).unary(create(PeerServiceListRequestSchema), exchange);
  expect(exchange.answers).toMatchObject([
    {
      reason: "unimplemented",
      message: "unimplemented: this server does not implement /waymark.discovery.v1.DiscoveryService/SummaryQuery",
    },
    { reason: "unimplemented", message: "unimplemented: this server is a resolver and not a member of the mesh: send the call to a node" },
  ]);
});

test("a caller who is not known is refused before the handler", () => {
  const { chain } = demoChain({
    identify: () => {
      throw new WaymarkError("unauthenticated", "token is not known");
    },
  });
  const exchange = new FakeExchange();
  queryOf(chain).unary(request("a"), exchange);
  expect(exchange.answers).toMatchObject([{ reason: "unauthenticated" }]);
});

test.each([0, -1, -1e9])("a deadline of %i ms has passed before the handler", (timeoutMs) => {
  const { chain } = demoChain();
  const exchange = new FakeExchange({ timeoutMs });
  queryOf(chain).unary(request("a"), exchange);
  expect(exchange.answers).toMatchObject([{ reason: "deadline_exceeded" }]);
});

test("a promise that outlives the deadline is answered deadline_exceeded, once", async () => {
  const { chain, observed } = demoChain();
  const exchange = new FakeExchange({ timeoutMs: 5 });
  queryOf(chain).unary(request("reject"), exchange);
  exchange.expire();
  await settled();
  expect(exchange.answers).toMatchObject([{ reason: "deadline_exceeded" }]);
  expect(observed).toMatchObject([{ code: "DEADLINE_EXCEEDED" }]);
});

test.each(["expire", "gone"] as const)(
  "a handler that waits learns once that its call is over (%s), and not after its answer",
  async (end) => {
    const { chain } = demoChain();
    const answers: (() => void)[] = [];
    let overCount = 0;
    const method = chain.method(DiscoveryService.method.catalogQuery, {
      kind: "unary",
      handle: (_request, context) => {
        context.onOver = () => void overCount++;
        return new Promise((resolve) => void answers.push(() => resolve(new Uint8Array())));
      },
    });
    const [over, answered] = [new FakeExchange({ timeoutMs: 5 }), new FakeExchange({ timeoutMs: 5 })];
    method.unary(request("a"), over);
    method.unary(request("a"), answered);
    over[end]();
    expect(overCount).toBe(1);
    for (const answer of answers) answer();
    await settled();
    for (const exchange of [over, answered]) exchange[end]();
    expect([overCount, over.answers.length, answered.answers.length]).toEqual([1, 1, 1]);
  },
);

test("a promise in time is answered with what it settles to, and its timer is cancelled", async () => {
  const { chain, observed } = demoChain();
  const exchange = new FakeExchange({ timeoutMs: 5_000 });
  queryOf(chain).unary(request("reject"), exchange);
  await settled();
  expect(exchange.answers).toMatchObject([{ reason: "invalid_argument" }]);
  expect(exchange.cancelCount).toBe(1);
  expect(observed).toMatchObject([{ code: "INVALID_ARGUMENT" }]);
});

test.each(["at once", "later"])("an answer that cannot be sent, given %s, fails its own call and nothing else", async (when) => {
  const { chain, observed } = demoChain();
  const { service } = demoService();
  const handle = () => (when === "later" ? Promise.resolve(new Uint8Array()) : new Uint8Array());
  const method = chain.method(DiscoveryService.method.catalogQuery, { ...service.handlers["catalogQuery"], kind: "unary", handle });
  const exchange = new FakeExchange();
  exchange.succeed = () => {
    throw new Error("cannot encode field waymark.discovery.v1.X.y");
  };
  method.unary(request("a"), exchange);
  await settled();
  expect(exchange.answers).toMatchObject([{ code: 13 }]);
  expect(observed).toMatchObject([{ code: "INTERNAL" }]);
});

test("a draining server refuses new calls, and tells open streams to leave once", () => {
  const { chain } = demoChain();
  const told: WaymarkError[] = [];
  chain.onDrain((error) => told.push(error));
  chain.onDrain(() => told.push())();
  chain.drain();
  chain.drain();
  const exchange = new FakeExchange();
  queryOf(chain).unary(request("a"), exchange);
  expect(exchange.answers).toMatchObject([{ reason: "draining", details: [{}, { value: { retryDelay: { seconds: 1n } } }] }]);
  expect(told).toMatchObject([{ reason: "draining" }]);
});

function serviceMethod(chain: CallChain, service: ServiceDefinition, name: "catalogQuery" | "catalogWatch"): MethodChain {
  return chain.method(DiscoveryService.method[name], service.handlers[name]);
}

const PENDING = { principal: "signed", tenant: "alpha", cluster: "local", roles: [], isAuthenticated: true, address: "192.0.2.1" };

test("a caller who is only known later is served like one who is known at once", async () => {
  const { service, contexts } = demoService();
  const { chain, observed } = demoChain({ identify: () => Promise.resolve(PENDING) });
  const exchange = new FakeExchange();
  serviceMethod(chain, service, "catalogQuery").unary(request("message"), exchange);
  expect(exchange.answers).toEqual([]);
  await settled();
  expect(exchange.answers.length).toBe(1);
  expect([contexts[0]?.caller, observed[0]?.code]).toEqual([PENDING, "OK"]);
});

test.each([
  { when: "at once", identify: () => refuse() },
  { when: "later", identify: () => Promise.reject(new WaymarkError("unauthenticated", "token has expired")) },
])("a caller who turns out $when to be nobody is refused, counted, and told to the audit", async ({ identify }) => {
  const told: RefusedCall[] = [];
  const { service, contexts } = demoService();
  const { chain, observed } = demoChain({ identify, onRefused: (refused) => void told.push(refused) });
  const exchange = new FakeExchange({ headers: { "x-request-id": "mine" } });
  serviceMethod(chain, service, "catalogQuery").unary(request("a"), exchange);
  await settled();
  expect(exchange.answers.length).toBe(1);
  expect(exchange.answers[0]).toMatchObject({ code: 16 });
  expect(contexts).toEqual([]);
  expect(observed.map(({ code }) => code)).toEqual(["UNAUTHENTICATED"]);
  expect(told).toMatchObject([{ method: "CatalogQuery", requestId: "mine", address: "192.0.2.1", caller: undefined }]);
});

/** A check of health, as the chain serves it. */
function checked(ports: Partial<ChainPorts>, prepare: (chain: CallChain) => void = () => {}) {
  const health = new HealthBoard([]);
  const { chain, observed } = demoChain(ports);
  prepare(chain);
  const exchange = new FakeExchange();
  const method = chain.method(Health.method.check, health.service.handlers["check"]);
  const judged = method.judgeHeaders(exchange);
  method.unary(create(HealthCheckRequestSchema, {}), exchange);
  return { answer: exchange.answers[0], judged, observed };
}

test.each([
  { what: "callers without a credential may do nothing", ports: { anonymous: "none" as const } },
  { what: "callers without a credential may only read", ports: { anonymous: "read" as const } },
  { what: "every caller is over its limit", ports: { limit: () => refuse() } },
  { what: "the server drains", ports: {}, prepare: (chain: CallChain) => chain.drain() },
])("health is told, and counted, where $what, also when its request comes in pieces", ({ ports, prepare }) => {
  const { answer, judged, observed } = checked(ports, prepare);
  expect(judged).toBeUndefined();
  expect(answer).toMatchObject({ status: HealthCheckResponse_ServingStatus.NOT_SERVING });
  expect(observed).toMatchObject([{ service: "grpc.health.v1.Health", code: "OK" }]);
});

test("a wrong credential is refused of health too", () => {
  expect(checked({ identify: () => refuse() }).answer).toMatchObject({ reason: "unauthenticated" });
});

test("a service that is for callers with a credential refuses others, counts them, and tells the audit", () => {
  const told: RefusedCall[] = [];
  const { service } = demoService();
  const ports = { knownOnly: new Set([DiscoveryService.typeName]), onRefused: (refused: RefusedCall) => void told.push(refused) };
  const { chain, observed } = demoChain(ports);
  const exchange = new FakeExchange();
  serviceMethod(chain, service, "catalogQuery").unary(request("a"), exchange);
  expect(exchange.answers).toMatchObject([{ reason: "unauthenticated" }]);
  expect(observed).toMatchObject([{ code: "UNAUTHENTICATED" }]);
  expect(told).toMatchObject([{ method: "CatalogQuery", caller: { isAuthenticated: false } }]);
  const known = demoChain({ ...ports, identify: () => PENDING });
  serviceMethod(known.chain, service, "catalogQuery").unary(request("a"), exchange);
  expect(exchange.answers).toHaveLength(2);
  expect(exchange.answers[1]).toMatchObject({ servedBy: "a" });
});

test.each([
  { what: "a caller is known", ports: { identify: () => PENDING }, reason: undefined },
  { what: "anybody may call", ports: {}, reason: undefined },
  { what: "a credential is wrong", ports: { identify: () => refuse() }, reason: "unauthenticated" },
  { what: "a credential turns out wrong later", ports: { identify: () => Promise.reject(refusal()) }, reason: "unauthenticated" },
  { what: "callers need a credential", ports: { anonymous: "none" }, reason: "unauthenticated" },
  { what: "the service wants one", ports: { knownOnly: new Set([DiscoveryService.typeName]) }, reason: "unauthenticated" },
  { what: "a fault of ours stands in the way", ports: { identify: () => fault() }, reason: undefined },
] as const)("by its headers a call is judged as by its whole, and not counted: $what", async ({ ports, reason }) => {
  const told: unknown[] = [];
  const { chain, observed } = demoChain({ ...ports, onRefused: (refused: RefusedCall) => void told.push(refused) });
  const judged = await queryOf(chain).judgeHeaders(new FakeExchange());
  expect([judged?.reason, observed, told]).toEqual([reason, [], []]);
});

/** A request that counts how often it is decoded. */
function unread(namespace: string) {
  const counted = { decodeCount: 0 };
  const sent = new UndecodedRequest(new Uint8Array(), () => {
    counted.decodeCount += 1;
    return request(namespace);
  });
  return { counted, sent };
}

test.each([
  { what: "a wrong credential", ports: { identify: () => refuse() }, decodeCount: 0 },
  { what: "a credential that is rejected later", ports: { identify: () => Promise.reject(refusal()) }, decodeCount: 0 },
  { what: "no credential, although one is required", ports: { anonymous: "none" }, decodeCount: 0 },
  { what: "no credential, although the service requires one", ports: { knownOnly: new Set([DiscoveryService.typeName]) }, decodeCount: 0 },
  { what: "too many calls", ports: { limit: () => refuse() }, decodeCount: 0 },
  { what: "no time", ports: {}, timeoutMs: 0, decodeCount: 0 },
  { what: "a draining node", ports: {}, isDraining: true, decodeCount: 0 },
  { what: "a permitted caller", ports: {}, decodeCount: 1 },
  { what: "a caller who is identified later", ports: { identify: () => PENDING }, decodeCount: 1 },
] as const)("a request is decoded only for a caller who may call: $what", async ({ ports, decodeCount, ...of }) => {
  const { chain } = demoChain(ports);
  if ("isDraining" in of) chain.drain();
  const { counted, sent } = unread("a");
  const exchange = new FakeExchange("timeoutMs" in of ? { timeoutMs: of.timeoutMs } : {});
  serviceMethod(chain, demoService().service, "catalogQuery").unary(sent, exchange);
  await settled();
  expect([exchange.answers.length, counted.decodeCount]).toEqual([1, decodeCount]);
  const watch = unread("a");
  const admitted = async () => queryOf(chain).admitStream(exchange, "", watch.sent);
  await admitted().catch(() => undefined);
  expect(watch.counted.decodeCount).toBe(decodeCount);
});

test("a transport that decodes requests itself uses one rate limit token per call, and decodes no request without a token", async () => {
  const taken: string[] = [];
  const limit = (_caller: Caller, cost: string) => {
    if (taken.push(cost) > 1) refuse();
  };
  const { chain } = demoChain({ limit });
  const judge = async () => {
    const exchange = Object.assign(new FakeExchange(), { isLimited: false });
    const refused = await queryOf(chain).judgeHeaders(exchange);
    queryOf(chain).unary(refused ?? request("a"), exchange);
    return exchange.answers[0];
  };
  expect(await judge()).not.toHaveProperty("reason");
  expect(await judge()).toHaveProperty("reason");
  expect(taken).toEqual(["read", "read"]);
});

test("a call over its limit by its headers is told so, and not that its caller may not make it; the audit is told once", async () => {
  const told: RefusedCall[] = [];
  const limit = () => {
    throw new WaymarkError("discovery_rate_limited", "too many");
  };
  const { chain } = demoChain({ identify: () => PENDING, limit, onRefused: (refused) => void told.push(refused) });
  const method = chain.method(PolicyService.method.verifyAudit, { kind: "unary", handle: () => create(VerifyAuditResponseSchema) });
  const exchange = Object.assign(new FakeExchange(), { isLimited: false });
  const refused = await method.judgeHeaders(exchange);
  expect(refused).toMatchObject({ reason: "discovery_rate_limited" });
  method.unary(refused ?? create(VerifyAuditRequestSchema), exchange);
  expect([exchange.answers, told]).toEqual([[expect.objectContaining({ reason: "discovery_rate_limited" })], []]);
});

test("a call of a method without handler is refused by its headers", () => {
  const { chain } = demoChain();
  expect(chain.method(DiscoveryService.method.summaryQuery, undefined).judgeHeaders(new FakeExchange())).toMatchObject({
    reason: "unimplemented",
  });
});

test.each([
  { what: "policy denies it, which the registrar tells the audit", method: DiscoveryService.method.register, handlersTell: true },
  {
    what: "owners may call, and its handler finds that the caller is none",
    method: PolicyService.method.rollbackPolicy,
    handlersTell: false,
  },
])("a denial of a handler that answers later is told to the audit once: $what", async ({ method, handlersTell }) => {
  const told: RefusedCall[] = [];
  const owner = { ...PENDING, roles: ["owner:svc"] };
  const { chain } = demoChain({ identify: () => owner, onRefused: (refused) => void told.push(refused) });
  let askedCount = 0;
  const denied = () => {
    askedCount += 1;
    return Promise.reject(new WaymarkError("discovery_access_denied", "not yours"));
  };
  const exchange = new FakeExchange();
  chain.method(method, { kind: "unary", handle: denied }).unary(create(method.input, {}), exchange);
  await settled();
  expect(exchange.answers).toMatchObject([{ reason: "discovery_access_denied" }]);
  expect([askedCount, told.map((refused) => refused.method)]).toEqual([1, handlersTell ? [] : [method.name]]);
});

test("calls are counted by status, and only those that are no streams are timed", () => {
  const metrics = new Metrics();
  const { chain } = demoChain({ metrics });
  const [service, transport, encoding] = [DiscoveryService.typeName, "test", "none"];
  for (const namespace of ["a", "a", "bug"]) queryOf(chain).unary(request(namespace), new FakeExchange());
  chain.method(DiscoveryService.method.catalogWatch, undefined).finish(new FakeExchange(), { monoMs: 0, wallMs: 0 }, 0);
  const count = (method: string, code: string) =>
    metrics.counter("rpc_requests_total", { service, method, code, transport, encoding }).value;
  const timed = (method: string) => metrics.histogram("rpc_latency_ms", { service, method, transport }).count;
  expect([count("CatalogQuery", "OK"), count("CatalogQuery", "INTERNAL"), count("CatalogWatch", "OK")]).toEqual([2, 1, 1]);
  expect([timed("CatalogQuery"), timed("CatalogWatch")]).toEqual([3, 0]);
});

function refusal(): WaymarkError {
  return new WaymarkError("unauthenticated", "token has expired");
}

function fault(): never {
  throw new TypeError("a fault of ours");
}

function refuse(): never {
  throw refusal();
}
