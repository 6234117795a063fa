/** Which node of a cluster makes a summary, and that a node that may see only a part says nothing worse (a part is not the whole). */
import { expect, test } from "vitest";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
import type { Standing } from "../../src/summary/building/builder.ts";
import { rule, set, span } from "../fakes/policies.ts";
import { WALL } from "../fakes/registry.ts";
import { SummaryWorld } from "../fakes/summary-world.ts";

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
  if (standing === "silent") expect(world.nodes.map(({ builder }) => builder.nextDeadlineMs())).toEqual([NEVER, NEVER, NEVER]);
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
  world.follow({ members: IDS, standing: "exporting" });
  world.run(1000);
  expect(world.told().toSorted()).toEqual(
    names(12)
      .map((name) => `${name} global changed 2 degraded r1 0-0`)
      .toSorted(),
  );
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

test("names that come and go and are not exported are not remembered", () => {
  const world = new SummaryWorld(["a"]);
  for (let i = 0; i < 200; i += 1) {
    world.put({ name: `n${i}`, scope: 2 });
    world.run(100);
    world.remove({ name: `n${i}`, scope: 2 });
  }
  expect(world.node("a").builder.serviceCount).toBeLessThan(110);
  world.run(10_000);
  expect(world.node("a").builder.serviceCount).toBe(0);
  expect(world.told()).toEqual([]);
});
