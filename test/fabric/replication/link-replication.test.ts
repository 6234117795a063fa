/** One link's replication, both sides together (semantics.md, Replication). */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { drain, framesOf, open, ReplicatingNode, run, vectorOf, Wire } from "../../fakes/replication.ts";

function node(nodeId: string): ReplicatingNode {
  return new ReplicatingNode({ nodeId });
}

test("own records reach a peer at once, and what it has not is fetched by way of another", () => {
  const [a, b, c] = [node("a"), node("b"), node("c")];
  a.put("x", 0);
  const wires = [new Wire(a, b, 0), new Wire(b, c, 0)];
  let now = run(wires, 0, 2000, () => c.shown().length === 1);
  expect(c.shown()).toEqual(a.shown());
  expect(now).toBeLessThan(200);
  now = run(wires, now, 2000);
  a.put("y", now);
  const later = run(wires, now, 2000, () => c.shown().length === 2);
  expect(later - now).toBeLessThan(100);
  expect([...a.links, ...b.links, ...c.links].every((link) => link.isCaughtUp)).toBe(true);
});

test("a node has caught up when all that the peer's first whole vector named is here, and not before", () => {
  const [a, b] = [node("a"), node("b")];
  for (let n = 0; n < 4; n++) a.put(`x${n}`, 0);
  const link = open(b, a, 0);
  expect(link.isCaughtUp).toBe(false);
  link.receive(vectorOf([{ nodeId: "a", seq: 4 }], { isPartial: true }), b.timeOf(0), b.outputs);
  link.receive(framesOf(a, 0, 300), b.timeOf(0), b.outputs);
  expect(link.isCaughtUp).toBe(false);
  link.receive(vectorOf([]), b.timeOf(0), b.outputs);
  expect(link.isCaughtUp).toBe(false);
  link.receive(framesOf(a, 2), b.timeOf(0), b.outputs);
  link.receive({ kind: "linked", nodeIds: [] }, b.timeOf(0), b.outputs);
  expect(link.isCaughtUp).toBe(true);
});

test("Why: a peer that knows more of our generation than our journal does is believed once, and not again within a minute", () => {
  const [a, b] = [node("a"), node("b")];
  a.put("x", 0);
  const link = open(a, b, 0);
  const told = () => a.outputs.filter(({ kind }) => kind === "generationLost");
  link.receive(vectorOf([{ nodeId: "a", seq: 1 }]), a.timeOf(0), a.outputs);
  expect(told()).toEqual([]);
  for (let now = 0; now < 5000; now += 500) link.receive(vectorOf([{ nodeId: "a", seq: 7 }]), a.timeOf(now), a.outputs);
  expect(told()).toEqual([{ kind: "generationLost", peerNodeId: "b", seq: 7 }]);
});

test("a peer abroad that claims more of ours than there is gets what is written next all the same", () => {
  const [a, b] = [node("a"), new ReplicatingNode({ nodeId: "b", clusterId: "c2" })];
  a.put("x", 0, { scope: SCOPE.REGION });
  const link = open(a, b, 0);
  for (const now of [0, 100]) link.receive(vectorOf([{ nodeId: "a", seq: 9 }]), a.timeOf(now), a.outputs);
  drain(link, a.timeOf(100));
  a.put("y", 1000, { scope: SCOPE.REGION });
  const sent = drain(link, a.timeOf(1000)).flatMap((frame) => (frame.kind === "records" ? [frame.frame.through] : []));
  expect(sent).toEqual([2]);
});

test("a peer that refused records of ours says how far it has heard: that is more than our journal holds, too", () => {
  const [a, b] = [node("a"), node("b")];
  a.put("x", 0);
  const link = open(a, b, 0);
  const lacking = { nodeId: "a", generation: 1, seq: 0, floor: 0, isLacking: true };
  const hear = (lackingThrough: number) =>
    link.receive({ ...vectorOf([]), entries: [{ ...lacking, lackingThrough }] }, a.timeOf(0), a.outputs);
  hear(1);
  expect(a.outputs.some(({ kind }) => kind === "generationLost")).toBe(false);
  hear(6);
  expect(a.outputs).toContainEqual({ kind: "generationLost", peerNodeId: "b", seq: 6 });
});

test("Why: a peer that names a number which is staged here has another record of it: nobody was told of ours", () => {
  const [a, b] = [node("a"), node("b")];
  a.put("x", 0);
  const link = open(a, b, 0);
  a.stage("y", 0);
  link.receive(vectorOf([{ nodeId: "a", seq: 2 }]), a.timeOf(0), a.outputs);
  expect(a.outputs).toContainEqual({ kind: "generationLost", peerNodeId: "b", seq: 2 });
});

test("a peer that stops reading costs nothing that grows; when it reads again it gets each key once", () => {
  const [a, b] = [node("a"), node("b")];
  const wire = new Wire(a, b, 0);
  let now = run([wire], 0, 1000);
  wire.isStalled = true;
  for (let n = 0; n < 2000; n++) {
    a.put(`x${n % 10}`, now, { tag: `t${n}` });
    now = run([wire], now, 5);
  }
  expect(a.shared.frameCache.bytes).toBe(0);
  const before = wire.sentRecords;
  wire.isStalled = false;
  run([wire], now, 1000);
  expect([b.shown(), wire.sentRecords - before]).toEqual([a.shown(), 10]);
});

test("one change to twenty peers is read and encoded once", () => {
  const a = node("a");
  const wires = Array.from({ length: 20 }, (_, n) => new Wire(a, node(`n${n}`), 0));
  const now = run(wires, 0, 1000);
  a.put("x", now);
  run(wires, now, 500);
  expect([a.shared.frameCache.builtCount, a.shared.frameCache.sharedCount]).toEqual([1, 19]);
  const frames = wires.flatMap(({ log }) => log.flatMap((frame) => (frame.kind === "records" ? [frame.frame] : [])));
  expect(new Set(frames).size).toBe(1);
});

test("while some tombstones wait, a whole transfer to one far behind ends what is gone", () => {
  const [a, b] = [node("a"), node("b")];
  const wire = new Wire(a, b, 0);
  const keys = Array.from({ length: 12 }, (_, n) => a.put(`x${n}`, 0));
  let now = run([wire], 0, 1000);
  wire.close();
  for (const key of keys.slice(0, 10)) a.end(key, BODY.UNREGISTERED, now);
  a.collect(now + 10_000);
  const again = new Wire(a, b, now);
  now = run([again], now, 1000);
  expect([b.shown(), a.shared.stats.wholeTransfers]).toEqual([a.shown(), 1]);
});

test("the end of a whole transfer is told of no origin that was forgotten since", () => {
  const { shared, replica } = node("a");
  const origin = replica.origin("b", 1);
  origin.through = 5;
  shared.closed(origin, { monoMs: 0, wallMs: 0 }, []);
  expect(shared.vector.find("b/1")?.seq).toBe(5);
  shared.forgetOrigin(origin, { monoMs: 0, wallMs: 0 }, true);
  shared.closed(origin, { monoMs: 0, wallMs: 0 }, []);
  expect(shared.vector.find("b/1")?.seq ?? 0).toBe(0);
});

test("a link that closes leaves what it was fetching to others", () => {
  const [a, b, c] = [node("a"), node("b"), node("c")];
  for (let n = 0; n < 9; n++) a.put(`x${n}`, 0);
  const first = [new Wire(a, b, 0), new Wire(a, c, 0)];
  let now = run(first, 0, 500);
  for (const wire of first) wire.close();
  const d = node("d");
  const wires = [new Wire(b, d, now), new Wire(c, d, now)];
  wires[0]!.isStalled = true;
  now = run(wires, now, 100);
  wires.shift()!.close();
  now = run(wires, now, 1000, () => d.shown().length === 9);
  expect(d.shown()).toEqual(a.shown());
});

test("the same inputs give the same frames, to the byte", () => {
  const play = (): string => {
    const nodes = [node("a"), node("b"), node("c")];
    const wires = [new Wire(nodes[0]!, nodes[1]!, 0), new Wire(nodes[1]!, nodes[2]!, 0)];
    let now = 0;
    for (let n = 0; n < 30; n++) {
      nodes[n % 3]!.put(`x${n % 7}`, now);
      now = run(wires, now, 30 + (n % 4) * 100);
    }
    return JSON.stringify(
      wires.map(({ log }) => log),
      (_, value: unknown) => (typeof value === "bigint" ? String(value) : value),
    );
  };
  expect(play()).toBe(play());
});

test("a tick too early, or twice, changes nothing", () => {
  const [a, b] = [node("a"), node("b")];
  a.put("x", 0);
  const link = open(a, b, 0);
  link.receive(vectorOf([]), a.timeOf(0), a.outputs);
  drain(link, a.timeOf(0));
  for (let n = 0; n < 5; n++) link.tick(a.timeOf(1), a.outputs);
  expect([drain(link, a.timeOf(1)), a.outputs, link.nextDeadlineMs() > 1]).toEqual([[], [], true]);
});

test("Why: a generation that is renewed in the middle of life is sent as a new origin, and the old one stays others'", () => {
  const [a, b] = [node("a"), node("b")];
  const wire = new Wire(a, b, 0);
  a.put("x", 0);
  let now = run([wire], 0, 2000);
  a.replica.renameSelf(2);
  now = run([wire], now, 3000);
  expect(b.vector()).toEqual(["a/1 1", "a/2 1"]);
  expect(a.vector()).toEqual(["a/1 1", "a/2 1"]);
  a.put("y", now);
  run([wire], now, 1000);
  expect(b.vector()).toEqual(["a/1 1", "a/2 2"]);
});
