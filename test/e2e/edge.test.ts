/** The HTTP edge over real sockets: protocols, bad input, deadlines, back-pressure, stop. */
import { request } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { gzipSync } from "node:zlib";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { HttpRoute } from "../../src/services/service.ts";
import { listServices } from "../../src/services/service-table.ts";
import { demoService, queryAnswer } from "../fakes/demo-service.ts";
import { type DemoEdge, RawClient, startDemoEdge } from "../fakes/edge.ts";
import { until } from "../fakes/until.ts";

const SERVICE = "/waymark.discovery.v1.DiscoveryService";

/** One RPC as JSON over HTTP/1.1. */
function post(
  base: string,
  method: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  return fetch(`${base}${SERVICE}/${method}`, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
}

const TRANSPORTS: readonly { readonly name: string; readonly open: (baseUrl: string) => Transport; readonly isBidi: boolean }[] = [
  { name: "connect proto, HTTP/1.1", open: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" }), isBidi: false },
  {
    name: "connect json, HTTP/1.1",
    open: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
    isBidi: false,
  },
  { name: "connect proto, HTTP/2", open: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" }), isBidi: true },
  {
    name: "connect json, HTTP/2",
    open: (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false }),
    isBidi: true,
  },
  { name: "grpc-web, HTTP/1.1", open: (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }), isBidi: false },
  {
    name: "grpc-web json, HTTP/2",
    open: (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false }),
    isBidi: true,
  },
  { name: "grpc, HTTP/2", open: (baseUrl) => createGrpcTransport({ baseUrl }), isBidi: true },
];

async function refusalOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => {
      throw new Error("was not refused");
    },
    (error: unknown) => ConnectError.from(error),
  );
}

async function drained(messages: AsyncIterable<unknown>): Promise<number> {
  const read: unknown[] = [];
  for await (const message of messages) read.push(message);
  return read.length;
}

function reasonOf(error: ConnectError): string | undefined {
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}

describe.each(TRANSPORTS)("$name", ({ open }) => {
  test("answers a message and kept bytes", async () => {
    await using served = await startDemoEdge();
    const client = createClient(DiscoveryService, open(served.base));
    expect((await client.catalogQuery({ namespace: "svc" })).servedBy).toBe("svc");
    expect((await client.catalogQuery({})).servedBy).toHaveLength(1_400);
    expect(served.on.observed.map(({ method, code }) => [method, code])).toEqual([
      ["CatalogQuery", "OK"],
      ["CatalogQuery", "OK"],
    ]);
  });

  test("a refusal has its reason, field and request id, on unary calls and streams", async () => {
    await using served = await startDemoEdge();
    const client = createClient(DiscoveryService, open(served.base));
    const headers = { "x-request-id": "asked-1" };
    for (const call of [
      () => client.catalogQuery({ namespace: "refuse" }, { headers }),
      () => client.catalogQuery({ namespace: "reject" }, { headers }),
      () => drained(client.catalogWatch({ namespace: "refuse" }, { headers })),
    ]) {
      const error = await refusalOf(call());
      expect([error.code, reasonOf(error)]).toEqual([Code.InvalidArgument, "INVALID_ARGUMENT"]);
      expect(error.rawMessage).toMatch(/^invalid_argument: namespace: /);
      expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field).toBe("namespace");
    }
    expect(served.on.observed.map(({ code }) => code)).toEqual(["INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]);
  });

  test("a fault of ours tells the client nothing but that", async () => {
    await using served = await startDemoEdge({ hasFaults: true });
    const client = createClient(DiscoveryService, open(served.base));
    const error = await refusalOf(client.catalogQuery({ namespace: "bug" }));
    expect([error.code, reasonOf(error)]).toEqual([Code.Internal, "INTERNAL"]);
    expect(error.rawMessage).not.toContain("stack");
    expect(served.on.faults).toHaveLength(1);
  });

  test("a method that comes later says so", async () => {
    await using served = await startDemoEdge();
    const client = createClient(DiscoveryService, open(served.base));
    const error = await refusalOf(client.listPeers({}));
    expect([error.code, reasonOf(error)]).toEqual([Code.Unimplemented, "UNIMPLEMENTED"]);
  });

  test("a deadline ends a call that never answers, and a stream", async () => {
    await using served = await startDemoEdge();
    const client = createClient(DiscoveryService, open(served.base));
    // Enough for the message to arrive on a busy machine: the stream must have been open.
    const headers = { "connect-timeout-ms": "200", "grpc-timeout": "200m" };
    expect(reasonOf(await refusalOf(client.catalogQuery({ namespace: "never" }, { headers })))).toBe("DEADLINE_EXCEEDED");
    expect(reasonOf(await refusalOf(drained(client.catalogWatch({}, { headers }))))).toBe("DEADLINE_EXCEEDED");
    expect(served.demo.sources[0]?.closeCount).toBe(1);
  });

  test("a stream gives what its source gives, and ends as its source says", async () => {
    await using served = await startDemoEdge();
    const client = createClient(DiscoveryService, open(served.base));
    const messages = client.catalogWatch({ namespace: "svc" })[Symbol.asyncIterator]();
    const first = messages.next();
    await until("the source opens", () => served.demo.sources.length === 1);
    const [source] = served.demo.sources;
    source?.queue.push(queryAnswer(0), queryAnswer(0));
    source?.wake();
    expect((await first).done).toBe(false);
    expect((await messages.next()).done).toBe(false);
    source?.end(new WaymarkError("draining", "this node is stopping", { retryMs: 10 }));
    const error = await refusalOf(messages.next());
    expect([error.code, reasonOf(error)]).toEqual([Code.Unavailable, "DRAINING"]);
    expect(source?.closeCount).toBe(1);
    expect(served.on.observed.map(({ code }) => code)).toEqual(["UNAVAILABLE"]);
  });

  test("a stream the client leaves is closed once and counted as cancelled", async () => {
    await using served = await startDemoEdge();
    const client = createClient(DiscoveryService, open(served.base));
    const leaving = new AbortController();
    const reading = (async () => {
      const read: unknown[] = [];
      for await (const message of client.catalogWatch({ namespace: "endless" }, { signal: leaving.signal })) {
        if (read.push(message) === 20) leaving.abort();
      }
    })();
    expect((await refusalOf(reading)).code).toBe(Code.Canceled);
    await until("the call is counted", () => served.on.observed.length === 1);
    expect(served.on.observed[0]?.code).toBe("CANCELLED");
    expect(served.demo.sources.map(({ closeCount }) => closeCount)).toEqual([1]);
  });
});

describe.each(TRANSPORTS.filter(({ isBidi }) => isBidi))("$name", ({ open }) => {
  test("a stream both ways answers each request in order, and ends with the error of one", async () => {
    await using served = await startDemoEdge();
    const client = createClient(DiscoveryService, open(served.base));
    async function* requests() {
      yield { leaseIds: ["late"] };
      yield { leaseIds: ["b"] };
      await Promise.resolve();
      yield { leaseIds: ["refuse"] };
    }
    const answers: string[] = [];
    const error = await refusalOf(
      (async () => {
        for await (const { expiredLeaseIds } of client.keepAlive(requests())) answers.push(...expiredLeaseIds);
      })(),
    );
    expect(answers).toEqual(["late", "b"]);
    expect(reasonOf(error)).toBe("INVALID_ARGUMENT");
  });

  test("a stream both ways may ask for more in all than may be held of unfinished requests", async () => {
    await using served = await startDemoEdge({ listener: { limits: { maxBufferedBytes: 20_000 } } });
    const client = createClient(DiscoveryService, open(served.base));
    const leaseIds = Array.from({ length: 50 }, (_, i) => `${i}`.padStart(60, "x"));
    let answers = 0;
    async function* requests() {
      for (let asked = 1; asked <= 20; asked++) {
        yield { leaseIds };
        await until("its answer", () => answers === asked);
      }
    }
    for await (const _ of client.keepAlive(requests())) answers += 1;
    expect(answers).toBe(20);
  });
});

test("a draining node answers what a stream both ways has asked, and ends it", async () => {
  await using served = await startDemoEdge();
  const client = createClient(DiscoveryService, createConnectTransport({ baseUrl: served.base, httpVersion: "2" }));
  const open = Promise.withResolvers<undefined>();
  async function* requests() {
    yield { leaseIds: ["late"] };
    await open.promise;
  }
  const answers: string[] = [];
  const reading = (async () => {
    for await (const { expiredLeaseIds } of client.keepAlive(requests())) answers.push(...expiredLeaseIds);
  })();
  const ended = refusalOf(reading);
  await until("the first answer", () => answers.length === 1);
  served.on.chain.drain();
  expect(reasonOf(await ended)).toBe("DRAINING");
  open.resolve(undefined);
  expect(answers).toEqual(["late"]);
});

test.each(TRANSPORTS.filter(({ isBidi }) => !isBidi))("a stream both ways needs HTTP/2: $name", async ({ open }) => {
  await using served = await startDemoEdge();
  async function* requests() {
    yield { leaseIds: ["a"] };
    await Promise.resolve();
  }
  const answers = createClient(DiscoveryService, open(served.base)).keepAlive(requests());
  expect((await refusalOf(drained(answers))).rawMessage).toBe("HTTP 505");
});

test.each([
  { what: "an unknown field", body: '{"colour":1}', field: "colour" },
  { what: "an unknown enum name", body: '{"scope":"SCOPE_GALAXY"}', field: "scope" },
  { what: "a wrong type", body: '{"limit":"many"}', field: "limit" },
  { what: "a wrong type deep inside", body: '{"viewer":{"tenantId":5}}', field: "viewer.tenant_id" },
  { what: "malformed JSON", body: '{"scope":', field: "request" },
  { what: "no JSON at all", body: "", field: "request" },
  { what: "a list", body: "[]", field: "request" },
])("JSON with $what is refused under the field's name", async ({ body, field }) => {
  await using served = await startDemoEdge();
  const response = await post(served.base, "CatalogQuery", body, { "x-request-id": "asked-2" });
  expect(response.status).toBe(400);
  expect(response.headers.get("x-request-id")).toBe("asked-2");
  expect(await response.json()).toMatchObject({
    code: "invalid_argument",
    message: expect.stringContaining(`invalid_argument: ${field}: `) as unknown,
    details: [
      { type: "google.rpc.ErrorInfo", debug: { reason: "INVALID_ARGUMENT", domain: "waymark" } },
      { type: "google.rpc.BadRequest", debug: { fieldViolations: [{ field }] } },
    ],
  });
  expect(served.on.observed).toMatchObject([{ method: "CatalogQuery", code: "INVALID_ARGUMENT", transport: "http1", encoding: "json" }]);
});

const BIG = "x".repeat(5 * 1_024 * 1_024);

test.each([
  {
    what: "binary that is no message",
    body: "x",
    headers: { "content-type": "application/proto" },
    status: 400,
    reason: "INVALID_ARGUMENT",
  },
  { what: "a message of 5 MiB", body: `{"namespace":"${BIG}"}`, headers: {}, status: 429, reason: "QUOTA_EXCEEDED" },
  {
    what: "5 KB that inflate to 5 MiB",
    body: gzipSync(`{"namespace":"${BIG}"}`),
    headers: { "content-encoding": "gzip" },
    status: 429,
    reason: "QUOTA_EXCEEDED",
  },
  {
    what: "a compression bomb",
    body: gzipSync(Buffer.alloc(200 * 1_024 * 1_024)),
    headers: { "content-encoding": "gzip" },
    status: 429,
    reason: "QUOTA_EXCEEDED",
  },
  { what: "gzip that is none", body: "{}", headers: { "content-encoding": "gzip" }, status: 400, reason: "INVALID_ARGUMENT" },
  { what: "an unknown compression", body: "{}", headers: { "content-encoding": "zstd" }, status: 501, reason: "UNIMPLEMENTED" },
  { what: "another media type", body: "{}", headers: { "content-type": "text/plain" }, status: 415, reason: "INVALID_ARGUMENT" },
  { what: "a negative timeout", body: "{}", headers: { "connect-timeout-ms": "-1" }, status: 400, reason: "INVALID_ARGUMENT" },
  { what: "a timeout that is no number", body: "{}", headers: { "connect-timeout-ms": "soon" }, status: 400, reason: "INVALID_ARGUMENT" },
  { what: "no time left", body: "{}", headers: { "connect-timeout-ms": "0" }, status: 504, reason: "DEADLINE_EXCEEDED" },
])("$what is refused with $status $reason", async ({ body, headers, status, reason }) => {
  await using served = await startDemoEdge();
  const response = await post(served.base, "CatalogQuery", body, headers);
  expect(response.status).toBe(status);
  expect(await response.json()).toHaveProperty("details[0].debug", { reason, domain: "waymark" });
  expect((await fetch(`${served.base}/healthz`)).status).toBe(200);
});

test.each([
  {
    type: "application/json",
    body: "{}",
    header: "connect-timeout-ms",
    timeout: "-1",
    says: 'invalid timeout "-1": expected 1 to 10 digits',
  },
  {
    type: "application/json",
    body: "{}",
    header: "connect-timeout-ms",
    timeout: "x".repeat(99),
    says: `timeout "${"x".repeat(32)}": expected`,
  },
  {
    type: "application/grpc-web+proto",
    body: new Uint8Array(5),
    header: "grpc-timeout",
    timeout: "-1S",
    says: 'timeout "-1S": expected 1 to 8 digits and a unit (H, M, S, m, u or n)',
  },
])("a refused timeout is named as its header: $header", async ({ type, body, header, timeout, says }) => {
  await using served = await startDemoEdge();
  const headers = { "content-type": type, [header]: timeout };
  const response = await fetch(`${served.base}${SERVICE}/CatalogQuery`, { method: "POST", body, headers });
  const said = [decodeURIComponent(response.headers.get("grpc-message") ?? ""), decodeURIComponent(await response.text())].join(" ");
  expect(said.replaceAll('\\"', '"')).toContain(`invalid_argument: ${header}: `);
  expect(said.replaceAll('\\"', '"')).toContain(says);
});

test("health is told here too, as any service, and a request of it has the bound of its own", async () => {
  const { services, health } = listServices([demoService().service]);
  await using served = await startDemoEdge({ listener: { services } });
  const check = (service: string) =>
    fetch(`${served.base}/grpc.health.v1.Health/Check`, {
      method: "POST",
      body: JSON.stringify({ service }),
      headers: { "content-type": "application/json" },
    });
  expect(await (await check("")).json()).toEqual({ status: "NOT_SERVING" });
  health.setServing(true);
  expect(await (await check("")).json()).toEqual({ status: "SERVING" });
  expect((await check("no.such.Service")).status).toBe(404);
  expect((await check("x".repeat(20_000))).status).toBe(429);
  expect(served.on.observed.map(({ method, code }) => [method, code])).toEqual([
    ["Check", "OK"],
    ["Check", "OK"],
    ["Check", "NOT_FOUND"],
    ["Check", "RESOURCE_EXHAUSTED"],
  ]);
});

test.each(["9999999999", "2147483648"])("a deadline of %s ms, beyond what a timer takes, is far away and not now", async (timeout) => {
  await using served = await startDemoEdge();
  const response = await post(served.base, "CatalogQuery", '{"namespace":"late"}', { "connect-timeout-ms": timeout });
  expect(response.status).toBe(200);
});

test.each(["application/grpc-web+proto", "application/grpc", "application/grpc-web+json"])(
  "%s with bytes that are no message is INVALID_ARGUMENT too",
  async (type) => {
    await using served = await startDemoEdge();
    const body = new Uint8Array([0, 0, 0, 0, 2, 0xff, 0xff]);
    const response = await fetch(`${served.base}${SERVICE}/CatalogQuery`, {
      method: "POST",
      body,
      headers: { "content-type": type, te: "trailers" },
    });
    await response.arrayBuffer();
    expect(served.on.observed).toMatchObject([{ code: "INVALID_ARGUMENT" }]);
  },
);

test("gzip within the bound is read, and answers are compressed for who asks", async () => {
  await using served = await startDemoEdge();
  const response = await post(served.base, "CatalogQuery", gzipSync('{"namespace":"svc"}'), { "content-encoding": "gzip" });
  expect(await response.json()).toEqual({ servedBy: "svc" });
  const large = await post(served.base, "CatalogQuery", "{}", { "accept-encoding": "gzip" });
  expect(large.headers.get("content-encoding")).toBe("gzip");
  expect(await large.json()).toMatchObject({ servedBy: "x".repeat(1_400) });
});

test("reads may be GET, writes may not", async () => {
  await using served = await startDemoEdge();
  const query = new URLSearchParams({ connect: "v1", encoding: "json", message: '{"namespace":"svc"}' });
  expect(await (await fetch(`${served.base}${SERVICE}/CatalogQuery?${query.toString()}`)).json()).toEqual({ servedBy: "svc" });
  expect(served.on.observed).toMatchObject([{ encoding: "json" }]);
  const write = await fetch(`${served.base}${SERVICE}/Register?${query.toString()}`);
  expect([write.status, write.headers.get("allow")]).toEqual([405, "POST"]);
});

test.each([
  { what: "bad base64", query: { base64: "1", message: "%%%" }, status: 400 },
  { what: "base64 of no JSON", query: { base64: "1", message: "AAAA" }, status: 400 },
  { what: "base64", query: { base64: "1", message: Buffer.from('{"namespace":"svc"}').toString("base64url") }, status: 200 },
  {
    what: "compressed base64",
    query: { base64: "1", compression: "gzip", message: gzipSync('{"namespace":"svc"}').toString("base64url") },
    status: 200,
  },
  {
    what: "a bomb in base64",
    query: { base64: "1", compression: "gzip", message: gzipSync(Buffer.alloc(5e6)).toString("base64url") },
    status: 429,
  },
])("a GET with $what answers $status", async ({ query, status }) => {
  await using served = await startDemoEdge();
  const asked = new URLSearchParams({ connect: "v1", encoding: "json", ...query });
  expect((await fetch(`${served.base}${SERVICE}/CatalogQuery?${asked.toString()}`)).status).toBe(status);
});

const MESSAGE = '{"namespace":"svc"}';

test.each([
  { what: "no parameters", query: {}, field: "encoding" },
  { what: "no encoding", query: { message: MESSAGE }, field: "encoding" },
  { what: "another encoding", query: { message: MESSAGE, encoding: "xml" }, field: "encoding" },
  { what: "no message", query: { encoding: "json" }, field: "message" },
  { what: "an empty message", query: { encoding: "json", message: "" }, field: "message" },
])("a GET with $what is refused under the parameter's name", async ({ query, field }) => {
  await using served = await startDemoEdge();
  const response = await fetch(`${served.base}${SERVICE}/CatalogQuery?${new URLSearchParams({ ...query }).toString()}`);
  expect(await response.json()).toMatchObject({ details: [{}, { debug: { fieldViolations: [{ field }] } }] });
  expect(response.status).toBe(400);
  const write = await fetch(`${served.base}${SERVICE}/Register?${new URLSearchParams({ ...query }).toString()}`);
  expect([write.status, write.headers.get("allow")]).toEqual([405, "POST"]);
});

test("a GET whose message is wrong is refused under the field's name", async () => {
  await using served = await startDemoEdge();
  const query = new URLSearchParams({ connect: "v1", encoding: "json", message: '{"colour":1}' });
  const response = await fetch(`${served.base}${SERVICE}/CatalogQuery?${query.toString()}`);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ details: [{}, { debug: { fieldViolations: [{ field: "colour" }] } }] });
});

test("no path of ours answers a browser of another origin", async () => {
  await using served = await startDemoEdge();
  const headers = { origin: "https://evil.example", "access-control-request-method": "POST" };
  for (const path of [`${SERVICE}/CatalogQuery`, "/metrics"]) {
    const response = await fetch(served.base + path, { method: "OPTIONS", headers });
    expect(response.status).toBe(405);
    expect([...response.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
  }
});

test("a name that is none of ours is refused, over HTTP/1.1 and HTTP/2, but for health and scrapes; one that is listed is not", async () => {
  await using served = await startDemoEdge({ listener: { web: { hosts: ["mesh.example"] } } });
  const over = (path: string, host: string) =>
    new Promise<number>((resolve, reject) => {
      const asked = request(`${served.base}${path}`, { headers: { host } }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      asked.on("error", reject).end();
    });
  const query = `${SERVICE}/CatalogQuery?connect=v1&encoding=json&message=%7B%7D`;
  for (const path of [query, "/sd/prometheus"]) {
    expect([await over(path, "evil.example:17480"), await over(path, "mesh.example:1"), await over(path, "localhost")]).toEqual([
      403, 200, 200,
    ]);
  }
  for (const path of ["/healthz", "/readyz", "/metrics"]) expect(await over(path, "evil.example")).toBe(200);
  const session = connectHttp2(served.base);
  const status = (authority: string) =>
    new Promise((resolve) => {
      const stream = session.request({ ":path": query, ":authority": authority });
      stream.on("response", (headers) => resolve(headers[":status"]));
      stream.end();
    });
  expect([await status("evil.example"), await status("mesh.example")]).toEqual([403, 200]);
  session.destroy();
  expect(served.on.observed.every(({ code }) => code === "OK")).toBe(true);
});

test("a page of a listed origin may ask first, and read what it is answered; one that is not may not write", async () => {
  const origin = "https://ui.example";
  await using served = await startDemoEdge({ listener: { web: { corsOrigins: [origin] } } });
  const asked = await fetch(`${served.base}${SERVICE}/CatalogQuery`, {
    method: "OPTIONS",
    headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
  });
  expect([asked.status, asked.headers.get("access-control-allow-origin"), asked.headers.get("vary")]).toEqual([204, origin, "origin"]);
  for (const name of ["content-type", "last-event-id"]) expect(asked.headers.get("access-control-allow-headers")).toContain(name);
  const answered = await post(served.base, "CatalogQuery", "{}", { origin });
  expect([answered.status, answered.headers.get("access-control-allow-origin")]).toEqual([200, origin]);
  expect((await post(served.base, "Register", "{}", { origin })).status).toBe(200);
  const foreign = await post(served.base, "Register", "{}", { origin: "https://evil.example" });
  expect([foreign.status, foreign.headers.get("access-control-allow-origin") ?? undefined]).toEqual([403, undefined]);
  expect(await foreign.json()).toMatchObject({ message: expect.stringContaining("listen.cors_origins") as string });
  expect((await post(served.base, "Register", "{}", { "sec-fetch-site": "cross-site" })).status).toBe(403);
});

test("over the rate limit is 429 with Retry-After, and unknown callers are 401", async () => {
  const errors = [
    new WaymarkError("discovery_rate_limited", "slower", { retryMs: 1_200 }),
    new WaymarkError("unauthenticated", "who is there"),
  ];
  const identify = () => {
    throw errors.shift() ?? new Error("asked too often");
  };
  await using served = await startDemoEdge({ ports: { identify } });
  const limited = await post(served.base, "CatalogQuery", "{}");
  expect([limited.status, limited.headers.get("retry-after")]).toEqual([429, "2"]);
  expect((await post(served.base, "CatalogQuery", "{}")).status).toBe(401);
});

test("an answer 401 says which credentials are taken, for calls and for routes (RFC 9110, section 11.6.1)", async () => {
  const identify = () => {
    throw new WaymarkError("unauthenticated", "who is there");
  };
  await using served = await startDemoEdge({ ports: { identify } });
  for (const answer of [await post(served.base, "CatalogQuery", "{}"), await fetch(`${served.base}/sd/prometheus`)])
    expect([answer.status, answer.headers.get("www-authenticate")]).toEqual([401, 'Bearer realm="waymark"']);
  expect((await fetch(`${served.base}/healthz`)).headers.has("www-authenticate")).toBe(false);
});

test.each([
  {
    method: "CatalogQuery",
    type: "text/plain",
    says: /content-type: is "text\/plain"; a unary call accepts application\/json, application\/proto, /,
  },
  {
    method: "CatalogQuery",
    type: "application/connect+json",
    says: /content-type: is "application\/connect\+json"; a unary call accepts/,
  },
  {
    method: "CatalogWatch",
    type: "application/json",
    says: /content-type: is "application\/json"; a stream accepts application\/connect\+json, application\/connect\+proto, /,
  },
  { method: "CatalogQuery", type: "", says: /content-type: is missing; a unary call accepts/ },
])("a $method in $type is answered 415, and told what is taken", async ({ method, type, says }) => {
  await using served = await startDemoEdge();
  const response = await post(served.base, method, "{}", { "content-type": type });
  expect([response.status, await response.json()]).toEqual([
    415,
    expect.objectContaining({ message: expect.stringMatching(says) as string }),
  ]);
});

test("a request id is echoed when it is one, else chosen", async () => {
  await using served = await startDemoEdge();
  const ids = async (sent: Readonly<Record<string, string>>) =>
    (await post(served.base, "CatalogQuery", "{}", sent)).headers.get("x-request-id");
  expect(await ids({ "x-request-id": "mine-7" })).toBe("mine-7");
  expect(await ids({})).toMatch(/^demo-/);
  expect(await ids({ "x-request-id": "x".repeat(500) })).toMatch(/^demo-/);
  expect((await fetch(`${served.base}/healthz`, { headers: { "x-request-id": "mine-8" } })).headers.get("x-request-id")).toBe("mine-8");
});

test("the GET routes are counted by route and class, strangers' paths as one", async () => {
  await using served = await startDemoEdge();
  for (const path of ["/healthz", "/healthz", "/a", "/b", "/control/clusters"]) await (await fetch(served.base + path)).text();
  const { body } = await openMetrics(served);
  expect(body).toContain('waymark_http_requests_total{route="/healthz",status="2xx"} 2');
  expect(body).toContain('waymark_http_requests_total{route="other",status="4xx"} 2');
  expect(body).toContain('waymark_http_requests_total{route="/control/clusters",status="5xx"} 1');
});

async function openMetrics(served: DemoEdge): Promise<{ readonly type: string; readonly body: string }> {
  const response = await fetch(`${served.base}/metrics`, { headers: { accept: "application/openmetrics-text" } });
  return { type: response.headers.get("content-type") ?? "", body: await response.text() };
}

test("HEAD has the headers of GET and no body", async () => {
  await using served = await startDemoEdge();
  const [head, get] = await Promise.all(["HEAD", "GET"].map((method) => fetch(`${served.base}/readyz`, { method })));
  expect(head?.headers.get("content-length")).toBe(get?.headers.get("content-length"));
  expect(await head?.text()).toBe("");
});

test("a list of targets is written as fast as it is read, and no further", async () => {
  let madeCount = 0;
  let isEnded = false;
  function* endless(): Generator<string> {
    try {
      for (;;) {
        madeCount++;
        yield "x".repeat(65_536);
      }
    } finally {
      isEnded = true;
    }
  }
  const demo = demoService().service;
  const listed: HttpRoute = {
    path: "/sd/prometheus",
    parameters: [],
    rpc: "catalogQuery",
    answer: () => ({ kind: "pieces", pieces: endless() }),
  };
  await using served = await startDemoEdge({ listener: { services: [{ ...demo, routes: [listed] }] } });
  await using raw = new RawClient(served.edge, { isReading: false });
  raw.send("GET /sd/prometheus HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await until("pieces are made", () => madeCount > 1);
  for (let turn = 0; turn < 50; turn++) await (await fetch(`${served.base}/healthz`)).text();
  expect(madeCount).toBeLessThan(300); // What the kernel's buffers of loopback hold; then it waits.
  raw.socket.destroy();
  await until("nothing more is made", () => isEnded);
});

test("a draining node refuses calls with Retry-After and still says how it is", async () => {
  await using served = await startDemoEdge();
  served.on.chain.drain();
  const response = await post(served.base, "CatalogQuery", "{}");
  expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await response.json()).toMatchObject({ code: "unavailable", details: [{ debug: { reason: "DRAINING" } }, {}] });
  expect(await (await fetch(`${served.base}/readyz`)).json()).toMatchObject({ status: "draining" });
  expect((await fetch(`${served.base}/healthz`)).status).toBe(200);
});

test("stop answers what is open, closes what is idle, and takes no more", async () => {
  await using served = await startDemoEdge();
  await (await fetch(`${served.base}/healthz`)).text();
  const open = post(served.base, "CatalogQuery", '{"namespace":"late"}');
  await until("the request is open", () => served.demo.contexts.length === 1);
  const began = performance.now();
  await served.edge.stop(60_000);
  expect(performance.now() - began).toBeLessThan(30_000);
  expect((await open).status).toBe(200);
  expect(served.edge.acceptor.sockets.size).toBe(0);
  await expect(fetch(`${served.base}/healthz`)).rejects.toThrow("fetch failed");
});

test.each(TRANSPORTS)("stop does not wait longer than told for a stream: $name", async ({ open }) => {
  await using served = await startDemoEdge();
  const reading = drained(createClient(DiscoveryService, open(served.base)).catalogWatch({})).catch(() => "cut");
  await until("the stream is open", () => served.demo.sources.length === 1);
  const began = performance.now();
  await served.edge.stop(100);
  expect(performance.now() - began).toBeLessThan(30_000);
  expect(await reading).toBe("cut");
  await until("the source is closed", () => served.demo.sources[0]?.closeCount === 1);
});

test("a taken port is refused with what to do", async () => {
  await using served = await startDemoEdge();
  await expect(startDemoEdge({ listener: { port: served.edge.acceptor.port } })).rejects.toThrow(
    `address already in use: 127.0.0.1:${served.edge.acceptor.port}; pass --http-port with another port`,
  );
});

test("a refused request of a GET route is told to the audit by the id that its answer has", async () => {
  const told: string[] = [];
  const identify = () => {
    throw new WaymarkError("unauthenticated", "the token is not known");
  };
  await using served = await startDemoEdge({ ports: { identify, onRefused: ({ requestId }) => void told.push(requestId) } });
  for (const path of ["/metrics", "/sd/prometheus"]) {
    const response = await fetch(served.base + path);
    expect([response.status, told.pop()]).toEqual([401, response.headers.get("x-request-id")]);
    await response.arrayBuffer();
  }
});
