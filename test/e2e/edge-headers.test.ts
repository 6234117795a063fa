/** How many headers the HTTP edge takes, and how long: what operations.md says, over HTTP/1.1 and HTTP/2. */
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { expect, test } from "vitest";
import { type DemoEdge, RawClient, startDemoEdge } from "../fakes/edge.ts";

type Fields = Readonly<Record<string, string>>;

const fieldsOf = (count: number): Fields => Object.fromEntries(Array.from({ length: count }, (_, n) => [`x-f${n}`, "v"]));

/** The status of an answer; 0 where the stream was reset. */
async function http1(served: DemoEdge, fields: Fields): Promise<number> {
  const request = httpRequest(`${served.base}/healthz`, { headers: { connection: "close", ...fields } });
  request.end();
  const [response] = (await once(request, "response")) as [{ readonly statusCode: number; resume(): void }];
  response.resume();
  return response.statusCode;
}

async function http2(served: DemoEdge, fields: Fields): Promise<number> {
  const session = connectHttp2(served.base);
  session.on("error", () => {});
  const stream = session.request({ ":path": "/healthz", ...fields });
  const status = await new Promise<number>((resolve) => {
    stream.on("error", () => resolve(0));
    stream.once("response", (headers) => resolve(headers[":status"] ?? 0));
    stream.once("close", () => resolve(0));
  });
  session.destroy();
  return status;
}

/** With `host` and `connection` these are all that HTTP/1.1 sends, with the four pseudo-headers all that HTTP/2 does. */
const [OWN_HTTP1, OWN_HTTP2] = [2, 4];

test("over HTTP/1.1 the edge takes 64 header fields of 16 KiB in all; more are answered 431, and none is dropped in silence", async () => {
  await using served = await startDemoEdge();
  expect(await http1(served, fieldsOf(64 - OWN_HTTP1))).toBe(200);
  expect(await http1(served, fieldsOf(65 - OWN_HTTP1))).toBe(431);
  expect(await http1(served, { "x-a": "v".repeat(15_000) })).toBe(200);
  expect(await http1(served, { "x-a": "v".repeat(16_384) })).toBe(431);
});

test("over HTTP/2 it takes as many, also before the client has taken the settings: a longer list is answered 431, more fields reset the stream", async () => {
  await using served = await startDemoEdge();
  expect(await http2(served, fieldsOf(64 - OWN_HTTP2))).toBe(200);
  expect(await http2(served, fieldsOf(65 - OWN_HTTP2))).toBe(0);
  expect(await http2(served, { "x-a": "v".repeat(15_000) })).toBe(200);
  expect(await http2(served, { "x-a": "v".repeat(16_384) })).toBe(431);
});

test("over HTTP/2 each field counts 32 bytes more than it has, also before the client has taken the settings", async () => {
  await using served = await startDemoEdge();
  // 15,600 bytes of text, and 1,920 for their number.
  expect(await http2(served, Object.fromEntries(Array.from({ length: 56 }, (_, n) => [`x-f${10 + n}`, "v".repeat(270)])))).toBe(431);
  expect(await http2(served, Object.fromEntries(Array.from({ length: 56 }, (_, n) => [`x-f${10 + n}`, "v".repeat(240)])))).toBe(200);
});

test("a connection whose request had too many fields is not used for another one", async () => {
  await using served = await startDemoEdge();
  const request = httpRequest(`${served.base}/healthz`, { headers: { connection: "keep-alive", ...fieldsOf(65) } });
  request.end();
  const [response] = (await once(request, "response")) as [{ readonly headers: Fields; resume(): void }];
  response.resume();
  expect(response.headers["connection"]).toBe("close");
});

const CHUNKED = "\r\n\r\n2\r\n{}\r\n0\r\n\r\n";

test.each([
  { coding: "chunked", status: 200 },
  { coding: "Chunked", status: 200 },
  { coding: "gzip, chunked", status: 501 },
  { coding: "identity, chunked", status: 501 },
  { coding: "gzip\r\ntransfer-encoding: chunked", status: 501 },
])(
  "a body in transfer-encoding $coding is answered $status: a coding that is not read is not taken for plain",
  async ({ coding, status }) => {
    await using served = await startDemoEdge();
    for (const path of ["/waymark.discovery.v1.DiscoveryService/CatalogQuery", "/healthz"]) {
      await using raw = new RawClient(served.edge);
      const begin = path === "/healthz" ? "GET" : "POST";
      raw.send(`${begin} ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: ${coding}${CHUNKED}`);
      await raw.says(`HTTP/1.1 ${status} `);
      if (status === 501) await raw.closed("the connection");
      expect(raw.text.includes("unsupported transfer-encoding: use chunked")).toBe(status === 501);
    }
  },
);

test.each(["/healthz", "/waymark.discovery.v1.DiscoveryService/ServerInfo?encoding=json&message={}"])(
  "a request with two Host lines is refused with 400, whatever it asks: %s",
  async (path) => {
    await using served = await startDemoEdge();
    for (const hosts of [
      ["localhost", "other.example"],
      ["localhost", "localhost"],
    ]) {
      await using raw = new RawClient(served.edge);
      raw.send(`GET ${path} HTTP/1.1\r\n${hosts.map((host, at) => `${at === 0 ? "Host" : "hOST"}: ${host}\r\n`).join("")}\r\n`);
      await raw.says("\r\n\r\n");
      expect(raw.text).toMatch(/^HTTP\/1\.1 400 /);
      await raw.says("host: appears 2 times: send one Host header");
    }
  },
);

test.each([
  { host: "", says: "host: is empty: use the name or address of this node" },
  { host: "local host", says: 'host: \\"local host\\" is not a valid host: use the name or address of this node' },
  { host: "localhost:99999", says: 'host: \\"localhost:99999\\" is not a valid host: use the name or address of this node' },
])("a call with the Host line `$host` is refused with 400 each time, and told what is wrong with it", async ({ host, says }) => {
  await using served = await startDemoEdge();
  for (const _ of ["first", "again"]) {
    await using raw = new RawClient(served.edge);
    raw.send(`GET /waymark.discovery.v1.DiscoveryService/ServerInfo?encoding=json&message={} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    await raw.says("such as node1.example:17480");
    expect(raw.text).toMatch(/^HTTP\/1\.1 400 /);
    expect(raw.text).toContain(says);
  }
});

const QUERY = "/waymark.discovery.v1.DiscoveryService/CatalogQuery?connect=v1&encoding=json&message=%7B%7D";

test.each([
  { target: "http://localhost:17480/healthz", status: 200 },
  { target: "HTTP://LOCALHOST/readyz", status: 200 },
  { target: `https://127.0.0.1${QUERY}`, status: 200 },
  { target: `http://localhost${QUERY}`, host: "evil.example", status: 200 },
  { target: `http://evil.example${QUERY}`, status: 403 },
  { target: "http://localhost", status: 404 },
  { target: "http://localhost?encoding=json", status: 404 },
  { target: "http://user@localhost/healthz", status: 404 },
  { target: "http:///healthz", status: 404 },
  { target: "ftp://localhost/healthz", status: 404 },
])(
  "the target $target with the Host line $host is answered $status: a whole URL is a request for its path, and its host is the one that counts",
  async ({ target, host = "localhost", status }) => {
    await using served = await startDemoEdge();
    await using raw = new RawClient(served.edge);
    raw.send(`GET ${target} HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
    await raw.says("\r\n\r\n");
    expect(raw.text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    if (status === 404) await raw.says("no such path: ");
  },
);

test("a call and its body may be sent to a whole URL too", async () => {
  await using served = await startDemoEdge();
  await using raw = new RawClient(served.edge);
  const body = '{"namespace":"svc"}';
  raw.send(
    `POST http://localhost/waymark.discovery.v1.DiscoveryService/CatalogQuery HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await raw.says('{"servedBy":"svc"}');
  expect(raw.text).toMatch(/^HTTP\/1\.1 200 /);
});
