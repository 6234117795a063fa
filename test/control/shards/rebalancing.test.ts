/** Plans that balance a set: by count, by load and by health, with and without approval, in virtual time. */
import { describe, expect, test } from "vitest";
import type { ShardReport } from "../../../src/control/shards/io-types.ts";
import type { PlanRecord, ShardSettings } from "../../../src/control/shards/records.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { LEASE_MS } from "../../fakes/leader-lab.ts";
import { type LabOwner, ShardLab, type ShardNode } from "../../fakes/shard-lab.ts";

const COUNT = 40;
const MINUTE = 60_000;

interface World {
  readonly lab: ShardLab;
  readonly node: ShardNode;
  readonly owners: readonly LabOwner[];
}

/** A set whose shards are owned. */
function world(instances: readonly string[], settings: Partial<ShardSettings> = {}): World {
  const lab = new ShardLab();
  const node = lab.shardNode("n1");
  lab.pass(LEASE_MS);
  node.apply({ count: COUNT, maxParallelMoves: 10, ...settings });
  const owners = instances.map((instance) => lab.owner(instance, node));
  lab.pass(3 * LEASE_MS);
  expect(node.map.rows.every(({ owner }) => owner !== "")).toBe(true);
  return { lab, node, owners };
}

const plansOf = (node: ShardNode): readonly PlanRecord[] => [...node.shards.maps.plans("orders").values()].map(({ value }) => value);
const statesOf = (node: ShardNode) => plansOf(node).map(({ state }) => state);
const lastPlan = (node: ShardNode): readonly [string, PlanRecord] => {
  const [id, { value }] = [...node.shards.maps.plans("orders")].at(-1) ?? expect.fail("there is a plan");
  return [id, value];
};
const ownersOf = (node: ShardNode) => node.map.rows.map(({ owner }) => owner);
const countsOf = (node: ShardNode, instances: readonly string[]) => instances.map((instance) => node.rowsOf(instance).length);

describe("by count", () => {
  test("a fourth owner gets its share within three plans, each of at most a tenth of the shards, and each plan is completed", () => {
    const { lab, node } = world(["a", "b", "c"]);
    lab.owner("d", node);
    lab.pass(2 * MINUTE);
    expect(node.rowsOf("d").length).toBeGreaterThanOrEqual(7);
    expect(Math.max(...countsOf(node, ["a", "b", "c", "d"]))).toBeLessThanOrEqual(11);
    expect(statesOf(node).length).toBeLessThanOrEqual(3);
    expect(new Set(statesOf(node))).toEqual(new Set(["completed"]));
    for (const { moves } of plansOf(node)) expect(moves.reduce((sum, { ids }) => sum + ids.size, 0)).toBeLessThanOrEqual(COUNT / 10);
  });

  test("the next controller makes no plan in its first 5 s, in which owners attach again", () => {
    const lab = new ShardLab();
    const [first, next] = [lab.shardNode("n1"), lab.shardNode("n2")];
    lab.pass(LEASE_MS);
    first.apply({ count: COUNT });
    for (const instance of ["a", "b", "c"]) lab.owner(instance, next);
    lab.pass(3 * LEASE_MS);
    lab.owner("d", next);
    first.input({ kind: "stop" });
    lab.pass(3000);
    expect([next.holds("global-control"), plansOf(next)]).toEqual([true, []]);
    lab.pass(5000);
    expect(plansOf(next)).toHaveLength(1);
  });

  test("an owner that comes and goes every 20 s moves at most twice as many shards as it had", () => {
    const { lab, node, owners } = world(["a", "b", "c", "d"], { cooldownMs: MINUTE });
    const had = node.rowsOf("d").length;
    const [flapping = expect.fail("there is an owner")] = owners.slice(-1);
    let moved = 0;
    let before = ownersOf(node);
    for (let round = 0; round < 15; round++) {
      if (round % 2 === 0) flapping.end(true);
      else flapping.attach();
      for (let second = 0; second < 20; second++) {
        lab.pass(1000);
        const after = ownersOf(node);
        moved += after.filter((owner, id) => owner !== before[id]).length;
        before = after;
      }
    }
    expect(had).toBeGreaterThan(5);
    expect(moved).toBeLessThanOrEqual(2 * had);
    expect(moved).toBeGreaterThanOrEqual(had);
    flapping.attach();
    lab.pass(5 * MINUTE);
    expect(node.rowsOf("d").length).toBeGreaterThan(5);
  });
});

describe("by load", () => {
  /** Reports with this number of waiting items for each shard. */
  const waiting = (owner: LabOwner, depthOf: (id: number) => number): void => {
    owner.reports = () =>
      [...owner.shards.values()]
        .filter(({ state }) => state === "owned")
        .map(({ id }): ShardReport => ({ id, depth: depthOf(id), latencyMs: 10, errorRatio: 0, rate: 100 }));
  };
  const LIMITS = { maxDepth: 1500, overloadMs: 10_000, cooldownMs: 5 * MINUTE };

  test("an hour of load that varies by a fifth moves nothing", () => {
    const { lab, node, owners } = world(["a", "b", "c", "d"], LIMITS);
    const rng = new Rng("noise");
    for (const owner of owners) waiting(owner, () => 100 * (0.8 + 0.4 * rng.next()));
    const before = ownersOf(node);
    lab.pass(60 * MINUTE);
    expect(ownersOf(node)).toEqual(before);
    expect(plansOf(node)).toEqual([]);
    expect(node.map.rows.every(({ isThrottled }) => !isThrottled)).toBe(true);
  });

  test("a single report above a threshold moves nothing", () => {
    const { lab, node, owners } = world(["a", "b", "c", "d"], LIMITS);
    for (const owner of owners) waiting(owner, () => 50);
    lab.pass(MINUTE);
    const [a = expect.fail("there is an owner")] = owners;
    waiting(a, () => 1000);
    lab.pass(6000);
    expect(node.map.rows.filter(({ isThrottled }) => isThrottled).map(({ owner }) => owner)).toEqual(["a"]);
    waiting(a, () => 50);
    lab.pass(5 * MINUTE);
    expect([plansOf(node), node.map.rows.filter(({ isThrottled }) => isThrottled)]).toEqual([[], []]);
  });

  test("a report from before a move throttles no other shard of the owner", () => {
    const { lab, node, owners } = world(["a", "b", "c", "d"], LIMITS);
    const [a = expect.fail("there is an owner")] = owners;
    const [hottest = -1] = node.rowsOf("a");
    waiting(a, (id) => (id === hottest ? 2000 : 50));
    lab.pass(LEASE_MS);
    a.reports = () => [];
    lab.pass(6000);
    const throttled = () => node.map.rows.flatMap(({ id, isThrottled }) => (isThrottled ? [id] : []));
    expect(throttled()).toEqual([hottest]);
    node.set(hottest, "disabled");
    lab.pass(6000);
    expect(throttled()).toEqual([]);
  });

  test("after a step of load the set is balanced within three plans, nothing moves back, and the hottest shards move first", () => {
    const { lab, node, owners } = world(["a", "b", "c", "d"], LIMITS);
    const hot = new Set(node.rowsOf("a").slice(0, 4));
    const depthOf = (id: number) => (hot.has(id) ? 600 : 50);
    for (const owner of owners) waiting(owner, depthOf);
    const moves: string[] = [];
    let before = ownersOf(node);
    for (let second = 0; second < 20 * 60; second++) {
      lab.pass(1000);
      const after = ownersOf(node);
      for (const [id, owner] of after.entries()) if (owner !== before[id]) moves.push(`${id} ${before[id]}`);
      before = after;
    }
    const loads = ["a", "b", "c", "d"].map((instance) => node.rowsOf(instance).reduce((sum, id) => sum + depthOf(id), 0));
    expect(Math.max(...loads)).toBeLessThan(1500);
    expect(plansOf(node).length).toBeLessThanOrEqual(3);
    expect(new Set(statesOf(node))).toEqual(new Set(["completed"]));
    expect(new Set(moves.map((move) => move.split(" ")[0])).size).toBe(moves.length);
    expect(hot.has(Number(moves[0]?.split(" ")[0]))).toBe(true);
  });
});

describe("by health", () => {
  test("all shards move from an owner in maintenance, and a degraded owner gets no more", () => {
    const { lab, node, owners } = world(["a", "b", "c"]);
    const [a, b] = [owners[0] ?? expect.fail("a"), owners[1] ?? expect.fail("b")];
    const had = node.rowsOf("b").length;
    b.facts = { ...b.facts, health: "degraded" };
    a.facts = { ...a.facts, health: "maintenance" };
    lab.pass(3 * MINUTE);
    expect(countsOf(node, ["a", "b"])).toEqual([0, had]);
  });

  test("shards move from a critical owner only when it was critical for long enough", () => {
    const { lab, node, owners } = world(["a", "b"], { overloadMs: 30_000 });
    const [a = expect.fail("a")] = owners;
    const had = node.rowsOf("a").length;
    a.facts = { ...a.facts, health: "critical" };
    lab.pass(20_000);
    expect(node.rowsOf("a").length).toBe(had);
    a.facts = { ...a.facts, health: "healthy" };
    lab.pass(30_000);
    expect(node.rowsOf("a").length).toBe(had);
    a.facts = { ...a.facts, health: "critical" };
    lab.pass(4 * MINUTE);
    expect(node.rowsOf("a").length).toBe(0);
  });
});

describe("approval", () => {
  test("a plan waits for an operator, who must not be its author, and must have read it", () => {
    const { lab, node } = world(["a", "b", "c"], { approval: "other" });
    lab.owner("d", node);
    lab.pass(10_000);
    const [planId, { state, checksum, author }] = lastPlan(node);
    expect([state, author, node.rowsOf("d")]).toEqual(["pending", "n1", []]);
    node.change({ kind: "approve", planId, checksum: "0" });
    expect(node.refusals.at(-1)).toMatchObject({ reason: "version_conflict" });
    node.change({ kind: "approve", planId, checksum });
    expect(node.refusals.at(-1)).toBeUndefined();
    lab.pass(10_000);
    expect(plansOf(node).find(({ checksum: of }) => of === checksum)).toMatchObject({ state: "completed", approvedBy: "ann" });
    expect(node.rowsOf("d").length).toBe(COUNT / 10);
    node.change({ kind: "cancel", planId: lastPlan(node)[0] });
    node.change({ kind: "propose", isForced: false, planId: "orders/own" });
    const [own, { checksum: ownChecksum }] = lastPlan(node);
    node.change({ kind: "approve", planId: own, checksum: ownChecksum });
    expect(node.refusals.at(-1)).toMatchObject({ reason: "discovery_access_denied" });
  });

  test("a plan of a set that has no owners is refused with the reason", () => {
    const lab = new ShardLab();
    const node = lab.shardNode("n1");
    lab.pass(LEASE_MS);
    node.apply();
    node.change({ kind: "propose", isForced: false, planId: "orders/own" });
    expect(node.refusals.at(-1)).toEqual({
      reason: "not_found",
      message: "the shards of orders have no owners: attach instances of the service worker first",
    });
  });

  test("a plan that waits ends when the map changes, or after a quarter of an hour", () => {
    const { lab, node } = world(["a", "b", "c"], { approval: "any" });
    lab.owner("d", node);
    lab.pass(10_000);
    node.set(0, "paused");
    lab.pass(1000);
    expect(plansOf(node)[0]).toMatchObject({ state: "cancelled", detail: "the map has changed to epoch 3" });
    lab.pass(16 * MINUTE);
    expect(plansOf(node)[1]).toMatchObject({ state: "cancelled", detail: "no operator approved it in time" });
  });

  test("a cancelled plan starts no further move, and only one plan is open at a time", () => {
    const { lab, node } = world(["a", "b", "c"], { maxParallelMoves: 1 });
    const d = lab.owner("d", node);
    d.isPrompt = false;
    lab.pass(10_000);
    const [planId] = lastPlan(node);
    node.change({ kind: "propose", isForced: false, planId: "orders/own" });
    expect(node.refusals.at(-1)).toMatchObject({
      reason: "version_conflict",
      message: `the plan ${planId} has not ended; approve or cancel it first`,
    });
    node.change({ kind: "cancel", planId });
    for (const { id, state } of d.shards.values()) if (state === "preparing") d.prepared(id);
    lab.pass(2000);
    expect(node.rowsOf("d").length).toBe(1);
    lab.pass(MINUTE);
    expect([node.rowsOf("d").length, statesOf(node)]).toEqual([1, ["cancelled"]]);
    lab.pass(16 * MINUTE);
    expect(statesOf(node).length).toBeGreaterThan(1);
  });

  test("a plan whose next owner ends fails, and the next plan moves shards to others", () => {
    const { lab, node } = world(["a", "b", "c"], { maxParallelMoves: 1 });
    const d = lab.owner("d", node);
    d.isPrompt = false;
    lab.pass(10_000);
    expect(statesOf(node)).toEqual(["running"]);
    d.end(true);
    lab.owner("e", node);
    lab.pass(MINUTE);
    expect(statesOf(node).slice(0, 2)).toEqual(["failed", "completed"]);
    expect(node.rowsOf("e").length).toBeGreaterThan(3);
  });

  test("a plan that waits ends with the epoch also while the set is frozen", () => {
    const { lab, node } = world(["a", "b", "c"], { approval: "any" });
    lab.owner("d", node);
    lab.pass(10_000);
    node.change({ kind: "freeze", untilWallMs: node.time.wallMs + 60 * MINUTE });
    lab.pass(1000);
    expect(statesOf(node)).toEqual(["cancelled"]);
  });

  test("a frozen set moves nothing until it expires, but shards of an owner that ends get other owners", () => {
    const { lab, node, owners } = world(["a", "b", "c"]);
    node.change({ kind: "freeze", untilWallMs: node.time.wallMs + 2 * MINUTE });
    lab.owner("d", node);
    lab.pass(MINUTE);
    expect([node.rowsOf("d"), plansOf(node)]).toEqual([[], []]);
    owners[0]?.end(true);
    lab.pass(5000);
    expect(ownersOf(node)).not.toContain("a");
    expect(ownersOf(node)).not.toContain("");
    lab.pass(3 * MINUTE);
    expect(node.rowsOf("d").length).toBeGreaterThan(8);
  });
});
