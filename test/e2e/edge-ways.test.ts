/**
 * Calls in JSON are answered in two ways: without Connect's machinery where they are plain, and through it where they are not, for example where
 * the body comes without its length. What a client, the metrics and the audit see is the same.
 */
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { gunzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CatalogQueryResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller, MESH_ROLES } from "../../src/policy/identity/caller.ts";
import type { RefusedCall } from "../../src/server/chain.ts";
import { demoService } from "../fakes/demo-service.ts";
import { type DemoEdge, type DemoEdgeOptions, RawClient, startDemoEdge } from "../fakes/edge.ts";
import { runs } from "../fakes/effort.ts";
import { until } from "../fakes/until.ts";

const QUERY = "/waymark.discovery.v1.DiscoveryService/CatalogQuery";
const ORIGIN = "https://ui.example";

/** A connection is looked at about once a second. */
const LOOKED_AT_MS = 2_500;

interface Asked {
  readonly path: string;
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>>;
  /** POST unless given. */
  readonly method?: string;
}

interface Seen {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: unknown;
}

/** An edge that remembers which way its calls came, and what its audit and its log were told. */
async function startWays(
  listener: DemoEdgeOptions["listener"] = {},
): Promise<DemoEdge & { readonly ways: string[]; readonly told: unknown[] }> {
  const ways: string[] = [];
  const told: unknown[] = [];
  const served = await startDemoEdge({
    hasFaults: true,
    listener: { web: { corsOrigins: [ORIGIN] }, ...listener },
    ports: {
      identify: (header, { address }) => {
        ways.push(new Error("way").stack?.includes("plain-call.") === true ? "plain" : "connect");
        if (header("authorization") === "Bearer wrong") throw new WaymarkError("unauthenticated", "the token is wrong");
        const caller = anonymousCaller("local", address, header("authorization") === "Bearer plain" ? [] : MESH_ROLES);
        return header("authorization") === "Bearer slow" ? Promise.resolve(caller) : caller;
      },
      limit: (caller) => {
        if (caller.roles.length === 0) throw new WaymarkError("discovery_rate_limited", "too many calls", { retryMs: 1_500 });
      },
      onRefused: ({ error, ...refused }: RefusedCall) => void told.push({ ...refused, caller: undefined, reason: error.reason }),
      onCall: (call) => void told.push(call),
    },
  });
  return Object.assign(served, { ways, told });
}

const NOT_COMPARED = new Set(["date", "transfer-encoding", "connection", "keep-alive"]);

function seen(status: number, headers: IncomingHttpHeaders, bytes: Buffer): Seen {
  const kept = Object.entries(headers).filter(([name]) => !name.startsWith(":") && !NOT_COMPARED.has(name));
  const plain = headers["content-encoding"] === "gzip" ? gunzipSync(bytes) : bytes;
  const isJson = headers["content-type"]?.startsWith("application/json") === true;
  // The order of names in an object is free, so lengths may only differ where the bytes do.
  return { status, headers: Object.fromEntries(kept), body: isJson ? (JSON.parse(plain.toString()) as unknown) : plain.toString() };
}

const CLIENTS = {
  http1: (edge: DemoEdge, { path, body, headers, method = "POST" }: Asked) =>
    new Promise<Seen>((resolve, reject) => {
      const sent = httpRequest(`${edge.base}${path}`, { method, headers, agent: false });
      sent.on("error", reject);
      sent.on("response", (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => resolve(seen(response.statusCode ?? 0, response.headers, Buffer.concat(chunks))));
      });
      sent.end(body);
    }),
  h2: (edge: DemoEdge, { path, body, headers: { host, ...headers }, method = "POST" }: Asked) =>
    new Promise<Seen>((resolve, reject) => {
      const session = connectHttp2(edge.base);
      session.on("error", reject);
      const stream = session.request({ ":method": method, ":path": path, ...(host !== undefined && { ":authority": host }), ...headers });
      const chunks: Buffer[] = [];
      let answered: IncomingHttpHeaders & { readonly ":status"?: number | undefined } = {};
      stream.on("error", reject);
      stream.on("response", (given) => {
        answered = given;
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        session.close();
        resolve(seen(answered[":status"] ?? 0, answered, Buffer.concat(chunks)));
      });
      stream.end(body);
    }),
} as const;

/** Sends a request with its length and without, and compares all that comes of it. Returns the ways that they came. */
async function sameBothWays(edge: Awaited<ReturnType<typeof startWays>>, transport: keyof typeof CLIENTS, what: Asked) {
  const outcome = async (headers: Readonly<Record<string, string>>) => {
    const [calls, told, faults] = [edge.on.observed.length, edge.told.length, edge.on.faults.length];
    const answer = await CLIENTS[transport](edge, { ...what, headers: { ...what.headers, ...headers } });
    return {
      answer,
      counted: edge.on.observed.slice(calls),
      told: edge.told.slice(told),
      faultCount: edge.on.faults.length - faults,
    };
  };
  const from = edge.ways.length;
  const plain = await outcome({ "content-length": String(what.body.length) });
  const ways = edge.ways.slice(from);
  const through = await outcome(transport === "http1" ? { "transfer-encoding": "chunked" } : {});
  expect(plain).toEqual(through);
  // The caller is identified before Connect reads a request, and again by the chain for the request that was read.
  return { ways, through: [...new Set(edge.ways.slice(from + ways.length))], answer: plain.answer };
}

function asked(body: string | Uint8Array, headers: Readonly<Record<string, string>> = {}, path = QUERY): Asked {
  return { path, body: Buffer.from(body), headers: { "content-type": "application/json", "x-request-id": "asked-1", ...headers } };
}

const query = (namespace: string) => JSON.stringify({ namespace });

const PLAIN: readonly { readonly name: string; readonly what: Asked; readonly status?: number }[] = [
  { name: "a message", what: asked(query("svc")) },
  { name: "bytes of an answer", what: asked("{}") },
  { name: "white space around", what: asked(' \n{"namespace" : "svc"}\t ') },
  { name: "a name as the proto has it", what: asked('{"page_token":"x","namespace":"svc"}') },
  { name: "a null, which is absent", what: asked('{"namespace":null}') },
  { name: "text beyond ASCII", what: asked(query("é😀\u2028\u0000")), status: 400 },
  {
    name: "bytes that are no UTF-8",
    what: asked(Buffer.from([...Buffer.from('{"namespace":"'), 0xc3, 0x28, 0xff, ...Buffer.from('"}')])),
    status: 400,
  },
  { name: "an answer later", what: asked(query("late")) },
  { name: "a long answer", what: asked(query("long")) },
  { name: "a long answer for a client that takes gzip", what: asked(query("long"), { "accept-encoding": "br, gzip" }) },
  { name: "an answer of bytes in gzip", what: asked("{}", { "accept-encoding": "gzip" }) },
  { name: "a short answer for a client that takes gzip", what: asked(query("svc"), { "accept-encoding": "gzip" }) },
  { name: "gzip with a weight", what: asked("{}", { "accept-encoding": "gzip;q=1, identity" }) },
  { name: "a charset", what: asked("{}", { "content-type": "application/json; charset=utf-8" }) },
  { name: "a charset in capitals", what: asked("{}", { "content-type": "Application/JSON;charset=UTF-8" }) },
  { name: "a version of the protocol", what: asked("{}", { "connect-protocol-version": "1" }) },
  { name: "another version of the protocol", what: asked("{}", { "connect-protocol-version": "2" }) },
  { name: "a timeout", what: asked(query("late"), { "connect-timeout-ms": "9999999999" }) },
  { name: "a timeout that passes", what: asked(query("never"), { "connect-timeout-ms": "20" }), status: 504 },
  { name: "a refusal", what: asked(query("refuse")), status: 400 },
  { name: "a refusal later", what: asked(query("reject")), status: 400 },
  { name: "a bug", what: asked(query("bug")), status: 500 },
  { name: "a caller who is looked up", what: asked("{}", { authorization: "Bearer slow" }) },
  { name: "a page that is let in", what: asked("{}", { origin: ORIGIN }) },
  { name: "a query behind the path", what: asked("{}", {}, `${QUERY}?connect=v1`) },
  { name: "a write", what: asked('{"entries":[{},{}]}', {}, QUERY.replace("CatalogQuery", "Register")) },
  { name: "no time at all", what: asked("{}", { "connect-timeout-ms": "0" }), status: 504 },
  { name: "a wrong token", what: asked("{}", { authorization: "Bearer wrong" }), status: 401 },
  { name: "a caller with too many calls", what: asked("{}", { authorization: "Bearer plain" }), status: 429 },
  { name: "a method that comes later", what: asked("{}", {}, QUERY.replace("CatalogQuery", "ListPeers")), status: 501 },
  { name: "a field that is not known", what: asked('{"nonsense":1}'), status: 400 },
  { name: "a name that is there twice", what: asked('{"namespace":"a","namespace":"b"}'), status: 400 },
  { name: "a field under both of its names", what: asked('{"pageToken":"a","page_token":"b"}'), status: 400 },
  { name: "a wrong type", what: asked('{"namespace":7}'), status: 400 },
  { name: "no JSON", what: asked("{"), status: 400 },
  { name: "a mark before it", what: asked(`\uFEFF${query("svc")}`), status: 200 },
  { name: "no object", what: asked("[]"), status: 400 },
  { name: "too deep", what: asked(`{"namespace":${"[".repeat(200)}${"]".repeat(200)}}`), status: 400 },
  { name: "a number with too many digits", what: asked(`{"limit":"${"1".repeat(9_000)}"}`), status: 400 },
];

/** Read by Connect alone, or by nobody. */
const OTHERS: readonly { readonly name: string; readonly what: Asked; readonly status: number }[] = [
  { name: "a timeout of letters", what: asked("{}", { "connect-timeout-ms": "soon" }), status: 400 },
  { name: "a timeout that is too long", what: asked("{}", { "connect-timeout-ms": "12345678901" }), status: 400 },
  { name: "nothing", what: asked(""), status: 400 },
  { name: "a long body", what: asked(JSON.stringify({ namespace: "n".repeat(20_000) })), status: 400 },
  { name: "a charset in short", what: asked("{}", { "content-type": "application/json;charset=utf8" }), status: 200 },
  { name: "another charset", what: asked("{}", { "content-type": "application/json; charset=latin1" }), status: 415 },
  { name: "no compression by its name", what: asked("{}", { "content-encoding": "identity" }), status: 200 },
  { name: "gzip that is none", what: asked("{}", { "content-encoding": "gzip" }), status: 400 },
  { name: "another verb", what: { ...asked("{}"), method: "PUT" }, status: 405 },
  { name: "a stream", what: asked("{}", {}, QUERY.replace("CatalogQuery", "CatalogWatch")), status: 415 },
  { name: "a foreign page", what: asked("{}", { origin: "https://evil.example" }, QUERY.replace("CatalogQuery", "Register")), status: 403 },
  { name: "a foreign host", what: asked("{}", { host: "evil.example" }), status: 403 },
];

describe.each(["http1", "h2"] as const)("%s", (transport) => {
  test.each(PLAIN)("$name: answered without Connect, as through it", async ({ what, status }) => {
    await using edge = await startWays();
    const { ways, through, answer } = await sameBothWays(edge, transport, what);
    expect([ways, through]).toEqual([["plain"], ["connect"]]);
    expect(answer.status).toBe(status ?? 200);
    expect(answer.headers["x-request-id"]).toBe("asked-1");
  });

  test.each(OTHERS)("$name: the same with the length of the body and without", async ({ what, status }) => {
    await using edge = await startWays();
    const { ways, answer } = await sameBothWays(edge, transport, what);
    expect([answer.status, ways.includes("plain")]).toEqual([status, false]);
  });

  test("a draining node refuses, with when to try again", async () => {
    await using edge = await startWays();
    edge.on.chain.drain();
    expect(await sameBothWays(edge, transport, asked("{}"))).toMatchObject({ answer: { status: 503, headers: { "retry-after": "1" } } });
  });

  test.each([
    { name: "than all requests together may hold", listener: { limits: { maxBufferedBytes: 10 } } },
    { name: "than a request to its service may have", listener: { services: [{ ...demoService().service, maxRequestBytes: 10 }] } },
  ])("a body is longer $name: refused", async ({ listener }) => {
    await using edge = await startWays(listener);
    const { answer } = await sameBothWays(edge, transport, asked(query("svc")));
    expect([answer.status, answer.body]).toMatchObject([429, { code: "resource_exhausted" }]);
  });

  test("an answer whose JSON the library alone knows, with text beyond ASCII", async () => {
    const part = (served: object) => toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, served));
    const twice = Buffer.concat([part({ age: { seconds: 1n } }), part({ age: { nanos: 5_000_000 }, servedBy: "é😀" })]);
    await using edge = await startWays({ services: [demoService(twice).service] });
    const { ways, answer } = await sameBothWays(edge, transport, asked("{}"));
    expect([ways, answer.body]).toEqual([["plain"], { age: "1.005s", servedBy: "é😀" }]);
  });

  test("any JSON, with any of the headers", async () => {
    await using edge = await startWays();
    const namespace = fc.oneof(fc.constantFrom("", "svc", "refuse", "late", "reject"), fc.string({ unit: "grapheme" }));
    const body = fc.oneof(
      fc
        .record({ namespace, limit: fc.oneof(fc.nat(300), fc.string()), names: fc.array(fc.string()) }, { requiredKeys: [] })
        .map((of) => JSON.stringify(of)),
      fc.json({ maxDepth: 3 }),
      fc.string(),
    );
    const headers = fc.record(
      {
        "accept-encoding": fc.constantFrom("gzip", "gzip, br", "identity", "*", "", "GZIP"),
        "content-type": fc.constantFrom("application/json; charset=utf-8", "application/json;charset=utf8", "application/json; v=1"),
        "connect-timeout-ms": fc.constantFrom("5000", "0", "", "-1", "1e3", "00005000"),
        "content-encoding": fc.constantFrom("identity", "gzip", ""),
        authorization: fc.constantFrom("Bearer wrong", "Bearer plain", "Bearer slow"),
        origin: fc.constantFrom(ORIGIN, "https://evil.example", "null"),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(body, headers, async (text, given) => void (await sameBothWays(edge, transport, asked(text, given)))),
      { numRuns: runs(60) },
    );
    expect(edge.ways).toContain("plain");
  });
});

test.each([
  { transport: "http1", ways: "plain", headers: { "content-length": "21" } },
  { transport: "http1", ways: "connect", headers: { "transfer-encoding": "chunked" } },
  { transport: "h2", ways: "plain", headers: { "content-length": "21" } },
] as const)("a handler that waits learns that its client is gone: $transport, $ways", async ({ transport, headers }) => {
  await using served = await startWays();
  const { contexts } = served.demo;
  const all = { "content-type": "application/json", ...headers };
  let leave = () => {};
  if (transport === "http1") {
    const sent = httpRequest(`${served.base}${QUERY}`, { method: "POST", headers: all, agent: false });
    sent.on("error", () => {});
    sent.end(query("never"));
    leave = () => void sent.destroy();
  } else {
    const session = connectHttp2(served.base);
    session.on("error", () => {});
    const stream = session.request({ ":method": "POST", ":path": QUERY, ...all });
    stream.on("error", () => {});
    stream.end(query("never"));
    leave = () => session.destroy();
  }
  await until("the call came", () => contexts.length === 1);
  let overCount = 0;
  for (const context of contexts) context.onOver = () => void overCount++;
  leave();
  await until("the handler learnt it", () => overCount > 0);
  expect(overCount).toBe(1);
});

test("a body with its length that comes in two pieces is answered", async () => {
  await using edge = await startWays();
  await using client = new RawClient(edge.edge);
  const head = `POST ${QUERY} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n`;
  client.send(`${head}{"namesp`);
  await until("the first piece is read", () => [...edge.edge.acceptor.sockets].some((socket) => socket.bytesRead === head.length + 8));
  client.send('ace":"svc"}');
  await client.says('{"servedBy":"svc"}');
  client.send(`${head}{"namespace":"two"}`);
  await client.says('{"servedBy":"two"}');
  // The caller is checked before Connect reads a body.
  expect(edge.ways).toEqual(["connect", "connect", "plain"]);
});

test("a client that sends long bodies for longer than its connection is looked at is not cut", async () => {
  await using edge = await startWays();
  const session = connectHttp2(edge.base);
  const cut: unknown[] = [];
  session.on("error", (error) => cut.push(error));
  const body = `{}${" ".repeat(15_000)}`;
  const end = performance.now() + LOOKED_AT_MS;
  while (performance.now() < end && !session.closed) {
    const calls = Array.from({ length: 50 }, async () => {
      const stream = session.request({
        ":method": "POST",
        ":path": QUERY,
        "content-type": "application/json",
        "content-length": body.length,
      });
      stream.on("error", (error) => cut.push(error));
      stream.end(body);
      for await (const _ of stream);
    });
    await Promise.allSettled(calls);
  }
  expect([cut, session.closed, edge.ways.includes("plain")]).toEqual([[], false, true]);
  session.close();
});
