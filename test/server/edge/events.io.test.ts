/** Routes of server-sent events, at the HTTP edge. Time is what a test says. */
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PeerService, PeerServiceWatchResponseSchema } from "../../../gen/waymark/control/v1/peer_pb.js";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import type { ChainPorts } from "../../../src/server/chain.ts";
import { peerService } from "../../../src/services/peers/peers.ts";
import type { EventRoute, ServiceDefinition, StreamSource } from "../../../src/services/service.ts";
import { serverFiles } from "../../fakes/certificate.ts";
import { DemoSource } from "../../fakes/demo-service.ts";
import { type DemoEdge, type DemoEdgeOptions, startDemoEdge } from "../../fakes/edge.ts";
import { EventReader, type EventTarget } from "../../fakes/event-reader.ts";
import { Forwarding, peers } from "../../fakes/forwarding.ts";
import { NO_OPERATIONS } from "../../fakes/peer-operations.ts";
import { until } from "../../fakes/until.ts";
import { FakeMembers, memberRow } from "../../fakes/watched-members.ts";

const PATH = "/control/events/peers";
const START = ":\n\nretry: 1000\n\n";

/** Time that passes only in `pass`. */
class TestTime {
  #monoMs = 0;
  readonly #timers = new Set<{ readonly dueMs: number; readonly act: () => void }>();
  readonly ports: Partial<ChainPorts> = {
    now: () => ({ monoMs: this.#monoMs, wallMs: this.#monoMs }),
    later: (act, delayMs) => {
      const timer = { dueMs: this.#monoMs + delayMs, act };
      this.#timers.add(timer);
      return () => void this.#timers.delete(timer);
    },
  };

  get timers(): number {
    return this.#timers.size;
  }

  pass(forMs: number): void {
    this.#monoMs += forMs;
    for (const timer of this.#timers) {
      if (timer.dueMs > this.#monoMs) continue;
      this.#timers.delete(timer);
      timer.act();
    }
  }
}

function membersService(mesh: FakeMembers, maxWatches = 100): ServiceDefinition {
  const identity = { nodeId: "n1", clusterId: "c1", region: "r1", boot: "b1" };
  return peerService({
    ...NO_OPERATIONS,
    source: mesh,
    identity,
    clusterKeys: () => [],
    checkCaughtUp: () => {},
    maxWatches,
    tick: () => () => {},
  });
}

const route = membersService(new FakeMembers()).routes?.find((each): each is EventRoute => each.path === PATH);

/** A service with the route over a source. */
function sourceService(open: () => StreamSource): ServiceDefinition {
  if (route === undefined) throw new Error(`no route ${PATH}`);
  return { ...peers(open), routes: [route] };
}

const message = (nodeId: string) => toBinary(PeerServiceWatchResponseSchema, create(PeerServiceWatchResponseSchema, { servedBy: nodeId }));
const eventOf = (nodeId: string) => `data: {"servedBy":"${nodeId}"}\n\n`;

function served(service: ServiceDefinition, options: DemoEdgeOptions = {}): Promise<DemoEdge> {
  return startDemoEdge({ ...options, listener: { services: [service], ...options.listener } });
}

/** One source for each stream, and the edge on which they open. */
async function servedSources(options: DemoEdgeOptions = {}) {
  const sources: DemoSource[] = [];
  const edge = await served(
    sourceService(() => {
      const source = new DemoSource();
      sources.push(source);
      return source;
    }),
    options,
  );
  const opened = async (): Promise<DemoSource> => {
    await until("a stream opens", () => sources.length > 0);
    return sources[0] as DemoSource;
  };
  return { edge, sources, opened, [Symbol.asyncDispose]: () => edge[Symbol.asyncDispose]() };
}

function reader({ base }: Pick<DemoEdge, "base">, more: Partial<EventTarget> = {}): EventReader {
  return new EventReader({ base, path: PATH, version: "1.1", ...more });
}

const changesOf = ({ events }: EventReader) =>
  events.map(({ event, data = "{}" }) => {
    const { deltas = [] } = JSON.parse(data) as { readonly deltas?: { readonly peer: { nodeId: string; status: string } }[] };
    return [event, ...deltas.map(({ peer }) => `${peer.nodeId} ${peer.status}`)].join(" ");
  });

test.each([
  { version: "1.1", isTls: false },
  { version: "1.1", isTls: true },
  { version: "2", isTls: false },
  { version: "2", isTls: true },
] as const)("HTTP/$version (TLS: $isTls): a snapshot, a change, and after a break only the changes since the last id", async (way) => {
  const { version } = way;
  const tls = way.isTls ? serverFiles() : undefined;
  const ca = tls === undefined ? {} : { ca: tls.authority.cert };
  const mesh = new FakeMembers(memberRow("n1"), memberRow("n2"), memberRow("n3", { clusterId: "c2" }));
  await using on = await served(membersService(mesh), { listener: { web: { corsOrigins: ["https://ui.example"] }, ...(tls && { tls }) } });
  const path = `${PATH}?cluster_id=${memberRow("n1").clusterId}`;
  let lastId = "";
  {
    using first = reader(on, { version, path, ...ca, headers: { origin: "https://ui.example" } });
    await first.reads('event: end\ndata: {"revision":"1"');
    mesh.put(memberRow("n2", { status: "suspect" }));
    await first.reads("PEER_STATUS_SUSPECT");
    expect(first.status).toBe(200);
    expect(first.headers).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      "access-control-allow-origin": "https://ui.example",
    });
    expect(first.text.startsWith(START)).toBe(true);
    expect(changesOf(first)).toEqual([
      "begin",
      "continue n1 PEER_STATUS_ALIVE n2 PEER_STATUS_ALIVE",
      "end",
      "deltas n2 PEER_STATUS_SUSPECT",
    ]);
    lastId = first.events.at(-1)?.["id"] ?? "";
  }
  mesh.put(memberRow("n2", { status: "dead" }));
  for (const [more, query] of [
    [{ headers: { "last-event-id": lastId } }, "&last_event_id=the-header-is-newer"],
    [{}, `&last_event_id=${lastId}`],
  ] as const) {
    using second = reader(on, { version, path: path + query, ...ca, ...more });
    await second.reads("event: bookmark");
    expect(changesOf(second)).toEqual(["deltas n2 PEER_STATUS_DEAD", "bookmark"]);
  }
});

test("the events are filtered by the parameters, and many streams get the same events", async () => {
  const mesh = new FakeMembers(memberRow("n1", { zone: "a" }), memberRow("n2", { status: "dead" }), memberRow("n3"));
  await using on = await served(membersService(mesh));
  const path = `${PATH}?health=unhealthy,degraded&zone=a&roles=node&desired=active,cordoned&label_selector=rack%20in%20(r1,r2),!old`;
  const readers = Array.from({ length: 3 }, () => reader(on, { path }));
  for (const each of readers) await each.reads("event: end");
  mesh.put(memberRow("n3", { zone: "a", status: "suspect" }));
  mesh.put(memberRow("n2", { zone: "a", labels: { rack: "r1", old: "" } }));
  mesh.put(memberRow("n1", { zone: "b" }));
  for (const each of readers) {
    await each.reads('"removed":"n1"');
    each[Symbol.dispose]();
  }
  expect(readers.map(({ text }) => text)).toEqual(Array(3).fill(readers[0]?.text));
  expect(readers[0]?.text).toContain('"nodeId":"n3"');
  expect(readers[0]?.text).not.toContain('"nodeId":"n2"');
});

test("a stream that has nothing to say begins after a second, and sends a comment after 15 s of silence", async () => {
  const time = new TestTime();
  await using on = await servedSources({ ports: time.ports });
  using client = reader(on.edge);
  const source = await on.opened();
  time.pass(999);
  expect(time.timers).toBe(1);
  time.pass(1);
  await client.reads(START);
  await until("the silence is timed", () => time.timers === 1);
  time.pass(10_000);
  source.queue.push(message("a"));
  source.wake();
  await client.reads(eventOf("a"));
  await until("the silence is timed", () => time.timers === 1);
  time.pass(14_999);
  expect(client.text).toBe(START + eventOf("a"));
  for (const beats of [":\n\n", ":\n\n:\n\n"]) {
    time.pass(15_000);
    await client.reads(eventOf("a") + beats);
    await until("the silence is timed", () => time.timers === 1);
  }
  source.end(undefined);
  expect(await client.ended()).toBe(`${START}${eventOf("a")}:\n\n:\n\n`);
  expect([time.timers, source.closeCount]).toEqual([0, 1]);
  expect(on.edge.on.observed).toMatchObject([{ method: "Watch", code: "OK", transport: "http1", encoding: "json" }]);
});

test("a client that does not read holds one message, and gets the next ones when it reads", async () => {
  await using on = await servedSources();
  using client = reader(on.edge, { version: "2" });
  const source = await on.opened();
  client.body?.pause();
  const names = ["a", "b", "c"].map((name) => name.repeat(200_000));
  source.queue.push(...names.map(message));
  source.isDrained = true;
  source.wake();
  // The server has turns in which it could pull more.
  for (let i = 0; i < 5; i++) await fetch(`${on.edge.base}/healthz`);
  expect(source.queue).toHaveLength(2);
  source.isDrained = false;
  client.body?.resume();
  for (const name of names) await client.reads(eventOf(name));
});

test("when the server drains, a stream ends with the error as an event", async () => {
  const mesh = new FakeMembers(memberRow("n1"));
  await using on = await served(membersService(mesh));
  using client = reader(on);
  await client.reads("event: end");
  on.on.chain.drain();
  await client.ended();
  const { event, data = "" } = client.events.at(-1) ?? {};
  expect([event, JSON.parse(data)]).toMatchObject(["error", { code: "unavailable", details: [{ debug: { reason: "DRAINING" } }, {}] }]);
  expect(on.on.observed).toMatchObject([{ code: "UNAVAILABLE" }]);
  using late = await reader(on).begun();
  expect(late.status).toBe(503);
});

test("an error after the start is the last event, behind the message that is being read", async () => {
  await using on = await servedSources();
  using client = reader(on.edge);
  const source = await on.opened();
  source.queue.push(message("a"));
  source.isDrained = true;
  source.wake();
  source.end(new WaymarkError("not_ready", "the store\nis away", { retryMs: 5 }));
  const text = await client.ended();
  expect(
    text.startsWith(`${START}${eventOf("a")}event: error\ndata: {"code":"unavailable","message":"not_ready: the store\\nis away",`),
  ).toBe(true);
  expect([client.status, client.events.length, source.closeCount]).toEqual([200, 2, 1]);
});

test.each([
  { path: `${PATH}?last_event_id=x`, status: 400, says: "cursor: is not a cursor" },
  { path: `${PATH}?cluster_id=%00`, status: 400, says: "cluster_id: " },
  { path: `${PATH}?cursor=x`, status: 400, says: "cursor: unknown parameter; allowed: cluster_id, region, statuses, health, roles, zone" },
  { path: `${PATH}?health=ill`, status: 400, says: 'health: must be one of healthy, degraded, unhealthy, got "ill"' },
  { path: `${PATH}?label_selector=rack%20in%207`, status: 400, says: "label_selector: must be requirements such as" },
  { path: `${PATH}?sort=rtt`, status: 400, says: "sort: unknown parameter" },
  { path: PATH, maxWatches: 0, status: 429, says: "quota_exceeded: too many member watches" },
  { path: PATH, roles: [], status: 401, says: "mesh.read" },
])("before the start an error is a response: $says", async ({ path, maxWatches, status, says, roles }) => {
  const ports: Partial<ChainPorts> =
    roles === undefined ? {} : { identify: (_header, { address }) => anonymousCaller("local", address, roles) };
  await using on = await served(membersService(new FakeMembers(), maxWatches), { ports });
  for (const method of ["GET", "HEAD"] as const) {
    using client = await reader(on, { path, method }).begun();
    const text = await client.ended();
    expect([client.status, client.headers["content-type"]]).toEqual([status, "application/json; charset=utf-8"]);
    if (method === "GET") expect((JSON.parse(text) as { message: string }).message).toContain(says);
    else expect(text).toBe("");
  }
});

test.each(["1.1", "2"] as const)("HEAD over HTTP/%s answers with the head of the stream, and opens none for longer", async (version) => {
  await using on = await served(membersService(new FakeMembers(memberRow("n1"))));
  using client = await reader(on, { version, method: "HEAD" }).begun();
  expect(await client.ended()).toBe("");
  expect([client.status, client.headers["content-type"]]).toEqual([200, "text/event-stream; charset=utf-8"]);
  expect(on.on.observed).toMatchObject([{ method: "Watch", code: "OK" }]);
});

test.each(["1.1", "2"] as const)("when a client over HTTP/%s is gone, its stream is closed and counted", async (version) => {
  const time = new TestTime();
  await using on = await servedSources({ ports: time.ports });
  {
    using client = reader(on.edge, { version });
    const source = await on.opened();
    source.queue.push(message("a"));
    source.wake();
    await client.reads(eventOf("a"));
    await until("the silence is timed", () => time.timers === 1);
  }
  await until("the source is closed", () => on.sources[0]?.closeCount === 1);
  expect(on.edge.on.observed).toMatchObject([{ code: "CANCELLED" }]);
  expect(time.timers).toBe(0);
});

test("a client that leaves before its stream is admitted leaves nothing", async () => {
  const identified = Promise.withResolvers<Caller>();
  const asked = Promise.withResolvers<undefined>();
  const identify = () => {
    asked.resolve(undefined);
    return identified.promise;
  };
  await using on = await servedSources({ ports: { identify } });
  {
    using client = reader(on.edge);
    await asked.promise;
    expect(client.status).toBe(0);
  }
  await until("the stream is counted", () => on.edge.on.observed.length === 1);
  identified.resolve(anonymousCaller("local", "", ["mesh.read"]));
  expect([on.edge.on.observed[0]?.code, on.sources]).toEqual(["CANCELLED", []]);
});

test("a read worker serves the route with the stream of the main thread, and its rejection is a response", async () => {
  const source = new DemoSource();
  const opens: (() => StreamSource)[] = [
    () => {
      throw new WaymarkError("quota_exceeded", "too many watches", { retryMs: 1000 });
    },
    () => source,
  ];
  const forwarding = new Forwarding(sourceService(() => opens.shift()?.() ?? source));
  await using on = await served({ desc: PeerService, ...forwarding.service });
  const settled = (what: string, look: () => boolean) =>
    until(what, async () => {
      await forwarding.settle();
      return look();
    });
  using refused = reader(on);
  await settled("the response to the first", () => refused.isEnded);
  expect([refused.status, refused.headers["retry-after"]]).toEqual([429, "1"]);
  using client = reader(on, { headers: { "last-event-id": "" } });
  source.queue.push(message("a"));
  await settled("the first message", () => client.text === START + eventOf("a"));
  source.end(new WaymarkError("draining", "this node stops"));
  await settled("the end", () => client.isEnded);
  expect(client.text).toContain("event: error\n");
});
