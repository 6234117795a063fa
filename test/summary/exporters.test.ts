/** Which node of a cluster makes a summary, and that a node that may see only a part says nothing worse (a part is not the whole). */
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { HEALTH, KIND, nameOfKey } from "../../src/catalog/record/record.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
import type { Standing } from "../../src/summary/building/builder.ts";
import type { Draft } from "../../src/summary/building/drafts.ts";
import { recordKey } from "../../src/summary/keys.ts";
import type { SummaryKey } from "../../src/summary/summary.ts";
import { rule, set, span } from "../fakes/policies.ts";
import { WALL } from "../fakes/registry.ts";
import { SummaryWorld, wordsOf } from "../fakes/summary-world.ts";

const DENYING = new Policy(set([rule("svc", { allowSummaries: false })]), 1);
const IDS = ["a", "b", "c"] as const;

function names(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `s${i}`);
}

/** Services of two healthy entries each, all told, in a cluster of three. */
function settled(count = 12): SummaryWorld {
  const world = new SummaryWorld(IDS);
  for (const name of names(count)) world.put({ name, id: "1" }, { name, id: "2" });
  world.run(40_000);
  expect(world.told().length).toBe(count);
  return world;
}

test("each service has one exporter, every node says the same one, and only those of a lost node change hands", () => {
  const world = settled(90);
  const of = (members: readonly string[]) => {
    for (const { builder } of world.nodes) builder.follow({ members, standing: "exporting" });
    const [winners, ...others] = world.nodes.map(({ builder }) => names(90).map((name) => builder.exporterOf(name)));
    for (const other of others) expect(other).toEqual(winners);
    return winners ?? [];
  };
  const [before, after, nobody] = [of(IDS), of(["a", "b"]), of([])];
  for (const id of IDS) expect(before.filter((winner) => winner === id).length).toBeGreaterThan(15);
  expect(after.filter((winner, i) => winner !== before[i] && before[i] !== "c")).toEqual([]);
  expect(new Set(nobody)).toEqual(new Set([undefined]));
});

test("for each service the nodes have an order, of which the exporter is the first", () => {
  const { nodes } = settled();
  for (const serviceId of names(12)) {
    const key: SummaryKey = { source: "c1", kind: KIND.SERVICE, namespace: "svc", serviceId, channel: SCOPE.GLOBAL };
    const inOrder = nodes.toSorted((a, b) => a.builder.rankOf(key) - b.builder.rankOf(key));
    expect(inOrder.map(({ builder }) => builder.rankOf(key))).toEqual([0, 1, 2]);
    expect(inOrder[0]?.id).toBe(nodes[0]?.builder.exporterOf(nameOfKey(recordKey(key))));
  }
});

test("an exporter change sends nothing when nothing differs, and it holds down over the change", () => {
  const world = settled();
  for (const members of [["a", "b"], ["c"], [...IDS]]) {
    world.follow({ members, standing: "exporting" }, members);
    world.run(7000);
  }
  expect(world.told()).toEqual([]);
  // One is critical now, and the next exporter may say what comes after that only when the hold-down is over.
  world.put({ name: "s0", id: "1", health: HEALTH.CRITICAL });
  world.run(1000);
  const { by, atMs } = world.drafts.at(-1) ?? { by: "", atMs: 0 };
  world.put({ name: "s0", id: "2", health: HEALTH.CRITICAL });
  const others = IDS.filter((id) => id !== by);
  world.follow({ members: others, standing: "exporting" }, others);
  world.run(60_000, ({ id }) => id !== by);
  expect(world.told()).toEqual(["s0 global changed 2 degraded r1 0-0", "s0 global changed 2 critical r1 0-0"]);
  expect((world.drafts.at(-1)?.atMs ?? 0) - atMs).toBeGreaterThanOrEqual(5000);
  expect(world.drafts.at(-1)?.by).not.toBe(by);
});

test("when a member comes, each change is said once", () => {
  const world = new SummaryWorld(IDS);
  world.follow({ members: ["a", "b"], standing: "exporting" }, ["a", "b"]);
  world.follow({ members: ["a", "b"], standing: "silent" }, ["c"]);
  world.put(...names(30).map((name) => ({ name })));
  world.run(10_000);
  world.follow({ members: IDS, standing: "exporting" });
  world.put(...names(30).map((name) => ({ name, health: HEALTH.CRITICAL })));
  world.run(10_000);
  const said = names(30).flatMap((name) => [`${name} global changed 1 critical r1 0-0`, `${name} global first 1 healthy r1 0-0`]);
  expect(world.told().toSorted()).toEqual(said.toSorted());
  expect(new Set(world.drafts.slice(30).map(({ by }) => by)).size).toBe(3);
});

test("what vanished with a forgotten node, whose records left no change behind, is told", () => {
  const world = new SummaryWorld(["a"]);
  world.put({ at: "b" }, { name: "db", at: "b" }, { name: "db", id: "2" });
  world.run(60_000);
  world.told();
  const { catalog } = world.node("a");
  catalog.forgetOrigin(catalog.origin("b", 1), world.time);
  world.run(40_000);
  expect(world.told().toSorted()).toEqual(["db global measured 1 healthy r1 0-0", "global vanished gone"]);
});

test("after records were lost all is counted once, and not again at each later walk", () => {
  const { world } = stepped(100);
  world.put(...names(3000).map((id) => ({ id })), { name: "x", at: "b" });
  world.run(60_000);
  const { catalog } = world.node("a");
  catalog.forgetOrigin(catalog.origin("b", 1), world.time);
  world.run(60_000);
  const before = world.tickCount;
  world.setPolicy(new Policy(set([rule("svc", { allowSummaries: true })]), 2));
  world.run(20_000);
  expect(world.tickCount - before).toBeLessThan(15);
  expect(world.live()).toEqual(["global 3000 healthy r1 0-0"]);
});

test("what a node said in an earlier life, and finds again only after it has begun, is compared too", () => {
  const world = new SummaryWorld(["a"]);
  world.put({});
  world.run(60_000);
  const [said] = [...world.node("a").sent.values()];
  const next = new SummaryWorld(["a"]);
  next.run(60_000);
  if (said !== undefined) next.node("a").hold(said, "a", next.time);
  next.run(1000);
  expect(next.told()).toEqual(["global vanished gone"]);
});

test("what vanished or changed while an exporter was killed is said by the next one within a second", () => {
  const world = settled();
  const others = IDS.slice(1);
  world.remove({ name: "s1", id: "1" }, { name: "s1", id: "2" });
  world.put({ name: "s2", id: "1", health: HEALTH.CRITICAL });
  world.run(0, () => false);
  world.follow({ members: others, standing: "exporting" }, others);
  world.run(1000, ({ id }) => id !== "a");
  expect(world.told().toSorted()).toEqual(["s1 global vanished gone", "s2 global changed 2 degraded r1 0-0"]);
});

test.each<{ standing: Standing; want: readonly string[] }>([
  { standing: "withholding", want: ["s0 global denied gone", "s1 global denied gone", "s2 global denied gone"] },
  { standing: "silent", want: [] },
])("a node that is $standing sends no lower count, no worse band, no end and nothing new", ({ standing, want }) => {
  const world = settled(3);
  world.follow({ members: [], standing });
  world.remove({ name: "s0", id: "1" }, { name: "s0", id: "2" });
  world.put({ name: "s1", id: "1", health: HEALTH.CRITICAL }, { name: "s1", id: "2", health: HEALTH.CRITICAL }, { name: "new" });
  world.setLife("a", "hidden");
  world.run(120_000);
  expect(world.told()).toEqual([]);
  world.setPolicy(DENYING);
  world.run(1000);
  // Each of the three takes back all: others may not hear of it.
  expect([...new Set(world.told())].toSorted()).toEqual(want);
  world.run(120_000);
  expect(world.nodes.map(({ builder }) => builder.nextDeadlineMs())).toEqual([NEVER, NEVER, NEVER]);
});

test.each(["exporting", "withholding"] as const)(
  "what is hidden here because another cluster owns it now is taken back, %s",
  (standing) => {
    const world = new SummaryWorld(["a"]);
    world.put({});
    world.run(10_000);
    const { own, builder } = world.node("a");
    own.setAdmission(() => false);
    for (const stored of own.self.log.list()) own.touch(stored);
    // It knows nothing of what was touched before.
    builder.stoodStill();
    world.follow({ members: [], standing });
    world.run(1000);
    world.setPolicy(new Policy(set([rule("svc", { allowSummaries: true, owners: ["c2"] })]), 1));
    world.run(1000);
    expect(world.told()).toEqual(["global first 1 healthy r1 0-0", "global denied gone"]);
  },
);

test("a node that withholds takes back at the end of a window, too", () => {
  const world = new SummaryWorld(["a"]);
  world.setPolicy(new Policy(set([rule("svc", { allowSummaries: true, cutoverWindows: [span(WALL, WALL + 20_000)] })]), 1));
  world.put({});
  world.run(10_000);
  world.follow({ members: [], standing: "withholding" });
  world.run(10_000);
  expect(world.told()).toEqual(["global first 1 healthy r1 0-0", "global denied gone"]);
});

test("a node that exports again says what differs then", () => {
  const world = settled(3);
  world.follow({ members: [], standing: "withholding" });
  world.remove({ name: "s0", id: "1" }, { name: "s0", id: "2" });
  world.put({ name: "new" });
  world.run(60_000);
  world.follow({ members: IDS, standing: "exporting" });
  world.run(1000);
  expect(world.told().toSorted()).toEqual(["new global first 1 healthy r1 0-0", "s0 global vanished gone"]);
});

test("a node that stood still says nothing before it knows what it may, and then each service once at most", () => {
  const world = settled();
  for (const name of names(12)) world.put({ name, id: "1", health: HEALTH.CRITICAL });
  world.node("a").builder.stoodStill();
  world.run(60_000, ({ id }) => id === "a");
  expect(world.told()).toEqual([]);
  expect(world.node("a").builder.serviceCount).toBe(0);
  world.follow({ members: IDS, standing: "exporting" });
  world.run(1000);
  expect(world.told().toSorted()).toEqual(
    names(12)
      .map((name) => `${name} global changed 2 degraded r1 0-0`)
      .toSorted(),
  );
});

/** A builder that looks at as many entries in one tick, of which the tests say when it ticks. */
function stepped(countedAtATime: number): { readonly world: SummaryWorld; readonly tick: () => readonly string[] } {
  const world = new SummaryWorld(["a"], { countedAtATime });
  const tick = () => {
    const out: Draft[] = [];
    world.node("a").builder.tick(world.time, out);
    return out.map(wordsOf);
  };
  return { world, tick };
}

test("a count that a standstill broke off is begun anew, because its first part may be over", () => {
  const { world, tick } = stepped(100);
  world.putMany({ healthy: 250 });
  expect([tick(), tick()]).toEqual([[], []]);
  world.node("a").builder.stoodStill();
  world.remove(...Array.from({ length: 90 }, (_, id) => ({ id: `${id}` })));
  world.follow({ members: ["a"], standing: "exporting" });
  world.run(60_000);
  expect(world.told()).toEqual(["global first 160 healthy r1 0-0"]);
});

test("what another node said while this one stood still holds it down for no longer than the other one", () => {
  const world = new SummaryWorld(["a", "b"]);
  world.follow({ members: ["b"], standing: "silent" }, ["a"]);
  world.follow({ members: ["b"], standing: "exporting" }, ["b"]);
  world.put({}, { id: "2" });
  world.run(10_000);
  world.put({ health: HEALTH.CRITICAL });
  world.follow({ members: ["a"], standing: "exporting" }, ["a"]);
  world.run(1000, ({ id }) => id === "a");
  expect(world.told()).toEqual(["global first 2 healthy r1 0-0", "global changed 2 degraded r1 0-0"]);
});

test("what another node says that does not know the newest policy is taken back at once", () => {
  const world = new SummaryWorld(["a"]);
  world.put({});
  world.run(1000);
  const [said] = world.node("a").sent.values();
  // It may go out again in an hour, so the service is remembered with its hold-down.
  const later = span(WALL + 3_600_000, WALL + 7_200_000);
  world.setPolicy(new Policy(set([rule("svc", { allowSummaries: true, cutoverWindows: [later] })]), 1));
  world.run(1000);
  if (said !== undefined) world.node("a").hold(said, "b", world.time);
  world.run(1000);
  expect(world.told()).toEqual(["global first 1 healthy r1 0-0", "global denied gone", "global denied gone"]);
});

test("the walk of what is held ends, though the last that it would come to changed before", () => {
  const { world, tick } = stepped(100);
  world.put({});
  world.run(1000);
  const [said] = world.node("a").sent.values();
  world.follow({ members: ["a", "b"], standing: "exporting" });
  if (said !== undefined) world.node("a").hold(said, "a", world.time);
  for (let n = 0; n < 10; n++) tick();
  expect(world.node("a").builder.nextDeadlineMs()).toBeGreaterThan(world.ms);
});

test("a walk of the names comes past thousands of entries of another cluster", () => {
  const world = new SummaryWorld(["a"]);
  world.follow({ members: [], standing: "silent" });
  world.put(...names(2000).map((name) => ({ name, clusterId: "c2" })), { name: "z" });
  world.follow({ members: ["a"], standing: "exporting" });
  for (let n = 0; n < 10; n++) world.node("a").builder.tick(world.time, []);
  expect(world.node("a").builder.nextDeadlineMs()).toBeGreaterThan(world.ms);
});

test.each<{ what: string; scope: Scope; isRefused: boolean }>([
  { what: "shown nowhere", scope: SCOPE.ZONE, isRefused: false },
  { what: "shown", scope: SCOPE.GLOBAL, isRefused: false },
  { what: "refused", scope: SCOPE.GLOBAL, isRefused: true },
])("a service that is $what is counted once a hold-down, however often it changes", ({ scope, isRefused }) => {
  const { world } = stepped(100);
  world.node("a").isRefused = isRefused;
  world.put(...names(3000).map((id) => ({ id, scope })));
  world.run(10_000);
  const before = world.tickCount;
  for (let n = 0; n < 100; n++) {
    world.put({ id: "s0", scope });
    world.run(100);
  }
  // 100 reads, and two or three counts of 30 slices.
  expect(world.tickCount - before).toBeLessThan(250);
});

test("a summary of a node that was cut off and saw a part is put right", () => {
  const world = settled();
  const cut = world.node("a");
  cut.isCut = true;
  // Alone it hides what others have, because they are gone as far as it knows, and takes itself for the only exporter.
  for (const name of names(6)) cut.record({ name, id: "1" }, 2, world.time);
  for (const name of names(6)) cut.record({ name, id: "2" }, 2, world.time);
  cut.builder.follow({ members: ["a"], standing: "exporting" });
  world.run(60_000);
  expect(world.told().toSorted()).toEqual(
    names(6)
      .map((name) => `${name} global vanished gone`)
      .toSorted(),
  );
  expect(world.node("b").sent.size).toBe(12);
  // What it said arrives at the others, before they hear of it as a member.
  const ends = [...cut.sent.values()].filter(({ withdrawn }) => withdrawn);
  for (const id of ["b", "c"]) for (const sent of ends) world.node(id).hold(sent, "a", world.time);
  world.follow({ members: ["b", "c"], standing: "exporting" }, ["b", "c"]);
  world.run(4900, ({ id }) => id !== "a");
  expect(world.told()).toEqual([]);
  world.run(1000, ({ id }) => id !== "a");
  expect(world.told().toSorted()).toEqual(
    names(6)
      .map((name) => `${name} global changed 2 healthy r1 0-0`)
      .toSorted(),
  );
});

test("what is refused is sent again, once a minute", () => {
  const world = new SummaryWorld(["a"]);
  const node = world.node("a");
  node.isRefused = true;
  world.put({});
  world.run(150_000);
  expect(world.drafts.map(({ atMs }) => Math.floor(atMs / 1000))).toEqual([0, 60, 120]);
  node.isRefused = false;
  world.run(300_000);
  expect(world.drafts.length).toBe(4);
});

test("a withdrawal by policy that is refused is sent again, once a minute", () => {
  const world = new SummaryWorld(["a"]);
  world.put({});
  world.run(10_000);
  const node = world.node("a");
  node.isRefused = true;
  world.remove({});
  world.setPolicy(DENYING);
  world.run(150_000);
  node.isRefused = false;
  world.run(300_000);
  const denied = world.drafts.filter(({ cause }) => cause === "denied").map(({ atMs }) => Math.floor(atMs / 1000));
  expect([denied, node.builder.serviceCount]).toEqual([[10, 70, 130, 190], 0]);
});

test("what does not count as a word of the cluster, such as an echo, holds no count back", () => {
  const world = new SummaryWorld(["a"]);
  world.putMany({ healthy: 4 });
  world.run(31_000);
  const node = world.node("a");
  const [said] = node.sent.values();
  node.doesCount = false;
  if (said !== undefined) node.hold(said, "b", world.time);
  world.run(6000);
  world.putMany({ healthy: 8 });
  world.run(1000);
  expect(world.told()).toEqual(["global first 4 healthy r1 0-0", "global measured 8 healthy r1 0-0"]);
});

test("thousands of services are told in slices, and idle ones cost nothing", () => {
  const world = new SummaryWorld(["a"]);
  world.put(...names(3000).map((name) => ({ name })));
  world.run(1000);
  expect(world.drafts.length).toBe(3000);
  expect(world.mostAtOnce).toBeLessThan(200);
  const { builder } = world.node("a");
  expect(builder.serviceCount).toBe(3000);
  world.remove(...names(3000).map((name) => ({ name })));
  world.run(200_000);
  world.node("a").catalog.passRevision();
  world.run(1000);
  expect(builder.serviceCount).toBe(0);
  expect(builder.nextDeadlineMs()).toBe(NEVER);
});

test.each([
  { what: "are not exported", policy: new Policy(set([]), 1), scope: SCOPE.REGION },
  {
    what: "may be exported in an hour",
    policy: new Policy(set([rule("svc", { allowSummaries: true, cutoverWindows: [span(WALL + 3_600_000, WALL + 7_200_000)] })]), 1),
    scope: SCOPE.GLOBAL,
  },
])("names that come and go and $what are not remembered", ({ policy, scope }) => {
  const world = new SummaryWorld(["a"]);
  world.setPolicy(policy);
  for (let i = 0; i < 200; i += 1) {
    world.put({ name: `n${i}`, scope });
    world.run(100);
    world.remove({ name: `n${i}`, scope });
  }
  expect(world.node("a").builder.serviceCount).toBeLessThan(110);
  world.run(10_000);
  expect(world.node("a").builder.serviceCount).toBe(0);
  expect(world.told()).toEqual([]);
});
