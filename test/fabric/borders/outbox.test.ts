/** When what waits on a border link goes, and what the lag tells of it. */
import { expect, test } from "vitest";
import { BorderWorld, type WorldNode } from "./border-world.ts";
import { sealOf } from "./held-map.ts";
import { live, pair, regions, say, sayMany, shownAt } from "./small-worlds.ts";

test("a service that changes all the time is told once a window, and not only when it comes to rest", () => {
  const [world, a, b] = pair();
  live(world, 30_000);
  const sinceMs = world.time.monoMs;
  const seen = new Set<string>();
  for (let version = 1; version <= 50; version++) {
    say(world, a, "web", version);
    world.run(100);
    for (const line of shownAt(b)) seen.add(line);
  }
  expect(seen.size).toBeGreaterThan(15);
  expect(world.summariesTo("rb", sinceMs)).toBeLessThanOrEqual(25);
});

test.each([900, 2000])("beacons go between the batches of a slow link on which %d summaries wait, and make it no faster", (count) => {
  const [world, a, b] = pair(undefined, [{ bytesPerSecond: 10_000 }]);
  live(world, 30_000);
  const sinceMs = world.time.monoMs;
  sayMany(world, a, count, 1);
  const agesMs: number[] = [];
  for (let n = 0; n < 20; n++) {
    a.held.beat(sinceMs + n, world.time);
    world.run(1500);
    agesMs.push(b.held.beacons(world.time).find(({ source }) => source === "ca")?.ageMs ?? Number.POSITIVE_INFINITY);
  }
  // Each is there before the next one.
  expect(Math.max(...agesMs)).toBeLessThanOrEqual(1600);
  expect(shownAt(b).length).toBeGreaterThan(500);
  // The first batch goes at once, and is made up for afterwards.
  expect(world.bytesPerSecond(a, b, sinceMs)).toBeLessThan(10_000 * 1.1 + world.options.maxBatchBytes / 30);
});

test.each([
  { what: "a change lags since its window was over", isWithdrawn: false, dueMs: 200 },
  { what: "a withdrawal lags since it was said", isWithdrawn: true, dueMs: 0 },
])("on a link that takes nothing $what", ({ isWithdrawn, dueMs }) => {
  const [world, a] = pair();
  say(world, a, "web", 1);
  live(world, 30_000);
  const end = a.ends.get("b");
  if (end !== undefined) end.isStalled = true;
  say(world, a, "web", 2, { isWithdrawn });
  for (let ms = 20; ms <= 1000; ms += 20) {
    world.run(20);
    // A step of the world is 20 ms.
    expect(Math.abs(a.channel.lagMs(world.time) - Math.max(0, ms - dueMs))).toBeLessThanOrEqual(20);
  }
});

test.each([3700, 3900, 4100, 4300, 4400])(
  "a beacon that is made %d ms after a link stalled goes, though the list of what waits is dropped at 4.5 s",
  (madeMs) => {
    const [world, a, b] = pair(new BorderWorld({ storeForwardMs: 4500 }));
    live(world, 30_000);
    const beacon = () => b.held.beacons(world.time).find(({ source }) => source === "ca")?.version;
    const end = a.ends.get("b");
    if (end !== undefined) end.isStalled = true;
    // More than are looked at while they wait.
    sayMany(world, a, 2000, 1);
    world.run(madeMs);
    a.held.beat(world.time.monoMs, world.time);
    const made = a.held.beacons(world.time).find(({ source }) => source === "ca")?.version;
    world.run(5000 - madeMs);
    expect([a.channel.counts.dropped, beacon() === made]).toEqual([1, false]);
    if (end !== undefined) end.isStalled = false;
    world.run(1000);
    expect(beacon()).toBe(made);
  },
);

/** A link that sends some 20 summaries a second, over which the other side was found to lack 200. */
function lacking(): readonly [BorderWorld, WorldNode, WorldNode] {
  const [world, a, b] = regions("ab") as [BorderWorld, WorldNode, WorldNode];
  sayMany(world, a, 200, 1);
  live(world, 10_000);
  world.link(a, b, { bytesPerSecond: 6000 });
  for (let n = 0; n < 200 && a.channel.counts.given === 0; n++) world.run(20);
  return [world, a, b];
}

test("what the other side was found to lack lags since it was found", () => {
  const [world, a] = lacking();
  for (const ms of [0, 1000, 1000]) {
    world.run(ms);
    expect(a.channel.lagMs(world.time)).toBeLessThanOrEqual(2100);
  }
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(1500);
});

test("what changes while it waits to be given goes once", () => {
  const [world, a, b] = lacking();
  sayMany(world, a, 200, 2);
  live(world, 60_000);
  const copies = [...b.held.copies].filter(([text]) => text.endsWith(" 2")).map(([, count]) => count);
  expect([copies.length, Math.max(...copies)]).toEqual([200, 1]);
});

test.each([
  { what: "taken back and said again", isWithdrawn: [true, false], want: ["ca web 3"] },
  { what: "said and then taken back", isWithdrawn: [false, true], want: [] },
])("what is $what while a link takes nothing goes once", ({ isWithdrawn, want }) => {
  const [world, a, b] = pair();
  say(world, a, "web", 1);
  live(world, 30_000);
  const end = a.ends.get("b");
  if (end !== undefined) end.isStalled = true;
  for (const [n, each] of isWithdrawn.entries()) {
    say(world, a, "web", n + 2, { isWithdrawn: each });
    world.run(100);
  }
  if (end !== undefined) end.isStalled = false;
  world.run(2000);
  expect([shownAt(b), [...b.held.copies.values()]]).toEqual([want, [1, 1]]);
});

test("an announcement of a key goes once over a link, whatever is announced later", () => {
  const [world, a] = pair();
  for (const version of [1, 2, 3]) {
    a.held.announce(sealOf({ source: "ca", version }));
    world.run(1000);
  }
  expect(world.sent.reduce((sum, { frame }) => sum + (frame.kind === "borderBatch" ? frame.keys.length : 0), 0)).toBe(3);
});
