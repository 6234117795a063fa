/** Resolve of a name that has nothing to choose here, beside summaries of other clusters. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import type { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type ResolveRequest, ResolveRequestSchema, type ResolveResponse } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { Fanout } from "../../../src/discovery/fanout.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { readHandlers } from "../../../src/services/discovery/read-handlers.ts";
import { ClusterRedirects } from "../../../src/services/discovery/resolve.ts";
import { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import type { CallContext } from "../../../src/services/service.ts";
import { BAND, type Summary } from "../../../src/summary/summary.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, Registry, stamped, WALL } from "../../fakes/registry.ts";
import { ANYONE, NODE, SummaryWorld } from "../../fakes/summary-readers.ts";

const BLUE: Caller = { ...ANYONE, tenant: "blue" };
const HIDING = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);

/** A node with these entries in `svc`, and these summaries of `svc/web` of other clusters. */
function node(entries: Readonly<Record<string, MessageInitShape<typeof EntrySchema>>>, summaries: readonly Partial<Summary>[]) {
  const world = new SummaryWorld();
  for (const one of summaries) {
    world.put({ namespace: "svc", serviceId: "web", ...one });
    const source = one.source ?? "";
    world.ingress.set(source, [{ urls: [`grpc://${source}:1`], scope: SCOPE.REGION, capabilities: [], tags: [] }]);
  }
  const r = new Registry();
  const drafts = Object.entries(entries).map(([name, init]) => stamped(name, init));
  if (drafts.length > 0) r.register("ann", drafts, at(0), { isStatic: true });
  const { policies, denials } = world;
  const told: string[] = [];
  const onDenied = (_: Caller, { namespace }: { namespace: string }) => denials.push(`catalog ${namespace}`);
  const reads = new CatalogReads(r.replica, NODE, { policies, onDenied });
  let isCaughtUp = true;
  const loads = { of: () => undefined };
  const { handlers } = readHandlers({
    identity: { ...NODE, version: "", zone: "z1", roles: [], listeners: {}, startedMonoMs: 0, generation: 1 },
    reads,
    fanout: new Fanout(),
    dnsNames: new DnsNames(r.replica, [], []),
    bytes: new DiscoveryBytes(r.replica.slab, loads),
    loads,
    endedStaticCount: () => 0,
    mesh: { ageMs: () => 40, unreachable: () => undefined, hasPeers: () => true },
    isReady: () => true,
    checkCaughtUp: () => {
      if (!isCaughtUp) throw new WaymarkError("not_ready", "still starting");
    },
    checkStart: () => {},
    caughtUp: undefined,
    now: () => at(0),
    random: () => 0,
    allowsViewerOverride: true,
    metrics: new Metrics(),
    isTls: false,
    onRead: (_, namespace) => told.push(namespace),
    redirects: new ClusterRedirects(world.summaries),
  });
  const resolve = (asked: MessageInitShape<typeof ResolveRequestSchema> = {}, caller = ANYONE): ResolveResponse => {
    if (handlers.resolve.kind !== "unary") throw new Error(handlers.resolve.kind);
    const handle = handlers.resolve.handle as (request: ResolveRequest, context: CallContext) => ResolveResponse;
    return handle(create(ResolveRequestSchema, { namespace: "svc", name: "web", ...asked }), { caller, time: at(0), requestId: "r" });
  };
  const change = (policy: Policy) => {
    world.change(policy);
    reads.show(policy);
    reads.settle(policy);
  };
  return { world, resolve, denials, change, start: () => (isCaughtUp = false) };
}

const US = { source: "us-1" };
const AP = { source: "ap-1", band: BAND.DEGRADED };

test.each([
  { what: "a healthy entry here", entries: { web: {} }, want: "web" },
  { what: "a critical entry here", entries: { web: { health: HEALTH.CRITICAL } }, want: "web" },
  { what: "nothing here", entries: { db: {} }, want: "us-1" },
  { what: "only what is in maintenance here", entries: { web: { health: HEALTH.MAINTENANCE } }, want: "us-1" },
  { what: "nothing here, and us-1 was tried", entries: {}, asked: { visitedClusters: ["us-1"] }, want: "ap-1" },
  { what: "nothing here, and both were tried", entries: {}, asked: { visitedClusters: ["ap-1", "us-1"] }, want: "not_found" },
  {
    what: "maintenance here, and both were tried",
    entries: { web: { health: 4 } },
    asked: { visitedClusters: ["ap-1", "us-1"] },
    want: "in_maintenance",
  },
  { what: "another kind", entries: {}, asked: { kind: KIND.QUEUE }, want: "not_found" },
  { what: "another name", entries: {}, asked: { name: "webs" }, want: "not_found" },
  { what: "a beacon's name", entries: {}, asked: { kind: KIND.NODE, namespace: "discovery.summaries", name: "us-1" }, want: "not_found" },
])("with $what, Resolve leads to $want", ({ entries, asked, want }) => {
  const { resolve, world } = node(entries, [US, AP, { source: "c1" }, { source: "eu-2", channel: SCOPE.ZONE }]);
  world.beacon("us-1");
  if (want.includes("_")) {
    expect(() => resolve(asked)).toThrow(want);
    return;
  }
  const { entry, redirect, servedBy, age, source } = resolve(asked);
  expect(redirect?.clusterId ?? entry?.key?.name).toBe(want);
  expect([servedBy, age, source]).toEqual(["a", durationFromMs(40), 1]);
});

test.each([
  { what: "a short ttl", summary: { ttlMs: 1 }, keptMs: 1000 },
  { what: "a ttl of some seconds", summary: { ttlMs: 2500 }, keptMs: 2500 },
  { what: "an end that is near", summary: { ttlMs: 1, notAfterWallMs: WALL + 300 }, keptMs: 300 },
])("a redirect by a summary with $what may be kept for $keptMs ms", ({ summary, keptMs }) => {
  const { resolve } = node({}, [{ ...US, ...summary }]);
  expect(resolve().redirect?.ttl).toEqual(durationFromMs(keptMs));
});

test("of the summaries of one cluster that are equally good, the narrower one says how long a redirect may be kept", () => {
  const channels = [
    { channel: SCOPE.GLOBAL, ttlMs: 120_000 },
    { channel: SCOPE.REGION, ttlMs: 60_000 },
  ];
  for (const ordered of [channels, channels.toReversed()]) {
    const { resolve } = node(
      {},
      ordered.map((each) => ({ ...US, ...each })),
    );
    expect(resolve().redirect).toMatchObject({ clusterId: "us-1", ttl: durationFromMs(60_000) });
  }
});

test("a redirect says where the cluster is and takes calls, how its service is, and how long that may be kept", () => {
  const { resolve, world } = node({}, [{ ...AP, ttlMs: 120_000, notAfterWallMs: WALL + 5000 }]);
  world.turn("ap-1", true);
  const said = { clusterId: "ap-1", urls: ["grpc://ap-1:1"], region: "ap", band: BAND.DEGRADED, ttl: durationFromMs(5000), stale: true };
  expect(resolve().redirect).toMatchObject(said);
  world.put({ namespace: "svc", serviceId: "web", ...AP, version: 1_800_000_000, notAfterWallMs: undefined });
  expect(resolve({ explain: true })).toMatchObject({ redirect: { ttl: durationFromMs(120_000) }, explanation: [], alternatives: [] });
  const urls = Array.from({ length: 40 }, (_, i) => `grpc://n${i}:1`);
  world.ingress.set("ap-1", [{ urls: [...urls, ...urls], scope: SCOPE.GLOBAL, capabilities: [], tags: [] }]);
  expect(resolve().redirect?.urls).toEqual(urls.slice(0, 16));
  // Nobody could follow.
  world.ingress.delete("ap-1");
  expect(() => resolve()).toThrow("not_found");
});

test("the preferred region decides among clusters that are equally good, and here is preferred by default", () => {
  const { resolve } = node({}, [US, { source: "ap-1" }, { source: "eu-2", channel: SCOPE.REGION }]);
  const regions = [undefined, { region: "us" }, { region: "ap" }].map((prefer) => resolve(prefer && { prefer }).redirect?.region);
  expect(regions).toEqual(["eu", "us", "ap"]);
});

test("who may not see the namespace gets no redirect, and is told what one is told of a name that is nowhere", () => {
  const { resolve, change, denials } = node({}, [US]);
  change(HIDING);
  expect(resolve({}, BLUE).redirect?.clusterId).toBe("us-1");
  expect(resolve({ viewer: { tenantId: "blue" } }).redirect?.clusterId).toBe("us-1");
  expect(() => resolve()).toThrow("not_found: no entry named web in svc");
  expect(denials).toEqual(["catalog svc"]);
});

test("a node that may hold only a part of the catalog sends nobody away", () => {
  const { resolve, start } = node({}, [US]);
  start();
  expect(() => resolve()).toThrow("not_ready");
});
