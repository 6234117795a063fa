import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { DiscoveryDelta_Action } from "../../../gen/waymark/catalog/v1/delta_pb.js";
import { EntryKeySchema, EntryKind, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogWatchResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { connect, follow, type LiveChange, type LiveMap, ResolvePolicy } from "../../../src/client/index.ts";
import { FakeDiscovery } from "../../fakes/discovery-server.ts";
import { until } from "../../fakes/until.ts";

type Message = MessageInitShape<typeof CatalogWatchResponseSchema>;

const delta = (instanceId: string, seq: number, more: { readonly port?: number; readonly health?: HealthStatus } = {}) => ({
  action: DiscoveryDelta_Action.CREATE,
  deltaId: `n/1/${seq}`,
  payload: {
    case: "entry" as const,
    value: {
      key: { kind: EntryKind.SERVICE, namespace: "svc", name: "web", instanceId, clusterId: "c" },
      targets: [{ host: "10.0.0.1", port: more.port ?? 80 }],
      health: more.health ?? HealthStatus.HEALTHY,
    },
  },
});
const BEGIN: Message = { snapshot: Snapshot.BEGIN };
const END: Message = { snapshot: Snapshot.END, portableCursor: "p1", servedBy: "fake-1", age: {} };

/** A client of a fake server whose watches are told these messages, one list a stream. */
async function setUp(...scripts: readonly (readonly Message[])[]) {
  const server = new FakeDiscovery();
  server.watchScript = [...scripts];
  await server.start();
  const client = connect({ servers: [server.address], findServers: false, timeoutMs: 5000 });
  return {
    server,
    client,
    end: async (map?: LiveMap) => {
      await map?.close();
      client.close();
      server.stop();
    },
  };
}

const instances = (map: LiveMap) => map.named("svc", "web").map(({ key }) => key?.instanceId);

test("a map is there when its first snapshot is, and goes on over a break without losing an entry", async () => {
  const first = [{ ...BEGIN, deltas: [delta("1", 1), delta("2", 2)] }, END];
  const { server, client, end } = await setUp(first, [{ deltas: [delta("3", 3)], bookmark: true, portableCursor: "p2" }]);
  const breaks: number[] = [];
  const map = await client.watch({ namespace: "svc" }, { onBreak: (_error, waitMs) => breaks.push(waitMs) });
  expect(map.size).toBeGreaterThanOrEqual(2);
  await until("it goes on", () => map.size === 3);
  expect([instances(map), breaks.length, server.watchRequests.map(({ cursor }) => cursor)]).toEqual([["1", "2", "3"], 1, ["", "p1"]]);
  const key = create(EntryKeySchema, { kind: EntryKind.SERVICE, namespace: "svc", name: "web", instanceId: "3", clusterId: "c" });
  expect([map.get(key)?.targets[0]?.port, [...map.entries()].length, map.error]).toEqual([80, 3, undefined]);
  await end(map);
});

test("a lost server empties nothing: the map is there, and grows older", async () => {
  const { server, client, end } = await setUp([{ ...BEGIN, deltas: [delta("1", 1)] }, END]);
  const map = await client.watch({ namespace: "svc" });
  server.stop();
  const { ageMs } = map.freshness;
  await until("it is older", () => map.freshness.ageMs > ageMs + 20);
  expect([instances(map), map.freshness.servedBy, map.resolve("svc", "web")?.target?.port, map.error]).toEqual([
    ["1"],
    "fake-1",
    80,
    undefined,
  ]);
  await end(map);
});

test("a silent server is given up: the map keeps its entries, and goes on at the next server by its cursor", async () => {
  const { server: frozen, end } = await setUp([{ ...BEGIN, deltas: [delta("1", 1), delta("2", 2)] }, END]);
  const next = new FakeDiscovery();
  next.watchScript = [[{ deltas: [delta("3", 3)], bookmark: true, portableCursor: "p2", servedBy: "fake-2" }]];
  await next.start();
  const client = connect({ servers: [frozen.address, next.address], findServers: false, timeoutMs: 5000 });
  const breaks: string[] = [];
  const changes: string[] = [];
  const onChange = (told: readonly LiveChange[]) => changes.push(...told.map(({ kind }) => kind));
  const map = await client.watch({ namespace: "svc" }, { silentMs: 20, onChange, onBreak: ({ message }) => breaks.push(message) });
  await until("it goes on", () => map.size === 3);
  expect([breaks[0], changes, next.watchRequests[0]?.cursor, map.error]).toEqual([
    "the server was silent for too long",
    ["put", "put", "put"],
    "p1",
    undefined,
  ]);
  await map.close();
  client.close();
  next.stop();
  await end();
});

test("the time that a reader takes is no silence of the server, and neither is that in which a server catches up", async () => {
  const SILENT_MS = 300;
  let isEnded = (): boolean | undefined => undefined;
  const served = {
    server: "a:1",
    servers: ["a:1"],
    async *streamAt(_server: string, _method: unknown, _request: unknown, { signal }: { readonly signal?: AbortSignal }) {
      isEnded = () => signal?.aborted;
      for (const message of [{ ...BEGIN, deltas: [delta("1", 1)] }, END, { bookmark: true }])
        yield await Promise.resolve(create(CatalogWatchResponseSchema, message));
    },
  };
  const late = await setUp([{ ...BEGIN, deltas: [delta("1", 1)] }]);
  const silent = await setUp([BEGIN, END]);
  const breaks = { slow: 0, late: 0, silent: 0 };
  const stop = new AbortController();
  const optionsOf = (name: keyof typeof breaks) => ({ signal: stop.signal, silentMs: SILENT_MS, onBreak: () => (breaks[name] += 1) });
  const catchingUp = (async () => {
    for await (const { kind } of follow(late.client, { namespace: "svc" }, optionsOf("late"))) expect(kind).toBe("put");
  })();
  let map: LiveMap | undefined;
  const told: string[] = [];
  for await (const { kind } of follow(served as unknown as Parameters<typeof follow>[0], { namespace: "svc" }, optionsOf("slow"))) {
    told.push(kind);
    if (told.length < 3) continue;
    map = await silent.client.watch({ namespace: "svc" }, optionsOf("silent"));
    // The others began before, so the time of each is over.
    await until("the silent server is given up", () => breaks.silent > 0);
    expect(isEnded()).toBe(false);
    stop.abort();
  }
  await catchingUp;
  expect([told, breaks.slow, breaks.late, isEnded()]).toEqual([["put", "synced", "synced"], 0, 0, true]);
  await Promise.all([late.end(), silent.end(map)]);
});

test("a watch that is refused fails, and one that no server takes gives up in time", async () => {
  const { server, client, end } = await setUp();
  server.refusals.set("catalogWatch", { code: status.PERMISSION_DENIED, message: "no", reason: "DISCOVERY_ACCESS_DENIED" });
  await expect(client.watch({ namespace: "svc" })).rejects.toMatchObject({ facts: { code: "PERMISSION_DENIED" } });
  await end();
  const alone = connect({ servers: ["127.0.0.1:1"], findServers: false, timeoutMs: 200 });
  await expect(alone.watch({ namespace: "svc" })).rejects.toMatchObject({ facts: { code: "UNAVAILABLE" } });
  alone.close();
});

test("a watch of which no server tells anything gives up in time, and says so; one that is closed before says that", async () => {
  const { server, end } = await setUp([BEGIN]);
  const client = connect({ servers: [server.address], findServers: false, timeoutMs: 200 });
  const late = { message: "no complete snapshot arrived within 200ms", facts: { code: "DEADLINE_EXCEEDED", server: server.address } };
  await expect(client.watch({ namespace: "svc" })).rejects.toMatchObject(late);
  const closed = { message: "the watch is closed", facts: { code: "FAILED_PRECONDITION" } };
  await expect(client.watch({ namespace: "svc" }, { signal: AbortSignal.abort() })).rejects.toMatchObject(closed);
  client.close();
  await end();
});

const FULL = { code: status.RESOURCE_EXHAUSTED, message: "quota_exceeded: no more watches", reason: "QUOTA_EXCEEDED" };

test("a server without room for a watch loses only that watch to the next server", async () => {
  const { server: full, end } = await setUp();
  full.refusals.set("catalogWatch", FULL);
  const next = new FakeDiscovery();
  next.watchScript = [[{ ...BEGIN, deltas: [delta("1", 1)] }, END]];
  await next.start();
  const client = connect({ servers: [full.address, next.address], findServers: false });
  const breaks: string[] = [];
  const map = await client.watch({ namespace: "svc" }, { waitsForServer: true, onBreak: ({ message }) => breaks.push(message) });
  expect([instances(map), client.server, breaks]).toEqual([["1"], full.address, [FULL.message]]);
  await map.close();
  client.close();
  next.stop();
  await end();
});

test("a watch that waits for a server fails when each server that is there has no room for it, and a watch that had room goes on", async () => {
  const { server, client, end } = await setUp([BEGIN, END], [BEGIN, END]);
  const breaks: string[] = [];
  const map = await client.watch({ namespace: "svc" }, { onBreak: ({ message }) => breaks.push(message) });
  server.refusals.set("catalogWatch", FULL);
  await until("it is refused", () => breaks.includes(FULL.message));
  await expect(client.watch({ namespace: "svc.more" }, { waitsForServer: true })).rejects.toMatchObject({
    message: FULL.message,
    facts: { reason: "QUOTA_EXCEEDED", server: server.address },
  });
  expect([map.error, map.isReady]).toEqual([undefined, true]);
  await end(map);
});

test("changes are told in groups as they show, and a slow reader gets the last state of each key", async () => {
  const later = [{ deltas: [delta("2", 2)] }, { deltas: [delta("2", 3, { port: 81 })] }, { bookmark: true, portableCursor: "p2" }];
  const { client, end } = await setUp([{ ...BEGIN, deltas: [delta("1", 1)] }, END], later);
  const groups: number[] = [];
  const map = await client.watch({ namespace: "svc" }, { onChange: (changes) => groups.push(changes.length) });
  const reader = map[Symbol.asyncIterator]();
  const first = reader.next();
  await until("all is told", () => groups.length === 3);
  const changes = ((await first).value ?? []) as readonly LiveChange[];
  const told = changes.map(({ kind, entry }) => `${kind} ${entry.key?.instanceId ?? ""}`);
  expect(told[0]).toBe("put 2");
  const ended = reader.next();
  await map.close();
  await expect(ended).resolves.toMatchObject({ done: expect.any(Boolean) as boolean });
  await end();
});

test("resolve chooses among what the map shows, by policy, without what was tried, and counts", async () => {
  const deltas = ["1", "2", "3"].map((id, i) => delta(id, i, { health: id === "3" ? HealthStatus.MAINTENANCE : HealthStatus.HEALTHY }));
  const { client, end } = await setUp([{ ...BEGIN, deltas }, END]);
  const map = await client.watch({ namespace: "svc" });
  const choose = (options = {}) => map.resolve("svc", "web", options)?.entry.key?.instanceId;
  const chosen = new Set(Array.from({ length: 20 }, () => choose()));
  expect(chosen).toEqual(new Set(["1", "2"]));
  const byHash = { policy: ResolvePolicy.HASH, hashKey: "customer 7" };
  expect(new Set(Array.from({ length: 20 }, () => choose(byHash))).size).toBe(1);
  const first = map.resolve("svc", "web");
  const second = first && map.resolve("svc", "web", { avoid: [first] });
  expect(new Set([first?.entry.key?.instanceId, second?.entry.key?.instanceId])).toEqual(new Set(["1", "2"]));
  expect(first && second && map.resolve("svc", "web", { avoid: [first, second] })).toBeUndefined();
  expect([map.resolve("svc", "nobody"), map.resolve("other", "web"), map.resolve("svc", "web", { kind: EntryKind.QUEUE })]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
  first?.begin().succeeded();
  first?.failed();
  second?.begin().failed();
  const [stats] = map.stats();
  expect(stats).toMatchObject({ namespace: "svc", name: "web", kind: EntryKind.SERVICE, succeeded: 1, failed: 1, latencyMs: { count: 1 } });
  expect(stats?.choices).toBeGreaterThanOrEqual(42);
  expect(stats?.latencyMs.ranges.at(-1)).toEqual({ endMs: Infinity, count: 1 });
  await end(map);
});

test("a query iterates over all pages, and its pages can be read one by one", async () => {
  const { server, client, end } = await setUp();
  const entries = Array.from({ length: 25 }, (_, i) => ({ key: { namespace: "svc", name: "web", instanceId: String(i) } }));
  await client.discovery.register({ entries });
  const found: string[] = [];
  for await (const { key } of client.query({ namespace: "svc", limit: 10 })) found.push(key?.instanceId ?? "");
  expect(found.map(Number).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 25 }, (_, i) => i));
  let pages = 0;
  for await (const { items, servedBy } of client.query({ namespace: "svc", limit: 10 }).pages()) {
    expect([items.length > 0, servedBy]).toEqual([true, "fake-1"]);
    pages += 1;
    if (pages === 2) break;
  }
  // Pages that are not read are not asked for.
  expect(server.callsOf("catalogQuery").length).toBe(5);
  await end();
});

test("a lookup without a watch is answered from memory while it is fresh, and while no server answers", async () => {
  const { server, client, end } = await setUp();
  const target = { host: "10.0.0.1", port: 80 };
  await client.discovery.register({
    entries: ["1", "2"].map((id) => ({ key: { namespace: "svc", name: "web", instanceId: id, kind: 1 }, targets: [target] })),
  });
  const asked = () => server.callsOf("catalogQuery").length;
  const choices = await Promise.all(Array.from({ length: 20 }, () => client.resolve("svc", "web")));
  expect([new Set(choices.map((choice) => choice?.target?.port)), asked()]).toEqual([new Set([80]), 1]);
  expect([await client.resolve("svc", "nobody"), await client.resolve("svc", "nobody"), asked()]).toEqual([undefined, undefined, 2]);
  choices[0]?.begin().succeeded();
  expect(client.stats()).toMatchObject([
    { namespace: "svc", name: "web", kind: EntryKind.SERVICE, choices: 20, choicesByLoad: 0, succeeded: 1 },
  ]);
  const impatient = connect({ servers: [server.address], findServers: false, timeoutMs: 1000, lookupTtlMs: 0 });
  expect(impatient.stats()).toEqual([]);
  await impatient.resolve("svc", "web");
  const before = asked();
  await impatient.resolve("svc", "web");
  expect(asked()).toBe(before + 1);
  server.stop();
  expect((await impatient.resolve("svc", "web"))?.target?.port).toBe(80);
  await expect(impatient.resolve("svc", "other")).rejects.toMatchObject({ isAway: true });
  impatient.close();
  await end();
});
