/** What goes out on a link, and what does not (semantics.md, Replication). */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { ReplicationFrame } from "../../../src/fabric/wire/messages.ts";
import { drain, framesOf, open, ReplicatingNode, run, vectorOf, Wire } from "../../fakes/replication.ts";

function node(nodeId: string, clusterId = "c1", region = "r1"): ReplicatingNode {
  return new ReplicatingNode({ nodeId, clusterId, region });
}

/** The numbers of the records frames among these. */
function stretches(
  frames: readonly {
    readonly kind: string;
    readonly frame?: { readonly nodeId: string; readonly after: number; readonly through: number };
  }[],
) {
  return frames.flatMap(({ frame }) => (frame === undefined ? [] : [`${frame.nodeId} ${frame.after}-${frame.through}`]));
}

test("first the whole vector and whom one is linked to; records only when the peer has said what it knows", () => {
  const [a, b] = [node("a"), node("b")];
  a.put("x", 0);
  const link = open(a, b, 0);
  a.shared.setLinked(["b"]);
  expect(drain(link, a.timeOf(0)).map(({ kind }) => kind)).toEqual(["vector", "linked"]);
  link.receive(vectorOf([]), a.timeOf(1), a.outputs);
  expect(stretches(drain(link, a.timeOf(1)))).toEqual(["a 0-1"]);
  expect(drain(link, a.timeOf(2))).toEqual([]);
});

test("own records start where the peer says it is", () => {
  const [a, b] = [node("a"), node("b")];
  for (let n = 0; n < 5; n++) a.put(`x${n}`, 0);
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "a", seq: 3 }]), a.timeOf(0), a.outputs);
  expect(stretches(drain(link, a.timeOf(0)))).toEqual(["a 3-5"]);
});

test("own news goes out at once, then is gathered for 2 ms for each link, for all links alike", () => {
  const [a, b, c] = [node("a"), node("b"), node("c")];
  const links = [open(a, b, 0), open(a, c, 0)];
  a.shared.setLinked(["b", "c"]);
  for (const link of links) link.receive(vectorOf([]), a.timeOf(0), a.outputs);
  for (const link of links) drain(link, a.timeOf(0));
  const sent: string[] = [];
  for (let now = 100; now <= 112; now++) {
    if (now < 110) a.put(`x${now}`, now);
    for (const [i, link] of links.entries()) sent.push(...stretches(drain(link, a.timeOf(now))).map((text) => `${now} ${i}: ${text}`));
  }
  expect(sent).toEqual(
    [
      [100, "a 0-1"],
      [104, "a 1-5"],
      [108, "a 5-9"],
      [112, "a 9-10"],
    ].flatMap(([now, text]) => [`${now} 0: ${text}`, `${now} 1: ${text}`]),
  );
  expect([a.shared.frameCache.builtCount, a.shared.frameCache.sharedCount]).toEqual([4, 4]);
});

test("another's news is offered to a peer that has no link to it, and left to that link where there is one", () => {
  const [a, b, c, d] = [node("a"), node("b"), node("c"), node("d")];
  const links = [open(b, c, 0), open(b, d, 0)] as const;
  for (const link of links) link.receive(vectorOf([]), b.timeOf(0), b.outputs);
  links[0].receive({ kind: "linked", nodeIds: ["a", "b"] }, b.timeOf(0), b.outputs);
  links[1].receive({ kind: "linked", nodeIds: ["b"] }, b.timeOf(0), b.outputs);
  const from = open(b, a, 0);
  a.put("x", 10);
  from.receive(framesOf(a, 0), b.timeOf(10), b.outputs);
  for (const link of links) drain(link, b.timeOf(10));
  expect(links.map((link) => offered(drain(link, b.timeOf(100))))).toEqual([[], [1]]);
  links[0].receive({ kind: "linked", nodeIds: ["b"] }, b.timeOf(110), b.outputs);
  a.put("y", 110);
  from.receive(framesOf(a, 1), b.timeOf(110), b.outputs);
  for (const link of links) drain(link, b.timeOf(110));
  expect(links.map((link) => offered(drain(link, b.timeOf(500))))).toEqual([[2], [2]]);
});

/** The numbers of origins that these frames offer. */
function offered(frames: readonly ReplicationFrame[]): readonly number[] {
  const offers = frames.flatMap((frame) => (frame.kind === "vector" && frame.isOffer === true ? [frame] : []));
  return offers.flatMap(({ entries, short = [] }) => [...entries, ...short].map(({ seq }) => seq));
}

test("nothing comes back to whom it came from", () => {
  const [a, b] = [node("a"), node("b")];
  const wire = new Wire(a, b, 0);
  run([wire], 0, 200);
  a.put("x", 200);
  run([wire], 200, 1000);
  expect(wire.log.filter((frame) => frame.kind === "records").length).toBe(1);
});

test("a peer far behind on another's records is not sent them unasked: it asks one of its links", () => {
  const [a, b, c] = [node("a"), node("b"), node("c")];
  for (let n = 0; n < 5; n++) a.put(`x${n}`, 0);
  open(b, a, 0).receive(framesOf(a, 0), b.timeOf(0), b.outputs);
  const link = open(b, c, 0);
  link.receive(vectorOf([]), b.timeOf(0), b.outputs);
  link.receive({ kind: "linked", nodeIds: [] }, b.timeOf(0), b.outputs);
  expect(stretches(drain(link, b.timeOf(100)))).toEqual([]);
  link.receive(vectorOf([{ nodeId: "a", seq: 2 }], { isPartial: true, isWanted: true }), b.timeOf(100), b.outputs);
  expect(stretches(drain(link, b.timeOf(100)))).toEqual(["a 2-5"]);
});

test("a whole vector larger than a frame comes in parts, and only the last says that this is all", () => {
  const a = new ReplicatingNode({ nodeId: "a", options: { maxVectorEntries: 3 } });
  for (let n = 0; n < 8; n++) {
    const other = node(`n${n}`);
    other.put("x", 0);
    open(a, other, 0).receive(framesOf(other, 0), a.timeOf(0), a.outputs);
  }
  const frames = drain(open(a, node("b"), 0), a.timeOf(0)).filter((frame) => frame.kind === "vector");
  expect(frames.map(({ entries, isPartial }) => [entries.length, isPartial])).toEqual([
    [3, true],
    [3, true],
    [2, false],
  ]);
});

test("in rest a link carries one digest an interval, and nothing else", () => {
  const [a, b] = [node("a"), node("b")];
  a.put("x", 0);
  const wire = new Wire(a, b, 0);
  run([wire], 0, 5000);
  const before = wire.sentFrames;
  run([wire], 5000, 20_000);
  const told = wire.log.slice(before);
  expect(told.every((frame) => frame.kind === "vector" && frame.entries.length === 0)).toBe(true);
  expect(told.length).toBeGreaterThanOrEqual(34);
  expect(told.length).toBeLessThanOrEqual(50);
});

test("whoever asks again and again for a whole vector gets it no more often than vectors go", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  drain(link, a.timeOf(0));
  const wholeMs: number[] = [];
  for (let now = 0; now < 5000; now += 10) {
    link.receive(vectorOf([], { isPartial: true, isWanted: true }), a.timeOf(now), a.outputs);
    for (const frame of drain(link, a.timeOf(now))) if (frame.kind === "vector" && !frame.isPartial) wholeMs.push(now);
  }
  expect(wholeMs).toEqual([0, 1000, 2000, 3000, 4000]);
});

test("P1: a border link carries REGION records of its own cluster and of third ones, and a region's border none", () => {
  const [a, b, c] = [node("a", "c1"), node("b", "c2"), node("c", "c3", "r2")];
  a.put("zone", 0);
  a.put("region", 0, { scope: SCOPE.REGION });
  const wires = [new Wire(a, b, 0), new Wire(a, c, 0)];
  run(wires, 0, 3000);
  expect(b.shown()).toEqual(["svc|region|1|1|c1 a/1 2 blue"]);
  expect([
    c.shown(),
    c.vector(),
    wires[1]!.log.filter((f) => f.kind === "records" || (f.kind === "vector" && f.entries.length > 0)),
  ]).toEqual([[], [], []]);
  expect([...c.links].every((link) => link.isCaughtUp)).toBe(true);
});

test("origins take turns: a large one does not hold up a small one", () => {
  const [a, b, c] = [node("a"), node("b"), new ReplicatingNode({ nodeId: "c", options: { maxFrameBytes: 200 } })];
  for (let n = 0; n < 20; n++) a.put(`x${n}`, 0);
  b.put("y", 0);
  for (const other of [a, b]) open(c, other, 0).receive(framesOf(other, 0), c.timeOf(0), c.outputs);
  const link = open(c, node("d"), 0);
  link.receive(
    vectorOf(
      [
        { nodeId: "a", seq: 0 },
        { nodeId: "b", seq: 0 },
      ],
      { isPartial: true, isWanted: true },
    ),
    c.timeOf(0),
    c.outputs,
  );
  const order = stretches(drain(link, c.timeOf(0))).map((text) => text[0]);
  expect([order.indexOf("b"), order.filter((id) => id === "a").length]).toEqual([1, 10]);
});

test("who asks by a short hash that an origin of another cluster has too is sent the one of our cluster", () => {
  const [ours, theirs] = [node("n696399"), "n898030"];
  ours.put("x", 0);
  ours.shared.vector.note({ id: `${theirs}/1`, nodeId: theirs, generation: 1, clusterId: "c2", region: "r1", floor: 0 }, 9);
  const link = open(ours, node("b"), 0);
  drain(link, ours.timeOf(0));
  const short = [{ hash: 4_145_100_922, seq: 0 }];
  link.receive({ kind: "vector", entries: [], short, digest: 0n, isPartial: true, isWanted: true }, ours.timeOf(100), ours.outputs);
  expect(stretches(drain(link, ours.timeOf(100)))).toEqual(["n696399 0-1"]);
});

test("a link that is held has no work for what it does not give, still offers what is heard of others, and gives all once it is held no more", () => {
  const [a, b, c] = [node("a"), node("b"), node("c")];
  let isHeld = false;
  const [toB, toC] = [open(a, b, 0, () => isHeld), open(a, c, 0)];
  for (const link of [toB, toC]) {
    link.receive(vectorOf([]), a.timeOf(0), a.outputs);
    drain(link, a.timeOf(0));
  }
  isHeld = true;
  a.put("x", 100);
  c.put("y", 100);
  toC.receive(framesOf(c, 0), a.timeOf(100), a.outputs);
  const kinds: string[] = [];
  for (let now = 100; now < 700; now += 10) {
    kinds.push(...drain(toB, a.timeOf(now)).map((frame) => (frame.kind === "vector" && frame.isOffer === true ? "offer" : frame.kind)));
    expect(toB.hasWork(a.timeOf(now))).toBe(false);
  }
  expect(kinds).not.toContain("records");
  expect(kinds).toContain("offer");
  isHeld = false;
  expect(toB.hasWork(a.timeOf(700))).toBe(true);
  expect(drain(toB, a.timeOf(700)).map(({ kind }) => kind)).toContain("records");
});

test("what was asked for in a few bytes and did not come is asked for by name", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  link.receive(vectorOf([{ nodeId: "c", seq: 0 }]), a.timeOf(0), a.outputs);
  drain(link, a.timeOf(0));
  const short = [{ hash: 3_881_714_407, seq: 5 }];
  link.receive(
    { kind: "vector", entries: [], short, digest: 0n, isPartial: true, isWanted: false, isOffer: true },
    a.timeOf(10),
    a.outputs,
  );
  const asked: string[] = [];
  for (let now = 10; now < 10_000; now += 10) {
    link.tick(a.timeOf(now), []);
    for (const frame of drain(link, a.timeOf(now)))
      if (frame.kind === "vector" && frame.isWanted && frame.entries.length + (frame.short ?? []).length > 0)
        asked.push(frame.entries.length > 0 ? "by name" : "short");
  }
  expect(asked.slice(0, 2)).toEqual(["short", "by name"]);
});

test("a whole vector that is made while own news is gathered says that it was so when news was told last", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  a.shared.setLinked(["b", "c"]);
  link.receive({ ...vectorOf([]), times: { atMs: 1 } }, a.timeOf(0), a.outputs);
  drain(link, a.timeOf(0));
  a.put("x", 100);
  a.put("y", 101);
  link.receive(vectorOf([], { isPartial: true, isWanted: true }), a.timeOf(103), a.outputs);
  const whole = drain(link, a.timeOf(103)).filter((frame) => frame.kind === "vector" && !frame.isPartial);
  expect(whole).toMatchObject([{ times: { atMs: 104, asOfMs: 101 } }]);
});

test("a peer hears how far its own records are known, though it said so itself", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  drain(link, a.timeOf(0));
  b.put("x", 0);
  for (const frame of [vectorOf([{ nodeId: "b", seq: 1 }]), framesOf(b, 0)]) link.receive(frame, a.timeOf(10), a.outputs);
  const told = drain(link, a.timeOf(3000)).flatMap((frame) => (frame.kind === "vector" ? frame.entries : []));
  expect(told).toContainEqual({ nodeId: "b", generation: 1, seq: 1, floor: 0 });
});

test("all of an origin whose frames left something out is given when that has come, or to who asked for it again and again", () => {
  for (const isSettled of [true, false]) {
    const [a, b, c] = [node("a"), node("b"), node("c")];
    c.put("x", 0);
    open(a, c, 0).receive(framesOf(c, 0), a.timeOf(0), a.outputs);
    const origin = a.replica.origins.get("c/1")!;
    origin.unsettled = { from: 0, until: 2 };
    const link = open(a, b, 0);
    const ask = (monoMs: number) => {
      const all = vectorOf([{ nodeId: "c", seq: 0, floor: 1 }], { isPartial: true, isWanted: true });
      link.receive(all, a.timeOf(monoMs), a.outputs);
      return stretches(drain(link, a.timeOf(monoMs)));
    };
    expect([ask(10), ask(10_000)]).toEqual([[], []]);
    if (isSettled) origin.unsettled = undefined;
    else expect(ask(20_000)).toEqual([]);
    expect(ask(60_000)).toEqual(["c 0-1"]);
  }
});

test("all of an own origin is given up to its last record, also while news is being gathered", () => {
  const [a, b] = [node("a"), node("b")];
  const link = open(a, b, 0);
  a.shared.setLinked(["b", "c"]);
  drain(link, a.timeOf(0));
  a.put("x", 100);
  a.put("y", 102);
  const all = vectorOf([{ nodeId: "a", seq: 0, floor: 1 }], { isPartial: true, isWanted: true });
  link.receive(all, a.timeOf(103), a.outputs);
  expect(stretches(drain(link, a.timeOf(103)))).toEqual(["a 0-2"]);
});
