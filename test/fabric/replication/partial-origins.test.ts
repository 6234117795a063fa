/** Origins of which records were refused: partial here, until they have come whole. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { encodeRecord } from "../../../src/catalog/record/codec.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { startNewGeneration } from "../../../src/catalog/replica/new-generation.ts";
import type { ReplicationFrame } from "../../../src/fabric/wire/messages.ts";
import { framesOf, type Link, open, ReplicatingNode, vectorOf } from "../../fakes/replication.ts";

type Records = Extract<ReplicationFrame, { kind: "records" }>;

/** Node a with a link to b, which has three entries. */
function world(): { a: ReplicatingNode; b: ReplicatingNode; link: Link } {
  const [a, b] = [new ReplicatingNode({ nodeId: "a" }), new ReplicatingNode({ nodeId: "b" })];
  for (const name of ["x", "y", "z"]) b.put(name, 0);
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "b", seq: 3 }]), a.timeOf(0), a.outputs);
  return { a, b, link };
}

/** b's records, the one at this place as bytes that nobody can read. */
function spoilt(b: ReplicatingNode, at: number): Records {
  const frame = framesOf(b, 0);
  const bad = encodeRecord(
    { seq: at + 1, hlc: 5, reach: SCOPE.ZONE, filterSeq: 0, firstSeq: 0, principal: "" },
    { body: BODY.ENTRY, entry: Uint8Array.of(255) },
  );
  return { ...frame, frame: { ...frame.frame, records: frame.frame.records.map((bytes, i) => (i === at ? bad : bytes)) } };
}

function events(a: ReplicatingNode): readonly string[] {
  return a.outputs.flatMap((output) => (output.kind === "event" ? [output.event.name] : []));
}

/** All that the link says from now on, until it has nothing to say. */
function said(a: ReplicatingNode, link: Link, ms: number): readonly ReplicationFrame[] {
  const frames: ReplicationFrame[] = [];
  for (let frame = link.next(a.timeOf(ms)); frame !== undefined; frame = link.next(a.timeOf(ms))) frames.push(frame);
  return frames;
}

test("a refused record makes its origin partial: the rest of it is here, and it is neither in step, digested nor told", () => {
  const { a, b, link } = world();
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  expect(a.shown().map((line) => line.split("|")[1])).toEqual(["x", "z"]);
  expect(events(a)).toContain("origin_partial");
  expect(a.shared.partial.list()).toMatchObject([{ id: "b/1", count: 1 }]);
  expect([link.inStepMonoMs, link.isCaughtUp]).toEqual([undefined, true]);
  const origin = a.replica.origins.get("b/1");
  if (origin === undefined) throw new Error("b is not known");
  expect(a.shared.digests.find(origin, "cluster", a.timeOf(20))).toBeUndefined();
  expect(a.shared.digests.isBusy).toBe(false);
  expect(a.shared.vector.find("b/1")?.seq ?? 0).toBe(0);
});

test("others go on beside it, and what it says later is taken", () => {
  const { a, b, link } = world();
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  b.put("later", 20);
  link.receive(framesOf(b, 3), a.timeOf(30), a.outputs);
  expect(a.shown().map((line) => line.split("|")[1])).toEqual(["later", "x", "z"]);
  expect(a.shared.partial.size).toBe(1);
});

test("it is fetched whole again after the retry time, and whole from then on", () => {
  const { a, b, link } = world();
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  said(a, link, 1000);
  link.tick(a.timeOf(500_000), a.outputs);
  const asks = (ms: number) => said(a, link, ms).flatMap((f) => (f.kind === "vector" && f.isWanted ? f.entries : []));
  expect(asks(500_001).filter(({ nodeId }) => nodeId === "b")).toEqual([]);
  link.tick(a.timeOf(600_011), a.outputs);
  expect(asks(600_012)).toContainEqual({ nodeId: "b", generation: 1, seq: 0, floor: 3 });
  const whole = framesOf(b, 0);
  link.receive({ ...whole, frame: { ...whole.frame, isComplete: true, isLast: true } }, a.timeOf(600_020), a.outputs);
  expect(a.shown().map((line) => line.split("|")[1])).toEqual(["x", "y", "z"]);
  expect(events(a)).toContain("origin_whole");
  expect([a.shared.partial.size, link.inStepMonoMs !== undefined, a.shared.vector.find("b/1")?.seq]).toEqual([0, true, 3]);
});

test("what a node says in a generation that it took while its link stood is fetched whole from it as well, though the link began in the one before", () => {
  const { a, b, link } = world();
  link.receive(framesOf(b, 0), a.timeOf(5), a.outputs);
  a.shared.setLinked(["b"]);
  startNewGeneration(b.replica, 2);
  link.receive(vectorOf([{ nodeId: "b", generation: 2, seq: 3 }]), a.timeOf(9), a.outputs);
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  expect(a.shared.partial.list()).toMatchObject([{ id: "b/2" }]);
  said(a, link, 1000);
  link.tick(a.timeOf(600_011), a.outputs);
  const asked = said(a, link, 600_012).flatMap((frame) => (frame.kind === "vector" && frame.isWanted ? frame.entries : []));
  expect(asked).toContainEqual({ nodeId: "b", generation: 2, seq: 0, floor: 3 });
});

test("a node of another cluster is told that a generation which it took while its link stood is partial here", () => {
  const [a, b] = [new ReplicatingNode({ nodeId: "a" }), new ReplicatingNode({ nodeId: "b", clusterId: "c2" })];
  for (const name of ["x", "y", "z"]) b.put(name, 0, { scope: SCOPE.REGION });
  const link = open(a, b, 0);
  startNewGeneration(b.replica, 2);
  link.receive(vectorOf([{ nodeId: "b", generation: 2, seq: 3 }]), a.timeOf(0), a.outputs);
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  const told = [20, 1000, 3000].flatMap((ms) => said(a, link, ms)).flatMap((frame) => (frame.kind === "vector" ? frame.entries : []));
  expect(told).toContainEqual(expect.objectContaining({ nodeId: "b", generation: 2, isLacking: true }));
});

test("a whole transfer that nobody asked for brings what was refused; one of a sender that knows less does not make it whole", () => {
  const { a, b, link } = world();
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  const names = () => a.shown().map((line) => line.split("|")[1]);
  const whole = (records: Records): Records => ({ ...records, frame: { ...records.frame, isComplete: true, isLast: true } });
  const { frame } = framesOf(b, 0);
  const less: Records = { ...framesOf(b, 0), frame: { ...frame, through: 2, records: frame.records.slice(0, 2) } };
  link.receive(whole(less), a.timeOf(15), a.outputs);
  expect([names(), a.shared.partial.size]).toEqual([["x", "z"], 1]);
  link.receive(whole(framesOf(b, 0)), a.timeOf(20), a.outputs);
  expect([names(), a.shared.partial.size]).toEqual([["x", "y", "z"], 0]);
});

test("a hello that is another than before fetches it at once; the same again does not", () => {
  const { a, b, link } = world();
  a.shared.partial.greeted("b", "1 0.1.0", a.timeOf(0));
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  const due = (ms: number) => a.shared.partial.take(a.timeOf(ms), () => true).length;
  a.shared.partial.greeted("b", "1 0.1.0", a.timeOf(20));
  expect(due(21)).toBe(0);
  a.shared.partial.greeted("b", "1 0.2.0", a.timeOf(30));
  // Asked of a link by which nobody can give it, it stays due.
  expect(a.shared.partial.take(a.timeOf(30), () => false)).toEqual([]);
  expect([due(31), due(32)]).toEqual([1, 0]);
});

test("a whole transfer that is refused in part ends nothing that is held", () => {
  const { a, b, link } = world();
  link.receive(framesOf(b, 0), a.timeOf(5), a.outputs);
  expect(a.shown()).toHaveLength(3);
  const origin = a.replica.origins.get("b/1");
  if (origin !== undefined) origin.lacks = { count: 1, why: "before" };
  const bad = spoilt(b, 1);
  link.receive({ ...bad, frame: { ...bad.frame, isComplete: true, isLast: true } }, a.timeOf(10), a.outputs);
  expect(a.shown()).toHaveLength(3);
  expect(a.shared.partial.size).toBe(1);
});

test("each record that is refused counts, also one that comes again in a whole transfer; why is the first one's", () => {
  const { a, b, link } = world();
  const whole = (records: Records): Records => ({ ...records, frame: { ...records.frame, isComplete: true, isLast: true } });
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  const [first] = a.shared.partial.list();
  link.receive(whole(spoilt(b, 2)), a.timeOf(20), a.outputs);
  expect([first?.count, a.shared.partial.list()]).toEqual([1, [{ ...first, count: 2 }]]);
});

test("both ends tell of it: the one that refused says so in its vector, and its origin hears it", () => {
  const { a, b, link } = world();
  link.receive(framesOf(b, 0), a.timeOf(5), a.outputs);
  said(a, link, 5);
  b.put("more", 6);
  const next = framesOf(b, 3);
  link.receive({ ...next, frame: { ...next.frame, records: [new Uint8Array(3).fill(255)] } }, a.timeOf(10), a.outputs);
  const vectors = said(a, link, 3000).flatMap((frame) => (frame.kind === "vector" && !frame.isWanted ? [frame] : []));
  expect(vectors.flatMap(({ entries }) => entries)).toContainEqual(expect.objectContaining({ nodeId: "b", seq: 0, isLacking: true }));
  const back = open(b, a, 0);
  for (const frame of vectors) back.receive(frame, b.timeOf(3001), b.outputs);
  expect(events(b)).toContain("origin_partial_at_peer");
});

test("of a partial origin all that the peer has counts as behind, once, and before its next vector says so", () => {
  const { a, b, link } = world();
  b.put("w", 5);
  link.receive(spoilt(b, 1), a.timeOf(10), a.outputs);
  expect(link.lag(a.timeOf(10))).toEqual({ behindMs: 0, behindSeqs: 4, isPartial: true });
  link.receive(vectorOf([{ nodeId: "b", seq: 6 }]), a.timeOf(20), a.outputs);
  expect(link.lag(a.timeOf(20))).toMatchObject({ behindSeqs: 6, isPartial: true });
});
