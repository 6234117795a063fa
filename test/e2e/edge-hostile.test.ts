/** Clients of the HTTP edge that are slow, broken or rude: they are cut or refused, and everybody else is served. */
import { request as httpRequest } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import type { EdgeLimits } from "../../src/server/edge/sockets.io.ts";
import { demoService } from "../fakes/demo-service.ts";
import { type DemoEdge, RawClient, startDemoEdge } from "../fakes/edge.ts";
import { until } from "../fakes/until.ts";
import { call, callHeaders, FLAG, frame, hpack, PREFACE, QUERY, RawConnection, settings, TYPE, u32, WATCH } from "./h2-frames.ts";

const CALL = "POST /waymark.discovery.v1.DiscoveryService/CatalogQuery HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
const queryOf = (name: string) => `${CALL}content-length: ${16 + name.length}\r\n\r\n{"namespace":"${name}"}`;
/** Soon for a test, and more than an honest request takes on a busy machine. */
const FAST: Partial<EdgeLimits> = { headersTimeoutMs: 300, requestTimeoutMs: 600, idleTimeoutMs: 600 };

function started(limits: Partial<EdgeLimits> = FAST): Promise<DemoEdge> {
  return startDemoEdge({ listener: { limits } });
}

async function isServing({ base }: DemoEdge): Promise<boolean> {
  const response = await fetch(`${base}/waymark.discovery.v1.DiscoveryService/CatalogQuery`, {
    method: "POST",
    body: '{"namespace":"svc"}',
    headers: { "content-type": "application/json", connection: "close" },
  });
  return (await response.text()) === '{"servedBy":"svc"}';
}

/** Tests that wait for a limit run beside each other, because each has an edge of its own. Tests in which something must stay open run alone. */
test.concurrent.each([
  { what: "says nothing", sends: "" },
  { what: "stops in the request line", sends: "POST /waymark" },
  { what: "stops in the headers", sends: `${CALL}x-a: b\r\n` },
  { what: "stops in the body", sends: `${CALL}content-length: 100\r\n\r\n{"names` },
  { what: "stops between chunks", sends: `${CALL}transfer-encoding: chunked\r\n\r\n5\r\n{"nam\r\n` },
  { what: "stops in the preface of HTTP/2", sends: "PRI * HTTP/2.0\r\n" },
  { what: "is idle after an answer", sends: `${CALL}content-length: 2\r\n\r\n{}` },
])("a connection that $what is closed in time", async ({ sends }) => {
  await using served = await started();
  await using raw = new RawClient(served.edge);
  raw.send(sends);
  await raw.closed("the connection");
  expect(await isServing(served)).toBe(true);
});

test.concurrent("headers that trickle in do not keep a connection", async () => {
  await using served = await started();
  await using raw = new RawClient(served.edge);
  raw.send(CALL);
  const trickle = setInterval(() => raw.send("x-a: b\r\n"), 20);
  await raw.closed("the trickling connection").finally(() => clearInterval(trickle));
  expect(await isServing(served)).toBe(true);
});

test.concurrent("a silent connection is counted when it is cut", async () => {
  await using served = await started();
  await using raw = new RawClient(served.edge);
  await raw.closed("the silent connection");
  expect(served.metrics.counter("waymark_connections_refused_total", { listener: "http", reason: "silent" }).value).toBe(1);
});

test.each([
  { what: "HTTP/1.1", sends: Buffer.from(`${CALL}content-length: 19\r\n\r\n{"namespace":"svc"}`), answer: '{"servedBy":"svc"}' },
  {
    what: "HTTP/2",
    sends: Buffer.concat([
      PREFACE,
      settings(),
      frame(TYPE.HEADERS, {
        flags: FLAG.END_HEADERS | FLAG.END_STREAM,
        stream: 1,
        payload: hpack([
          [":method", "GET"],
          [":scheme", "http"],
          [":path", "/healthz"],
          [":authority", "a"],
        ]),
      }),
    ]),
    answer: '{"status":"alive"}',
  },
])("$what is understood when every byte comes alone", async ({ sends, answer }) => {
  await using served = await started({});
  await using raw = new RawClient(served.edge);
  for (const byte of sends) {
    raw.socket.write(Buffer.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await raw.says(answer);
  expect(raw.isClosed).toBe(false);
});

test("requests sent one after another without waiting are answered in order", async () => {
  await using served = await started({});
  await using raw = new RawClient(served.edge);
  raw.send(["late", "b", "c"].map(queryOf).join(""));
  await raw.says('{"servedBy":"c"}');
  expect(raw.text.indexOf('"b"')).toBeLessThan(raw.text.indexOf('"c"'));
});

test("a request that comes before the one before it is answered is not begun, so that no answer waits for another", async () => {
  await using served = await started({});
  await using raw = new RawClient(served.edge, { isReading: false });
  raw.send(["never", ...Array.from({ length: 100 }, () => "later")].map(queryOf).join(""));
  await until("the first is begun", () => served.demo.contexts.length === 1);
  for (let turn = 0; turn < 50; turn++) expect(await isServing(served)).toBe(true);
  expect(served.demo.contexts.length - 50).toBe(1);
});

test("a connection with more requests in line than HTTP/2 would have open is cut, and counted", async () => {
  await using served = await started({ maxStreamsPerConnection: 10 });
  await using raw = new RawClient(served.edge);
  raw.send(["never", ...Array.from({ length: 11 }, () => "later")].map(queryOf).join(""));
  await raw.closed("the connection");
  expect(served.metrics.counter("waymark_connections_refused_total", { listener: "http", reason: "queued_requests" }).value).toBe(1);
  expect(await isServing(served)).toBe(true);
});

test.each([
  { what: "garbage", sends: "\u0000\u0001\u0002\r\n\r\n", status: "400" },
  { what: "no host", sends: "GET /healthz HTTP/1.1\r\n\r\n", status: "400" },
  {
    what: "a host that is none",
    sends: CALL.replace("host: localhost", "host: a b:c").concat("content-length: 2\r\n\r\n{}"),
    status: "400",
  },
  { what: "a target that is no URL", sends: CALL.replace("POST /", "POST //:").concat("content-length: 2\r\n\r\n{}"), status: "404" },
  { what: "two lengths", sends: `${CALL}content-length: 2\r\ncontent-length: 3\r\n\r\n{}`, status: "400" },
  { what: "a length and chunks", sends: `${CALL}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, status: "400" },
  { what: "headers over the bound", sends: `${CALL}x-a: ${"b".repeat(20_000)}\r\n\r\n`, status: "431" },
  { what: "a path over the bound", sends: `GET /${"b".repeat(20_000)} HTTP/1.1\r\nhost: localhost\r\n\r\n`, status: "431" },
  { what: "a method that is none", sends: "BREW /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", status: "400" },
  { what: "a chunk length that is none", sends: `${CALL}transfer-encoding: chunked\r\n\r\nzz\r\n`, status: "400" },
])("$what is refused with $status", async ({ sends, status }) => {
  await using served = await started({});
  await using raw = new RawClient(served.edge);
  raw.send(sends);
  await raw.says(`HTTP/1.1 ${status}`);
  expect(await isServing(served)).toBe(true);
});

test.concurrent.each([
  "CONNECT a:1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
  "GET /healthz HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
])("an attempt to leave HTTP ends nothing: %j", async (sends) => {
  await using served = await started();
  await using raw = new RawClient(served.edge);
  raw.send(sends);
  await raw.closed("the connection");
  expect(await isServing(served)).toBe(true);
});

test("one connection too many is turned away, and there is room again when one leaves", async () => {
  await using served = await started({ maxConnections: 3 });
  const held = Array.from({ length: 3 }, () => new RawClient(served.edge));
  await until("three connections", () => served.edge.acceptor.sockets.size === 3);
  await using fourth = new RawClient(served.edge);
  await fourth.closed("the fourth");
  expect(held.map(({ isClosed }) => isClosed)).toEqual([false, false, false]);
  await held[0]?.[Symbol.asyncDispose]();
  await until("one leaves", () => served.edge.acceptor.sockets.size === 2);
  expect(await isServing(served)).toBe(true);
  for (const raw of held) raw.socket.destroy();
});

function session(served: DemoEdge): ClientHttp2Session {
  return connectHttp2(served.base).on("error", () => {});
}

const HEADERS = { ":method": "POST", ":path": "/waymark.discovery.v1.DiscoveryService/CatalogQuery", "content-type": "application/json" };

test.concurrent("an HTTP/2 request whose body does not end is reset in time, and its connection goes on", async () => {
  await using served = await started({ requestTimeoutMs: 300 });
  const client = session(served);
  const half = client.request(HEADERS).on("error", () => {});
  half.write('{"names');
  await until("the half request is reset", () => half.closed);
  expect(half.rstCode).toBe(constants.NGHTTP2_CANCEL);
  await until("it is counted", () => served.on.observed.length === 1);
  expect(served.on.observed[0]).toMatchObject({ code: "CANCELLED", transport: "h2" });
  const whole = client.request(HEADERS);
  whole.end('{"namespace":"svc"}');
  let text = "";
  for await (const chunk of whole) text += String(chunk);
  expect(text).toBe('{"servedBy":"svc"}');
  client.destroy();
});

test("a connection of HTTP/1.1 on which one of two requests is answered is not idle: the watch behind it goes on", async () => {
  await using served = await started();
  await using raw = new RawClient(served.edge);
  const message = Buffer.from([0, 0, 0, 0, 2, 0x7b, 0x7d]);
  const watch = CALL.replace("CatalogQuery", "CatalogWatch").replace("application/json", "application/connect+json");
  raw.send(`${CALL}content-length: 2\r\n\r\n{}`);
  raw.send(Buffer.concat([Buffer.from(`${watch}content-length: ${message.length}\r\n\r\n`), message]));
  await using other = new RawClient(served.edge);
  await other.closed("a silent connection, which is given less time");
  await using idle = new RawClient(served.edge);
  idle.send(`${CALL}content-length: 2\r\n\r\n{}`);
  await idle.closed("an idle connection");
  expect(served.edge.acceptor.sockets.size).toBe(1);
});

test("an idle HTTP/2 connection is closed, one with an open stream is not", async () => {
  await using served = await started();
  const idle = session(served);
  const busy = session(served);
  const watch = busy.request({
    ...HEADERS,
    ":path": "/waymark.discovery.v1.DiscoveryService/CatalogWatch",
    "content-type": "application/connect+json",
  });
  watch.on("error", () => {}).end(Buffer.from([0, 0, 0, 0, 2, 0x7b, 0x7d]));
  await until("the idle connection is closed", () => idle.closed);
  expect(busy.closed).toBe(false);
  busy.destroy();
});

test.concurrent.each([
  { what: "PINGs", bytes: frame(TYPE.PING, { payload: Buffer.alloc(8) }) },
  { what: "SETTINGS", bytes: settings() },
  {
    what: "PINGs and WINDOW_UPDATEs",
    bytes: Buffer.concat([frame(TYPE.PING, { payload: Buffer.alloc(8) }), frame(TYPE.WINDOW_UPDATE, { payload: u32(1) })]),
  },
])("an HTTP/2 connection that only sends $what is closed when it had no stream for the idle time", async ({ bytes }) => {
  await using served = await started();
  const idle = new RawConnection(served.edge.acceptor.port).greet();
  const timer = setInterval(() => idle.send(bytes), 100);
  await until("it is closed", () => idle.isClosed).finally(() => clearInterval(timer));
  await until("its socket is gone", () => served.edge.acceptor.sockets.size === 0);
  expect(await isServing(served)).toBe(true);
});

test.concurrent.each(["watch", "half a request"])(
  "a client that goes away, breaks the protocol and is gone leaves no connection, with an open stream (%s)",
  async (what) => {
    await using served = await started({ keepaliveTimeMs: 200, keepaliveTimeoutMs: 200 });
    const { sockets } = served.edge.acceptor;
    const client = new RawConnection(served.edge.acceptor.port);
    const half = frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS, stream: 1, payload: callHeaders(QUERY) });
    client.greet().send(what === "watch" ? call(1, WATCH) : half);
    await client.heard(5_000);
    expect(sockets.size).toBe(1);
    // Node hears the GOAWAY, reads nothing after the broken PING, and so never hears of the end.
    client.send(frame(TYPE.GOAWAY, { payload: Buffer.alloc(8) }), frame(TYPE.PING, { payload: Buffer.alloc(3) }));
    client.socket.end();
    await until("the connection is cut", () => sockets.size === 0);
  },
);

test.concurrent("a connection of HTTP/1.1 that sends empty lines between requests is closed all the same", async () => {
  await using served = await started();
  await using raw = new RawClient(served.edge);
  raw.send(`${CALL}content-length: 2\r\n\r\n{}`);
  const timer = setInterval(() => raw.send("\r\n"), 100);
  await raw.closed("the connection").finally(() => clearInterval(timer));
  expect(await isServing(served)).toBe(true);
});

test.concurrent.each(["/healthz", "/no/such", "/waymark.discovery.v1.DiscoveryService/KeepAlive"])(
  "%s: a request of HTTP/2 whose body never comes keeps no stream open",
  async (path) => {
    await using served = await started();
    const client = session(served);
    const half = client.request({ ...HEADERS, ":path": path, "content-type": "application/connect+json" }).on("error", () => {});
    half.resume();
    await until("it is closed", () => half.closed);
    expect(await isServing(served)).toBe(true);
    client.destroy();
  },
);

test.each([
  { what: "two million brackets", text: "[".repeat(2_000_000) + "]".repeat(2_000_000), says: "request: is nested deeper than 100" },
  { what: "objects in objects", text: '{"namespace":'.repeat(200_000), says: "request: is nested deeper than 100" },
  {
    what: "300,000 names",
    text: `{${Array.from({ length: 300_000 }, (_, i) => `"k${i}":0`).join()}}`,
    says: "request: has more than 250000 names and items",
  },
])("a JSON text of $what is refused before it is parsed, plain and as gzip", async ({ text, says }) => {
  await using served = await started({});
  for (const encoding of [undefined, "gzip"]) {
    const response = await fetch(`${served.base}/waymark.discovery.v1.DiscoveryService/CatalogQuery`, {
      method: "POST",
      body: encoding === undefined ? text : gzipSync(text),
      headers: { "content-type": "application/json", ...(encoding !== undefined && { "content-encoding": encoding }) },
    });
    expect([response.status, ((await response.json()) as { message: string }).message]).toEqual([400, expect.stringContaining(says)]);
  }
  expect(await isServing(served)).toBe(true);
});

test.concurrent("what unfinished requests hold is bounded over all connections", async () => {
  await using served = await started({ ...FAST, maxBufferedBytes: 100_000 });
  const half = `${CALL}content-length: 1000000\r\n\r\n${"x".repeat(60_000)}`;
  await using first = new RawClient(served.edge);
  first.send(half);
  await using second = new RawClient(served.edge);
  second.send(half);
  await until("one of them is refused", () => (first.text + second.text).includes("HTTP/1.1 429"));
  expect(first.text + second.text).toContain("QUOTA_EXCEEDED");
  await Promise.all([first.closed("the first"), second.closed("the second")]);
  expect(await isServing(served)).toBe(true);
});

test("a length that a request only names takes no memory", async () => {
  await using served = await started({});
  const before = process.memoryUsage().arrayBuffers;
  const clients = Array.from({ length: 50 }, () => new RawClient(served.edge));
  for (const client of clients) client.send(`${CALL}content-length: 4194304\r\n\r\n{`);
  await until("all are connected", () => served.edge.acceptor.sockets.size === clients.length);
  for (let asked = 0; asked < 20; asked++) expect(await isServing(served)).toBe(true);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50_000_000);
  for (const client of clients) client.socket.destroy();
  await using larger = new RawClient(served.edge);
  larger.send(`${CALL}content-length: 4194305\r\n\r\n{`);
  await larger.says("HTTP/1.1 429");
});

test("a body in chunks of one byte is a request like any other", async () => {
  await using served = await started({});
  await using raw = new RawClient(served.edge);
  raw.send(`${CALL}transfer-encoding: chunked\r\n\r\n${"1\r\n \r\n".repeat(10_000)}13\r\n{"namespace":"svc"}\r\n0\r\n\r\n`);
  await raw.says('{"servedBy":"svc"}');
  expect(await isServing(served)).toBe(true);
});

test("a stream nobody reads is not pulled, over HTTP/1.1 and HTTP/2", async () => {
  await using served = await started({});
  await using raw = new RawClient(served.edge, { isReading: false });
  const body = `${String.fromCharCode(0, 0, 0, 0, 23)}{"namespace":"endless"}`;
  raw.send(
    `${CALL.replace("CatalogQuery", "CatalogWatch").replace("application/json", "application/connect+json")}content-length: 28\r\n\r\n${body}`,
  );
  await until("the stream is open", () => served.demo.sources.length === 1);
  const framed = new RawConnection(served.edge.acceptor.port, { isReading: false }).greet([4, 0]);
  framed.send(call(1, "/waymark.discovery.v1.DiscoveryService/CatalogWatch", Buffer.from([10, 7, ...Buffer.from("endless")])));
  await until("the other stream is open", () => served.demo.sources.length === 2);
  const counts = () => served.demo.sources.map(({ pullCount }) => pullCount);
  let before = counts();
  for (let isMoving = true; isMoving; ) {
    for (let turn = 0; turn < 20; turn++) await isServing(served);
    isMoving = counts().join() !== before.join();
    before = counts();
  }
  expect(before[1]).toBe(1); // Its window is 0: the one message in flight.
  raw.socket.destroy();
  framed.destroy();
  await until("both sources are closed", () => served.demo.sources.every(({ closeCount }) => closeCount === 1));
});

/** Endless answers on each of these paths, and one answer that exceeds the kernel's socket buffers. */
function unreadable(limits: Partial<EdgeLimits>): Promise<DemoEdge> {
  function* endless(): Generator<string> {
    for (;;) yield "x".repeat(65_536);
  }
  const demo = demoService();
  const list = { path: "/sd/prometheus", parameters: [], rpc: "catalogQuery" };
  const service = { ...demo.service, routes: [{ ...list, answer: () => ({ kind: "pieces", pieces: endless() }) as const }] };
  const scrape = () => Promise.resolve({ contentType: "text/plain", body: "x".repeat(20_000_000) });
  return startDemoEdge({ listener: { services: [service], limits }, sources: { scrape } });
}

const LIST = "GET /sd/prometheus HTTP/1.1\r\nhost: localhost\r\n\r\n";

function cutCount({ metrics }: DemoEdge): number {
  return metrics.counter("waymark_connections_refused_total", { listener: "http", reason: "unread_answer" }).value;
}

function endlessWatch(contentType: string, message: Uint8Array): Buffer {
  const head = CALL.replace("CatalogQuery", "CatalogWatch").replace("application/json", contentType);
  return Buffer.concat([
    Buffer.from(`${head}content-length: ${message.length + 5}\r\n\r\n`),
    Buffer.from([0]),
    u32(message.length),
    message,
  ]);
}

test.concurrent.each([
  { what: "a list in pieces", sends: LIST },
  { what: "a complete answer", sends: LIST.replace("/sd/prometheus", "/metrics") },
  { what: "a stream of Connect", sends: endlessWatch("application/connect+json", Buffer.from('{"namespace":"endless"}')) },
  { what: "a stream of gRPC-Web", sends: endlessWatch("application/grpc-web+proto", Buffer.from("\n\u0007endless")) },
])("$what is cut with its connection, and counted, if its client stops reading", async ({ sends }) => {
  await using served = await unreadable({ progressTimeoutMs: 300 });
  await using raw = new RawClient(served.edge, { isReading: false });
  raw.send(sends);
  await until("the answer is cut", () => cutCount(served) === 1 && served.edge.acceptor.sockets.size === 0);
  expect(await isServing(served)).toBe(true);
});

test.concurrent("over HTTP/2 only the unread answer is cut, and its connection stays open", async () => {
  await using served = await unreadable({ progressTimeoutMs: 300 });
  const client = session(served);
  const list = client.request({ ":path": "/sd/prometheus" }).on("error", () => {});
  await until("the list is cut", () => cutCount(served) === 1);
  list.resume();
  await until("its stream is reset", () => list.closed);
  expect(list.rstCode).toBe(constants.NGHTTP2_CANCEL);
  const whole = client.request(HEADERS);
  whole.end('{"namespace":"svc"}');
  let text = "";
  for await (const chunk of whole) text += String(chunk);
  expect(text).toBe('{"servedBy":"svc"}');
  client.destroy();
});

test("unread answers have bounded bytes across all connections: the answers that have waited longest are cut", async () => {
  const maxHeld = 10;
  await using served = await unreadable({ maxUnreadBytes: maxHeld * 65_536 });
  const clients = Array.from({ length: 60 }, () => new RawClient(served.edge, { isReading: false }));
  for (const client of clients) client.send(LIST);
  await until("all but a few are cut", () => cutCount(served) === clients.length - maxHeld);
  await until("they are gone", () => served.edge.acceptor.sockets.size === maxHeld);
  await using reading = new RawClient(served.edge);
  reading.send(LIST);
  await until("who reads is served", () => reading.text.length > 2_000_000);
  expect(await isServing(served)).toBe(true);
  for (const client of clients) client.socket.destroy();
});

test("requests aborted at any moment leave nothing open and nothing broken", async () => {
  await using served = await started({});
  const bodies = ['{"namespace":"late"}', '{"namespace":"never"}', "{}", '{"names'];
  const agents = bodies.flatMap((body) => [0, 1, 2, 5, 10, 20].map((delayMs) => ({ body, delayMs })));
  const client = session(served);
  for (const { body, delayMs } of agents) {
    const old = httpRequest(`${served.base}${HEADERS[":path"]}`, {
      method: "POST",
      headers: { "content-type": "application/json", "content-length": 30 },
    });
    old.on("error", () => {}).write(body);
    const stream = client.request(HEADERS).on("error", () => {});
    stream.write(body);
    if (delayMs % 2 === 0) stream.end();
    setTimeout(() => old.destroy(), delayMs);
    setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), delayMs);
  }
  expect(await isServing(served)).toBe(true);
  client.destroy();
  await until("all connections are gone", () => served.edge.acceptor.sockets.size === 0);
  expect(await isServing(served)).toBe(true);
});

test.each([
  { what: "PINGs", chunk: () => frame(TYPE.PING, { payload: Buffer.alloc(8) }) },
  { what: "SETTINGS", chunk: () => settings([3, 100]) },
  { what: "empty DATA frames of no stream", chunk: () => frame(TYPE.DATA, { stream: 1 }) },
  { what: "WINDOW_UPDATEs", chunk: () => frame(TYPE.WINDOW_UPDATE, { payload: Buffer.from([0, 0, 0, 1]) }) },
  { what: "PRIORITYs", chunk: () => frame(TYPE.PRIORITY, { stream: 3, payload: Buffer.from([0, 0, 0, 0, 1]) }) },
  {
    what: "rapid resets",
    chunk: (turn: number) =>
      Buffer.concat([call(turn * 2 + 1), frame(TYPE.RST_STREAM, { stream: turn * 2 + 1, payload: Buffer.from([0, 0, 0, 8]) })]),
  },
  {
    what: "CONTINUATIONs",
    chunk: (turn: number) =>
      turn === 0
        ? frame(TYPE.HEADERS, { stream: 1, payload: hpack([[":method", "POST"]]) })
        : frame(TYPE.CONTINUATION, { stream: 1, payload: hpack([[`x-${turn}`, "y"]]) }),
  },
])("a flood of $what is cut", async ({ chunk }) => {
  await using served = await started({});
  const attacker = new RawConnection(served.edge.acceptor.port).greet();
  let turn = 0;
  await attacker.flood(() => Buffer.concat(Array.from({ length: 500 }, () => chunk(turn++))), 60_000);
  expect(attacker.isClosed).toBe(true);
  expect(await isServing(served)).toBe(true);
});
