/** What two sides of a border tell each other when they compare what they hold, and what they do not tell. */
import { expect, test } from "vitest";
import { fnv64 } from "../../../src/lib/hash64.ts";
import { BorderWorld, type WorldNode } from "./border-world.ts";
import { live, pair, regions, say, sayMany, shownAt } from "./small-worlds.ts";

/** The hashes that a node listed, as the other side was told. */
function listedBy(world: BorderWorld, node: WorldNode): readonly bigint[] {
  return world.sent.flatMap(({ from, frame }) => (from === node && frame.kind === "borderHave" && frame.isAnswer ? frame.hashes : []));
}

test("a cluster that lost its disks asks in one comparison for all that it knows no more, in frames of so many", () => {
  const [world, a, b] = pair(new BorderWorld({ maxListed: 10 }));
  sayMany(world, a, 35, 1);
  live(world, 30_000);
  world.unlink(a, b);
  const again = world.replace(a);
  world.link(again, b);
  // The first comparison, and not the one of what others said.
  world.run(2400);
  expect([again.held.exceeded.size, b.channel.counts.given]).toEqual([35, 35]);
});

test("a digest that comes while the other side still looks for what it was asked is answered when that is done, and is no equality before", () => {
  const [world, a, b] = pair(new BorderWorld({ maxListed: 10 }));
  sayMany(world, a, 35, 1);
  live(world, 30_000);
  world.unlink(a, b);
  const again = world.replace(a);
  const { held } = b;
  const list = held.list.bind(held);
  held.list = function* (filter, buckets) {
    const untilMs = world.time.monoMs + 700;
    while (world.time.monoMs < untilMs) yield;
    return yield* list(filter, buckets);
  };
  const linkedMs = world.time.monoMs;
  world.link(again, b);
  world.run(6000);
  const ofDigests = (node: WorldNode) =>
    world.sent.filter(({ from, frame, atMs }) => from === node && frame.kind === "borderDigest" && atMs > linkedMs);
  const asked = ofDigests(again).filter(({ frame }) => frame.kind === "borderDigest" && !frame.isAnswer);
  const answered = ofDigests(b).filter(({ frame }) => frame.kind === "borderDigest" && frame.isAnswer);
  expect([asked.length, answered.length]).toEqual([2, 2]);
  expect(again.channel.backlogs(world.time)[0]?.exportedEqualMonoMs).toBeUndefined();
});

test("a side that never had a summary is not told that it is gone", () => {
  const [world, a, b] = regions("ab") as [BorderWorld, WorldNode, WorldNode];
  sayMany(world, a, 1000, 1);
  for (let n = 0; n < 500; n++) say(world, a, `s${n}`, 2, { isWithdrawn: true });
  world.link(a, b);
  live(world, 60_000);
  expect([shownAt(b).length, world.summariesTo("rb", 0)]).toEqual([500, 500]);
});

test("a withdrawal that was lost is found by a comparison, and no list names what is gone", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 300, 1);
  live(world, 30_000);
  for (let n = 0; n < 100; n++) say(world, a, `s${n}`, 2, { isWithdrawn: true });
  live(world, 30_000);
  world.withheld = () => true;
  for (let n = 100; n < 200; n++) say(world, a, `s${n}`, 2, { isWithdrawn: true });
  world.run(1000);
  world.withheld = () => false;
  const gone = [...b.held.rows.values()].filter(({ isWithdrawn }) => isWithdrawn);
  live(world, 60_000);
  expect([gone.length, shownAt(b).length]).toEqual([100, 100]);
  const listed = new Set(listedBy(world, b));
  expect(listed.size).toBeGreaterThan(100);
  const hashOf = (key: string) => {
    const { high, low } = fnv64(key);
    return (BigInt(high) << 32n) | BigInt(low);
  };
  expect(gone.filter(({ key }) => listed.has(hashOf(key)))).toEqual([]);
});

test.each([
  { what: "that is young asks for nothing again, because it is told all anyway", afterMs: 1000, more: 0 },
  { what: "that was up before asks once more", afterMs: 10_000, more: 1 },
])("when a source is heard of again that was lost here, a link $what", ({ afterMs, more }) => {
  const rulesOf = (isResumed: boolean) => {
    const [world, a, b] = pair();
    say(world, a, "web", 1);
    for (const { held } of world.nodes) held.beat(1, world.time);
    world.run(afterMs);
    if (isResumed) b.held.resumedCount += 1;
    world.run(20_000);
    return world.sent.filter(({ from, frame }) => from === b && frame.kind === "borderRules").length;
  };
  expect(rulesOf(true) - rulesOf(false)).toBe(more);
});
