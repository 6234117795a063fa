/** SummaryQuery, SummaryWatch, `/discovery/summary` and redirects at a resolver. */
import assert from "node:assert/strict";
import { create, fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Snapshot, Source } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService, ResolveRequestSchema, type ResolveResponse } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  SummaryQueryRequestSchema,
  SummaryQueryResponseSchema,
  SummaryWatchRequestSchema,
  type SummaryWatchResponse,
  SummaryWatchResponseSchema,
} from "../../gen/waymark/discovery/v1/summary_pb.js";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { epochOf } from "../../src/policy/set/verdict.ts";
import { CHANNELS } from "../../src/resolver/summaries/followed-summaries.ts";
import { resolverServices } from "../../src/services/resolving/services.ts";
import type { StreamSource } from "../../src/services/service.ts";
import { version } from "../fakes/policy-versions.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";
import { SummaryWorld } from "../fakes/summary-readers.ts";

const SECOND = 1000;
const RED = anonymousCaller("c1", "127.0.0.1");
const BLUE: Caller = { ...RED, tenant: "blue" };

/** A resolver in cluster c1, whose server holds summaries of `svc.a`, `svc.b` and, for the tenant blue, `n1.x0`. */
function started({ isFollowing = true, prefixes = ["svc.a", "n1"], hasPolicy = true, isRun = true } = {}) {
  const bounds = {
    ttlMs: 120 * SECOND,
    staleKeepMs: 600 * SECOND,
    pruneIntervalMs: 30 * SECOND,
    maxClockSkewMs: 600 * SECOND,
    maxEntries: 1000,
    maxBytes: 1e6,
  };
  const facts = { nodeId: "me", clusterId: "c1", region: "r1", generation: 1, requireSignatures: false };
  const options = { ...facts, ...bounds, prefixes, scopes: new Set([CHANNELS.global]) };
  const world = new ResolverWorld(["a"], { namespaces: [] }, isFollowing ? options : undefined);
  const server = world.server("a");
  if (hasPolicy) Object.assign(server, { versions: [version(1)], policyEpoch: epochOf(version(1).head) });
  const summaries = new SummaryWorld();
  for (const namespace of ["svc.a", "svc.b", "n1.x0"]) summaries.put({ namespace, serviceId: "web", source: "us-1" });
  summaries.beacon("us-1", { version: 1, ingress: [{ urls: ["grpc://us-1:1"], scope: SCOPE.GLOBAL, capabilities: [], tags: [] }] });
  summaries.ages = [{ source: "us-1", version: 1, ageMs: SECOND }];
  const { rooms } = world;
  const never = (): never => assert.fail("it is not asked for");
  const metrics = new Metrics();
  const services = resolverServices({
    reads: rooms.reads,
    fanout: rooms.fanout,
    dnsNames: rooms.dnsNames,
    bytes: rooms.bytes,
    loads: rooms.loads,
    policies: rooms.policies,
    summaries: rooms.summaries,
    identity: {
      version: "0",
      nodeId: "me",
      clusterId: "c1",
      region: "r1",
      zone: "z",
      roles: [],
      listeners: {},
      generation: 1,
      boot: "boot",
      startedMonoMs: 0,
    },
    endedStaticCount: () => 0,
    mesh: { ageMs: () => 0, unreachable: () => undefined, hasPeers: () => true },
    isReady: () => true,
    checkCaughtUp: () => {},
    checkStart: () => {},
    caughtUp: undefined,
    now: () => world.now,
    random: () => 0.5,
    allowsViewerOverride: false,
    metrics,
    isTls: false,
    onRead: () => {},
    upstreams: ["a"],
    cache: { statistics: never, act: never, audit: { record: never }, servedBy: "me" },
    audit: {},
    config: { settings: [], digest: "", check: never, policyNumber: () => 0, servedBy: "me" },
    onChange: () => () => {},
    ports: {
      machine: world.machine,
      ask: world.port,
      call: () => Promise.reject(new WaymarkError("not_ready", "nobody")),
      callBytes: () => Promise.reject(new WaymarkError("not_ready", "nobody")),
      garbled: never,
      adjust: () => world.run(100),
      until: (isSo) => Promise.resolve(isSo()),
    },
  });
  const discovery = services.find(({ desc }) => desc === DiscoveryService);
  assert(discovery !== undefined);
  const context = (caller: Caller) => ({ caller, time: world.now, requestId: "" });
  const query = async (asked: object = {}, caller = RED) => {
    const handler = discovery.handlers["summaryQuery"];
    assert(handler?.kind === "unary");
    const bytes = await handler.handle(create(SummaryQueryRequestSchema, asked) as never, context(caller));
    assert(bytes instanceof Uint8Array);
    return fromBinary(SummaryQueryResponseSchema, bytes);
  };
  const watch = (asked: object = {}, caller = RED): StreamSource => {
    const handler = discovery.handlers["summaryWatch"];
    assert(handler?.kind === "server_streaming");
    const source = handler.open(create(SummaryWatchRequestSchema, asked) as never, context(caller));
    source.attach(
      () => {},
      () => {},
    );
    return source;
  };
  const resolve = async (asked: object, caller = RED) => {
    const handler = discovery.handlers["resolve"];
    assert(handler?.kind === "unary");
    const said = handler.handle(create(ResolveRequestSchema, asked) as never, context(caller));
    world.run(100);
    return (await said) as ResolveResponse;
  };
  const route = (path: string, asked: Readonly<Record<string, string>>) =>
    discovery.routes?.find((each) => each.path === path)?.answer?.(asked, context(RED));
  if (isRun) world.run(2 * SECOND);
  const begin = () => {
    server.summaries = summaries;
    world.run(70 * SECOND);
  };
  return { world, server, summaries, query, watch, resolve, route, begin };
}

function pulled(world: ResolverWorld, source: StreamSource): readonly SummaryWatchResponse[] {
  const messages: SummaryWatchResponse[] = [];
  for (let bytes = source.pull(world.now); bytes !== undefined; bytes = source.pull(world.now))
    messages.push(fromBinary(SummaryWatchResponseSchema, new Uint8Array(bytes)));
  return messages;
}

test("a resolver that follows none says what to do", async () => {
  const { query, watch, route, resolve } = started({ isFollowing: false });
  for (const ask of [() => query(), () => watch(), () => route("/discovery/summary", {})])
    await expect(Promise.try<unknown, []>(ask)).rejects.toThrow("set summary.resolver_scopes, or send the call to a node");
  await expect(resolve({ namespace: "svc.a", name: "web" })).rejects.toThrow("no entry named web");
});

test("what is not here yet, or is not followed, is no absence", async () => {
  const { query, route, begin, world, watch } = started({ hasPolicy: false });
  await expect(query()).rejects.toThrow("has no summaries: it has not received them");
  begin();
  const answer = await query({ includeIngress: true });
  expect(answer).toMatchObject({ source: Source.FOLLOWED, stale: false, servedBy: "me", ingress: { "us-1": { urls: ["grpc://us-1:1"] } } });
  expect(answer.items.map(({ namespace, stale }) => `${namespace} ${stale}`)).toEqual(["n1.x0 false", "svc.a false"]);
  for (const ask of [
    () => query({ namespace: "svc.b" }),
    () => watch({ namespacePrefix: "other" }),
    () => route("/discovery/summary", { namespace: "svc.b" }),
  ])
    await expect(Promise.try<unknown, []>(ask)).rejects.toThrow("summary.resolver_namespaces");
  expect(await query({ namespacePrefix: "svc" })).toMatchObject({ items: [{ namespace: "svc.a" }] });
  expect(await route("/discovery/summary", { namespace: "svc.a" })).toMatchObject({
    page: { items: [{ namespace: "svc.a" }], source: "SOURCE_FOLLOWED" },
  });
  world.server("a").isUp = false;
  world.run(10 * SECOND);
  expect(await query()).toMatchObject({ stale: true, items: [{ stale: false }, { stale: false }] });
  world.run(120 * SECOND);
  expect((await query()).items.map(({ stale }) => stale)).toEqual([true, true]);
});

test("a resolver is ready when it holds summaries, unless they cannot be had", () => {
  for (const has of [true, false]) {
    const { world, server, summaries } = started({ hasPolicy: false, isRun: false });
    if (has) server.summaries = summaries;
    summaries.isReady = false;
    world.run(SECOND);
    // A server that has not caught up itself begins no snapshot.
    expect(world.machine.isReady).toBe(!has);
    summaries.isReady = true;
    world.run(SECOND);
    expect([world.machine.isReady, world.rooms.summaries?.followed.isComplete]).toEqual([true, has]);
  }
});

test("each caller is shown, and sent, by the policy that the resolver has", async () => {
  const { query, watch, resolve, begin } = started();
  begin();
  // The policy denies by default, and lets the tenant blue see what is below n1.x0.
  expect((await query({}, RED)).items).toEqual([]);
  expect((await query({}, BLUE)).items.map(({ namespace }) => namespace)).toEqual(["n1.x0"]);
  expect((await query({ namespace: "svc.b" }, RED)).items).toEqual([]);
  expect(() => watch({ namespace: "n1.x0" }, RED)).toThrow("denied");
  const asked = { namespace: "n1.x0", name: "web" };
  expect((await resolve(asked, BLUE)).redirect).toMatchObject({ clusterId: "us-1", urls: ["grpc://us-1:1"], stale: false });
  await expect(resolve({ ...asked, visitedClusters: ["us-1"] }, BLUE)).rejects.toThrow("no entry named web");
  await expect(resolve(asked, RED)).rejects.toThrow("no entry named web");
});

test("a watch is told of what comes, of a lost source, and no cursor that is good elsewhere", () => {
  const { world, summaries, watch, begin } = started({ hasPolicy: false });
  begin();
  const source = watch({ namespace: "svc.a", withDigest: true });
  const first = pulled(world, source);
  expect(first.map(({ snapshot }) => snapshot)).toContain(Snapshot.END);
  summaries.put({ namespace: "svc.a", serviceId: "other", source: "us-1" });
  world.run(SECOND);
  const [told] = pulled(world, source).flatMap(({ deltas }) => deltas);
  expect(told?.payload).toMatchObject({ case: "summary", value: { serviceId: "other", stale: false } });
  summaries.ages = [];
  world.run(130 * SECOND);
  const later = pulled(world, source);
  expect(later.flatMap(({ deltas }) => deltas.map(({ payload }) => payload.case === "summary" && payload.value.stale))).toEqual([
    true,
    true,
  ]);
  expect([...first, ...later].map(({ portableCursor }) => portableCursor).join("")).toBe("");
  // One of a node is taken as none.
  const there = summaries.watch({ namespace: "svc.a" });
  there.attach(
    () => {},
    () => {},
  );
  let cursor = "";
  for (let bytes = there.pull(summaries.now()); bytes !== undefined; bytes = there.pull(summaries.now()))
    cursor = fromBinary(SummaryWatchResponseSchema, new Uint8Array(bytes)).portableCursor || cursor;
  expect(cursor).not.toBe("");
  expect(pulled(world, watch({ namespace: "svc.a", cursor }))[0]).toMatchObject({ snapshot: Snapshot.BEGIN });
});

test("another resolver that reads here has the records as they were sealed, and is refused in a circle", async () => {
  const { world, watch, begin, query } = started();
  begin();
  const reader: Caller = { ...RED, roles: ["mesh.resolve"] };
  const source = watch({ forResolver: true, namespacePrefixes: [""], via: ["r2"] }, reader);
  const messages = pulled(world, source);
  // What the policy gives no owner is told to nobody.
  expect(messages.flatMap(({ deltas }) => deltas.map(({ payload }) => payload.case))).toEqual(["sealedRecord", "sealedRecord"]);
  expect(messages.at(-1)).toMatchObject({ via: ["me"], heard: [{ sourceCluster: "us-1", version: 1n }] });
  expect(() => watch({ forResolver: true, namespacePrefixes: [""], via: ["me"] }, reader)).toThrow("reads through the calling resolver");
  await expect(query({ forResolver: true, via: ["me"] }, reader)).rejects.toThrow("reads through the calling resolver");
});
