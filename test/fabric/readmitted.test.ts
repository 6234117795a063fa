/** Origins that come back, and those that are not taken: what is remembered of them, and what is asked. */
import { expect, test } from "vitest";
import { BODY } from "../../src/catalog/record/record.ts";
import { drain, framesOf, open, ReplicatingNode, vectorOf } from "../fakes/replication.ts";

const HOME = { clusterId: "c1", region: "r1" };
const READER = { nodeId: "b", ...HOME };

function origin(nodeId: string) {
  return { id: `${nodeId}/1`, nodeId, generation: 1, ...HOME, floor: 0 };
}

test("an origin that was dropped and is known again stays in the vector, however many others go after it", () => {
  const { vector } = new ReplicatingNode({ nodeId: "v" }).shared;
  vector.note(origin("a"), 5);
  vector.drop("a/1");
  vector.note(origin("a"), 6);
  for (let n = 0; n < 1500; n++) {
    vector.note(origin(`n${n}`), 1);
    vector.drop(`n${n}/1`);
  }
  expect(vector.find("a/1")?.seq).toBe(6);
  expect(vector.entriesSince(0, READER)).toContainEqual({ nodeId: "a", generation: 1, seq: 6, floor: 0 });
});

test("an origin whose frame was refused is not asked for again over that link for a minute, whatever the peer tells", () => {
  const [a, b] = [new ReplicatingNode({ nodeId: "a" }), new ReplicatingNode({ nodeId: "b" })];
  const far = new ReplicatingNode({ nodeId: "far", clusterId: "c9", region: "r9" });
  far.put("x", 0);
  const link = open(b, a, 0);
  const tells = vectorOf([{ nodeId: "far", seq: 1 }]);
  const asksUntil = (fromMonoMs: number, toMonoMs: number): readonly number[] => {
    const asks: number[] = [];
    for (let now = fromMonoMs; now < toMonoMs; now += 100) {
      if (now % 1000 === 0) link.receive(tells, b.timeOf(now), b.outputs);
      link.tick(b.timeOf(now), b.outputs);
      for (const frame of drain(link, b.timeOf(now)))
        if (frame.kind === "vector" && frame.isWanted && frame.entries.length > 0) asks.push(now);
    }
    return asks;
  };
  expect(asksUntil(0, 1000).length).toBeGreaterThan(0);
  link.receive(framesOf(far, 0), b.timeOf(1000), b.outputs);
  expect(b.shared.stats.refusedOrigins).toBe(1);
  expect(asksUntil(1100, 60_000)).toEqual([]);
  expect(asksUntil(61_000, 70_000).length).toBeGreaterThan(0);
});

test("a frame is shared while the floor stands, and built again when it has moved", () => {
  const node = new ReplicatingNode({ nodeId: "a" });
  const keys = Array.from({ length: 8 }, (_, n) => node.put(`x${n}`, 0));
  for (const key of keys.slice(0, 6)) node.end(key, BODY.EXPIRED, 0);
  for (let n = 0; n < 2; n++) node.put(`y${n}`, 0);
  const link = { relation: "cluster", clusterId: "c1" } as const;
  const { self } = node.replica;
  const ask = () => node.shared.frameCache.frame(node.replica, self, { after: 14, isComplete: false, upTo: 16 }, link, 10_000);
  const before = ask();
  expect(ask()).toBe(before);
  node.collect(10_000);
  expect([self.floor > 0, self.floor <= 14]).toEqual([true, true]);
  expect(ask().floor).toBe(self.floor);
});
