/** What all links of a node share. */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import type { FabricOutput } from "../../../src/fabric/io-types.ts";
import { NEVER } from "../../../src/lib/machine.ts";
import { drain, framesOf, open, ReplicatingNode, run, vectorOf, Wire } from "../../fakes/replication.ts";

type Fetcher = Parameters<ReplicatingNode["shared"]["addPuller"]>[0];

function puller(receivedMonoMs = 0): Fetcher & { receivedMonoMs: number; readonly reconsidered: string[] } {
  const reconsidered: string[] = [];
  return {
    peerNodeId: "p",
    lacking: [],
    hasWholeVector: true,
    receivedMonoMs,
    reconsidered,
    reconsider: (id) => reconsidered.push(id),
    postpone: () => undefined,
    disbelieve: () => undefined,
  };
}

test("own news is told at once when nothing was lately, else 50 ms after what was told last where there are many links", () => {
  const node = new ReplicatingNode({ nodeId: "a" });
  node.shared.setLinked(Array.from({ length: 40 }, (_, n) => `n${n}`));
  const horizons: number[] = [];
  for (let now = 0; now <= 200; now += 20) {
    node.put(`x${now}`, now);
    node.shared.changed(node.timeOf(now));
    horizons.push(node.shared.horizon);
  }
  expect(horizons).toEqual([1, 1, 1, 4, 4, 4, 7, 7, 7, 10, 10]);
  expect(node.shared.edgeDueMonoMs).toBe(230);
  node.shared.changed(node.timeOf(230));
  expect([node.shared.horizon, node.shared.edgeDueMonoMs]).toEqual([11, NEVER]);
});

test.each([
  { links: 0, waitMs: 0 },
  { links: 1, waitMs: 2 },
  { links: 2, waitMs: 4 },
  { links: 9, waitMs: 18 },
  { links: 25, waitMs: 50 },
  { links: 256, waitMs: 50 },
])("with $links links own news waits for $waitMs ms after what was told last", ({ links, waitMs }) => {
  const node = new ReplicatingNode({ nodeId: "a" });
  node.shared.setLinked(Array.from({ length: links }, (_, n) => `n${n}`));
  for (const now of [100, 100.5]) {
    node.put("x", now);
    if (now === 100) node.shared.changed(node.timeOf(now));
  }
  expect(node.shared.edgeDueMonoMs).toBe(100 + waitMs);
});

test("one link at a time fetches an origin; one that delivers keeps it, one that does not loses it", () => {
  const { shared, timeOf } = bound(new ReplicatingNode({ nodeId: "a" }));
  const [one, two] = [puller(), puller()];
  const take = (who: Fetcher, now: number): boolean => shared.takeFetch("x/1", who, timeOf(now));
  expect([take(one, 0), take(two, 10), take(one, 20)]).toEqual([true, false, false]);
  one.receivedMonoMs = 900;
  expect([take(two, 1500), take(two, 1900), take(one, 2000)]).toEqual([false, true, false]);
  shared.endFetch("x/1", one);
  expect(take(one, 2010)).toBe(false);
  shared.dropPuller(two);
  expect(take(one, 2020)).toBe(true);
});

test("a link that delivers something else for ever does not keep an origin for ever", () => {
  const { shared, timeOf } = bound(new ReplicatingNode({ nodeId: "a" }));
  const [busy, other] = [puller(), puller()];
  shared.takeFetch("x/1", busy, timeOf(0));
  let takenMs = 0;
  for (let now = 0; now < 60_000 && takenMs === 0; now += 100) {
    busy.receivedMonoMs = now;
    if (shared.takeFetch("x/1", other, timeOf(now))) takenMs = now;
  }
  expect(takenMs).toBe(31_000);
});

test("links are told as a sorted list of at most 256, and the same list is the same object", () => {
  const { shared } = new ReplicatingNode({ nodeId: "a" });
  shared.setLinked(["c", "b"]);
  const before = shared.linked;
  shared.setLinked(["b", "c"]);
  expect([shared.linked, shared.linked === before]).toEqual([["b", "c"], true]);
  shared.setLinked(Array.from({ length: 300 }, (_, n) => `n${n}`));
  expect(shared.linked.length).toBe(256);
});

test("an origin readmitted is considered anew by every link that is open", () => {
  const { shared } = new ReplicatingNode({ nodeId: "a" });
  const [one, two] = [puller(), puller()];
  for (const each of [one, two]) shared.addPuller(each);
  shared.dropPuller(two);
  shared.readmit("x", 2);
  expect([one.reconsidered, two.reconsidered]).toEqual([["x/2"], []]);
});

function bound(
  node: ReplicatingNode,
): Pick<ReplicatingNode, "shared"> & { timeOf: (monoMs: number) => ReturnType<ReplicatingNode["timeOf"]> } {
  return { shared: node.shared, timeOf: (monoMs) => node.timeOf(monoMs) };
}

test("of an origin that is disproved nothing is lost: no mark may hide what it writes later, and no tombstone is kept for it", () => {
  const node = new ReplicatingNode({ nodeId: "a", clusterId: "A" });
  const { replica, shared } = node;
  const origin = replica.origin("c", 1, { clusterId: "C", region: "r1" });
  origin.through = 100;
  shared.disproved.add(origin, 3, node.timeOf(0));
  expect([replica.lost.list, replica.lost.isHolding, replica.forgotten.has("c/1")]).toEqual([[], false, false]);
});

test("what an origin ended is seen again when it turns out to be another cluster's", () => {
  const [a, b] = [new ReplicatingNode({ nodeId: "a", clusterId: "A" }), new ReplicatingNode({ nodeId: "b", clusterId: "A" })];
  const wires = [new Wire(a, b, 0)];
  const key = a.put("x", 0);
  const now = run(wires, 0, 3000);
  b.end(key, BODY.UNREGISTERED, now);
  run(wires, now, 3000);
  expect(a.replica.view(key)).toBeUndefined();
  const origin = a.replica.origins.get("b/1");
  if (origin === undefined) throw new Error("a knows b");
  a.shared.rehome(origin, { clusterId: "B", region: "r1" });
  a.replica.sweep(Number.POSITIVE_INFINITY, a.timeOf(now));
  expect(a.replica.view(key)?.origin.id).toBe("a/1");
});

test("an origin that turns out to be our own cluster's takes no room of the other's any more", () => {
  const { replica, shared } = new ReplicatingNode({ nodeId: "a", clusterId: "A", options: { maxOrigins: 8 } });
  const [first] = ["b1", "b2"].map((nodeId) => replica.origin(nodeId, 1, { clusterId: "B", region: "r1" }));
  expect(shared.hasRoomFor("b3/1", false, "B")).toBe(false);
  if (first === undefined) throw new Error("there are two");
  shared.rehome(first, { clusterId: "A", region: "r1" });
  expect(shared.hasRoomFor("b3/1", false, "B")).toBe(true);
});

test("an origin whose frames left something out is looked at no more once it is forgotten", () => {
  const node = new ReplicatingNode({ nodeId: "a" });
  const { replica, shared } = node;
  const origin = replica.origin("b", 1);
  origin.unsettled = { from: 0, until: 3 };
  shared.noteOrigin(origin);
  expect([...shared.unsettled]).toEqual([origin]);
  shared.forgetOrigin(origin, node.timeOf(0));
  expect(shared.unsettled.size).toBe(0);
});

/** A node that holds five of b's records; `close` is what happens when the last of what a whole transfer did not list is gone. */
function holding() {
  const [a, b] = [new ReplicatingNode({ nodeId: "a" }), new ReplicatingNode({ nodeId: "b" })];
  for (let n = 0; n < 5; n++) b.put(`x${n}`, 0);
  const link = open(a, b, 0);
  for (const frame of [vectorOf([{ nodeId: "b", seq: 5 }]), framesOf(b, 0)]) link.receive(frame, a.timeOf(0), a.outputs);
  const origin = a.replica.origins.get("b/1");
  if (origin === undefined) throw new Error("a knows b");
  const close = (monoMs: number) => {
    origin.closing = undefined;
    const out: FabricOutput[] = [];
    a.shared.closed(origin, a.timeOf(monoMs), out);
    return out.map((output) => (output.kind === "event" ? output.event.name : output.kind));
  };
  return { a, link, origin, close };
}

test("an origin that came whole is asked for nowhere while the rest is being withdrawn, and when that is gone at once", () => {
  const { a, origin, close } = holding();
  const take = (monoMs: number) => a.shared.takeFetch("b/1", puller(), a.timeOf(monoMs), { wanted: 9, isNews: false });
  expect(take(10)).toBe(true);
  origin.closing = { reached: 9, knownSeq: 9, floor: 0 };
  expect(take(60_000)).toBe(false);
  origin.closing = undefined;
  expect([take(60_000), take(60_010)]).toEqual([true, false]);
  origin.through = 9;
  close(60_020);
  expect(take(60_020)).toBe(true);
});

test("what is partial is not asked for as a whole meanwhile; one that is whole then is told as that, and no other", () => {
  const { a, link, origin, close } = holding();
  expect(close(10)).toEqual([]);
  origin.lacks = { count: 1, why: "too large" };
  a.shared.partial.note(origin, a.timeOf(10));
  origin.closing = { reached: 9, knownSeq: 9, floor: 0 };
  const asked = (monoMs: number) => {
    link.tick(a.timeOf(monoMs), a.outputs);
    return drain(link, a.timeOf(monoMs)).some((frame) => frame.kind === "vector" && frame.isWanted && frame.entries.length > 0);
  };
  const dueMs = 10 + a.shared.options.partialRetryMs;
  expect([asked(dueMs), asked(dueMs + 5)]).toEqual([false, false]);
  origin.closing = undefined;
  expect(asked(dueMs + 10)).toBe(true);
  origin.lacks = undefined;
  expect([close(dueMs + 20), close(dueMs + 30)]).toEqual([["origin_whole"], []]);
});
