/** Up to when all that an origin wrote is here, and what a link tells of it. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { ReplicationFrame } from "../../src/fabric/wire/messages.ts";
import { framesOf, open, ReplicatingNode, run, vectorOf, Wire } from "../fakes/replication.ts";

/** A node that has the first five records of these nodes. */
function bench(...nodeIds: readonly string[]) {
  const { replica, shared, place } = new ReplicatingNode({ nodeId: "me" });
  for (const nodeId of nodeIds) replica.origin(nodeId, 1, place).through = 5;
  return { origins: replica.origins, heartbeats: shared.heartbeats };
}

test("a heartbeat counts when all is here that was written until then, and the freshest one does", () => {
  const { heartbeats } = bench("a");
  expect(heartbeats.provenMonoMs("a/1")).toBeUndefined();
  heartbeats.heard("a/1", 5, 1000);
  heartbeats.heard("a/1", 5, 700);
  heartbeats.heard("unknown/1", 0, 2000);
  expect([heartbeats.provenMonoMs("a/1"), heartbeats.provenMonoMs("unknown/1")]).toEqual([1000, undefined]);
  const before = heartbeats.version;
  heartbeats.drop("unknown/1");
  expect(heartbeats.version).toBe(before);
  heartbeats.drop("a/1");
  expect([heartbeats.provenMonoMs("a/1"), heartbeats.version > before]).toEqual([undefined, true]);
});

test("one that speaks of more than is here counts from when that has come, however much is written meanwhile", () => {
  const { heartbeats, origins } = bench("a");
  const a = origins.get("a/1")!;
  heartbeats.heard("a/1", 6, 1000);
  heartbeats.heard("a/1", 9, 2000);
  expect(heartbeats.provenMonoMs("a/1")).toBeUndefined();
  a.through = 6;
  heartbeats.arrived(a);
  expect(heartbeats.provenMonoMs("a/1")).toBe(1000);
  // What was refused here is not all that it wrote.
  heartbeats.heard("a/1", 7, 3000);
  Object.assign(a, { through: 7, lacks: { count: 1, why: "test" } });
  heartbeats.arrived(a);
  heartbeats.heard("a/1", 7, 4000);
  expect(heartbeats.provenMonoMs("a/1")).toBe(1000);
});

test("of an origin of which frames left something out it counts once that has come, or may never come", () => {
  const { heartbeats, origins } = bench("a");
  const a = origins.get("a/1")!;
  Object.assign(a, { life: "live", through: 7, unsettled: { from: 5, until: 8 } });
  heartbeats.heard("a/1", 5, 1000);
  heartbeats.heard("a/1", 7, 2000);
  expect(heartbeats.provenMonoMs("a/1")).toBe(1000);
  Object.assign(a, { life: "orphaned" });
  heartbeats.arrived(a);
  expect(heartbeats.provenMonoMs("a/1")).toBe(2000);
  Object.assign(a, { life: "live" });
  heartbeats.heard("a/1", 8, 3000);
  Object.assign(a, { through: 8, unsettled: undefined });
  heartbeats.arrived(a);
  expect(heartbeats.provenMonoMs("a/1")).toBe(3000);
});

function node(nodeId: string): ReplicatingNode {
  return new ReplicatingNode({ nodeId });
}

function toldOn(frames: readonly ReplicationFrame[]): number {
  return frames.reduce((sum, frame) => sum + (frame.kind === "vector" ? (frame.heartbeats?.length ?? 0) : 0), 0);
}

/** `a`, `b` and `z` in a row. */
function row(z: ReplicatingNode) {
  const [a, b] = [node("a"), node("b")];
  for (const each of [a, b, z]) each.put(each.nodeId, 0);
  return { a, b, near: new Wire(a, b, 0), far: new Wire(b, z, 0) };
}

test("who has no link to an origin hears of it by way of others, every few seconds; who has one does not", () => {
  const z = node("z");
  const { a, b, near, far } = row(z);
  const id = a.replica.self.id;
  let now = 0;
  for (let second = 0; second < 60; second++) {
    now = run([near, far], now, 1000);
    if (second > 10) expect(now - (z.shared.heartbeats.provenMonoMs(id) ?? 0)).toBeLessThan(5000 + 2500);
    if (second > 10) expect(now - (b.shared.heartbeats.provenMonoMs(id) ?? 0)).toBeLessThan(2000);
  }
  expect(toldOn(far.log)).toBeLessThanOrEqual(2 * (60 / 5) + 2);
  // From the moment its origin is silent, it ages.
  near.close();
  const proven = z.shared.heartbeats.provenMonoMs(id)!;
  run([far], now, 60_000);
  expect(z.shared.heartbeats.provenMonoMs(id)! - proven).toBeLessThanOrEqual(6000);
});

/** Ids of nodes whose origins of generation 1 have one short hash. */
const PAIR = ["n696399", "n898030"] as const;
const SHORT = 4_145_100_922;
/** The short hash of `other/1`. */
const SHORT_OF_OTHER = 1_181_285_608;

test("an origin that another cluster made up has the short hash of none of ours", () => {
  const [a, b, z] = [node(PAIR[0]), node("b"), node("z")];
  const evil = new ReplicatingNode({ nodeId: PAIR[1], clusterId: "c2" });
  for (const each of [a, b, z]) each.put(each.nodeId, 0);
  evil.put("made-up", 0, { scope: SCOPE.REGION });
  const [id, madeUp] = [a.replica.self.id, evil.replica.self.id];
  const wires = [new Wire(a, b, 0), new Wire(b, z, 0), new Wire(evil, b, 0), new Wire(evil, z, 0)];
  let now = run(wires, 0, 10_000);
  for (const each of [b, z]) expect(each.replica.origins.has(madeUp)).toBe(true);
  expect([a.shared.vector.find(id)?.short, evil.shared.vector.find(madeUp)?.short]).toEqual([SHORT, SHORT]);
  for (let second = 0; second < 30; second++) {
    now = run(wires, now, 1000);
    expect(now - (z.shared.heartbeats.provenMonoMs(id) ?? 0)).toBeLessThan(5000 + 2500);
  }
});

test("a heartbeat without a number is of an origin of ours, whether that is known here or not", () => {
  const [me, peer] = [node("me"), node("peer")];
  const evil = new ReplicatingNode({ nodeId: PAIR[1], clusterId: "c2" });
  evil.put("made-up", 0, { scope: SCOPE.REGION });
  const madeUp = evil.replica.self.id;
  const [link, border] = [open(me, peer, 0), open(me, evil, 0)];
  const entries = [{ nodeId: PAIR[1], seq: 1 }];
  link.receive(vectorOf(entries), me.timeOf(1000), []);
  border.receive(framesOf(evil, 0), me.timeOf(1000), []);
  expect(me.replica.origins.has(madeUp)).toBe(true);
  const say = (more: { readonly seq?: number }) => {
    const heartbeats = [{ hash: SHORT, ageMs: 300, ...more }];
    const said = { ...vectorOf(entries), isPartial: true, heartbeats };
    link.receive(said, me.timeOf(2000), []);
    return me.shared.heartbeats.provenMonoMs(madeUp);
  };
  expect([say({}), say({ seq: 1 })]).toEqual([undefined, 1700]);
});

test("what may have been long on its way is that much older", () => {
  const [me, peer, other] = [node("me"), node("peer"), node("other")];
  const link = open(me, peer, 0);
  const direct = open(me, other, 0);
  const id = other.replica.self.id;
  other.put("x", 0);
  const entries = [{ nodeId: "other", seq: 1 }];
  link.receive(vectorOf(entries), me.timeOf(1000), []);
  direct.receive(framesOf(other, 0), me.timeOf(1000), []);
  expect(me.shared.heartbeats.provenMonoMs(id)).toBeUndefined();
  const said = (ageMs: number) => ({ ...vectorOf(entries), isPartial: true, heartbeats: [{ hash: SHORT_OF_OTHER, ageMs }] });
  link.receive(said(300), me.timeOf(2000), []);
  expect(me.shared.heartbeats.provenMonoMs(id)).toBe(1700);
  link.receive({ ...said(300), times: { atMs: 2, asOfMs: 18_001 } }, me.timeOf(20_000), []);
  expect(me.shared.heartbeats.provenMonoMs(id)).toBe(18_000 - 300);
});
