/** What one node of a region took over a border is shown at all of them, proven by each, and becomes stale at all of them at one time. */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { SummaryStamper } from "../../../src/summary/stamper.ts";
import { FabricWorld } from "../../fakes/fabric-world.ts";
import { HeldWorld, keyOf, MEMORY, MINUTE, STALE_KEEP, START_MS, TTL } from "../../fakes/held-world.ts";

/** A region in which nodes hold summaries as a node does, and a cluster of another one. */
function region() {
  const [world, keeping] = [new FabricWorld(), new HeldWorld()];
  const far = keeping.node({ nodeId: "far1", clusterId: "far" });
  const nodes = new Map<string, ReturnType<typeof keeping.node>>();
  const start = (nodeId: string, clusterId: string, generation = 1) => {
    const of = keeping.node({ nodeId, clusterId, region: "r1" });
    nodes.set(nodeId, of);
    const { held } = of;
    const stamper = new SummaryStamper((cluster) => keeping.keys.regionOf(cluster));
    const summaries = { replica: held.replica, stamper, receipts: held };
    const node = world.start({ nodeId, clusterId, generation, seeds: ["a:1"], summaries });
    node.aheadMs = START_MS + world.nowMs - world.time().wallMs;
    return { of, node };
  };
  const run = (forMs: number) => {
    for (const untilMs = world.nowMs + forMs; world.nowMs < untilMs; ) {
      world.run(50);
      keeping.nowMs = world.nowMs;
      for (const of of nodes.values()) of.settle();
    }
  };
  const shown = () => [...nodes.values()].map((of) => of.shown.join(" "));
  const kill = (nodeId: string, node: Parameters<typeof world.kill>[0]) => {
    nodes.delete(nodeId);
    world.kill(node);
  };
  return { world, far, start, run, shown, kill };
}

/** A node that took `cart`, and no other one did, is gone after this time. Two nodes are left. */
function widowed(afterMs: number) {
  const made = region();
  const { far, start, run, kill } = made;
  const a = start("a", "c1");
  const b = start("b", "c1");
  start("c", "c2");
  run(10_000);
  far.say("cart");
  far.beacon();
  for (const name of ["cart", "beacon"]) expect(a.of.takeFrom(far, name)).toBe("taken");
  run(afterMs);
  kill("a", a.node);
  /** Runs on with beacons, and returns all that was shown meanwhile. */
  const live = (forMs: number): readonly string[] => {
    const seen = new Set<string>();
    for (let ms = 0; ms < forMs; ms += 40_000) {
      far.beacon();
      b.of.takeFrom(far, "beacon");
      for (let n = 0; n < 8; n++) {
        run(5000);
        for (const each of made.shown()) seen.add(each);
      }
    }
    return [...seen];
  };
  return { ...made, b, live };
}

test("three nodes of two clusters, one that comes late, and one that starts again", () => {
  const { world, far, start, run, shown } = region();
  const a = start("a", "c1");
  const b = start("b", "c1");
  start("c", "c2");
  run(10_000);
  const version = far.say("cart");
  far.beacon();
  for (const name of ["cart", "beacon"]) expect(a.of.takeFrom(far, name)).toBe("taken");
  run(1000);
  const fresh = `far/cart@${version}`;
  expect(shown()).toEqual([fresh, fresh, fresh]);
  run(80_000);
  start("d", "c2");
  world.kill(b.node);
  start("b", "c1", 2);
  run(10_000);
  expect(shown()).toEqual([fresh, fresh, fresh, fresh]);
  // Nobody hears of the source again.
  run(TTL - 92_000);
  expect(shown()).toEqual([fresh, fresh, fresh, fresh]);
  run(2000);
  expect(shown()).toEqual([fresh, fresh, fresh, fresh].map((each) => `${each}*`));
  // And a node that starts now does not make it fresh.
  world.kill(a.node);
  start("a", "c1", 2);
  run(10_000);
  expect(shown().every((each) => each === `${fresh}*`)).toBe(true);
});

test("what a source took back by its beacons alone stays away after they name it no more, also if a node that is gone said it last", {
  tags: ["night"],
}, () => {
  const { far, b, live } = widowed(MINUTE);
  live(40_000);
  far.say("cart", { withdrawn: true });
  live(40_000);
  // Each beacon that names it is remembered for as long as its cluster remembers it.
  expect(live(2 * MEMORY + 15 * MINUTE)).toEqual([""]);
  b.of.held.rulesChanged();
  expect(live(15 * MINUTE)).toEqual([""]);
});

test("what a source took back while its region was away stays away, also if a node that is gone said it last", () => {
  const { far, run, shown, live } = widowed(5 * MINUTE);
  far.say("cart", { withdrawn: true });
  run(TTL + STALE_KEEP - 5 * MINUTE + 1000);
  expect(shown()).toEqual(["", ""]);
  // Its cluster has forgotten the withdrawal.
  run(MEMORY - TTL - STALE_KEEP + 5 * MINUTE);
  far.settle();
  expect(live(15 * MINUTE)).toEqual([""]);
});

test("what was taken over of a node that was away is held by one node again after the node is back", () => {
  const { world, far, start, run } = region();
  const nodes = [start("a", "c1"), start("b", "c1")];
  run(10_000);
  far.say("pear");
  far.say("cart");
  far.beacon();
  const holders = (name: string) => nodes.filter(({ of }) => of.held.replica.own(keyOf(name, "far"))?.body === BODY.ENTRY);
  for (const name of ["pear", "beacon"]) for (const { of } of nodes) of.takeFrom(far, name);
  run(5000);
  // Both took it, and one ended it again. So the origin of the other one stays, whatever is taken over of it.
  const [gone, ...others] = holders("pear");
  expect([gone?.of.takeFrom(far, "cart"), others]).toEqual(["taken", []]);
  run(5000);
  const [a, b] = nodes.map(({ node }) => node);
  if (a === undefined || b === undefined) throw new Error();
  world.reaches = () => false;
  world.cut(a, b);
  const live = (forMs: number) => {
    for (let ms = 0; ms < forMs; ms += 40_000) {
      far.beacon();
      for (const { of } of nodes) of.takeFrom(far, "beacon");
      run(40_000);
    }
  };
  live(12 * MINUTE);
  expect([holders("pear"), holders("cart").length]).toEqual([[gone], 2]);
  world.reaches = () => true;
  live(6 * MINUTE);
  for (const { of } of nodes) of.held.rulesChanged();
  live(MINUTE);
  expect([holders("pear"), holders("cart").length]).toEqual([[gone], 1]);
  for (const { of } of nodes) expect(of.shown).toHaveLength(2);
});
