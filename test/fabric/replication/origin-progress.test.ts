/** Where an origin stands at a peer. */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { buildFrame } from "../../../src/catalog/replica/frames.ts";
import { OriginProgress } from "../../../src/fabric/replication/peer-progress.ts";
import { ReplicatingNode } from "../../fakes/replication.ts";

const BOUNDS = { fetchTimeoutMs: 1000, fetchMaxWaitMs: 30_000 };
const LINK = { relation: "cluster", clusterId: "c1" } as const;

function entry(seq: number, floor = 0) {
  return { nodeId: "a", generation: 1, seq, floor };
}

function full(count: number): ReplicatingNode {
  const node = new ReplicatingNode({ nodeId: "a" });
  for (let n = 0; n < count; n++) node.put(`x${n}`, 0);
  return node;
}

test("who asks for the same again and again is answered ever more rarely; who makes progress at once", () => {
  const [known, { replica }] = [new OriginProgress(), full(5)];
  const taken: number[] = [];
  for (let monoMs = 0; monoMs < 120_000; monoMs += 50)
    if (known.onRequest(entry(0), replica.self, { monoMs, ...BOUNDS }) === "accepted") taken.push(monoMs);
  expect(taken.slice(0, 6)).toEqual([0, 250, 750, 1750, 3750, 7750]);
  expect(taken.length).toBeLessThan(14);
  expect(known.onRequest(entry(3), replica.self, { monoMs: 120_001, ...BOUNDS })).toBe("accepted");
  expect(known.from(replica.self)).toEqual({ after: 3, isComplete: false });
});

test("a floor above the number asks for a whole transfer; a number that is reached asks for nothing", () => {
  const [known, { replica }] = [new OriginProgress(), full(5)];
  known.onRequest(entry(5), replica.self, { monoMs: 0, ...BOUNDS });
  expect(known.isRequested).toBe(false);
  known.onRequest(entry(0, 5), replica.self, { monoMs: 10_000, ...BOUNDS });
  expect([known.isRequested, known.from(replica.self)]).toEqual([true, { after: 0, isComplete: true }]);
});

test("Why: a whole transfer starts again when the floor passes what was known at its beginning: what it listed may be gone", () => {
  const [known, node] = [new OriginProgress(), full(8)];
  const { self } = node.replica;
  known.onRequest(entry(0, 1), self, { monoMs: 0, ...BOUNDS });
  const first = buildFrame(node.replica, self, known.from(self), LINK, 1);
  known.sent(first, self, self.through);
  expect([known.isInTransfer, known.from(self)]).toEqual([true, { after: 1, isComplete: true }]);
  for (const { key } of node.records()) node.end(key, BODY.EXPIRED, 0);
  node.collect(10_000);
  expect(self.floor).toBeGreaterThan(8);
  expect(known.from(self)).toEqual({ after: 0, isComplete: true });
});

test("what is above the horizon of own news is not waited for", () => {
  const [known, node] = [new OriginProgress(), full(4)];
  const { self } = node.replica;
  known.onRequest(entry(0), self, { monoMs: 0, ...BOUNDS });
  known.sent(buildFrame(node.replica, self, { ...known.from(self), upTo: 2 }, LINK, 10_000), self, 2);
  expect([known.at, known.isRequested]).toEqual([2, false]);
});
