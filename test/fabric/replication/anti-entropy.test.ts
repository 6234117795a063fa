/** Replicas whose vectors agree and whose records do not: found by digests, mended by a whole transfer. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { ReplicatingNode, run, Wire } from "../../fakes/replication.ts";

const T = { monoMs: 0, wallMs: 0 };
const OFTEN = { digestIntervalMs: 2000 };

function node(nodeId: string, clusterId = "c1"): ReplicatingNode {
  return new ReplicatingNode({ nodeId, clusterId, options: OFTEN });
}

type Pair = [ReplicatingNode, ReplicatingNode];

/** Two nodes in step on a's five records. */
function inStep(clusters: readonly [string, string] = ["c1", "c1"]): { a: ReplicatingNode; b: ReplicatingNode; wire: Wire } {
  const [a, b] = [node("a", clusters[0]), node("b", clusters[1])];
  for (let n = 0; n < 5; n++) a.put(`x${n}`, 0, { scope: n % 2 === 0 ? SCOPE.REGION : SCOPE.ZONE });
  const wire = new Wire(a, b, 0);
  run([wire], 0, 1000);
  return { a, b, wire };
}

/** Ends a record here that lives at its origin, as a bug might. */
function lose(at: ReplicatingNode, originId: string, index: number): void {
  at.replica.withdraw(at.replica.origins.get(originId)!.log.list()[index]!, at.timeOf(1000));
}

test("replicas that agree are compared and left alone", () => {
  const { a, b, wire } = inStep();
  run([wire], 1000, 30_000);
  expect(a.shared.stats.digestsEqual + b.shared.stats.digestsEqual).toBeGreaterThan(5);
  expect([a.shared.stats.digestsDifferent, b.shared.stats.digestsDifferent]).toEqual([0, 0]);
});

test("over a border only what it may carry is compared", () => {
  const { a, b, wire } = inStep(["c1", "c2"]);
  run([wire], 1000, 30_000);
  expect(b.shown().length).toBe(3);
  expect(b.shared.stats.digestsEqual).toBeGreaterThan(5);
  expect([b.shared.stats.digestsDifferent, a.shared.stats.digestsDifferent]).toEqual([0, 0]);
});

test.each([
  { what: "missing here", clusters: ["c1", "c1"] },
  { what: "missing here, over a border", clusters: ["c1", "c2"] },
] as const)("a record $what comes back from its origin, counted and named", ({ clusters }) => {
  const { a, b, wire } = inStep(clusters);
  const want = b.shown();
  lose(b, "a/1", 0);
  expect(b.shown().length).toBe(want.length - 1);
  const done = run([wire], 1000, 30_000, () => b.shown().length === want.length);
  expect([b.shown(), b.shared.stats.repairs, a.shared.stats.repairs]).toEqual([want, 1, 0]);
  expect(b.shared.stats.digestsDifferent).toBeGreaterThanOrEqual(2);
  expect(done).toBeLessThan(8000);
  expect(b.outputs.some((output) => output.kind === "event" && output.event.name === "origin_diverged")).toBe(true);
  run([wire], done, 30_000);
  expect([b.shared.stats.repairs, a.shown().length]).toEqual([1, 5]);
});

test("a record that is no more at its origin goes", () => {
  const { a, b, wire } = inStep();
  lose(a, "a/1", 2);
  const done = run([wire], 1000, 30_000, () => b.shown().length === 4);
  expect([b.shown(), b.shared.stats.repairs]).toEqual([a.shown(), 1]);
  expect(done).toBeLessThan(8000);
});

test("an origin is never repaired by others: it knows best", () => {
  const { a, b, wire } = inStep();
  lose(a, "a/1", 0);
  lose(b, "a/1", 1);
  run([wire], 1000, 30_000);
  expect([a.shown().length, b.shown(), a.shared.stats.repairs]).toEqual([4, a.shown(), 0]);
});

test("of two that are both far from the origin the one with the lower id is believed; one linked to the origin before it", () => {
  const [a, b, c] = [node("a"), node("b"), node("c")];
  for (let n = 0; n < 3; n++) c.put(`x${n}`, 0);
  const wires = [new Wire(a, b, 0), new Wire(b, c, 0)];
  run(wires, 0, 1000);
  // b has a link to c, and so knows better than a.
  lose(a, "c/1", 0);
  run(wires, 1000, 15_000);
  expect([a.shown(), b.shared.stats.repairs]).toEqual([c.shown(), 0]);
  wires.pop()!.close();
  lose(a, "c/1", 1);
  run(wires, 16_000, 20_000);
  expect([b.shown(), b.shared.stats.repairs]).toEqual([a.shown(), 1]);
});

test("what cannot be mended is not tried again before long: a record refused here for good", () => {
  const { a, b, wire } = inStep();
  // b holds one record fewer in its digest for ever: it is lost again after each repair.
  for (let now = 1000; now < 61_000; now = run([wire], now, 1000)) if (b.shown().length === 5) lose(b, "a/1", 0);
  expect([b.shared.stats.repairs, a.shared.stats.wholeTransfers]).toEqual([1, 1]);
});

test("a large origin is summed in slices, and one that moves meanwhile is left for another time", () => {
  const a = new ReplicatingNode({ nodeId: "a", options: { digestSliceRecords: 10 } });
  for (let n = 0; n < 35; n++) a.put(`x${n}`, 0);
  const { digests, replica } = { digests: a.shared.digests, replica: a.replica };
  const slices: number[] = [];
  for (let n = 0; n < 8 && digests.find(replica.self, "cluster", T) === undefined; n++) {
    digests.work(T);
    slices.push(n);
  }
  expect(slices.length).toBe(4);
  expect(digests.find(replica.self, "cluster", T)).toMatchObject({ through: 35, liveCount: 35 });
  a.put("y", 1);
  expect(digests.find(replica.self, "cluster", T)).toBeUndefined();
  digests.work(T);
  a.put("y", 2, { tag: "green" });
  digests.work(T);
  expect(digests.isBusy).toBe(false);
});

test("a record that is missing comes back at the first attempt also from an origin that was told of in a few bytes: all of it is asked for by name", () => {
  const [a, b] = ["a", "b"].map((nodeId) => new ReplicatingNode({ nodeId, options: OFTEN })) as Pair;
  for (let n = 0; n < 5; n++) a.put(`x${n}`, 0);
  const wire = new Wire(a, b, 0);
  let now = run([wire], 0, 1000);
  for (let n = 0; n < 5; n++) {
    a.put("y", now, { tag: `t${n}` });
    now = run([wire], now, 1000);
  }
  const { length } = b.shown();
  lose(b, "a/1", 0);
  expect(b.shown()).toHaveLength(length - 1);
  run([wire], now, 30_000, () => b.shown().length === length);
  expect([b.shown().length, b.shared.stats.repairs]).toEqual([length, 1]);
});
