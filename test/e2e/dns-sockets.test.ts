/** The gateway's sockets under friendly and hostile use. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { DNS_LIMITS, startDnsGateway } from "../../src/dns/server/server.io.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../fakes/dns-catalog.ts";
import { startTestGateway } from "../fakes/dns-gateway.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { SETTINGS } from "../fakes/options.ts";

const QUERY = queryBytes({ name: "web.market.waymark", type: "A" });

function market(): FakeDnsCatalog {
  return new FakeDnsCatalog([
    entryView({ name: "web", targets: [{ host: "10.0.0.1" }] }),
    ...Array.from({ length: 700 }, (_, i) =>
      entryView({ name: "huge", instanceId: `i${i}`, targets: [{ host: `host-${i}.${"x".repeat(40)}.example.com` }] }),
    ),
  ]);
}

function frame(message: Uint8Array): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

/** Messages of a connection, as they come whole; ends with the connection. */
async function* messages(socket: Socket): AsyncGenerator<Buffer> {
  let pending = Buffer.alloc(0);
  for await (const chunk of socket) {
    pending = Buffer.concat([pending, chunk as Buffer]);
    while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
      yield pending.subarray(2, 2 + pending.readUInt16BE(0));
      pending = pending.subarray(2 + pending.readUInt16BE(0));
    }
  }
}

async function isClosed(socket: Socket): Promise<boolean> {
  socket.resume();
  if (!socket.closed) await once(socket, "close", { signal: AbortSignal.timeout(30_000) });
  return socket.closed;
}

test("UDP and TCP share the port that the system chose, and stop frees it", async () => {
  const world = await startTestGateway(market());
  const { udpPort, tcpPort } = world.gateway;
  expect(udpPort).toBeGreaterThan(0);
  expect(tcpPort).toBe(udpPort);
  await world.gateway.stop();
  await world.gateway.stop();
  await using again = await startTestGateway(market(), { udpPort });
  expect(again.gateway.tcpPort).toBe(udpPort);
});

test("a TCP port may be set apart", async () => {
  await using world = await startTestGateway(market(), { tcpPort: 0 });
  const socket = await connected(world.gateway.tcpPort);
  socket.end(frame(QUERY));
  for await (const message of messages(socket)) expect(responseText(message)).toContain("10.0.0.1");
});

test("IPv6 loopback is served when asked for", async () => {
  await using world = await startTestGateway(market(), { host: "::1" });
  const socket = createSocket("udp6");
  socket.send(QUERY, world.gateway.udpPort, "::1");
  const [reply] = (await once(socket, "message")) as [Buffer];
  socket.close();
  expect(responseText(reply)).toContain("10.0.0.1");
});

test("a taken port is said plainly, for UDP and for TCP, and nothing stays open", async () => {
  await using world = await startTestGateway(market());
  const { udpPort } = world.gateway;
  await expect(startTestGateway(market(), { udpPort })).rejects.toThrow(
    `address already in use: dns udp 127.0.0.1:${udpPort}; pass --dns-port with another port`,
  );
  const tcp = createServer();
  tcp.listen(0, "127.0.0.1");
  await once(tcp, "listening");
  const address = tcp.address();
  const taken = typeof address === "object" ? (address?.port ?? 0) : 0;
  await expect(startTestGateway(market(), { udpPort: taken })).rejects.toThrow(`address already in use: dns tcp 127.0.0.1:${taken}`);
  // The UDP half was given back.
  const udp = createSocket("udp4");
  udp.bind(taken, "127.0.0.1");
  await once(udp, "listening");
  udp.close();
  tcp.close();
});

test("an address that is not ours is said plainly", async () => {
  const options = {
    settings: TEST_DNS_SETTINGS,
    select: () => onlyView(market()),
    random: () => 0,
    metrics: new Metrics(),
    onFault: () => {},
    planBytes: SETTINGS.dns.planBytes,
    serialOf: () => 1,
  };
  await expect(startDnsGateway({ host: "192.0.2.1", udpPort: 0, ...options })).rejects.toThrow(
    /^cannot bind dns udp 192\.0\.2\.1:0: .*EADDRNOTAVAIL/,
  );
});

test("queries in one segment, and one query in many segments, are answered in order", async () => {
  await using world = await startTestGateway(market());
  const socket = await connected(world.gateway.tcpPort);
  socket.setNoDelay(true);
  const ids = Array.from({ length: 300 }, (_, i) => i + 1);
  const bytes = Buffer.concat(
    ids.map((id) => frame(queryBytes({ name: id % 2 === 0 ? "web.market.waymark" : "nope.waymark", type: "A", id }))),
  );
  socket.write(bytes.subarray(0, 5_000));
  for (let at = 5_000; at < 5_060; at++) socket.write(bytes.subarray(at, at + 1));
  socket.end(bytes.subarray(5_060));
  const got: number[] = [];
  for await (const message of messages(socket)) got.push(message.readUInt16BE(0));
  expect(got).toEqual(ids);
});

test("a peer that asks much and reads nothing is held back, answered when it reads, and costs bounded memory", async () => {
  await using world = await startTestGateway(market());
  const socket = await connected(world.gateway.tcpPort);
  const ids = Array.from({ length: 1_000 }, (_, i) => i);
  // 40 MB of answers, were they all made at once.
  socket.end(Buffer.concat(ids.map((id) => frame(queryBytes({ name: "_svc._tcp.huge.market.waymark", type: "SRV", id })))));
  const friendly = await connected(world.gateway.tcpPort);
  // Connections have their turns one after the other, so the first one could have had all its answers meanwhile.
  friendly.end(Buffer.concat(ids.map(() => frame(QUERY))));
  let friendlyCount = 0;
  for await (const message of messages(friendly)) if (responseText(message).includes("10.0.0.1")) friendlyCount += 1;
  expect(friendlyCount).toBe(1_000);
  const answeredBefore = world.count("dns_queries_total", { qtype: "SRV", rcode: "NOERROR", transport: "tcp" });
  expect(answeredBefore).toBeLessThan(900);
  const got: number[] = [];
  for await (const message of messages(socket)) got.push(message.readUInt16BE(0));
  expect(got).toEqual(ids);
});

test("a peer that never reads is closed after the idle time", async () => {
  await using world = await startTestGateway(market(), { limits: { ...DNS_LIMITS, idleTimeoutMs: 200 } });
  const socket = await connected(world.gateway.tcpPort);
  socket.on("error", () => {});
  socket.pause();
  socket.write(
    Buffer.concat(Array.from({ length: 1_000 }, () => frame(queryBytes({ name: "_svc._tcp.huge.market.waymark", type: "SRV" })))),
  );
  await expect.poll(() => world.count("dns_dropped_total", { reason: "idle" })).toBe(1);
  expect(await isClosed(socket)).toBe(true);
});

test("one byte now and then keeps no connection open", async () => {
  await using world = await startTestGateway(market(), { limits: { ...DNS_LIMITS, idleTimeoutMs: 300 } });
  const socket = await connected(world.gateway.tcpPort);
  socket.on("error", () => {});
  const drip = setInterval(() => socket.write(Uint8Array.of(0)), 50);
  expect(await isClosed(socket)).toBe(true);
  clearInterval(drip);
});

test.each([
  { why: "a length of 0", bytes: Buffer.from([0, 0]) },
  { why: "a length below a header", bytes: Buffer.from([0, 11, 1, 2, 3]) },
  { why: "a length beyond any query", bytes: Buffer.from([0xff, 0xff, 1, 2, 3]) },
  { why: "a response", bytes: frame(Buffer.from("abcd818000000000000000000000", "hex")) },
])("$why closes the connection, after the answers before it", async ({ bytes }) => {
  await using world = await startTestGateway(market());
  const socket = await connected(world.gateway.tcpPort);
  socket.write(Buffer.concat([frame(QUERY), bytes, frame(QUERY)]));
  socket.write(frame(QUERY));
  const texts: string[] = [];
  for await (const message of messages(socket)) texts.push(responseText(message));
  expect(texts).toEqual(["NOERROR aa\nanswer     web.market.waymark. 30 A 10.0.0.1"]);
  expect(world.count("dns_dropped_total", { reason: "malformed" })).toBe(1);
});

test("malformed bytes inside a good frame are FORMERR, and the connection goes on", async () => {
  await using world = await startTestGateway(market());
  const socket = await connected(world.gateway.tcpPort);
  socket.end(Buffer.concat([frame(QUERY.subarray(0, 15)), frame(QUERY)]));
  const texts: string[] = [];
  for await (const message of messages(socket)) texts.push(responseText(message));
  expect(texts).toEqual(["FORMERR", "NOERROR aa\nanswer     web.market.waymark. 30 A 10.0.0.1"]);
});

test("with more UDP answers than may wait to be sent questions are dropped and counted, and TCP goes on", async () => {
  await using world = await startTestGateway(market(), { limits: { ...DNS_LIMITS, maxPendingSends: 0 } });
  const socket = createSocket("udp4");
  let answeredCount = 0;
  socket.on("message", () => answeredCount++);
  for (let i = 0; i < 3; i++) socket.send(QUERY, world.gateway.udpPort, "127.0.0.1");
  await expect.poll(() => world.count("dns_dropped_total", { reason: "overload" })).toBe(3);
  const stream = await connected(world.gateway.tcpPort);
  stream.end(frame(QUERY));
  for await (const message of messages(stream)) expect(responseText(message)).toContain("10.0.0.1");
  expect(answeredCount).toBe(0);
  socket.close();
});

test("one connection too many closes the quietest, not the newest", async () => {
  await using world = await startTestGateway(market(), { limits: { ...DNS_LIMITS, maxConnections: 3 } });
  const sockets: Socket[] = [];
  for (let i = 0; i < 3; i++) sockets.push(await connected(world.gateway.tcpPort));
  const [first, second] = sockets;
  for (const socket of sockets) socket.on("error", () => {});
  // The first has asked since the second connected.
  const answered = once(first!, "data");
  first!.write(frame(QUERY));
  await answered;
  const fourth = await connected(world.gateway.tcpPort);
  expect(await isClosed(second!)).toBe(true);
  expect(first!.closed).toBe(false);
  fourth.end(frame(QUERY));
  for await (const message of messages(fourth)) expect(responseText(message)).toContain("10.0.0.1");
  for (const socket of sockets) socket.destroy();
});

test("stop lets an open connection go and does not wait for a peer that stays", async () => {
  // Longer than this test may take.
  const world = await startTestGateway(market(), { limits: { ...DNS_LIMITS, idleTimeoutMs: 3_600_000 } });
  const socket = await connected(world.gateway.tcpPort);
  socket.on("error", () => {});
  await world.gateway.stop();
  expect(await isClosed(socket)).toBe(true);
});

test("resets in the middle of an answer end their connection and nothing else", async () => {
  await using world = await startTestGateway(market());
  for (let i = 0; i < 50; i++) {
    const socket = await connected(world.gateway.tcpPort);
    socket.on("error", () => {});
    socket.write(
      Buffer.concat(Array.from({ length: 20 }, () => frame(queryBytes({ name: "_svc._tcp.huge.market.waymark", type: "SRV" })))),
    );
    socket.resetAndDestroy();
  }
  const socket = await connected(world.gateway.tcpPort);
  socket.end(frame(QUERY));
  for await (const message of messages(socket)) expect(responseText(message)).toContain("10.0.0.1");
  expect(world.faults).toEqual([]);
});

test("thousands of queries on many connections keep nobody else waiting for more than a few of them", async () => {
  await using world = await startTestGateway(market());
  const many = Buffer.concat(Array.from({ length: 500 }, () => frame(QUERY)));
  const sockets = await Promise.all(Array.from({ length: 20 }, () => connected(world.gateway.tcpPort)));
  const done = sockets.map(async (socket) => {
    socket.end(many);
    let count = 0;
    for await (const message of messages(socket)) count += Number(message.length > 12);
    return count;
  });
  const answered = () => world.count("dns_queries_total", { qtype: "A", rcode: "NOERROR", transport: "tcp" });
  let most = 0;
  for (let before = 0; before < 10_000; ) {
    await new Promise((resolve) => setImmediate(resolve));
    most = Math.max(most, answered() - before);
    before = answered();
  }
  expect(most).toBeLessThanOrEqual(32);
  expect(await Promise.all(done)).toEqual(sockets.map(() => 500));
});
