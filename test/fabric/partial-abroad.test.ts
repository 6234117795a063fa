/** Records of another cluster's node that were refused: nothing of our own cluster is old for that. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";

/** Less than x holds. */
const TIGHT: Partial<FabricOptions> = { replication: { ...FABRIC_OPTIONS.replication, maxOriginRecords: 2 } };

interface Border {
  readonly world: FabricWorld;
  readonly a: WorldNode;
  readonly b: WorldNode;
  readonly x: WorldNode;
}

/** Nodes a and b of one cluster, and x of another with four entries. Node a has room for two of them; `options`: and b. */
function border(options: Partial<FabricOptions> = {}): Border {
  const world = new FabricWorld();
  const a = world.start({ nodeId: "a", options: TIGHT });
  const b = world.start({ nodeId: "b", seeds: ["a:1"], options });
  world.run(10_000);
  const x = world.start({ nodeId: "x", clusterId: "c2", seeds: ["a:1"] });
  return { world, a, b, x };
}

function fill({ world, x }: Border): void {
  for (const name of ["p", "q", "r", "s"]) {
    x.put(name, SCOPE.REGION);
    world.run(200);
  }
}

function standing(world: FabricWorld, node: WorldNode): { readonly isInStep: boolean; readonly detail: string; readonly isFresh: boolean } {
  const { isInStep, detail, ageMs } = node.fabric.readiness.read(world.time());
  return { isInStep, detail, isFresh: ageMs < 4000 };
}

const FRESH = { isInStep: true, detail: "in sync with all peers", isFresh: true };
const BUT_X = { ...FRESH, detail: "in sync with this cluster; not in sync with x of other clusters" };

test("what one node of ours refused of theirs makes no other one of ours old, and each says what it lacks", () => {
  const made = border();
  const { world, a, b, x } = made;
  world.reaches = (from, to) => from === a || to === a || (from !== x && to !== x);
  world.run(3000);
  fill(made);
  world.run(15_000);
  expect(standing(world, a)).toEqual(BUT_X);
  expect(standing(world, b).isFresh).toBe(true);
  expect(b.fabric.replication.notWhole().map(({ id }) => id)).toEqual(["x/1"]);
  world.kill(x);
  world.run(60_000);
  expect([a, b].map((node) => standing(world, node))).toEqual([BUT_X, BUT_X]);
});

test("two nodes of ours that refused it both are in step with one another", () => {
  const made = border(TIGHT);
  const { world, a, b } = made;
  world.run(3000);
  fill(made);
  world.run(15_000);
  expect([a, b].map((node) => node.fabric.replication.partial.list().map(({ id }) => id))).toEqual([["x/1"], ["x/1"]]);
  expect([a, b].map((node) => standing(world, node))).toEqual([BUT_X, BUT_X]);
});

test("so is one that refused it with one that has it whole", () => {
  const made = border();
  const { world, a, b, x } = made;
  world.run(3000);
  fill(made);
  world.run(3000);
  expect([b.view(), a.fabric.replication.partial.size]).toEqual([["p", "q", "r", "s"], 1]);
  world.kill(x);
  world.run(60_000);
  expect([a, b].map((node) => standing(world, node))).toEqual([BUT_X, BUT_X]);
});

test("a newcomer is in step at once with the node that refused it", () => {
  const made = border();
  const { world, a, x } = made;
  world.reaches = (from, to) => from === a || to === a || (from !== x && to !== x);
  world.run(3000);
  fill(made);
  world.kill(x);
  world.run(60_000);
  const c = world.start({ nodeId: "c", seeds: ["b:1"] });
  world.runUntil(() => c.fabric.readiness.isReady, 5000);
  world.run(3000);
  expect(standing(world, c)).toEqual(FRESH);
});

test("one that is found to be of ours counts from then on", () => {
  const made = border();
  const { world, a, b, x } = made;
  world.reaches = (from, to) => from === a || to === a || (from !== x && to !== x);
  world.run(3000);
  fill(made);
  world.kill(x);
  world.run(60_000);
  expect(standing(world, b)).toEqual(BUT_X);
  const origin = a.replica.origins.get("x/1");
  if (origin === undefined) throw new Error("a does not know x");
  a.fabric.replication.rehome(origin, { clusterId: "c1", region: "r1" });
  world.run(6000);
  expect(standing(world, b)).toMatchObject({ isInStep: false, isFresh: false });
});

test("to a node of an earlier version, and of what it says, it counts as any other", () => {
  const made = border();
  const { world, a, b, x } = made;
  world.reaches = (from, to) => from === a || to === a || (from !== x && to !== x);
  world.saying = (_from, frame) =>
    frame.kind === "vector" ? { ...frame, entries: frame.entries.map(({ isOfOtherCluster: _said, ...entry }) => entry) } : frame;
  world.run(3000);
  fill(made);
  world.run(15_000);
  expect([a, b].map((node) => standing(world, node).isInStep)).toEqual([true, false]);
});
