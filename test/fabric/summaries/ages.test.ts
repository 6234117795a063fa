/** How long ago a source was heard of goes with its beacon to the nodes of a region, and makes nothing fresher than it was. */
import { expect, test } from "vitest";
import { LinkAges, SourceAges } from "../../../src/fabric/summaries/ages.ts";
import type { LinkFrame, SourceAgesFrame } from "../../../src/fabric/wire/messages.ts";
import { FabricWorld } from "../../fakes/fabric-world.ts";
import { packetBytes, type SpaceNode, startSpace } from "../../fakes/summary-space.ts";

function region(count: number): { readonly world: FabricWorld; readonly nodes: readonly SpaceNode[] } {
  const world = new FabricWorld();
  const nodes = ["a", "b", "c", "d", "e"].slice(0, count).map((nodeId) => startSpace(world, { nodeId, seeds: ["a:1"] }));
  world.runUntil(() => nodes.every(({ node }) => node.upLinks().length === count - 1));
  world.run(3000);
  return { world, nodes };
}

/** Frames of ages as they are delivered: from whom, and about how many sources. */
function watched(world: FabricWorld): SourceAgesFrame[] {
  const told: SourceAgesFrame[] = [];
  world.saying = (_from, frame: LinkFrame) => {
    if (frame.kind === "sourceAges") told.push(frame);
    return frame;
  };
  return told;
}

test("a beacon that one node took makes its source fresh at all nodes, and is told once to each", () => {
  const { world, nodes } = region(5);
  const told = watched(world);
  const takenMs = world.nowMs;
  nodes[0]?.space.beacon("far", 1, world.time());
  world.run(1000);
  for (const { space } of nodes)
    expect((space.receiptOf("far") ?? 0) - takenMs).toSatisfy((lateMs: number) => lateMs <= 0 && lateMs >= -10);
  expect(told.length).toBe(4);
  world.run(60_000);
  expect(told.length).toBe(4);
});

test("a later beacon that comes to another node right after the first is told too", () => {
  const { world, nodes } = region(3);
  const [a, b] = nodes as [SpaceNode, SpaceNode];
  const told = watched(world);
  a.space.beacon("far", 1, world.time());
  world.run(200);
  b.space.beacon("far", 2, world.time());
  world.run(3000);
  expect(told.flatMap(({ sources }) => sources.map(({ version }) => version))).toEqual([1, 1, 2, 2]);
});

test("a later receipt of the same beacon is told within two seconds by the node that has it, though others told of the first one", () => {
  const { world, nodes } = region(3);
  const [a, b, c] = nodes as [SpaceNode, SpaceNode, SpaceNode];
  a.space.beacon("far", 1, world.time());
  world.run(90_000);
  const laterMs = world.nowMs;
  b.space.heardAge({ source: "far", version: 1, ageMs: 0 }, world.time());
  world.input(b.node, { kind: "tick" });
  world.run(2000);
  for (const { space } of [a, b, c]) expect(Math.abs((space.receiptOf("far") ?? 0) - laterMs)).toBeLessThanOrEqual(20);
});

test("a node that starts takes over the ages of the others: it makes no source fresh", () => {
  const { world, nodes } = region(2);
  const takenMs = world.nowMs;
  nodes[0]?.space.beacon("far", 1, world.time());
  world.run(90_000);
  const late = startSpace(world, { nodeId: "late", seeds: ["a:1"] });
  world.run(5000);
  expect([late.space.view(), Math.abs((late.space.receiptOf("far") ?? 0) - takenMs) < 20]).toEqual([["far 1"], true]);
});

test("a frame that was held up on its way is as old as it is, also for a node that was frozen meanwhile", () => {
  const { world, nodes } = region(2);
  const [a, b] = nodes as [SpaceNode, SpaceNode];
  a.space.beacon("far", 1, world.time());
  world.run(1000);
  a.space.beacon("far", 2, world.time());
  const takenMs = world.nowMs;
  world.delayMs = 8000;
  world.run(20);
  world.delayMs = 2;
  world.runUntil(() => b.space.view().join() === "far 2", 20_000);
  world.run(300);
  expect((b.space.receiptOf("far") ?? 0) - takenMs).toSatisfy((lateMs: number) => lateMs <= 0 && lateMs >= -1200);
});

test("256 sources go in one frame a second at most", () => {
  const { world, nodes } = region(2);
  const told = watched(world);
  for (let n = 0; n < 250; n++) nodes[0]?.space.beacon(`far${n}`, 1, world.time());
  world.run(50);
  for (let n = 0; n < 250; n++) nodes[0]?.space.beacon(`far${n}`, 2, world.time());
  world.run(900);
  expect(told.map(({ sources }) => sources.length)).toEqual([250]);
  world.run(1000);
  expect(told.map(({ sources }) => sources.length)).toEqual([250, 250]);
  expect(packetBytes(told[1] as LinkFrame) / 250).toBeLessThanOrEqual(24);
});

test("ages of more sources than a frame takes go in several, and none is lost", () => {
  const ages = Array.from({ length: 257 }, (_, n) => ({ source: `far-${n}`, version: 1, ageMs: 0 }));
  const news = [ages];
  const receipts = {
    lostAfterMs: 1,
    ages: () => ages,
    newAges: () => news.pop() ?? [],
    isOver: () => false,
    isTakenBack: () => false,
    heardAge: () => {},
  };
  const all = new SourceAges(receipts);
  const link = new LinkAges(all, { nodeId: "b", isLinkedTo: () => false });
  const told = [0, 1000, 2000].map((monoMs) => {
    const time = { monoMs, wallMs: 0 };
    all.tick(time);
    return link.next(time, { atMs: 0 })?.sources.map(({ sourceCluster }) => sourceCluster) ?? [];
  });
  expect(told.map(({ length }) => length)).toEqual([256, 1, 0]);
  expect(new Set(told.flat()).size).toBe(257);
});
