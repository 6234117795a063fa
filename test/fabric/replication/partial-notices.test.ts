/** A newcomer that first meets a node which refused records of another: it does not take that node's part for the whole. */
import { expect, test } from "vitest";
import type { FabricOptions } from "../../../src/fabric/options.ts";
import { REPLICATION_FIXED } from "../../../src/fabric/replication/options.ts";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";
import { FabricWorld, type WorldNode } from "../../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../../fakes/options.ts";

/** Less than a holds. */
const TIGHT: Partial<FabricOptions> = { replication: { ...FABRIC_OPTIONS.replication, maxOriginRecords: 2 } };

/** Node a has four entries, and b room for two of them. */
function world(): { readonly world: FabricWorld; readonly a: WorldNode; readonly b: WorldNode } {
  const fabrics = new FabricWorld();
  const a = fabrics.start({ nodeId: "a" });
  const b = fabrics.start({ nodeId: "b", seeds: ["a:1"], options: TIGHT });
  fabrics.run(10_000);
  for (const name of ["w", "x", "y", "z"]) {
    a.put(name);
    fabrics.run(200);
  }
  b.put("of-b");
  fabrics.run(3000);
  expect(b.fabric.replication.partial.list()).toMatchObject([{ id: "a/1" }]);
  return { world: fabrics, a, b };
}

function names(node: WorldNode): readonly string[] {
  return node.view().map((name) => name.split(" ")[0] ?? "");
}

const ALL = ["of-b", "w", "x", "y", "z"];

test("it is not ready before it has from their own node what its first peer refused", () => {
  const { world: fabrics, a, b } = world();
  let isReached = false;
  const [here, there] = [a, b];
  fabrics.reaches = (from, to) => isReached || from === there || to === there || (from !== here && to !== here);
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.upLinks().includes("b"));
  fabrics.run(4000);
  expect([names(c), c.fabric.readiness.isReady]).toEqual([["of-b"], false]);
  expect(c.fabric.readiness.read(fabrics.time())).toMatchObject({ reason: "catching_up", isInStep: false });
  isReached = true;
  fabrics.runUntil(() => c.fabric.readiness.isReady, 45_000);
  expect(names(c)).toEqual(ALL);
  fabrics.run(5000);
  expect([c.fabric.readiness.read(fabrics.time()).isInStep, c.fabric.replication.notWhole()]).toEqual([true, []]);
});

test("a newcomer that meets both at once is ready as soon as it has all", () => {
  const { world: fabrics } = world();
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.fabric.readiness.isReady, 3000);
  expect(names(c)).toEqual(ALL);
});

test("where nobody has them it is ready after a while, says which are partial, and is not in step", () => {
  const { world: fabrics, a, b } = world();
  fabrics.kill(a);
  fabrics.run(15_000);
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.upLinks().includes("b"));
  const waitedMs = fabrics.runUntil(() => c.fabric.readiness.isReady, 45_000);
  expect(waitedMs).toBeGreaterThanOrEqual(REPLICATION_FIXED.lackingWaitMs - 100);
  expect(c.fabric.replication.notWhole().map(({ id, why }) => [id, why.slice(0, 17)])).toEqual([["a/1", "b refused records"]]);
  fabrics.run(8000);
  const { isInStep, ageMs, detail } = c.fabric.readiness.read(fabrics.time());
  expect([isInStep, detail]).toEqual([false, "not in sync with b"]);
  expect(ageMs).toBeGreaterThan(8000);
  expect(c.eventNames()).toContain("origin_partial_at_peer");
  // Its node is back: all is well.
  fabrics.start({ nodeId: "a", seeds: ["b:1"], disk: a });
  fabrics.runUntil(() => names(c).length === 5 && c.fabric.readiness.read(fabrics.time()).isInStep, 30_000);
  expect([c.fabric.replication.notWhole(), b.fabric.readiness.isReady]).toEqual([[], true]);
});

test("a newcomer does not wait for a node that has left for good, once every other member has said what it has", () => {
  const { world: fabrics, a } = world();
  fabrics.input(a, { kind: "stop", reason: "leave" });
  fabrics.run(5000);
  fabrics.kill(a);
  fabrics.run(15_000);
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.fabric.readiness.isReady, 5000);
  expect(c.fabric.replication.notWhole().map(({ id }) => id)).toEqual(["a/1"]);
});

test("it comes from a third node that has it whole, though its own node is gone", () => {
  const { world: fabrics, a } = world();
  fabrics.start({ nodeId: "d", seeds: ["a:1"] });
  fabrics.run(5000);
  fabrics.kill(a);
  fabrics.run(15_000);
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.fabric.readiness.isReady, 45_000);
  expect(names(c)).toEqual(ALL);
});

test("who got some of it by way of that peer before any was refused lacks the rest", () => {
  const fabrics = new FabricWorld();
  const a = fabrics.start({ nodeId: "a" });
  const b = fabrics.start({ nodeId: "b", seeds: ["a:1"], options: TIGHT });
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.reaches = (from, to) => from === b || to === b || (from !== a && to !== a);
  fabrics.run(10_000);
  for (const name of ["w", "x", "y", "z"]) {
    a.put(name);
    fabrics.run(3000);
  }
  fabrics.kill(a);
  fabrics.run(15_000);
  expect(names(c)).toEqual(["w", "x"]);
  expect([c.fabric.replication.notWhole().map(({ id }) => id), c.fabric.readiness.read(fabrics.time()).isInStep]).toEqual([["a/1"], false]);
});

test("it waits for a third node that has it whole, though its own node has left for good", () => {
  const { world: fabrics, a, b } = world();
  const d = fabrics.start({ nodeId: "d", seeds: ["a:1"] });
  fabrics.run(5000);
  fabrics.input(a, { kind: "stop", reason: "leave" });
  fabrics.run(5000);
  fabrics.kill(a);
  let isReached = false;
  fabrics.reaches = (from, to) => isReached || from === b || to === b || (from !== d && to !== d);
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.upLinks().includes("b"));
  fabrics.run(4000);
  expect(c.fabric.readiness.isReady).toBe(false);
  isReached = true;
  fabrics.runUntil(() => c.fabric.readiness.isReady, 45_000);
  expect([names(c), c.fabric.replication.notWhole()]).toEqual([ALL, []]);
});

test("when the peer has forgotten the origin, it is missed no more", () => {
  const { world: fabrics, a, b } = world();
  fabrics.kill(a);
  fabrics.run(15_000);
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.fabric.readiness.isReady, 45_000);
  const origin = b.replica.origins.get("a/1");
  if (origin === undefined) throw new Error("b does not know a");
  b.fabric.replication.forgetOrigin(origin, fabrics.time());
  fabrics.runUntil(() => c.fabric.readiness.read(fabrics.time()).isInStep, 10_000);
  expect(c.fabric.replication.notWhole()).toEqual([]);
});

test("a node of a version that does not say how far it has heard is waited for alike", () => {
  const { world: fabrics, a, b } = world();
  fabrics.saying = (from, frame) => (from === b ? withoutNumber(frame) : frame);
  fabrics.reaches = (from, to) => from !== a && to !== a;
  const c = fabrics.start({ nodeId: "c", seeds: ["b:1"] });
  fabrics.runUntil(() => c.upLinks().includes("b"));
  fabrics.run(4000);
  expect(c.fabric.readiness.isReady).toBe(false);
  fabrics.reaches = () => true;
  fabrics.runUntil(() => c.fabric.readiness.isReady, 45_000);
  expect(names(c)).toEqual(ALL);
});

function withoutNumber(frame: LinkFrame): LinkFrame {
  if (frame.kind !== "vector") return frame;
  return { ...frame, entries: frame.entries.map(({ lackingThrough: _number, ...entry }) => entry) };
}
