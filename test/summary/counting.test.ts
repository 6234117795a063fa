/** What a cluster says of its services: which entries count on which channel, bands, latencies, and what is worth a new summary. */
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { HEALTH, KIND } from "../../src/catalog/record/record.ts";
import type { NamespaceRule } from "../../src/policy/set/rules.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "../fakes/policies.ts";
import { type EntrySpec, SummaryWorld } from "../fakes/summary-world.ts";

const { LOCAL, ZONE, REGION, GLOBAL } = SCOPE;
const { HEALTHY, DEGRADED, CRITICAL, MAINTENANCE } = HEALTH;

function worldOf(entries: readonly EntrySpec[], fields?: Partial<NamespaceRule>, options = {}): SummaryWorld {
  const world = new SummaryWorld(["a"], options);
  if (fields !== undefined) world.setPolicy(new Policy(set([rule("svc", { allowSummaries: true, ...fields })]), 7));
  world.put(...entries.map((entry, i) => ({ id: `${i}`, ...entry })));
  world.run(1000);
  return world;
}

const ALL_SCOPES: readonly EntrySpec[] = [LOCAL, ZONE, ZONE, ZONE, ZONE, REGION, REGION, GLOBAL].map((scope) => ({ scope }));
const scopes = (...exportScopes: readonly Scope[]): Partial<NamespaceRule> => ({ exportScopes });

test.each<{ name: string; entries: readonly EntrySpec[]; fields?: Partial<NamespaceRule>; options?: object; want: readonly string[] }>([
  { name: "GLOBAL entries without a policy", entries: ALL_SCOPES, want: ["global first 1 healthy r1 0-0"] },
  { name: "GLOBAL entries under a rule without scopes", entries: ALL_SCOPES, fields: {}, want: ["global first 1 healthy r1 0-0"] },
  { name: "REGION ones where the rule lists GLOBAL", entries: ALL_SCOPES, fields: scopes(GLOBAL), want: ["global first 3 healthy r1 0-0"] },
  {
    name: "each channel by its rule",
    entries: ALL_SCOPES,
    fields: scopes(ZONE, REGION),
    want: ["zone first 7 healthy r1 0-0", "region first 3 healthy r1 0-0"],
  },
  {
    name: "no channel wider than the settings",
    entries: ALL_SCOPES,
    fields: scopes(ZONE, GLOBAL),
    options: { exportScope: REGION },
    want: ["zone first 7 healthy r1 0-0"],
  },
  {
    name: "the channel of the settings without scopes",
    entries: ALL_SCOPES,
    fields: {},
    options: { exportScope: REGION },
    want: ["region first 3 healthy r1 0-0"],
  },
  { name: "nothing unscoped where that is off", entries: ALL_SCOPES, fields: {}, options: { includeUnscoped: false }, want: [] },
  { name: "nothing without a policy where that is off", entries: ALL_SCOPES, options: { includeUnscoped: false }, want: [] },
  {
    name: "listed scopes where that is off",
    entries: ALL_SCOPES,
    fields: scopes(REGION),
    options: { includeUnscoped: false },
    want: ["region first 3 healthy r1 0-0"],
  },
  { name: "nothing where the rule lists only LOCAL", entries: ALL_SCOPES, fields: scopes(LOCAL), want: [] },
  { name: "nothing where the rule has no summaries", entries: ALL_SCOPES, fields: { allowSummaries: false }, want: [] },
  { name: "nothing of what others own", entries: ALL_SCOPES, fields: { owners: ["c2"] }, want: [] },
  {
    name: "prefixes of the settings",
    entries: [{}, { namespace: "svcs" }, { namespace: "svc.eu", name: "db" }],
    options: { exportNamespaces: ["svc"] },
    want: ["db global first 1 healthy r1 0-0", "global first 1 healthy r1 0-0"],
  },
  {
    name: "no entries of other clusters",
    entries: [{}, { clusterId: "c2" }, { clusterId: "c11" }],
    want: ["global first 1 healthy r1 0-0"],
  },
  { name: "no names of other clusters", entries: [{ name: "db", clusterId: "c2" }], want: [] },
  {
    name: "no names that only begin alike",
    entries: [{}, { name: "web2" }],
    want: ["global first 1 healthy r1 0-0", "web2 global first 1 healthy r1 0-0"],
  },
  { name: "nothing of the control plane", entries: [{ namespace: "discovery.resolvers", name: "0", scope: REGION }], want: [] },
  { name: "regions once and sorted", entries: [{ region: "r2" }, {}, { region: "r2" }], want: ["global first 3 healthy r1+r2 0-0"] },
  {
    name: "whole latencies as powers of two",
    entries: [3, 5, 8, 16, 16, 16, 16, 16, 16, 900].map((latencyMs) => ({ latencyMs })),
    want: ["global first 10 healthy r1 4-16"],
  },
  { name: "no latency below one", entries: [{ latencyMs: 0.2 }, { latencyMs: 0 }], want: ["global first 2 healthy r1 1-1"] },
  {
    name: "no latency of what takes no calls",
    entries: [{ latencyMs: 64 }, { latencyMs: 4, health: MAINTENANCE }],
    want: ["global first 2 healthy r1 64-64"],
  },
  {
    name: "maintenance as neither well nor ill",
    entries: [{ health: MAINTENANCE }, { health: MAINTENANCE }, {}],
    want: ["global first 3 healthy r1 0-0"],
  },
  {
    name: "nothing but maintenance as critical, when it is new",
    entries: [{ health: MAINTENANCE }],
    want: ["global first 1 critical r1 0-0"],
  },
  { name: "degraded as not healthy", entries: [{}, { health: DEGRADED }, { health: DEGRADED }], want: ["global first 3 degraded r1 0-0"] },
])("counts $name", ({ entries, fields, options, want }) => {
  expect(worldOf(entries, fields, options).told().toSorted()).toEqual(want.toSorted());
});

test("every kind but nodes and the data plane's own is summarised by itself", () => {
  const { drafts } = worldOf(Object.values(KIND).map((kind) => ({ kind, id: `${kind}` })));
  expect(new Set(drafts.map(({ facts }) => facts.kind))).toEqual(
    new Set([KIND.SERVICE, KIND.FUNCTION, KIND.TOPIC, KIND.QUEUE, KIND.CACHE]),
  );
});

test("a summary says under which policy and rule it was exported", () => {
  const [draft] = worldOf([{}], {}).drafts;
  expect(draft?.facts).toMatchObject({
    source: "c1",
    namespace: "svc",
    policyVersion: "v1",
    policyNumber: 7,
    policyRule: "svc",
    noStale: false,
  });
});

test("PENDING: nothing is said before the policy of the cluster is known", () => {
  const world = new SummaryWorld();
  world.setPolicy(new Policy(set([], { defaultAllow: true }), 0, { isPending: true }));
  world.put({});
  world.run(60_000);
  expect(world.told()).toEqual([]);
  world.setPolicy(new Policy(set([], { defaultAllow: true }), 1));
  world.run(100);
  expect(world.told()).toEqual(["global first 1 healthy r1 0-0"]);
});

/** Changes of a service that was told, of 100 entries, and what is told of it in a minute. */
test.each<{ name: string; from: number; to: number; want: string }>([
  { name: "falls below healthy", from: 100, to: 79, want: "degraded" },
  { name: "stays healthy", from: 100, to: 80, want: "" },
  { name: "is not healthy again yet", from: 79, to: 84, want: "" },
  { name: "is healthy again", from: 79, to: 85, want: "healthy" },
  { name: "stays degraded", from: 79, to: 30, want: "" },
  { name: "falls below degraded", from: 79, to: 29, want: "critical" },
  { name: "is not degraded again yet", from: 29, to: 34, want: "" },
  { name: "is degraded again", from: 29, to: 35, want: "degraded" },
  { name: "jumps over a band", from: 29, to: 85, want: "healthy" },
  { name: "jumps to the band below", from: 29, to: 84, want: "degraded" },
])("a service of 100 entries $name when $from healthy ones become $to", ({ from, to, want }) => {
  const world = new SummaryWorld();
  world.putMany({ healthy: from, critical: 100 - from });
  world.run(60_000);
  world.told();
  world.putMany({ healthy: to, critical: 100 - to });
  world.run(60_000);
  expect(world.told()).toEqual(want === "" ? [] : [`global changed 100 ${want} r1 0-0`]);
});

test.each([81, 82, 83, 31, 32, 33])("a square wave of 4 points up to %i percent turns the band once", (high) => {
  const world = new SummaryWorld();
  world.putMany({ healthy: high, critical: 100 - high });
  world.run(60_000);
  world.told();
  for (let i = 0; i < 40; i += 1) {
    const healthy = i % 2 === 0 ? high - 4 : high;
    world.putMany({ healthy, critical: 100 - healthy });
    world.run(3700);
  }
  expect(world.told()).toEqual([`global changed 100 ${high > 80 ? "degraded" : "critical"} r1 0-0`]);
});

test("a service of which nothing can be called keeps its band", () => {
  const world = new SummaryWorld();
  world.put({ at: "b" }, { id: "2", at: "b" });
  world.run(60_000);
  world.setLife("b", "orphaned");
  world.run(60_000);
  world.put({ at: "b", health: MAINTENANCE });
  world.run(60_000);
  expect(world.told()).toEqual(["global first 2 healthy r1 0-0"]);
  world.put({ at: "a", health: CRITICAL });
  world.run(60_000);
  expect(world.told()).toEqual(["global changed 2 critical r1 0-0"]);
});

test.each<{ from: number; to: number; isTold: boolean }>([
  { from: 4, to: 5, isTold: false },
  { from: 4, to: 6, isTold: true },
  { from: 4, to: 3, isTold: false },
  { from: 4, to: 2, isTold: true },
  { from: 1, to: 2, isTold: true },
  { from: 100, to: 125, isTold: false },
  { from: 100, to: 126, isTold: true },
])("a count alone is told when it differs by more than a quarter: $from to $to, $isTold", ({ from, to, isTold }) => {
  const world = new SummaryWorld();
  world.putMany({ healthy: Math.max(from, to) });
  world.remove(...Array.from({ length: Math.max(0, to - from) }, (_, i) => ({ id: `${from + i}` })));
  world.run(60_000);
  world.told();
  if (to > from) world.putMany({ healthy: to });
  world.remove(...Array.from({ length: Math.max(0, from - to) }, (_, i) => ({ id: `${to + i}` })));
  world.run(60_000);
  expect(world.told()).toEqual(isTold ? [`global measured ${to} healthy r1 0-0`] : []);
});

test("a latency is told anew when it is twice or half of the one told", () => {
  const world = new SummaryWorld();
  const told = [8, 15, 5, 16, 31, 10, 8, 0].map((latencyMs) => {
    world.put({ health: HEALTHY, latencyMs });
    world.run(60_000);
    return world.told().map((words) => words.split(" ").at(-1));
  });
  expect(told).toEqual([["8-8"], [], [], ["16-16"], [], [], ["8-8"], ["0-0"]]);
});

test("the lower latency is never above the higher one", () => {
  const world = new SummaryWorld();
  const told = [
    [8, 16],
    [5, 5],
  ].map((pair) => {
    world.put(...pair.map((latencyMs, i) => ({ id: `${i}`, latencyMs })));
    world.run(60_000);
    return world.told().at(-1);
  });
  expect(told).toEqual(["global first 2 healthy r1 8-16", "global measured 2 healthy r1 4-4"]);
});

test("a service that comes back is judged as a new one", () => {
  const world = new SummaryWorld();
  for (const health of [HEALTHY, CRITICAL]) {
    world.put(...Array.from({ length: 5 }, (_, i) => ({ id: `${i}`, health: i < 4 ? HEALTHY : CRITICAL })), { id: "5", health });
    world.run(10_000);
    world.remove(...Array.from({ length: 6 }, (_, i) => ({ id: `${i}` })));
    world.run(10_000);
    world.put(...Array.from({ length: 5 }, (_, i) => ({ id: `${i}`, health: i < 4 ? HEALTHY : CRITICAL })));
    world.run(10_000);
    expect(world.told().at(-1)).toBe("global changed 5 healthy r1 0-0");
  }
});

test("a crowded service is counted in slices", () => {
  const world = new SummaryWorld(["a"], { countedAtATime: 100 });
  world.put(...Array.from({ length: 1000 }, (_, i) => ({ id: `${i}`, latencyMs: 4 })));
  world.run(1000);
  expect(world.told()).toEqual(["global first 1000 healthy r1 4-4"]);
  expect(world.tickCount).toBeGreaterThan(10);
});
