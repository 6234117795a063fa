/** News of others is offered and asked of one peer, so that it arrives once. */
import { expect, test } from "vitest";
import type { ReplicationFrame } from "../../src/fabric/wire/messages.ts";
import { ReplicatingNode, run, Wire } from "../fakes/replication.ts";

function node(nodeId: string): ReplicatingNode {
  return new ReplicatingNode({ nodeId });
}

/** `a` is linked to each of `between`, and each of them to `z`. */
function diamond(between: readonly ReplicatingNode[]) {
  const [a, z] = [node("a"), node("z")];
  const near = between.map((each) => new Wire(a, each, 0));
  const far = between.map((each) => new Wire(each, z, 0));
  const wires = [...near, ...far];
  return { a, z, far, wires, nowMs: run(wires, 0, 5000) };
}

function knows(at: ReplicatingNode, of: ReplicatingNode): number {
  return at.replica.origins.get(of.replica.self.id)?.through ?? 0;
}

function recordFrames(frames: readonly ReplicationFrame[]): number {
  return frames.filter(({ kind }) => kind === "records").length;
}

function vectors(frames: readonly ReplicationFrame[]) {
  return frames.flatMap((frame) => (frame.kind === "vector" ? [frame] : []));
}

test("news that five peers could tell comes once, and soon", () => {
  const { a, z, far, wires, nowMs } = diamond(["b", "c", "d", "e", "f"].map((id) => node(id)));
  let now = nowMs;
  for (let n = 1; n <= 20; n++) {
    a.put("x", now, { tag: `t${n}` });
    const fromMs = now;
    now = run(wires, now, 1000, () => knows(z, a) === n);
    // Four ways of 5 ms, and the wait that lets one peer be the first.
    expect(now - fromMs).toBeLessThanOrEqual(300);
    now = run(wires, now, 700);
  }
  expect(z.shared.stats.appliedRecords).toBe(20);
  expect(z.shared.stats.receivedRecords).toBe(20);
  expect(far.reduce((sum, { log }) => sum + recordFrames(log), 0)).toBe(20);
});

test("when the peer that was asked says nothing, another is asked within half a second", () => {
  const { a, z, far, wires, nowMs } = diamond(["b", "c"].map((id) => node(id)));
  a.put("x", nowMs);
  let now = run(wires, nowMs, 300, () => z.shared.stats.originsAsked === 1);
  const asked = far.find(({ log }) => vectors(log).some(({ isWanted, entries }) => isWanted && entries.length > 0))!;
  asked.isStalled = true;
  const fromMs = now;
  now = run(wires, now, 1000, () => knows(z, a) === 1);
  expect(now - fromMs).toBeLessThanOrEqual(600);
  expect(now - fromMs).toBeGreaterThanOrEqual(400);
});

test("when the link to the peer that was asked breaks, another is asked at once", () => {
  const { a, z, far, wires, nowMs } = diamond(["b", "c"].map((id) => node(id)));
  a.put("x", nowMs);
  const now = run(wires, nowMs, 300, () => z.shared.stats.originsAsked === 1);
  const asked = far.find(({ log }) => vectors(log).some(({ isWanted, entries }) => isWanted && entries.length > 0))!;
  asked.close();
  const rest = wires.filter((wire) => wire !== asked);
  // The other one offers it too, and links look at what they lack every 100 ms.
  expect(run(rest, now, 1000, () => knows(z, a) === 1) - now).toBeLessThanOrEqual(330);
});

test("an origin is named once on a link, then told of in a few bytes; vectors stay proven", () => {
  const { a, z, far, wires, nowMs } = diamond([node("b")]);
  let now = nowMs;
  for (let n = 0; n < 10; n++) {
    a.put("x", now, { tag: `t${n}` });
    now = run(wires, now, 1000);
  }
  const said = vectors(far.flatMap(({ log }) => log));
  expect(
    said.flatMap(({ entries, isWanted }) => (isWanted ? [] : entries.filter(({ nodeId, seq }) => nodeId === "a" && seq > 0))).length,
  ).toBe(1);
  expect(said.filter(({ isOffer }) => isOffer === true).length).toBe(10);
  // Nobody doubts its picture of the other.
  expect(said.filter(({ isWanted, entries, short = [] }) => isWanted && entries.length + short.length === 0)).toEqual([]);
  expect(knows(z, a)).toBe(10);
});

test("what a peer has said itself it is not told", () => {
  const { a, wires, far, nowMs } = diamond(["b", "c", "d"].map((id) => node(id)));
  run(wires, nowMs, 1000);
  const before = far.map(({ log }) => log.length);
  a.put("x", nowMs + 1000);
  run(wires, nowMs + 1000, 5000);
  // One of the two ends says it first; of how far z knows a nobody else need hear.
  for (const [i, { log }] of far.entries()) {
    const told = vectors(log.slice(before[i])).flatMap(({ isWanted, entries, short = [] }) => (isWanted ? [] : [...entries, ...short]));
    expect(told.length).toBeLessThanOrEqual(2);
  }
});

test("who forgets an origin and takes it again is told what others have of it", () => {
  const { a, z, wires, nowMs } = diamond([node("b")]);
  a.put("x", nowMs);
  let now = run(wires, nowMs, 3000);
  // z has it, and has told b so: b need not tell z.
  const origin = z.replica.origins.get(a.replica.self.id)!;
  z.shared.forgetOrigin(origin, z.timeOf(now));
  now = run(wires, now, 3000);
  expect(knows(z, a)).toBe(0);
  z.shared.readmit("a", 1);
  run(wires, now, 3000);
  expect(knows(z, a)).toBe(1);
});

test("two origins of one short hash are called by their names", () => {
  const pair = ["n696399", "n898030"] as const;
  const short = 4_145_100_922;
  const { vector } = node("v").shared;
  const note = (nodeId: string) => vector.note({ id: `${nodeId}/1`, nodeId, generation: 1, clusterId: "c1", region: "r1", floor: 0 }, 5);
  note(pair[0]);
  expect(vector.findShort(short)?.nodeId).toBe(pair[0]);
  note(pair[1]);
  expect(vector.findShort(short)).toBeUndefined();
  // On the wire: both arrive, and follow.
  const { a, z, wires, nowMs } = diamond([node("b")]);
  const [one, two] = pair.map((id) => node(id)) as [ReplicatingNode, ReplicatingNode];
  const b = wires[0]!.b.node;
  const all = [...wires, new Wire(one, b, nowMs), new Wire(two, b, nowMs)];
  let now = run(all, nowMs, 2000);
  for (let n = 1; n <= 3; n++) {
    for (const each of [one, two, a]) each.put("x", now, { tag: `t${n}` });
    now = run(all, now, 1500);
    expect([one, two, a].map((each) => knows(z, each))).toEqual([n, n, n]);
  }
});
