/** Fetching what a peer knows and this node does not: once, from one peer at a time, and never in a loop. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { ReplicationFrame, VectorEntry } from "../../../src/fabric/wire/messages.ts";
import { drain, framesOf, type Link, open, ReplicatingNode, run, vectorOf, Wire } from "../../fakes/replication.ts";

function node(nodeId: string): ReplicatingNode {
  return new ReplicatingNode({ nodeId });
}

/** What a link asks its peer for within so long. */
function asksOf(at: ReplicatingNode, link: Link, fromMonoMs: number, forMs: number): readonly string[] {
  const asks: string[] = [];
  for (let now = fromMonoMs; now < fromMonoMs + forMs; now += 20) {
    link.tick(at.timeOf(now), at.outputs);
    asks.push(...questions(drain(link, at.timeOf(now))).map(({ nodeId, seq }) => `${now}: ${nodeId} ${seq}`));
  }
  return asks;
}

function questions(frames: readonly ReplicationFrame[]): readonly VectorEntry[] {
  return frames.flatMap((frame) => (frame.kind === "vector" && frame.isWanted ? frame.entries : []));
}

test("a newcomer with many peers gets everything once", () => {
  const old = ["a", "b", "c", "d", "e"].map(node);
  const wires = old.flatMap((a, i) => old.slice(i + 1).map((b) => new Wire(a, b, 0)));
  for (const each of old) for (let n = 0; n < 40; n++) each.put(`${each.nodeId}${n}`, 0);
  let now = run(wires, 0, 3000);
  // It knows one of them first.
  const newcomer = node("n");
  const mine = [new Wire(newcomer, old[0]!, now)];
  now = run([...wires, ...mine], now, 30);
  mine.push(...old.slice(1).map((each) => new Wire(newcomer, each, now)));
  const joined = now;
  now = run([...wires, ...mine], now, 3000, () => newcomer.shown().length === 200);
  expect(now - joined).toBeLessThan(300);
  run([...wires, ...mine], now, 100);
  expect([...newcomer.links].every((link) => link.isCaughtUp)).toBe(true);
  expect(newcomer.shared.stats.receivedRecords).toBeLessThanOrEqual(400);
  expect(newcomer.shared.stats.appliedRecords).toBe(200);
});

test("what is on its way already is not asked for", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  link.receive(vectorOf([]), a.timeOf(0), a.outputs);
  drain(link, a.timeOf(0));
  // The node x sends its own records.
  a.shared.setLinked(["b", "x"]);
  link.receive(vectorOf([{ nodeId: "x", seq: 7 }], { isPartial: true }), a.timeOf(100), a.outputs);
  expect(asksOf(a, link, 100, 490)).toEqual([]);
  expect(asksOf(a, link, 600, 100)).toEqual(["600: x 0"]);
});

test("a peer's own records come by themselves; when they do not, they are asked for", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "b", seq: 7 }]), a.timeOf(0), a.outputs);
  expect(asksOf(a, link, 0, 2000)).toEqual(["1000: b 0"]);
});

test("a peer's own records are on their way while anything of it comes: they are asked for when nothing has for a while", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "b", seq: 7 }]), a.timeOf(0), a.outputs);
  b.put("x", 0);
  const before = asksOf(a, link, 0, 900);
  link.receive(framesOf(b, 0), a.timeOf(900), a.outputs);
  expect([before, asksOf(a, link, 900, 1500)]).toEqual([[], ["1900: b 1"]]);
});

test("when one peer does not give, another is asked", () => {
  const [a, b, c] = [node("a"), node("b"), node("c")];
  const links = [open(a, b, 0), open(a, c, 0)] as const;
  for (const link of links) link.receive(vectorOf([{ nodeId: "x", seq: 7 }]), a.timeOf(0), a.outputs);
  expect(links.map((link) => questions(drain(link, a.timeOf(0))).length)).toEqual([1, 0]);
  const asked: string[] = [];
  for (let now = 100; now < 2400; now += 100)
    for (const [i, link] of links.entries()) {
      link.tick(a.timeOf(now), a.outputs);
      asked.push(...questions(drain(link, a.timeOf(now))).map(() => `${now} ${i}`));
    }
  expect(asked).toEqual(["1000 1", "2000 0"]);
  links[0].close();
  links[1].tick(a.timeOf(2500), a.outputs);
  expect(questions(drain(links[1], a.timeOf(2500))).length).toBe(1);
});

test("a lying vector costs a few questions, ever more rarely", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "x", seq: 2 ** 50 }]), a.timeOf(0), a.outputs);
  const asks = asksOf(a, link, 0, 300_000);
  expect(asks.length).toBeGreaterThan(5);
  expect(asks.length).toBeLessThan(25);
  expect(link.isCaughtUp).toBe(false);
  expect(link.lag(a.timeOf(300_000))).toEqual({ behindMs: 300_000, behindSeqs: 2 ** 50, isPartial: false });
});

test("a gap is asked about once, from what is known, however many frames do not join", () => {
  const [a, b] = [node("a"), node("b")];
  for (let n = 0; n < 9; n++) a.put(`x${n}`, 0);
  const link = open(b, a, 0);
  link.receive(vectorOf([{ nodeId: "a", seq: 9 }]), b.timeOf(0), b.outputs);
  drain(link, b.timeOf(0));
  for (let n = 0; n < 5; n++) link.receive(framesOf(a, 3 + n), b.timeOf(10), b.outputs);
  expect(questions(drain(link, b.timeOf(10)))).toEqual([{ nodeId: "a", generation: 1, seq: 0, floor: 0 }]);
  link.receive(framesOf(a, 0), b.timeOf(20), b.outputs);
  expect([b.shown().length, link.isCaughtUp, b.shared.stats.originsAsked]).toEqual([9, true, 1]);
});

test("a forgotten origin is not asked for; readmitted, it is, from 0", () => {
  const [a, b] = [node("a"), node("b")];
  a.put("x", 0);
  const link = open(b, a, 0);
  link.receive(vectorOf([{ nodeId: "a", seq: 1 }]), b.timeOf(0), b.outputs);
  link.receive(framesOf(a, 0), b.timeOf(0), b.outputs);
  drain(link, b.timeOf(0));
  b.shared.forgetOrigin(b.replica.origins.get("a/1")!, b.timeOf(10));
  link.receive(framesOf(a, 0), b.timeOf(20), b.outputs);
  expect([b.shown(), asksOf(b, link, 20, 5000)]).toEqual([[], []]);
  b.shared.readmit("a", 1);
  expect(asksOf(b, link, 5100, 300)).toEqual(["5100: a 0"]);
  link.receive(framesOf(a, 0), b.timeOf(5500), b.outputs);
  expect(b.shown().length).toBe(1);
});

test("an origin that is refused here does not keep a node from having caught up", () => {
  const [a, b, x] = [new ReplicatingNode({ nodeId: "a", options: { maxOrigins: 1 } }), node("b"), node("x")];
  x.put("k", 0);
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "x", seq: 1 }]), a.timeOf(0), a.outputs);
  link.tick(a.timeOf(200), a.outputs);
  expect([link.isCaughtUp, questions(drain(link, a.timeOf(200)))]).toEqual([true, []]);
});

test("a peer that names thousands of origins which it never gives costs a look at a thousand each time, and each has its turn", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  const names = Array.from({ length: 2500 }, (_, n) => `x${n}`);
  link.receive(vectorOf(names.map((nodeId) => ({ nodeId, seq: 5 }))), a.timeOf(0), a.outputs);
  const counts: number[] = [];
  const asked = new Set<string>();
  for (let now = 0; now <= 500; now += 100) {
    link.tick(a.timeOf(now), a.outputs);
    const asks = questions(drain(link, a.timeOf(now)));
    counts.push(asks.length);
    for (const { nodeId } of asks) asked.add(nodeId);
  }
  expect(Math.max(...counts)).toBeLessThanOrEqual(1000);
  expect(asked.size).toBe(2500);
});

test("what a cut frame left out, since its key had changed again, is lacked until it comes; of a dead node it may never", () => {
  for (const isDead of [false, true]) {
    const [a, b] = [node("a"), node("b")];
    const link = open(a, b, 0);
    b.put("x", 0);
    link.receive(framesOf(b, 0), a.timeOf(0), a.outputs);
    b.put("x", 1000);
    b.put("y", 1000);
    link.receive(vectorOf([{ nodeId: "b", seq: 3 }]), a.timeOf(1500), a.outputs);
    b.put("x", 2000);
    // Of the numbers up to 3 it has only that of y.
    const cut = framesOf(b, 1, 1);
    expect(cut.frame).toMatchObject({ through: 3, knownSeq: 4, records: { length: 1 } });
    link.receive(cut, a.timeOf(2000), a.outputs);
    expect(link.inStepMonoMs).toBeUndefined();
    if (isDead) a.replica.setLife(a.replica.origin("b", 1), "orphaned");
    else link.receive(framesOf(b, 3), a.timeOf(2500), a.outputs);
    expect(link.inStepMonoMs).toBe(1500);
  }
});

test("what a cut frame left out of another cluster's node puts no two nodes of ours out of step, only us and nodes of that cluster", () => {
  for (const relation of ["within", "over the border"]) {
    const [a, x] = [node("a"), new ReplicatingNode({ nodeId: "x", clusterId: "c2" })];
    const link = open(a, relation === "within" ? node("b") : x, 0);
    const put = (name: string) => x.put(name, 0, { scope: SCOPE.REGION });
    for (const name of ["x", "y", "x"]) put(name);
    link.receive(vectorOf([{ nodeId: "x", seq: 2 }]), a.timeOf(0), a.outputs);
    link.receive(framesOf(x, 0, 1), a.timeOf(0), a.outputs);
    expect(a.replica.origins.get("x/1")).toMatchObject({ through: 2, unsettled: { from: 0, until: 3 } });
    expect(link.inStepMonoMs).toBe(relation === "within" ? 0 : undefined);
  }
});

test("a peer that hides or lacks what is partial here has told of more than there is: this node is behind it", () => {
  const [a, x] = [node("a"), node("x")];
  x.put("k", 0);
  open(a, x, 0).receive(framesOf(x, 0), a.timeOf(0), a.outputs);
  const origin = a.replica.origins.get("x/1")!;
  origin.lacks = { count: 1, why: "too large" };
  a.shared.partial.note(origin, a.timeOf(0));
  const link = open(a, node("b"), 0);
  link.receive(vectorOf([]), a.timeOf(0), a.outputs);
  expect(link.inStepMonoMs).toBe(0);
  link.receive(vectorOf([{ nodeId: "x", seq: 0, isLacking: true, lackingThrough: 1 }], { isPartial: true }), a.timeOf(100), a.outputs);
  expect(link.inStepMonoMs).toBeUndefined();
});

test.each([0, 20_000])("what the first peer refused is waited for, and not while this node stood still: for %i ms", (stoodMs) => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "x", seq: 0, isLacking: true, lackingThrough: 5 }]), a.timeOf(0), a.outputs);
  a.shared.postpone(stoodMs);
  let now = 0;
  for (; !link.isCaughtUp && now < 100_000; now += 100) link.tick(a.timeOf(now), a.outputs);
  expect(now - stoodMs).toBe(a.shared.options.lackingWaitMs + 100);
});

test("what there is no room for any more is asked for when there is room again, without another word of the peer", () => {
  const a = new ReplicatingNode({ nodeId: "a", options: { maxOrigins: 2 } });
  const link = open(a, node("b"), 0);
  link.receive(vectorOf([]), a.timeOf(0), a.outputs);
  const other = a.replica.origin("y", 1, a.place);
  link.receive(vectorOf([{ nodeId: "x", seq: 7 }], { isPartial: true }), a.timeOf(0), a.outputs);
  expect(asksOf(a, link, 0, 5000)).toEqual([]);
  a.shared.forgetOrigin(other, a.timeOf(5000));
  expect(asksOf(a, link, 5000, 500).map((ask) => ask.split(": ")[1])).toEqual(["x 0"]);
});
