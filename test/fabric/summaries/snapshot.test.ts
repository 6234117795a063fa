/** A node begins with the summaries that it held before, and no source is fresher for it. */
import { expect, test } from "vitest";
import { FabricWorld } from "../../fakes/fabric-world.ts";
import { restored, type SpaceNode, startSpace, summaryOf, written } from "../../fakes/summary-space.ts";

/** Two nodes, each of which has taken something. */
function pair() {
  const world = new FabricWorld();
  const [a, b] = ["a", "b"].map((nodeId) => startSpace(world, { nodeId, seeds: ["a:1"] })) as [SpaceNode, SpaceNode];
  world.runUntil(() => a.node.upLinks().length === 1);
  world.run(3000);
  for (const [n, { space }] of [a, b].entries()) for (let i = 0; i < 9; i++) space.put(summaryOf(`s${n}${i}`), 5 + i, world.time());
  a.space.end(summaryOf("s00"), world.time());
  a.space.beacon("far", 1, world.time());
  b.space.beacon("near", 2 ** 40, world.time());
  world.run(5000);
  return { world, a, b };
}

test("what was held comes back as records of other origins, and the nodes are equal again without sending any of it twice", () => {
  const { world, a, b } = pair();
  const bytes = written(a, world.time());
  const before = a.space.view();
  world.kill(a.node);
  world.run(1000);
  const { space, result } = restored("a", bytes, world.time());
  expect([result, space.view(), space.replica.self.through]).toEqual([{ ok: true, recordCount: 20, refusedCount: 0 }, before, 0]);
  expect(b.space.view()).toEqual(before);
  const sentBefore = b.node.fabric.summaries?.replication.stats.sentRecords;
  const again = startSpace(world, { nodeId: "a", generation: 2, seeds: ["b:1"] }, space);
  world.runUntil(() => again.node.fabric.readiness.isReady && again.node.upLinks().length === 1);
  world.run(3000);
  expect([again.space.view(), b.node.fabric.summaries?.replication.stats.sentRecords]).toEqual([before, sentBefore]);
});

test.each([
  ["the time that it was down counts", 30_000, 30_000, 35_000],
  ["a clock that jumped ahead makes sources older", 30_000, 90_000, 95_000],
  ["after a clock that went back nothing is known", 30_000, -1000, undefined],
])("ages: %s", (_name, passedMs, wallMs, ageMs) => {
  const { world, a } = pair();
  const { monoMs, wallMs: savedWallMs } = world.time();
  const bytes = written(a, world.time());
  const time = { monoMs: monoMs + passedMs, wallMs: savedWallMs + wallMs };
  const { space } = restored("a", bytes, time);
  for (const source of ["far", "near"]) {
    const receiptMonoMs = space.receiptOf(source);
    if (ageMs === undefined) expect(receiptMonoMs).toBeUndefined();
    else expect(time.monoMs - (receiptMonoMs ?? 0)).toBeCloseTo(ageMs, -2);
  }
});

test("no source loses its age, where a node holds as many as it may beside its own cluster", () => {
  const { world, a } = pair();
  const count = 256 + 1;
  const held = a.space.ages(world.time()).length;
  for (let n = held; n < count; n++) a.space.beacon(`source-${n}`, 1 + n, world.time());
  const bytes = written(a, world.time());
  expect(a.space.ages(world.time())).toHaveLength(count);
  expect(restored("a", bytes, world.time()).space.ages(world.time())).toHaveLength(count);
});

test("a file that is older than any source is kept brings nothing back: what was taken back meanwhile may be forgotten everywhere", () => {
  const { world, a } = pair();
  const bytes = written(a, world.time());
  const after = (forMs: number) => {
    const { monoMs, wallMs } = world.time();
    const { space, result } = restored("a", bytes, { monoMs: monoMs + forMs, wallMs: wallMs + forMs });
    return [result, space.view().length, space.ages(world.time()).length];
  };
  const { lostAfterMs } = a.space;
  expect(after(lostAfterMs - 1)).toEqual([{ ok: true, recordCount: 20, refusedCount: 0 }, 19, 2]);
  expect(after(lostAfterMs)).toEqual([{ ok: true, recordCount: 0, refusedCount: 0 }, 0, 0]);
});

test.each<readonly [string, (bytes: Uint8Array) => Uint8Array, string]>([
  ["is cut off", (bytes) => bytes.subarray(0, -9), "it is truncated or modified at byte"],
  ["was changed", (bytes) => bytes.with(bytes.length - 40, 1), "it is truncated or modified at byte"],
  ["is another node's", (bytes) => bytes, "it belongs to node a"],
])("of a file that %s nothing is taken", (_name, change, fault) => {
  const { world, a } = pair();
  const nodeId = fault.includes("node a") ? "z" : "a";
  const { space, result } = restored(nodeId, change(written(a, world.time())), world.time());
  expect([space.view(), result.ok ? "" : result.fault]).toEqual([[], expect.stringContaining(fault)]);
});
