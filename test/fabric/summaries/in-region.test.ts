/** Summaries between the nodes of a region: they reach everyone who may hold them, whatever breaks, and nobody who does not know of them. */
import { expect, test } from "vitest";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";
import { FabricWorld, type NodeSpec } from "../../fakes/fabric-world.ts";
import { packetBytes, type SpaceNode, type SummarySpace, startSpace, summaryOf } from "../../fakes/summary-space.ts";

/** Nodes of one region that are all linked, the first of them being everyone's seed. */
function region(...specs: readonly NodeSpec[]): { readonly world: FabricWorld; readonly nodes: readonly SpaceNode[] } {
  const world = new FabricWorld();
  const nodes = specs.map((spec) => join(world, spec));
  world.runUntil(() => nodes.every(({ node }) => node.upLinks().length === specs.length - 1));
  world.run(3000);
  return { world, nodes };
}

function join(world: FabricWorld, spec: NodeSpec, space?: SummarySpace): SpaceNode {
  return startSpace(world, { seeds: ["a:1"], ...spec }, space);
}

const A = { nodeId: "a" };
const B = { nodeId: "b" };
const C = { nodeId: "c", clusterId: "c2" };

test("a summary goes as far as its channel: ZONE in its cluster, REGION and GLOBAL to all clusters of the region", () => {
  const { world, nodes } = region(A, B, C);
  const [a, b, c] = nodes.map(({ space }) => space) as [SummarySpace, SummarySpace, SummarySpace];
  for (const channel of ["zone", "region", "global"] as const) a.put(summaryOf(channel, "c1", channel), 7, world.time());
  expect(world.runUntil(() => b.view().length === 3)).toBeLessThanOrEqual(100);
  world.run(1000);
  expect([a.view(), b.view(), c.view()]).toEqual([
    ["global 7", "region 7", "zone 7"],
    ["global 7", "region 7", "zone 7"],
    ["global 7", "region 7"],
  ]);
  // Nothing of it is in the catalog, and no node is behind in that.
  for (const { node } of nodes) expect([node.view(), node.fabric.readiness.isReady]).toEqual([[], true]);
});

test("the higher version wins wherever it was taken, however large, and its end reaches everyone", () => {
  const { world, nodes } = region(A, B, C);
  const [a, b, c] = nodes.map(({ space }) => space) as [SummarySpace, SummarySpace, SummarySpace];
  a.put(summaryOf("x"), 2 ** 52, world.time());
  b.put(summaryOf("x"), 5, world.time());
  b.put(summaryOf("y"), 6, world.time());
  world.run(1000);
  for (const { view } of [a, b, c].map((space) => ({ view: space.view() }))) expect(view).toEqual([`x ${2 ** 52}`, "y 6"]);
  a.end(summaryOf("x"), world.time());
  world.run(1000);
  for (const space of [a, b, c]) expect(space.view()).toEqual(["x 5", "y 6"]);
  // A version is no time: no clock is moved by it, and no operator is told of a wrong one.
  for (const { node } of nodes) expect(node.eventNames()).not.toContain("clock_beyond_skew");
});

test("who joins late, whose link broke, and who was upgraded gets everything", () => {
  const world = new FabricWorld();
  const a = startSpace(world, A);
  const old = world.start({ nodeId: "b", seeds: ["a:1"] });
  const seen: string[] = [];
  world.saying = (from, frame) => {
    if (["summaries", "sourceAges"].includes(frame.kind)) seen.push(from.spec.nodeId);
    return frame;
  };
  a.space.put(summaryOf("one"), 1, world.time(), "x".repeat(20_000));
  a.space.put(summaryOf("two"), 2, world.time(), "x".repeat(20_000));
  a.space.beacon("far", 1, world.time());
  world.runUntil(() => old.fabric.readiness.isReady);
  world.run(70_000);
  // A node without a summary replica gets nothing, and skips nothing.
  expect([seen, old.fabric.refused().unknownFrame, a.node.fabric.refused().unknownFrame]).toEqual([[], 0, 0]);
  world.kill(old);
  const b = join(world, { nodeId: "b", generation: 2 });
  world.runUntil(() => b.space.view().length === 3);
  expect(b.space.receiptOf("far")).toBeLessThanOrEqual(1020);
  const c = join(world, C);
  world.runUntil(() => c.space.view().length === 3);
  world.reaches = (from, to) => ![from, to].includes(c.node);
  world.cut(a.node, c.node);
  world.cut(b.node, c.node);
  a.space.put(summaryOf("one"), 3, world.time());
  a.space.end(summaryOf("two"), world.time());
  world.run(5000);
  world.reaches = () => true;
  world.runUntil(() => c.space.view().join() === "far 1,one 3");
});

test("a summary that is refused here makes its origin partial, and an operator is told; the catalog stays in step", () => {
  const { world, nodes } = region(A, B);
  const [a, b] = nodes as [SpaceNode, SpaceNode];
  a.space.put(summaryOf("bad"), 1, world.time());
  a.space.put(summaryOf("good"), 1, world.time());
  world.run(3000);
  expect(b.space.view()).toEqual(["good 1"]);
  expect(b.node.events.find(({ name }) => name === "record_refused")?.detail).toMatchObject({ peer: "a", of: "summaries" });
  expect([b.node.fabric.readiness.read(world.time()).isInStep, b.node.outputs.some(({ kind }) => kind === "changed")]).toEqual([
    true,
    false,
  ]);
});

test("links without news cost next to nothing", () => {
  const { world, nodes } = region(A, B, C);
  for (const [at, { space }] of nodes.entries())
    for (let n = 0; n < 50; n++) space.put(summaryOf(`s${n}`, `source${at}`), n + 1, world.time());
  world.run(120_000);
  let bytes = 0;
  world.saying = (_from, frame) => {
    if (isOurs(frame)) bytes += packetBytes(frame);
    return frame;
  };
  const forMs = 1_200_000;
  world.run(forMs);
  const linkCount = 3;
  expect(bytes / linkCount / (forMs / 1000)).toBeLessThanOrEqual(5);
});

function isOurs({ kind }: LinkFrame): boolean {
  return kind === "summaries" || kind === "sourceAges";
}
