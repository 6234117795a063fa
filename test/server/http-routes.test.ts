import { expect, test } from "vitest";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { answerHttp, type HttpRequest, type HttpResponse, type HttpSources, type Readiness } from "../../src/server/http-routes.ts";
import { parseServiceFilter, type ServiceFilter } from "../../src/services/prometheus-sd.ts";
import { statusOf } from "../fakes/demo-service.ts";

const READY: Readiness = { isDraining: false, checks: [{ name: "journal", ok: true, detail: "replayed" }] };

function sources(overrides: Partial<HttpSources> = {}): HttpSources {
  return {
    metricsAccess: "on",
    readiness: () => READY,
    scrape: (accept) => Promise.resolve({ contentType: "text/plain", body: `accepts ${accept}` }),
    persistence: () => ({ committed: 5 }),
    prometheusTargets: () => ["[", "]"],
    policy: (namespace) => ({ enabled: true, number: "7", ...(namespace !== undefined && { namespace }) }),
    lag: () => ({ page: { ready: true }, steady: {} }),
    peers: (asked) => ({
      page: { peers: [], asked: Object.entries(asked).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])) },
      steady: {},
    }),
    parseServiceFilter,
    ...overrides,
  };
}

async function ask(request: Partial<HttpRequest>, from: HttpSources = sources()): Promise<HttpResponse & { readonly json: () => unknown }> {
  const whole = {
    method: "GET",
    target: "/",
    accept: "",
    ifNoneMatch: "",
    identify: () => anonymousCaller("local", "127.0.0.1"),
    ...request,
  };
  const response = await answerHttp(whole, from, statusOf);
  return { ...response, json: (): unknown => JSON.parse(typeof response.body === "string" ? response.body : [...response.body].join("")) };
}

test("/healthz answers as long as the process does", async () => {
  const response = await ask({ target: "/healthz" }, sources({ readiness: () => ({ isDraining: true, checks: [] }) }));
  expect([response.status, response.json()]).toEqual([200, { status: "alive" }]);
});

test.each([
  { name: "ready", readiness: READY, status: 200 },
  { name: "draining", readiness: { ...READY, isDraining: true }, status: 503 },
  { name: "not_ready", readiness: { isDraining: false, checks: [{ name: "journal", ok: false, detail: "replaying 40 %" }] }, status: 503 },
])("/readyz says $name with $status and what each subsystem says", async ({ name, readiness, status }) => {
  const response = await ask({ target: "/readyz" }, sources({ readiness: () => readiness }));
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
  expect((await ask({ target: "/metrics/persistence" }, sources({ persistence: () => persistence }))).json()).toEqual(want);
});

test("/sd/prometheus passes its filter and the caller on", async () => {
  const asked: { filter: ServiceFilter; caller: Caller }[] = [];
  const prometheusTargets = (filter: ServiceFilter, caller: Caller) => {
    asked.push({ filter, caller });
    return ["[]"];
  };
  const response = await ask({ target: "/sd/prometheus?namespace=svc.market&tag=blue" }, sources({ prometheusTargets }));
  expect(response).toMatchObject({ status: 200, contentType: "application/json; charset=utf-8" });
  expect(response.json()).toEqual([]);
  expect(asked).toEqual([{ filter: { namespace: "svc.market", tag: "blue" }, caller: anonymousCaller("local", "127.0.0.1") }]);
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
  const changed = await ask({ target: "/discovery/policy", identify, ifNoneMatch: etag }, sources({ policy: () => ({ number: "8" }) }));
  expect(changed.status).toBe(200);
});

test("the ETag of /discovery/lag stays while only time and traffic go on", async () => {
  const identify = () => reader(["mesh.read"]);
  const at = (frames: number, through: number) => sources({ lag: () => ({ page: { frames, through }, steady: { through } }) });
  const { etag = "" } = (await ask({ target: "/discovery/lag", identify }, at(1, 5))).headers;
  expect(etag).toMatch(/^W\/"[0-9a-f]{16}"$/);
  const asked = { target: "/discovery/lag", identify, ifNoneMatch: etag };
  expect(await ask(asked, at(2, 5))).toMatchObject({ status: 304, body: [], headers: { etag } });
  expect((await ask(asked, at(2, 6))).status).toBe(200);
});

test("the ETag of /control/peers stays while only measurements change", async () => {
  const identify = () => reader(["mesh.read"]);
  const at = (seen: number, status: string) => sources({ peers: () => ({ page: { seen, status }, steady: { status } }) });
  const { headers } = await ask({ target: "/control/peers", identify }, at(1, "alive"));
  const { etag = "" } = headers;
  expect(etag).toMatch(/^W\/"[0-9a-f]{16}"$/);
  const asked = { target: "/control/peers", identify, ifNoneMatch: etag };
  expect(await ask(asked, at(2, "alive"))).toMatchObject({ status: 304, body: [], headers: { etag } });
  expect((await ask(asked, at(2, "dead"))).status).toBe(200);
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
  "/discovery/cache",
  "/routing/trace?destination=n2",
  "/control/clusters",
  "/control/leaders",
  "/control/shards?limit=5",
  "/control/versions",
  "/control/config",
  "/control/capacity",
  "/control/state-diff",
  "/control/rebalance-plans",
  "/control/events/leadership",
  "/ui",
])("%s is known but comes later", async (target) => {
  const response = await ask({ target });
  expect(response.status).toBe(501);
  expect(response.json()).toMatchObject({ code: "unimplemented", details: [{ debug: { reason: "UNIMPLEMENTED" } }] });
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
    message: `invalid_argument: method ${method} is not allowed here; use GET, HEAD`,
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
  const prometheusTargets = () => {
    throw new WaymarkError("quota_exceeded", "too many", { retryMs: 1_500 });
  };
  const response = await ask({ target: "/sd/prometheus" }, sources({ prometheusTargets }));
  const types = status.details.map(({ desc }) => ({ type: desc.typeName }));
  expect(response.json()).toMatchObject({ code: "resource_exhausted", details: types });
  expect(response.headers["retry-after"]).toBe("2");
});

test.each([
  { target: "/discovery/lag", want: { ready: true } },
  {
    target: "/control/peers?status=alive,dead&cluster_id=c1&limit=5",
    want: { peers: [], asked: ["status=alive,dead", "clusterId=c1", "limit=5"] },
  },
])("$target is for who may read the mesh", async ({ target, want }) => {
  const known = await ask({ target, identify: () => anonymousCaller("local", "127.0.0.1", ["mesh.read"]) });
  expect([known.status, known.json()]).toEqual([200, want]);
  const nobody = await ask({ target });
  expect(nobody.status).toBe(401);
});
