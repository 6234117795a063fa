import { type DescService, type JsonValue } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { CatalogReads } from "../../src/discovery/reads.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { NO_POLICY } from "../../src/policy/set/verdict.ts";
import type { ChainPorts } from "../../src/server/chain.ts";
import { type HttpRequest, type HttpResponse, HttpRoutes, type HttpSources, type ReadinessReport } from "../../src/server/http-routes.ts";
import { prometheusRoute } from "../../src/services/prometheus-sd.ts";
import type { HttpRoute, RouteAnswer, ServiceDefinition } from "../../src/services/service.ts";
import { countedBy, demoChain, statusOf } from "../fakes/demo-service.ts";
import { Registry } from "../fakes/registry.ts";

const READY: ReadinessReport = { isDraining: false, checks: [{ name: "journal", ok: true, detail: "replayed" }] };

function sources(overrides: Partial<HttpSources> = {}): HttpSources {
  return {
    metricsAccess: "on",
    openApiAccess: "on",
    openApi: () => Promise.resolve(new TextEncoder().encode("{}")),
    readiness: () => READY,
    scrape: (accept) => Promise.resolve({ contentType: "text/plain", body: `accepts ${accept}` }),
    persistence: () => ({ committed: 5 }),
    ...overrides,
  };
}

/** A service of which only a route is tried. */
function serviceWith(desc: DescService, route: HttpRoute): ServiceDefinition {
  return { desc, handlers: {}, routes: [route] };
}

const pageRoute = (desc: DescService, of: Pick<HttpRoute, "path" | "rpc"> & Partial<HttpRoute>, answer: RouteAnswer): ServiceDefinition =>
  serviceWith(desc, { parameters: [], answer: () => answer, ...of });

const policyPage = (page: JsonValue) =>
  pageRoute(
    PolicyService,
    {
      path: "/discovery/policy",
      parameters: ["namespace"],
      rpc: "policyStatus",
      rpcWith: { namespace: "explain" },
    },
    { kind: "page", page },
  );
const steadyPage = (path: string, rpc: string, page: JsonValue, steady: JsonValue) =>
  pageRoute(PeerService, { path, rpc }, { kind: "page", page, steady });

/** Of a list that is scraped; it tells what it was asked. */
const scraped = (answer: HttpRoute["answer"]): ServiceDefinition =>
  serviceWith(DiscoveryService, {
    path: "/sd/prometheus",
    parameters: ["namespace", "tag"],
    isScraped: true,
    rpc: "catalogQuery",
    answer,
  });

const FACTS = { nodeId: "a", clusterId: "local", region: "r1", boot: "b" };
const READS = new CatalogReads(new Registry().replica, FACTS, { policies: { policy: NO_POLICY }, onDenied: () => {} });
const SERVICES: readonly ServiceDefinition[] = [
  serviceWith(DiscoveryService, prometheusRoute({ reads: READS, checkCaughtUp: () => undefined })),
  policyPage({ enabled: true, number: "7" }),
];

interface Asked extends Partial<Pick<HttpRequest, "method" | "target">> {
  readonly identify?: () => Caller | Promise<Caller>;
  readonly accept?: string;
  readonly ifNoneMatch?: string;
  readonly from?: HttpSources;
  readonly services?: readonly ServiceDefinition[];
  readonly ports?: Partial<ChainPorts>;
}

async function ask({
  from = sources(),
  services = SERVICES,
  ports,
  identify = () => anonymousCaller("local", "127.0.0.1"),
  accept,
  ifNoneMatch,
  ...request
}: Asked): Promise<HttpResponse & { readonly json: () => unknown }> {
  const { chain } = demoChain({ identify: () => identify(), ...ports });
  const arrival = {
    address: "127.0.0.1",
    certificate: undefined,
    transport: "http1",
    encoding: "json",
    timeoutMs: undefined,
    header: (name: string) =>
      new Map([
        ["accept", accept],
        ["if-none-match", ifNoneMatch],
      ]).get(name),
    onDeadline: () => () => {},
  };
  const response = await new HttpRoutes(from, services, chain).answer({ method: "GET", target: "/", arrival, ...request });
  const { body } = response;
  if (Symbol.asyncIterator in Object(body)) throw new Error("the answer is a stream");
  return { ...response, json: (): unknown => JSON.parse(typeof body === "string" ? body : [...(body as Iterable<string>)].join("")) };
}

test("/healthz answers as long as the process does", async () => {
  const response = await ask({ target: "/healthz", from: sources({ readiness: () => ({ isDraining: true, checks: [] }) }) });
  expect([response.status, response.json()]).toEqual([200, { status: "alive" }]);
});

test("/healthz says that a part of the process hangs which answers nobody itself", async () => {
  const answers = await Promise.all([true, false].map((isAlive) => ask({ target: "/healthz", from: sources({ isAlive: () => isAlive }) })));
  expect(answers.map(({ status }) => status)).toEqual([200, 503]);
  expect(answers[1]?.body).toContain("main_thread_hangs");
});

test.each([
  { name: "ready", readiness: READY, status: 200 },
  { name: "draining", readiness: { ...READY, isDraining: true }, status: 503 },
  { name: "not_ready", readiness: { isDraining: false, checks: [{ name: "journal", ok: false, detail: "replaying 40 %" }] }, status: 503 },
])("/readyz says $name with $status and what each subsystem says", async ({ name, readiness, status }) => {
  const response = await ask({ target: "/readyz", from: sources({ readiness: () => readiness }) });
  expect(response.status).toBe(status);
  expect(response.json()).toEqual({ status: name, checks: readiness.checks });
});

test("/metrics is the scrape in the format asked for", async () => {
  const response = await ask({ target: "/metrics", accept: "text/x" });
  expect(response).toMatchObject({ status: 200, contentType: "text/plain", body: "accepts text/x", route: "/metrics" });
});

test.each([
  { persistence: { committed: 5 }, want: { committed: 5 } },
  { persistence: undefined, want: { enabled: false } },
])("/metrics/persistence shows the journal, or that there is none: $want", async ({ persistence, want }) => {
  expect((await ask({ target: "/metrics/persistence", from: sources({ persistence: () => persistence }) })).json()).toEqual(want);
});

test("a route hears who asks and with which parameters, and gives its pieces", async () => {
  const asked: unknown[] = [];
  const services = [
    scraped((parameters, { caller }) => {
      asked.push({ parameters, caller });
      return { kind: "pieces", pieces: ["[]"] };
    }),
  ];
  const response = await ask({ target: "/sd/prometheus?namespace=svc.market&tag=blue", services });
  expect(response).toMatchObject({ status: 200, contentType: "application/json; charset=utf-8" });
  expect(response.json()).toEqual([]);
  expect(asked).toEqual([{ parameters: { namespace: "svc.market", tag: "blue" }, caller: anonymousCaller("local", "127.0.0.1") }]);
});

test("a route has the role, the limit and the count of its rpc", async () => {
  const spent: string[] = [];
  const counted: unknown[] = [];
  const limit: ChainPorts["limit"] = ({ principal }, cost) => {
    if (spent.push(`${principal} ${cost}`) > 1) throw new WaymarkError("discovery_rate_limited", "slower", { retryMs: 1000 });
  };
  const refused: unknown[] = [];
  const ports: Partial<ChainPorts> = {
    limit,
    metrics: countedBy(({ service, method, code }) => void counted.push([service, method, code])),
    onRefused: ({ method, error }) => void refused.push([method, error.reason]),
  };
  const on = { ports, services: [...SERVICES, steadyPage("/discovery/lag", "lag", {}, {})] };
  const statuses = [];
  for (const target of ["/sd/prometheus", "/sd/prometheus", "/discovery/lag"]) statuses.push((await ask({ ...on, target })).status);
  expect(statuses).toEqual([200, 429, 429]);
  expect((await ask({ ...on, ports: { ...ports, limit: undefined }, target: "/discovery/lag" })).status).toBe(401);
  expect(refused).toEqual([["Lag", "unauthenticated"]]);
  expect(counted).toEqual([
    [DiscoveryService.typeName, "CatalogQuery", "OK"],
    [DiscoveryService.typeName, "CatalogQuery", "RESOURCE_EXHAUSTED"],
    [PeerService.typeName, "Lag", "RESOURCE_EXHAUSTED"],
    [PeerService.typeName, "Lag", "UNAUTHENTICATED"],
  ]);
});

test("no path has two rows: neither of two services, nor of one that was to come later", async () => {
  const twice = scraped(() => ({ kind: "page", page: {} }));
  await expect(ask({ target: "/readyz", services: [twice, twice] })).rejects.toThrow("two rows have the same path");
});

test("a draining node answers no route of a service, and says where it is well", async () => {
  const { chain } = demoChain();
  chain.drain();
  const routes = new HttpRoutes(sources(), SERVICES, chain);
  const arrival = {
    address: "",
    certificate: undefined,
    transport: "h2",
    encoding: "json",
    timeoutMs: undefined,
    header: () => undefined,
    onDeadline: () => () => {},
  };
  const get = async (target: string) => (await routes.answer({ method: "GET", target, arrival })).status;
  expect([await get("/sd/prometheus"), await get("/healthz")]).toEqual([503, 200]);
});

const reader = (roles: readonly string[]): Caller => ({ ...anonymousCaller("local", "127.0.0.1", roles), isAuthenticated: true });

test.each([
  { who: "a reader of the mesh", caller: reader(["mesh.read"]), target: "/discovery/policy", status: 200 },
  { who: "nobody known", caller: anonymousCaller("local", "127.0.0.1"), target: "/discovery/policy", status: 401 },
  { who: "an owner, of all", caller: reader(["owner:svc.market"]), target: "/discovery/policy", status: 403 },
  { who: "an owner, of its own", caller: reader(["owner:svc.market"]), target: "/discovery/policy?namespace=svc.market.eu", status: 200 },
  { who: "an owner, of another", caller: reader(["owner:svc.market"]), target: "/discovery/policy?namespace=svc.marketing", status: 403 },
])("/discovery/policy asked by $who is $status", async ({ caller, target, status }) => {
  const response = await ask({ target, identify: () => caller });
  expect(response.status).toBe(status);
  if (status === 200) expect(response.json()).toMatchObject({ enabled: true, number: "7" });
});

test("/discovery/policy has an ETag, and is 304 without a body while nothing changed", async () => {
  const identify = () => reader(["mesh.read"]);
  const { headers } = await ask({ target: "/discovery/policy", identify });
  const { etag = "" } = headers;
  expect(etag).toMatch(/^"[0-9a-f]{16}"$/);
  for (const ifNoneMatch of [etag, `"other", W/${etag}`, "*"]) {
    const again = await ask({ target: "/discovery/policy", identify, ifNoneMatch });
    expect(again).toMatchObject({ status: 304, body: [], headers: { etag, vary: "authorization, x-api-key" } });
  }
  const changed = await ask({ target: "/discovery/policy", identify, ifNoneMatch: etag, services: [policyPage({ number: "8" })] });
  expect(changed.status).toBe(200);
});

test("the ETag of /discovery/lag stays while only time and traffic go on", async () => {
  const identify = () => reader(["mesh.read"]);
  const at = (frames: number, through: number) => ({ services: [steadyPage("/discovery/lag", "lag", { frames, through }, { through })] });
  const { etag = "" } = (await ask({ target: "/discovery/lag", identify, ...at(1, 5) })).headers;
  expect(etag).toMatch(/^W\/"[0-9a-f]{16}"$/);
  const asked = { target: "/discovery/lag", identify, ifNoneMatch: etag };
  expect(await ask({ ...asked, ...at(2, 5) })).toMatchObject({ status: 304, body: [], headers: { etag } });
  expect((await ask({ ...asked, ...at(2, 6) })).status).toBe(200);
});

test("the ETag of /control/peers stays while only measurements change", async () => {
  const identify = () => reader(["mesh.read"]);
  const at = (seen: number, status: string) => ({ services: [steadyPage("/control/peers", "list", { seen, status }, { status })] });
  const { headers } = await ask({ target: "/control/peers", identify, ...at(1, "alive") });
  const { etag = "" } = headers;
  expect(etag).toMatch(/^W\/"[0-9a-f]{16}"$/);
  const asked = { target: "/control/peers", identify, ifNoneMatch: etag };
  expect(await ask({ ...asked, ...at(2, "alive") })).toMatchObject({ status: 304, body: [], headers: { etag } });
  expect((await ask({ ...asked, ...at(2, "dead") })).status).toBe(200);
});

test("a page with a mark is made only for a reader that does not have it", async () => {
  let made = 0;
  const page = () => [++made];
  const at = (mark: string) => ({
    services: [pageRoute(PeerService, { path: "/control/peers", rpc: "list" }, { kind: "marked", mark, page })],
    identify: () => reader(["mesh.read"]),
    target: "/control/peers",
  });
  const { etag = "" } = (await ask(at("a"))).headers;
  expect(await ask({ ...at("a"), ifNoneMatch: etag })).toMatchObject({ status: 304, body: [], headers: { etag } });
  expect(made).toBe(1);
  expect((await ask({ ...at("b"), ifNoneMatch: etag })).json()).toEqual([2]);
});

test.each([
  { target: "/control/peers/a%2Fb%3Ac?limit=5", status: 200, says: { node_id: "a/b:c", limit: "5" } },
  {
    target: "/control/peers/n1?node_id=n2",
    status: 400,
    says: { message: expect.stringContaining("node_id: unknown parameter") as string },
  },
  {
    target: "/control/peers/%ff",
    status: 400,
    says: { message: expect.stringContaining("node_id: must be percent-encoded UTF-8") as string },
  },
  { target: "/control/peers/a/b", status: 404, says: { code: "not_found" } },
  { target: "/control/peers/", status: 404, says: { code: "not_found" } },
])("the parameter in the path of $target is read", async ({ target, status, says }) => {
  const route: HttpRoute = {
    path: "/control/peers/{node_id}",
    parameters: ["limit"],
    rpc: "get",
    answer: (asked) => ({ kind: "page", page: { ...asked } }),
  };
  const response = await ask({ target, services: [serviceWith(PeerService, route)], identify: () => reader(["mesh.read"]) });
  expect([response.status, response.json()]).toEqual([status, expect.objectContaining(says)]);
  expect(response.route).toBe(status === 404 ? "other" : "/control/peers/{node_id}");
});

test.each([
  { target: "/sd/prometheus?namespace=Not%20one", field: "namespace" },
  { target: "/sd/prometheus?tags=blue", field: "tags" },
  { target: "/sd/prometheus?tag=a&tag=b", field: "tag" },
  { target: "/healthz?verbose=1", field: "verbose" },
  { target: `/sd/prometheus?tag=${"x".repeat(5_000)}`, field: "query" },
  { target: `/sd/prometheus?${"tag=a&".repeat(20)}`, field: "query" },
])("a query that is wrong is refused under the parameter's name: $field", async ({ target, field }) => {
  const response = await ask({ target });
  expect(response.status).toBe(400);
  expect(response.json()).toHaveProperty("message", expect.stringContaining(`invalid_argument: ${field}: `));
  expect(response.json()).toMatchObject({
    code: "invalid_argument",
    details: [
      { type: "google.rpc.ErrorInfo", debug: { reason: "INVALID_ARGUMENT", domain: "waymark" } },
      { type: "google.rpc.BadRequest", debug: { fieldViolations: [{ field }] } },
    ],
  });
});

test.each([
  "/discovery/summary",
  "/routing/trace?destination=n2",
  "/control/clusters",
  "/control/versions?limit=5",
  "/control/capacity",
  "/control/state-diff",
  "/ui",
])("%s is known but comes later", async (target) => {
  const response = await ask({ target });
  expect(response.status).toBe(501);
  expect(response.json()).toMatchObject({ code: "unimplemented", details: [{ debug: { reason: "UNIMPLEMENTED" } }] });
});

test("a route of summaries is answered where a service brings it, since not every server holds any", async () => {
  const route = { path: "/discovery/summary", parameters: ["namespace"], rpc: "summaryQuery" };
  const services = [pageRoute(DiscoveryService, route, { kind: "page", page: { items: [] } })];
  expect((await ask({ services, target: "/discovery/summary?namespace=svc" })).json()).toEqual({ items: [] });
});

test.each(["/", "/nope", "/healthz/", "/HEALTHZ", "//healthz", "/constructor", "/__proto__", ""])("%s is no path", async (target) => {
  const response = await ask({ target });
  expect(response).toMatchObject({ status: 404, route: "other" });
  expect(response.json()).toMatchObject({ code: "not_found", details: [{ debug: { reason: "NOT_FOUND" } }] });
});

test.each(["POST", "PUT", "DELETE", "OPTIONS", "BREW"])("%s is not allowed and is told what is", async (method) => {
  const response = await ask({ method, target: "/readyz" });
  expect(response.status).toBe(405);
  expect(response.headers["allow"]).toBe("GET, HEAD");
  expect(response.json()).toMatchObject({
    code: "invalid_argument",
    message: `invalid_argument: method ${method} is not allowed on this path; use GET, HEAD`,
    details: [{ type: "google.rpc.ErrorInfo", debug: { reason: "INVALID_ARGUMENT", domain: "waymark" } }],
  });
});

test("HEAD is answered as GET would be", async () => {
  expect((await ask({ method: "HEAD", target: "/readyz" })).status).toBe(200);
});

test.each([
  { thrown: new WaymarkError("unauthenticated", "token expired"), status: 401 },
  { thrown: new WaymarkError("discovery_access_denied", "no"), status: 403 },
  { thrown: new WaymarkError("discovery_rate_limited", "slower", { retryMs: 100 }), status: 429 },
  { thrown: new WaymarkError("not_ready", "no"), status: 503 },
  { thrown: new TypeError("secret of the stack"), status: 500 },
])("what a route throws has its HTTP status: $status", async ({ thrown, status }) => {
  const identify = () => {
    throw thrown;
  };
  const response = await ask({ target: "/sd/prometheus", identify });
  expect(response.status).toBe(status);
  expect(JSON.stringify(response.json())).not.toContain("stack");
  expect(response.json()).toHaveProperty("message", statusOf(thrown).message);
});

test("an error carries the same details as on every other door", async () => {
  const status = statusOf(new WaymarkError("quota_exceeded", "too many", { retryMs: 1_500 }));
  const services = [
    scraped(() => {
      throw new WaymarkError("quota_exceeded", "too many", { retryMs: 1_500 });
    }),
  ];
  const response = await ask({ target: "/sd/prometheus", services });
  const types = status.details.map(({ desc }) => ({ type: desc.typeName }));
  expect(response.json()).toMatchObject({ code: "resource_exhausted", details: types });
  expect(response.headers["retry-after"]).toBe("2");
});

test.each(["/discovery/lag", "/control/peers"])("%s is for who may read the mesh", async (target) => {
  const services = [steadyPage(target, target === "/control/peers" ? "list" : "lag", { ready: true }, {})];
  const known = await ask({ target, services, identify: () => anonymousCaller("local", "127.0.0.1", ["mesh.read"]) });
  expect([known.status, known.json()]).toEqual([200, { ready: true }]);
  expect((await ask({ target, services })).status).toBe(401);
});

test("/openapi.json has an ETag of its bytes, and its own access", async () => {
  const target = "/openapi.json";
  const first = await ask({ target });
  const { etag: ifNoneMatch = "" } = first.headers;
  expect([first.status, first.contentType, first.body]).toEqual([200, "application/json; charset=utf-8", new TextEncoder().encode("{}")]);
  expect(await ask({ target, ifNoneMatch })).toMatchObject({ status: 304, body: [] });
  const changed = sources({ openApi: () => Promise.resolve(new TextEncoder().encode("[]")) });
  expect((await ask({ target, from: changed, ifNoneMatch })).status).toBe(200);
  for (const [openApiAccess, status] of [["authenticated", 401] as const, ["off", 404] as const]) {
    const from = sources({ openApiAccess });
    expect([(await ask({ target, from })).status, (await ask({ target: "/metrics", from })).status]).toEqual([status, 200]);
  }
});

test.each(["/metrics", "/metrics/persistence", "/sd/prometheus", "/openapi.json"])(
  "%s refuses a wrong credential also where it needs none",
  async (target) => {
    const identify = () => Promise.reject(new WaymarkError("unauthenticated", "the token is not known"));
    expect((await ask({ target, identify })).status).toBe(401);
    expect((await ask({ target })).status).toBe(200);
  },
);
