/** Which hosts and origins get in at the HTTP edge, and which do not. */
import { expect, test } from "vitest";
import { BrowserRules, type WebRequest } from "../../src/server/browser-rules.ts";

const RPC = "/waymark.policy.v1.PolicyService/ApplyPolicy";
const READ: WebRequest = {
  host: "127.0.0.1:17480",
  path: RPC,
  origin: undefined,
  fetchSite: undefined,
  localAddress: "127.0.0.1",
  isWrite: false,
};
const plain = new BrowserRules({ takesAnyHost: false, hosts: ["node-a.example", "192.0.2.7"], corsOrigins: ["https://ui.example"] });
const secure = new BrowserRules({ takesAnyHost: true, hosts: [], corsOrigins: [] });

test.each([
  "127.0.0.1:17480",
  "127.0.0.1",
  "127.8.9.1:1",
  "localhost:17480",
  "LOCALHOST",
  "localhost.:1",
  "app.localhost:17480",
  "[::1]:17480",
  "[::1]",
  "localhost:",
  "node-a.example:17480",
  "Node-A.Example.",
  "192.0.2.7",
])("host %s is one of ours", (host) => {
  expect(plain.check({ ...READ, host })).toBeUndefined();
});

test.each([
  "evil.example",
  "evil.example:17480",
  "127.0.0.1.evil.example",
  "localhost.evil.example",
  "evil-localhost",
  "192.0.2.8",
  "0.0.0.0",
  "",
  "evil.example:80:127.0.0.1",
  "[::2]:1",
  "node-a.example@evil.example",
  "localhost:80@evil.example",
  "localhost@evil.example",
  "user@localhost",
  "127.0.0.1:80.evil.example",
  "localhost:evil.example",
  "[::1].evil.example",
  "[::1]evil.example:80",
  "evil.example/.localhost",
  "evil.example#.localhost",
  "evil.example:80:.localhost",
  undefined,
])("host %s is none of ours, but with TLS any is, and health takes any", (host) => {
  expect(plain.check({ ...READ, host })?.message).toMatch(
    host === undefined ? /no Host header.*listen\.allowed_hosts/ : /not a name of this node.*listen\.allowed_hosts/,
  );
  expect(secure.check({ ...READ, host })).toBeUndefined();
  for (const path of ["/healthz", "/readyz", "/metrics"]) expect(plain.check({ ...READ, host, path })).toBeUndefined();
  for (const path of ["/sd/prometheus", "/metrics/persistence", "/healthz/x"]) expect(plain.check({ ...READ, host, path })).toBeDefined();
});

test("the address that a connection came to is ours", () => {
  expect(plain.check({ ...READ, host: "198.51.100.4:17480", localAddress: "198.51.100.4" })).toBeUndefined();
  expect(plain.check({ ...READ, host: "[2001:db8::1]:17480", localAddress: "2001:db8::1" })).toBeUndefined();
});

test.each<{ what: string; request: Partial<WebRequest>; isRefused: boolean }>([
  { what: "no browser", request: {}, isRefused: false },
  { what: "a page of ours", request: { origin: "http://127.0.0.1:17480", fetchSite: "same-origin" }, isRefused: false },
  {
    what: "a page of ours behind a proxy with TLS",
    request: { host: "node-a.example", origin: "https://node-a.example" },
    isRefused: false,
  },
  { what: "a page of another origin", request: { origin: "https://evil.example" }, isRefused: true },
  { what: "a page of another port", request: { origin: "http://127.0.0.1:8080" }, isRefused: true },
  { what: "a page without an origin", request: { origin: "null" }, isRefused: true },
  { what: "a browser that says cross-site and no origin", request: { fetchSite: "cross-site" }, isRefused: true },
  {
    what: "a browser that says cross-site and our origin",
    request: { origin: "http://127.0.0.1:17480", fetchSite: "cross-site" },
    isRefused: true,
  },
  { what: "a page of a listed origin", request: { origin: "https://ui.example", fetchSite: "cross-site" }, isRefused: false },
  { what: "a page of a listed origin, but another scheme", request: { origin: "http://ui.example" }, isRefused: true },
  { what: "an origin that is none", request: { origin: "file://" }, isRefused: true },
])("a write by $what: refused $isRefused; a read is not, since nobody may read the answer", ({ request, isRefused }) => {
  expect(plain.check({ ...READ, ...request, isWrite: true }) !== undefined).toBe(isRefused);
  expect(plain.check({ ...READ, ...request })).toBeUndefined();
});

test("what is refused is named: a write across sites without an origin, a request without a host", () => {
  const [write, hostless] = [
    plain.check({ ...READ, fetchSite: "cross-site", isWrite: true })?.message,
    plain.check({ ...READ, host: undefined })?.message,
  ];
  expect(write).toContain("Sec-Fetch-Site: cross-site needs an Origin header");
  expect(hostless).toContain("the request has no Host header");
  expect(`${write}${hostless}`).not.toContain("(none)");
});

test("with TLS and whatever host, writes of foreign pages are refused too", () => {
  expect(secure.check({ ...READ, host: "a.example", origin: "https://b.example", isWrite: true })?.message).toMatch(/listen\.cors_origins/);
});

test("only listed origins may read answers", () => {
  expect(plain.corsHeaders("https://ui.example")).toMatchObject({ "access-control-allow-origin": "https://ui.example" });
  expect(plain.preflightHeaders("https://ui.example")).toMatchObject({ "access-control-allow-methods": "GET, HEAD, PATCH, POST" });
  for (const origin of ["https://evil.example", "https://ui.example.evil.example", "null", undefined]) {
    expect([plain.corsHeaders(origin), plain.preflightHeaders(origin)]).toEqual([undefined, undefined]);
  }
});
