/** What is taken from a peer and what is refused, alone or as a frame; each counted and attributed. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { ReplicationFrame } from "../../../src/fabric/wire/messages.ts";
import { framesOf, type Link, open, ReplicatingNode, vectorOf } from "../../fakes/replication.ts";

type Records = ReplicationFrame & { readonly kind: "records" };

/** Node a, and its link to b, which has one record of each scope. */
function linked(peer: { readonly clusterId?: string; readonly region?: string } = {}): {
  a: ReplicatingNode;
  b: ReplicatingNode;
  link: Link;
} {
  const [a, b] = [new ReplicatingNode({ nodeId: "a" }), new ReplicatingNode({ nodeId: "b", ...peer })];
  b.put("local", 0, { scope: SCOPE.LOCAL });
  b.put("zone", 0);
  b.put("region", 0, { scope: SCOPE.REGION });
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "b", seq: 3 }]), a.timeOf(0), a.outputs);
  return { a, b, link };
}

function eventsOf(a: ReplicatingNode): readonly unknown[] {
  return a.outputs.flatMap((output) => (output.kind === "event" ? [{ name: output.event.name, ...output.event.detail }] : []));
}

/** All of b's records, as a node that does not filter would send them. */
function unfiltered(b: ReplicatingNode): Records {
  const frame = framesOf(b, 0);
  const all = b.replica.self.log.list().map((stored) => b.encode(stored));
  return { ...frame, frame: { ...frame.frame, records: all } };
}

test.each([
  { relation: "in the cluster", peer: {}, want: ["svc|region", "svc|zone"] },
  { relation: "in another cluster of the region", peer: { clusterId: "c2" }, want: ["svc|region"] },
  { relation: "in another region", peer: { clusterId: "c2", region: "r2" }, want: [] },
])("P1: a peer $relation that does not filter gets in no more than it may: $want", ({ peer, want }) => {
  const { a, b, link } = linked(peer);
  link.receive(unfiltered(b), a.timeOf(10), a.outputs);
  expect(a.shown().map((line) => line.split("|").slice(0, 2).join("|"))).toEqual(want);
});

const REFUSALS: readonly {
  readonly what: string;
  readonly peer?: { clusterId: string };
  readonly frame: (frame: Records) => Records;
  readonly why: string;
}[] = [
  { what: "our own origin", frame: (f) => ({ ...f, frame: { ...f.frame, nodeId: "a" } }), why: "the origin is this node itself" },
  {
    what: "an origin that the peer puts elsewhere than itself",
    frame: (f) => ({ ...f, clusterId: "c9" }),
    why: "the cluster or region in the frame differs from the peer's",
  },
  {
    what: "an origin of another region",
    frame: (f) => ({ ...f, frame: { ...f.frame, nodeId: "x" }, clusterId: "c9", region: "r9" }),
    why: "the origin is in another region",
  },
  {
    what: "an origin of no cluster",
    frame: (f) => ({ ...f, frame: { ...f.frame, nodeId: "x" }, clusterId: "" }),
    why: "the origin is in another region",
  },
  {
    what: "our own cluster's origin by way of another",
    peer: { clusterId: "c2" },
    frame: (f) => ({ ...f, frame: { ...f.frame, nodeId: "x" }, clusterId: "c1" }),
    why: "records of an origin in this cluster were sent by a node of another cluster",
  },
  {
    what: "numbers that are none",
    frame: (f) => ({ ...f, frame: { ...f.frame, through: 2 ** 60 } }),
    why: "the frame is malformed, or this node has forgotten the origin",
  },
  {
    what: "a frame that ends before it begins",
    frame: (f) => ({ ...f, frame: { ...f.frame, after: 5 } }),
    why: "the frame is malformed, or this node has forgotten the origin",
  },
];

test.each(REFUSALS)("a frame of $what is refused, counted and attributed", ({ peer, frame, why }) => {
  const { a, b, link } = linked(peer);
  link.receive(frame(framesOf(b, 0)), a.timeOf(10), a.outputs);
  expect([a.shown(), a.shared.stats.refusedOrigins]).toEqual([[], 1]);
  expect(eventsOf(a)).toMatchObject([{ name: "frame_refused", peer: "b", why }]);
});

test("the same refusal is told once an interval and counted always", () => {
  const { a, b, link } = linked();
  const frame = framesOf(b, 0);
  for (let n = 0; n < 50; n++) link.receive({ ...frame, clusterId: "c9" }, a.timeOf(n * 100), a.outputs);
  expect([eventsOf(a).length, a.shared.stats.refusedOrigins]).toEqual([1, 50]);
});

test("a bad record is refused alone: the others stand, the vector moves, and the peer is named", () => {
  const { a, b, link } = linked();
  const frame = framesOf(b, 0);
  const other = new ReplicatingNode({ nodeId: "z" });
  other.put("theirs", 0);
  const records = [new Uint8Array([1, 2, 3]), ...frame.frame.records, ...framesOf(other, 0).frame.records];
  link.receive({ ...frame, frame: { ...frame.frame, records } }, a.timeOf(10), a.outputs);
  expect([a.shown().length, a.vector(), a.shared.stats.refusedRecords]).toEqual([2, ["b/1 3"], 2]);
  expect(eventsOf(a)).toMatchObject([
    { name: "record_refused", peer: "b", origin: "b/1", count: 2 },
    { name: "origin_partial", count: 2 },
  ]);
});

test("P1: a record that says another region than its origin is refused, so a member brings in nothing from beyond the edge", () => {
  const { a, b, link } = linked();
  const beyond = new ReplicatingNode({ nodeId: "b", region: "r2" });
  beyond.put("theirs", 0);
  const { frame } = framesOf(b, 0);
  link.receive({ ...framesOf(b, 0), frame: { ...frame, records: framesOf(beyond, 0).frame.records } }, a.timeOf(10), a.outputs);
  expect([a.shown(), a.shared.stats.refusedRecords]).toEqual([[], 1]);
  expect(eventsOf(a)).toMatchObject([{ name: "record_refused", peer: "b", origin: "b/1", count: 1 }, { name: "origin_partial" }]);
});

test("more origins than allowed are refused, and the link lives on", () => {
  const a = new ReplicatingNode({ nodeId: "a", options: { maxOrigins: 4 } });
  const link = open(a, new ReplicatingNode({ nodeId: "b" }), 0);
  for (let n = 0; n < 10; n++) {
    const other = new ReplicatingNode({ nodeId: `n${n}` });
    other.put("x", 0);
    expect(link.receive(framesOf(other, 0), a.timeOf(n), a.outputs)).toMatchObject([{ kind: "heard" }]);
  }
  expect([a.replica.origins.size, a.shared.stats.refusedOrigins]).toEqual([4, 7]);
});

test("a peer's own origin is let in beyond the bound, up to twice as many", () => {
  const a = new ReplicatingNode({ nodeId: "a", options: { maxOrigins: 2 } });
  for (let n = 0; n < 6; n++) {
    const other = new ReplicatingNode({ nodeId: `n${n}` });
    other.put("x", 0);
    open(a, other, 0).receive(framesOf(other, 0), a.timeOf(n), a.outputs);
  }
  expect([a.replica.origins.size, a.shared.stats.refusedOrigins]).toEqual([4, 3]);
});

test("records beyond an origin's quota are refused alone; those that are here change and end, and what made room comes in", () => {
  const a = new ReplicatingNode({ nodeId: "a", options: { maxOriginRecords: 2 } });
  const b = new ReplicatingNode({ nodeId: "b" });
  const link = open(a, b, 0);
  const take = (after: number, monoMs: number) => link.receive(framesOf(b, after), a.timeOf(monoMs), a.outputs);
  for (const name of ["one", "two", "three"]) b.put(name, 0);
  take(0, 10);
  expect([a.shown().length, a.vector(), a.shared.stats.refusedRecords]).toEqual([2, ["b/1 3"], 1]);
  const why = "quota_exceeded: more than 2 records from one origin";
  expect(eventsOf(a)).toMatchObject([
    { name: "record_refused", peer: "b", count: 1, why },
    { name: "origin_partial", origin: "b/1", count: 1, why },
  ]);
  b.put("one", 20, { tag: "green" });
  take(3, 30);
  expect([a.shown().filter((line) => line.includes("green")).length, a.shared.stats.refusedRecords]).toEqual([1, 1]);
});

test.each([
  {
    what: "a vector of a million origins",
    frame: {
      kind: "vector",
      entries: Array.from({ length: 1_000_000 }, () => ({ nodeId: "x", generation: 1, seq: 1, floor: 0 })),
      digest: 0n,
      isPartial: false,
      isWanted: false,
    },
  },
  { what: "257 linked nodes", frame: { kind: "linked", nodeIds: Array.from({ length: 257 }, (_, n) => `n${n}`) } },
] as const)("$what ends the link", ({ frame }) => {
  const { a, link } = linked();
  expect(link.receive(frame, a.timeOf(10), a.outputs)).toMatchObject([{ kind: "badFrame" }]);
  expect(a.replica.origins.size).toBe(1);
});

test("a clock a day ahead is taken as stamped, never moves ours, and is named once an interval", () => {
  const a = new ReplicatingNode({ nodeId: "a" });
  const b = new ReplicatingNode({ nodeId: "b", skewMs: 86_400_000 });
  const [link, near] = [open(a, b, 0), new ReplicatingNode({ nodeId: "c", skewMs: 30_000 })];
  b.put("x", 0);
  b.put("y", 0);
  near.put("z", 0);
  link.receive(framesOf(b, 0, 1), a.timeOf(0), a.outputs);
  link.receive(framesOf(b, 1), a.timeOf(0), a.outputs);
  expect([a.shown().length, a.hlc.last(), a.shared.stats.beyondSkew]).toEqual([2, 0, 2]);
  expect(eventsOf(a)).toEqual([{ name: "clock_beyond_skew", peer: "b", origin: "b/1", ahead_ms: 86_400_000, bound_ms: 60_000 }]);
  open(a, near, 0).receive(framesOf(near, 0), a.timeOf(0), a.outputs);
  expect(a.hlc.last()).toBe(near.hlc.last());
});

test("where an origin is at home is what it says itself, whatever was told before", () => {
  const { a, b, link } = linked();
  const liar = open(a, new ReplicatingNode({ nodeId: "l", clusterId: "c2" }), 0);
  liar.receive({ ...framesOf(b, 0), clusterId: "c2" }, a.timeOf(0), a.outputs);
  expect(a.replica.origins.get("b/1")?.clusterId).toBe("c2");
  link.receive(framesOf(b, 0), a.timeOf(10), a.outputs);
  expect([a.replica.origins.get("b/1")?.clusterId, a.shared.stats.refusedOrigins]).toEqual(["c1", 0]);
});

test("records are not signed: a node of the own cluster is believed about the origin of another, until that one hears of it", () => {
  const { a, b, link } = linked();
  link.receive(framesOf(b, 0), a.timeOf(10), a.outputs);
  const forger = new ReplicatingNode({ nodeId: "b" });
  for (const name of ["f1", "f2", "f3", "forged"]) forger.put(name, 20);
  open(a, new ReplicatingNode({ nodeId: "evil" }), 20).receive(framesOf(forger, 3), a.timeOf(20), a.outputs);
  expect([a.shown().some((line) => line.includes("forged")), a.shared.stats.refusedOrigins]).toEqual([true, 0]);
  // Node b hears that others know more changes of it than it made, and takes a new generation.
  open(b, a, 20).receive(vectorOf([{ nodeId: "b", seq: 4 }]), b.timeOf(30), b.outputs);
  expect(b.outputs).toContainEqual({ kind: "generationLost", peerNodeId: "a", seq: 4 });
});

test("strangers do not use up the room of our own nodes: another cluster has a quarter of it, all others half, whoever passes them on", () => {
  const a = new ReplicatingNode({ nodeId: "a", options: { maxOrigins: 40 } });
  const takes = (clusterId: string, from: string, by = from): number => {
    const link = open(a, new ReplicatingNode({ nodeId: `peer-${from}-${by}`, clusterId: by }), 0);
    const before = a.replica.origins.size;
    for (let n = 0; n < 60; n++) {
      const other = new ReplicatingNode({ nodeId: `${from}-${by}-${n}`, clusterId });
      other.put("x", 0, { scope: SCOPE.REGION });
      link.receive(framesOf(other, 0), a.timeOf(n), a.outputs);
    }
    return a.replica.origins.size - before;
  };
  expect([takes("c2", "c2"), takes("c2", "c2", "c1"), takes("c3", "c3"), takes("c4", "c4"), takes("c1", "c1")]).toEqual([10, 0, 10, 0, 19]);
});
