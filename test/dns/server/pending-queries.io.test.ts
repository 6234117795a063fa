/** Questions that wait for what a catalog has to fetch: who is answered, when and by how much at most. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { DNS_LIMITS } from "../../../src/dns/server/server.io.ts";
import { type LookupOutcome, PendingNameError } from "../../../src/dns/subject/remote-lookup.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { parsePlainBlock } from "../../../src/lib/addresses.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { startTestGateway } from "../../fakes/dns-gateway.ts";
import { queryBytes, responseText } from "../../fakes/dns-text.ts";
import { until } from "../../fakes/until.ts";

/** Knows a name only once it has arrived. */
class LateCatalog extends FakeDnsCatalog {
  readonly asked: string[] = [];
  readonly told: string[] = [];

  answered({ outcome, hasWaited }: LookupOutcome): void {
    this.told.push(`${outcome}${hasWaited ? " late" : ""}`);
  }

  readonly #waiting = new Map<string, PromiseWithResolvers<void>>();
  readonly #known = new Set<string>();

  override find(...[kind, namespace, name]: Parameters<FakeDnsCatalog["find"]>): ReturnType<FakeDnsCatalog["find"]> {
    if (this.#known.has(name)) return super.find(kind, namespace, name);
    this.asked.push(name);
    let waiting = this.#waiting.get(name);
    if (waiting === undefined) this.#waiting.set(name, (waiting = Promise.withResolvers()));
    throw new PendingNameError(name, waiting.promise, new Set());
  }

  arrive(name: string, isKnown = true): void {
    if (isKnown) {
      this.#known.add(name);
      this.add(entryView({ name, targets: [{ host: "10.0.0.1" }] }));
    }
    this.#waiting.get(name)?.resolve();
  }
}

const question = (name: string, id = 7) => queryBytes({ name: `${name}.market.waymark`, type: "A", id });
const nameIn = (message: Buffer) => /(\w+)\.market/.exec(responseText(message))?.[1];

function frame(message: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([message.length >> 8, message.length & 255]), message]);
}

async function client(port: number, address = "127.0.0.1") {
  const socket = createSocket("udp4");
  socket.bind(0, address);
  await once(socket, "listening");
  const got: Buffer[] = [];
  socket.on("message", (message: Buffer) => got.push(message));
  return {
    got,
    ask: (message: Uint8Array) => socket.send(message, port, "127.0.0.1"),
    [Symbol.dispose]: () => void socket.close(),
  };
}

test("each peer gets the answer to its own question, in the order in which they arrive, and is let in once", async () => {
  const catalog = new LateCatalog();
  const waitedFor: (string | undefined)[] = [];
  await using world = await startTestGateway(catalog, { select: (_, waited) => (waitedFor.push(waited?.key), onlyView(catalog)) });
  using a = await client(world.gateway.udpPort);
  using b = await client(world.gateway.udpPort);
  a.ask(question("one", 1));
  b.ask(question("two", 2));
  await until("both are asked", () => catalog.asked.length === 2);
  catalog.arrive("two");
  await until("one is answered", () => b.got.length === 1);
  catalog.arrive("one");
  await until("the other is answered", () => a.got.length === 1);
  expect([nameIn(a.got[0]!), a.got[0]!.readUInt16BE(0), nameIn(b.got[0]!), b.got[0]!.readUInt16BE(0)]).toEqual(["one", 1, "two", 2]);
  expect(waitedFor).toEqual([undefined, undefined, "two", "one"]);
  expect(world.count("dns_queries_total", { qtype: "A", rcode: "NOERROR", transport: "udp" })).toBe(2);
  // One that is answered from what is kept is told, too; one that is refused is not.
  a.ask(question("one", 3));
  await until("it is answered", () => a.got.length === 2);
  a.ask(queryBytes({ name: "one.example", type: "A", id: 4 }));
  await until("it is refused", () => a.got.length === 3);
  expect(catalog.told).toEqual(["found late", "found late", "found"]);
});

test("a question waits no longer than it may, and one that is unknown again waits no more; neither is a fault", async () => {
  const catalog = new LateCatalog();
  await using world = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaitMs: 1 } });
  using a = await client(world.gateway.udpPort);
  a.ask(question("never"));
  await until("it is answered", () => a.got.length === 1);
  await using patient = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaitMs: 60_000 } });
  using b = await client(patient.gateway.udpPort);
  catalog.arrive("roomless", false);
  b.ask(question("roomless"));
  await until("it is asked", () => catalog.asked.includes("roomless"));
  catalog.arrive("roomless", false);
  await until("it is answered", () => b.got.length === 1);
  expect([responseText(a.got[0]!), responseText(b.got[0]!)]).toEqual(["SERVFAIL", "SERVFAIL"]);
  expect([world.faults, patient.faults]).toEqual([[], []]);
  expect(catalog.told).toEqual(["unknown late", "unknown late"]);
});

test("beyond the bound questions are answered SERVFAIL at once, and so is what nobody fetches", async () => {
  const catalog = new LateCatalog();
  await using world = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaiting: 1, maxWaitMs: 60_000 } });
  using a = await client(world.gateway.udpPort);
  a.ask(question("one", 1));
  a.ask(question("two", 2));
  await until("the second is answered", () => a.got.length === 1);
  expect([a.got[0]!.readUInt16BE(0), responseText(a.got[0]!)]).toEqual([2, "SERVFAIL"]);
  catalog.arrive("one");
  await until("the first is answered", () => a.got.length === 2);
  const lost = Object.assign(new FakeDnsCatalog(), {
    find: () => {
      throw new WaymarkError("not_ready", "nobody can be asked");
    },
  });
  await using cutOff = await startTestGateway(lost);
  using b = await client(cutOff.gateway.udpPort);
  b.ask(question("one"));
  await until("it is answered", () => b.got.length === 1);
  expect(responseText(b.got[0]!)).toBe("SERVFAIL");
});

test("a network has no more questions that wait than its rate, and what it asks beyond that takes nobody's place", async () => {
  const catalog = new LateCatalog();
  const rate = { perSecond: 2, maxNetworks: 100 };
  // After a pause of this process the flood has the tokens of two further seconds: six questions of it wait then. Without the rate all places would be taken.
  await using world = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaiting: 12, maxWaitMs: 60_000 }, rate });
  using flood = await client(world.gateway.udpPort);
  using good = await client(world.gateway.udpPort, "127.0.1.1");
  for (let id = 1; id <= 20; id++) flood.ask(question(`none${id}`, id));
  await until("all are asked", () => catalog.asked.length === 20);
  good.ask(question("one", 7));
  await until("it is asked", () => catalog.asked.includes("one"));
  catalog.arrive("one");
  await until("it is answered", () => good.got.length === 1);
  expect(responseText(good.got[0]!)).toContain("one.market.waymark. 30 A 10.0.0.1");
});

test("one network takes no more than its part of the places, over TCP and UDP, and others and trusted forwarders find one", async () => {
  const catalog = new LateCatalog();
  const limits = { ...DNS_LIMITS, maxWaiting: 8, maxWaitingOfNetwork: 2, maxWaitMs: 60_000 };
  const trustedForwarders = [parsePlainBlock("127.0.2.1/32")].filter((block) => block !== undefined);
  await using world = await startTestGateway(catalog, { limits, trustedForwarders, rate: { perSecond: 200, maxNetworks: 100 } });
  const one = stream(world.gateway.tcpPort);
  for (const [id, name] of ["a", "b", "c"].entries()) one.ask(question(name, id));
  await until("the third is answered at once", () => one.ids.length === 1);
  expect(one.ids).toEqual([2]);
  expect(world.count("dns_queries_total", { qtype: "A", rcode: "SERVFAIL", transport: "tcp" })).toBe(1);
  using neighbour = await client(world.gateway.udpPort, "127.0.0.9");
  neighbour.ask(question("d"));
  await until("it is told to ask over TCP", () => neighbour.got.length === 1);
  expect(responseText(neighbour.got[0]!)).toBe("NOERROR tc");
  using other = await client(world.gateway.udpPort, "127.0.1.1");
  using forwarder = await client(world.gateway.udpPort, "127.0.2.1");
  other.ask(question("e"));
  for (const name of ["f", "g", "h"]) forwarder.ask(question(name));
  await until("all of these wait", () => ["e", "f", "g", "h"].every((name) => catalog.asked.includes(name)));
  catalog.arrive("a");
  await until("the place is free again", () => one.ids.length === 2);
  one.ask(question("i"));
  await until("it waits", () => catalog.asked.includes("i"));
  expect(one.ids).toEqual([2, 0]);
  one.socket.destroy();
});

test("a flood from many networks takes no place of those whose addresses are proved, and is told to ask over TCP", async () => {
  const catalog = new LateCatalog();
  const rate = { perSecond: 2, maxNetworks: 100 };
  await using world = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaiting: 4, maxWaitMs: 60_000 }, rate });
  for (let network = 1; network <= 5; network++) {
    using sender = await client(world.gateway.udpPort, `127.0.${network}.1`);
    sender.ask(question(`none${network}`, network));
    await until("it is asked", () => catalog.asked.length === network);
    if (network < 4) continue;
    await until("it is answered", () => sender.got.length === 1);
    expect(responseText(sender.got[0]!)).toBe("NOERROR tc");
  }
  const tcp = stream(world.gateway.tcpPort);
  tcp.ask(question("one", 7));
  await until("it is asked", () => catalog.asked.includes("one"));
  expect(tcp.ids).toEqual([]);
  catalog.arrive("one");
  await until("it is answered", () => tcp.ids.length === 1);
  tcp.socket.destroy();
});

/** A connection over TCP that keeps the ids of its answers. */
function stream(port: number) {
  const socket = connect(port, "127.0.0.1");
  const ids: number[] = [];
  let pending = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (; pending.length > 4; pending = pending.subarray(2 + pending.readUInt16BE(0))) ids.push(pending.readUInt16BE(2));
  });
  return { socket, ids, ask: (...messages: Uint8Array[]) => socket.write(Buffer.concat(messages.map(frame))) };
}

test("over TCP a question that waits does not hold those behind it, which keep their order, and the last answer ends the connection", async () => {
  const catalog = new LateCatalog();
  for (const name of ["two", "three"]) catalog.arrive(name);
  await using world = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaitMs: 60_000 } });
  const first = stream(world.gateway.tcpPort);
  first.ask(question("one", 1), question("two", 2), question("four", 3), question("three", 4), question("two", 5));
  first.socket.end();
  await until("those that need not wait are answered", () => first.ids.length === 3);
  expect([first.ids, catalog.asked]).toEqual([
    [2, 4, 5],
    ["one", "four"],
  ]);
  catalog.arrive("four");
  await until("the later one of those that wait is answered", () => first.ids.length === 4);
  catalog.arrive("one");
  await once(first.socket, "close");
  expect(first.ids).toEqual([2, 4, 5, 3, 1]);
});

test("with as many questions as may wait a connection is not read, until one is answered; other connections are", async () => {
  const catalog = new LateCatalog();
  catalog.arrive("known");
  const limits = { ...DNS_LIMITS, maxWaitMs: 60_000, maxWaitingPerConnection: 2 };
  await using world = await startTestGateway(catalog, { limits });
  const [first, second] = [stream(world.gateway.tcpPort), stream(world.gateway.tcpPort)];
  first.ask(question("one", 1), question("two", 2), question("three", 3), question("known", 4));
  await until("as many wait as may", () => catalog.asked.length === 2);
  // More than the buffers of both ends hold.
  let isRead = false;
  const many = frame(question("known", 9));
  first.socket.write(Buffer.alloc(many.length * Math.ceil(32_000_000 / many.length), many), () => (isRead = true));
  for (let id = 1; id <= 100; id++) {
    second.ask(question("known", id));
    await until("the other connection is answered", () => second.ids.length === id);
  }
  expect([isRead, first.ids, catalog.asked]).toEqual([false, [], ["one", "two"]]);
  catalog.arrive("two");
  await until("the next one waits", () => catalog.asked.length === 3);
  expect([first.ids, catalog.asked]).toEqual([[2], ["one", "two", "three"]]);
  catalog.arrive("three");
  await until("those behind it are answered", () => first.ids.length > 3);
  expect(first.ids.slice(0, 4)).toEqual([2, 3, 4, 9]);
  first.socket.destroy();
  second.socket.destroy();
});

test("a frame that is no query ends its connection when the questions before it are answered", async () => {
  const catalog = new LateCatalog();
  await using world = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaitMs: 60_000 } });
  const { socket, ids, ask } = stream(world.gateway.tcpPort);
  ask(question("one", 1), question("two", 2).subarray(0, 11), question("three", 3));
  await until("it is refused", () => world.count("dns_dropped_total", { reason: "malformed" }) === 1);
  catalog.arrive("one");
  await once(socket, "close");
  expect([ids, catalog.asked]).toEqual([[1], ["one"]]);
});

test("a closed gateway answers nobody who waited", async () => {
  const catalog = new LateCatalog();
  const world = await startTestGateway(catalog, { limits: { ...DNS_LIMITS, maxWaitMs: 60_000 } });
  using a = await client(world.gateway.udpPort);
  const tcp = connect(world.gateway.tcpPort, "127.0.0.1");
  const got: Buffer[] = [];
  tcp.on("data", (chunk: Buffer) => got.push(chunk));
  a.ask(question("one"));
  tcp.write(frame(question("one")));
  await until("both wait", () => catalog.asked.length === 2);
  await world.gateway.stop();
  catalog.arrive("one");
  if (!tcp.closed) await once(tcp, "close");
  expect([a.got, got, world.faults]).toEqual([[], [], []]);
  expect(world.count("dns_queries_total", { qtype: "A", rcode: "NOERROR", transport: "udp" })).toBe(0);
});
