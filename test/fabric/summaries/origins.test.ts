/** Origins of summaries: each start of a node has another one, none is ever orphaned, and what one says that nobody writes is taken over. */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { FabricWorld, type NodeSpec } from "../../fakes/fabric-world.ts";
import { type SpaceNode, SummarySpace, startSpace, summaryOf } from "../../fakes/summary-space.ts";

const DAY_MS = 86_400_000;

function pair(): { readonly world: FabricWorld; readonly a: SpaceNode; readonly b: SpaceNode } {
  const world = new FabricWorld();
  const a = startSpace(world, { nodeId: "a" });
  const b = start(world);
  world.runUntil(() => a.node.upLinks().length === 1);
  world.run(3000);
  return { world, a, b };
}

function start(world: FabricWorld, spec: Partial<NodeSpec> = {}, space?: SummarySpace): SpaceNode {
  return startSpace(world, { nodeId: "b", seeds: ["a:1"], ...spec }, space);
}

/** Kills the second node and starts it again, with another second origin. */
function restart(world: FabricWorld, { node }: SpaceNode, generation = world.nowMs): SpaceNode {
  world.kill(node);
  const next = start(world, { generation: node.replica.self.generation + 1 }, new SummarySpace("b", generation));
  world.run(5000);
  return next;
}

test("what a node took stays shown while it is away and after its restart, until it is there anew", () => {
  const { world, a, b } = pair();
  const [before] = b.space.origins();
  b.space.put(summaryOf("x"), 1, world.time());
  b.space.put(summaryOf("y"), 1, world.time());
  world.run(1000);
  world.kill(b.node);
  world.run(500_000);
  expect(a.space.view()).toEqual(["x 1", "y 1"]);
  const again = restart(world, b);
  // It has got its own earlier summaries back from the other node.
  expect(again.space.view()).toEqual(["x 1", "y 1"]);
  again.space.put(summaryOf("x"), 2, world.time());
  world.run(100_000);
  const ids = () => a.space.origins().map((line) => line.split(" ")[0]);
  expect([a.space.view(), ids().includes(`b/${b.space.replica.self.generation}`)]).toEqual([["x 2", "y 1"], true]);
  again.space.put(summaryOf("y"), 1, world.time());
  world.run(100_000);
  expect([before, a.space.view(), ids(), again.space.origins().length]).toEqual([
    `b/${b.space.replica.self.generation} 0`,
    ["x 2", "y 1"],
    [`a/${a.space.replica.self.generation}`, `b/${again.space.replica.self.generation}`],
    1,
  ]);
  expect(a.node.events.find(({ name }) => name === "origin_forgotten")?.detail).toMatchObject({
    nodeId: "b",
    why: "replaced",
    of: "summaries",
  });
});

test("what only a node said that is gone for good is taken over by one that lives, by one of its cluster if there is one", () => {
  const world = new FabricWorld();
  const [a, b, c, d] = ["a", "b", "c", "d"].map((nodeId) =>
    startSpace(world, { nodeId, clusterId: "ab".includes(nodeId) ? "c1" : "c2", seeds: ["a:1"] }),
  ) as [SpaceNode, SpaceNode, SpaceNode, SpaceNode];
  world.run(20_000);
  const names = Array.from({ length: 600 }, (_, n) => `s${n + 1000}`);
  for (const name of names) b.space.put(summaryOf(name, "far", "zone"), 1, world.time());
  d.space.put(summaryOf("x"), 7, world.time());
  world.run(1000);
  world.kill(b.node);
  // All of the other cluster lose their disks.
  world.kill(c.node);
  world.kill(d.node);
  const again = startSpace(world, { nodeId: "c", clusterId: "c2", generation: 2, seeds: ["a:1"] });
  world.run(30_000);
  expect([again.space.view(), a.space.view()]).toEqual([[], [...names.map((name) => `${name} 1`), "x 7"]]);
  world.run(700_000);
  expect([again.space.view(), a.space.view().length, a.space.origins()]).toEqual([
    ["x 7"],
    601,
    [`a/${a.space.replica.self.generation} 601`],
  ]);
});

test("what a cluster took back and has forgotten is told to it by a node of another one, where it says that again in a lower version", () => {
  const world = new FabricWorld();
  const a = startSpace(world, { nodeId: "a", clusterId: "c1" });
  const c = startSpace(world, { nodeId: "c", clusterId: "c2", seeds: ["a:1"] });
  world.run(20_000);
  const isWithdrawn = ({ name, hlc }: { readonly name: string; readonly hlc: number }) => hlc > 5 && name !== "unproven";
  a.space.isTakenBack = isWithdrawn;
  a.space.replica.setAdmission(({ hlc }) => hlc <= 5);
  for (const name of ["below", "unsaid", "unproven", "above"]) c.space.put(summaryOf(name, "c2"), 7, world.time());
  world.run(1000);
  world.kill(c.node);
  const again = startSpace(world, { nodeId: "c", clusterId: "c2", generation: 2, seeds: ["a:1"] });
  world.run(30_000);
  for (const name of ["below", "unproven"]) again.space.put(summaryOf(name, "c2"), 4, world.time());
  again.space.put(summaryOf("above", "c2"), 8, world.time());
  const told = (space: SummarySpace) => [...(space.replica.origins.get(a.space.replica.self.id)?.log.list() ?? [])];
  world.run(290_000);
  expect(told(again.space)).toEqual([]);
  world.run(80_000);
  expect(told(again.space).map(({ name, hlc }) => [name, hlc])).toEqual([["below", 7]]);
});

test("so it is told where the cluster says that again much later", () => {
  const world = new FabricWorld();
  const a = startSpace(world, { nodeId: "a", clusterId: "c1" });
  const c = startSpace(world, { nodeId: "c", clusterId: "c2", seeds: ["a:1"] });
  world.run(20_000);
  a.space.isTakenBack = ({ hlc }) => hlc > 5;
  a.space.replica.setAdmission(({ hlc }) => hlc <= 5);
  c.space.put(summaryOf("below", "c2"), 7, world.time());
  world.run(1000);
  world.kill(c.node);
  const again = startSpace(world, { nodeId: "c", clusterId: "c2", generation: 2, seeds: ["a:1"] });
  world.run(5000);
  again.space.put(summaryOf("other", "c2"), 9, world.time());
  world.run(1_000_000);
  again.space.put(summaryOf("below", "c2"), 4, world.time());
  world.run(320_000);
  const told = again.space.replica.origins.get(a.space.replica.self.id)?.log.list() ?? [];
  expect([...told].map(({ name, hlc }) => [name, hlc])).toEqual([["below", 7]]);
});

test("an origin of which nothing is shown goes after a day", () => {
  const { world, a, b } = pair();
  a.space.replica.setAdmission(() => false);
  b.space.put(summaryOf("x"), 1, world.time());
  world.run(1000);
  world.kill(b.node);
  world.run(700_000);
  expect(a.space.origins().length).toBe(2);
  world.nowMs += DAY_MS;
  world.run(60_000);
  expect(a.space.origins().length).toBe(1);
});

test("an origin that has nothing but ends goes as soon as its node is away", () => {
  const { world, a, b } = pair();
  b.space.put(summaryOf("x"), 1, world.time());
  b.space.end(summaryOf("x"), world.time());
  world.run(1000);
  expect(a.space.origins().length).toBe(2);
  world.kill(b.node);
  world.run(700_000);
  expect([a.space.view(), a.space.origins().length]).toEqual([[], 1]);
});

test("a node takes a later origin once a minute, whatever others say under its name", () => {
  const { world, b } = pair();
  const { replica } = b.space;
  const { clusterId, region } = replica.self;
  const taken: number[] = [];
  for (let n = 0; n < 12; n++) {
    const before = replica.self.generation;
    replica.origin("b", before + 1000, { clusterId, region });
    // All origins are looked at when a member comes.
    if (n === 0) start(world, { nodeId: "c" }, new SummarySpace("c", world.nowMs));
    world.run(10_000);
    if (replica.self.generation > before) taken.push(n * 10);
  }
  expect(taken).toEqual([0, 60]);
});

test("a node that was away for so long that its origin was forgotten is heard again", () => {
  const { world, a, b } = pair();
  b.space.put(summaryOf("x"), 1, world.time());
  world.run(1000);
  world.reaches = () => false;
  world.cut(a.node, b.node);
  a.space.put(summaryOf("x"), 2, world.time());
  world.run(900_000);
  expect(a.space.origins().length).toBe(1);
  b.space.put(summaryOf("y"), 1, world.time());
  world.reaches = () => true;
  world.runUntil(() => a.space.view().join() === "x 2,y 1" && b.space.view().join() === "x 2,y 1", 300_000);
});

test("a node whose clock was ahead at its last start takes a later origin, and others do not take it for the earlier one", () => {
  const { world, a, b } = pair();
  b.space.put(summaryOf("x"), 1, world.time());
  world.run(1000);
  const again = restart(world, b, 7);
  again.space.put(summaryOf("x"), 2, world.time());
  world.run(100_000);
  expect([a.space.view(), again.space.replica.self.generation > b.space.replica.self.generation]).toEqual([["x 2"], true]);
  expect(a.space.origins().length).toBe(2);
});

test("of each node 16 earlier origins are kept at most", () => {
  const { world, a, b } = pair();
  let last = b;
  for (let n = 10; n < 30; n++) {
    last.space.put(summaryOf(`s${n}`), 1, world.time());
    world.run(1000);
    last = restart(world, last);
  }
  world.run(100_000);
  // The last start has told nothing of itself yet.
  expect([a.space.origins().length, a.space.view().length, a.space.view()[0]]).toEqual([18, 17, "s13 1"]);
});

test("a node that comes back while its origin is being forgotten is shown again", () => {
  const { world, a, b } = pair();
  for (const version of [1, 2]) for (let n = 0; n < 5000; n++) [b, a][version - 1]?.space.put(summaryOf(`s${n}`), version, world.time());
  world.run(1000);
  const { id } = b.space.replica.self;
  const lifeAtA = () => a.space.replica.origins.get(id)?.life;
  world.reaches = () => false;
  world.cut(a.node, b.node);
  world.run(500_000);
  // One step of it at a time from here on.
  a.node.isFrozen = true;
  for (let n = 0; lifeAtA() === "live" && n < 300; n++) {
    world.run(1000);
    world.input(a.node, { kind: "tick" });
  }
  expect(lifeAtA()).toBe("hidden");
  world.reaches = () => true;
  for (let n = 0; a.node.upLinks().length === 0 && n < 300; n++) world.run(1000);
  a.node.isFrozen = false;
  b.space.put(summaryOf("y"), 1, world.time());
  world.run(60_000);
  expect([lifeAtA(), a.node.eventNames().includes("origin_forgotten"), a.space.view().at(-1)]).toEqual(["live", false, "y 1"]);
});

test("of an origin that nobody writes a node takes over 250 summaries at once, and the next ones a second later", () => {
  const { world, a, b } = pair();
  for (let n = 0; n < 600; n++) b.space.put(summaryOf(`s${n}`), 1, world.time());
  world.run(1000);
  world.kill(b.node);
  const taken = () => a.space.replica.self.through;
  world.runUntil(() => taken() > 0, 800_000);
  expect(taken()).toBe(250);
  expect(world.runUntil(() => taken() === 500, 5000)).toBeLessThanOrEqual(1010);
  expect(world.runUntil(() => taken() === 600, 5000)).toBeLessThanOrEqual(1010);
});

test("what a node ended itself it takes over in no version that it ended, and the origin stays with what is shown of it", () => {
  const { world, a, b } = pair();
  for (const name of ["x", "y"]) b.space.put(summaryOf(name), 1, world.time());
  a.space.put(summaryOf("x"), 1, world.time());
  a.space.end(summaryOf("x"), world.time());
  world.run(1000);
  world.kill(b.node);
  world.run(700_000);
  const own = (name: string) => a.space.replica.own(summaryOf(name))?.body;
  expect([own("x"), own("y"), a.space.view()]).toEqual([BODY.EXPIRED, BODY.ENTRY, ["x 1", "y 1"]]);
  expect(a.space.origins()).toContain(`${b.space.replica.self.id} 2`);
});

test("the time in which this node stood still does not count against an origin that nobody writes", () => {
  const { world, a, b } = pair();
  b.space.put(summaryOf("x"), 1, world.time());
  world.run(1000);
  world.kill(b.node);
  world.run(400_000);
  a.node.isFrozen = true;
  world.run(400_000);
  a.node.isFrozen = false;
  world.input(a.node, { kind: "lagged", lagMs: 400_000 });
  world.run(100_000);
  expect([a.space.replica.self.through, a.space.origins().length]).toEqual([0, 2]);
  world.run(200_000);
  expect([a.space.replica.self.through, a.space.view(), a.space.origins().length]).toEqual([1, ["x 1"], 1]);
});

test("of equal summaries under two origins that nobody writes one is taken over, and none is lost", () => {
  const { world, a, b } = pair();
  const c = start(world, { nodeId: "c" }, new SummarySpace("c", world.nowMs));
  world.run(5000);
  for (const { space } of [b, c]) space.put(summaryOf("x"), 1, world.time());
  world.run(1000);
  for (const { node } of [b, c]) world.kill(node);
  world.run(800_000);
  expect([a.space.view(), a.space.origins()]).toEqual([["x 1"], [`${a.space.replica.self.id} 1`]]);
});

test("what nodes of a cluster said that are gone is taken over by one of their cluster, and by no other node", () => {
  const { world, a, b } = pair();
  const abroad = start(world, { nodeId: "z", clusterId: "c2" }, new SummarySpace("z", world.nowMs));
  const gone = Array.from({ length: 6 }, (_, n) => start(world, { nodeId: `b${n}` }, new SummarySpace(`b${n}`, world.nowMs)));
  world.run(10_000);
  for (const [n, { space }] of gone.entries()) space.put(summaryOf(`s${n}`), 1, world.time());
  world.run(1000);
  for (const { node } of gone) world.kill(node);
  world.run(800_000);
  const [ofA, ofB, ofAbroad] = [a, b, abroad].map(({ space }) => space.replica.self.through);
  expect([(ofA ?? 0) + (ofB ?? 0), ofAbroad, abroad.space.view().length]).toEqual([6, 0, 6]);
});

test("no node takes a later origin because of one that another cluster has under its name", () => {
  const { world, a, b } = pair();
  b.space.put(summaryOf("x"), 1, world.time());
  world.run(1000);
  world.kill(b.node);
  const moved = start(world, { clusterId: "c2", generation: 2 }, new SummarySpace("b", 7));
  world.run(100_000);
  expect([moved.space.replica.self.generation, moved.space.origins(), a.space.view()]).toEqual([7, ["b/7 0"], ["x 1"]]);
});

test("a node keeps its origin, whatever later one a node of another cluster has under its name", () => {
  const world = new FabricWorld();
  const a = startSpace(world, { nodeId: "a", clusterId: "c3" });
  const b = start(world, { clusterId: "c1" });
  world.run(5000);
  b.space.put(summaryOf("x"), 1, world.time());
  const liar = start(world, { nodeId: "z", clusterId: "c2" }, new SummarySpace("b", 9e12));
  world.run(5000);
  liar.space.put(summaryOf("z"), 1, world.time());
  world.run(5000);
  expect(a.space.view()).toEqual(["x 1", "z 1"]);
  world.run(800_000);
  b.space.put(summaryOf("y"), 1, world.time());
  world.run(10_000);
  expect([a.space.view(), a.space.origins().includes(`${b.space.replica.self.id} 2`)]).toEqual([["x 1", "y 1", "z 1"], true]);
});

test("a node that moved to another cluster leaves its old origin as one that went does", () => {
  const world = new FabricWorld();
  const a = startSpace(world, { nodeId: "a", clusterId: "c3" });
  const b = start(world, { clusterId: "c1" });
  world.run(5000);
  b.space.put(summaryOf("x"), 1, world.time());
  world.run(1000);
  world.kill(b.node);
  const moved = start(world, { clusterId: "c2", generation: 2 }, new SummarySpace("b", 7));
  world.run(5000);
  moved.space.put(summaryOf("y"), 1, world.time());
  world.run(700_000);
  expect([a.space.view(), a.space.origins()]).toEqual([
    ["x 1", "y 1"],
    [`${a.space.replica.self.id} 1`, "b/7 1"],
  ]);
});
