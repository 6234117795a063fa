/** The age of what is due in another region and was not taken there, whatever happened to the link. */
import { expect, test } from "vitest";
import { Apart } from "../../../src/fabric/borders/apart.ts";
import type { BorderOptions } from "../../../src/fabric/borders/options.ts";
import { BorderWorld, type Exports, type WorldNode } from "./border-world.ts";
import { sealOf } from "./held-map.ts";
import { live, MINUTE, pair, regions, say, sayMany, shownAt } from "./small-worlds.ts";

function known(world = new BorderWorld(), sides: readonly Exports[] = []): readonly [BorderWorld, WorldNode, WorldNode] {
  const [, a, b] = pair(world, sides);
  for (const region of ["ra", "rb"]) world.borderExports.set(region, [["svc"]]);
  live(world, 30_000);
  return [world, a, b];
}

function standStill(world: BorderWorld, node: WorldNode, forMs: number): void {
  const { monoMs, wallMs } = world.time;
  world.time = { monoMs: monoMs + forMs, wallMs: wallMs + forMs };
  node.channel.stoodStill(forMs, world.time);
}

test.each([
  { what: "and the link is lost", isLinkedAgain: false },
  { what: "and a new link comes up at once, over which nothing comes either", isLinkedAgain: true },
])("what went into a dead link is due since it changed, $what", ({ isLinkedAgain }) => {
  const [world, a, b] = known();
  world.withheld = () => true;
  world.delayOf = () => 10 * MINUTE;
  say(world, a, "web", 1);
  live(world, 8000);
  world.unlink(a, b);
  if (isLinkedAgain) {
    world.link(a, b);
    const end = a.ends.get("b");
    if (end !== undefined) end.isStalled = true;
  }
  live(world, 12_000);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(19_000);
  expect(a.channel.lagMs(world.time)).toBeLessThan(21_000);
  expect(b.channel.lagMs(world.time)).toBe(0);
  world.withheld = () => false;
  world.delayOf = () => 80;
  world.unlink(a, b);
  world.link(a, b);
  live(world, 6000);
  expect(a.channel.lagMs(world.time)).toBe(0);
});

test("what went into a dead link right before this node stood still for a minute is due since it changed", () => {
  const [world, a, b] = known();
  live(world, 8000);
  // Nothing contradicts the digest that goes then either.
  world.isLost = () => true;
  say(world, a, "web", 1);
  live(world, 8500);
  standStill(world, a, MINUTE);
  live(world, 1000);
  world.unlink(a, b);
  live(world, 2000);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(MINUTE);
  world.isLost = () => false;
  world.link(a, b);
  live(world, 6000);
  expect(a.channel.lagMs(world.time)).toBe(0);
});

/** Two regions of which one has just dropped what waited for the other on a link that took nothing. */
function dropped(): readonly [BorderWorld, WorldNode] {
  const [world, a] = known(new BorderWorld({ storeForwardMs: 4000 }));
  const end = a.ends.get("b");
  if (end !== undefined) end.isStalled = true;
  say(world, a, "web", 1);
  live(world, 10_000);
  if (end !== undefined) end.isStalled = false;
  return [world, a];
}

test("an answer that waits while this node stands still is no silence", () => {
  const [world, a] = dropped();
  const before = world.sent.length;
  const isAsked = () => world.sent.slice(before).some(({ from, frame }) => from === a && frame.kind === "borderDigest");
  while (!isAsked()) world.run(20);
  standStill(world, a, 5000);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(14_000);
  world.run(20);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(14_000);
  expect(a.channel.backlogs(world.time)[0]?.exportedEqualMonoMs).toBeLessThan(world.time.monoMs - 14_000);
  live(world, 6000);
  expect(a.channel.lagMs(world.time)).toBe(0);
});

test("a node that is held for a moment again and again learns all the same that the other side holds what was dropped", () => {
  const [world, a] = dropped();
  for (let n = 0; n < 20; n++) {
    world.run(400);
    standStill(world, a, 100);
  }
  expect(a.channel.lagMs(world.time)).toBe(0);
});

test("what a neighbour refuses is due since it was given, over new links too, until it is taken", () => {
  const [world, a, b] = known();
  b.held.refuse = "limit";
  sayMany(world, a, 205, 1);
  live(world, 2 * MINUTE);
  const lagMs = a.channel.lagMs(world.time);
  expect(lagMs).toBeGreaterThan(90_000);
  expect(a.channel.backlogs(world.time)[0]?.lagMs).toBe(lagMs);
  world.unlink(a, b);
  world.link(a, b);
  live(world, MINUTE);
  expect(a.channel.lagMs(world.time)).toBeGreaterThanOrEqual(lagMs + MINUTE - 1000);
  b.held.refuse = undefined;
  live(world, 10 * MINUTE);
  expect(a.channel.lagMs(world.time)).toBe(0);
});

test("what was on a list that was dropped is due since it changed", () => {
  const [world, a] = known(new BorderWorld({ storeForwardMs: 4000 }));
  const end = a.ends.get("b");
  if (end !== undefined) end.isStalled = true;
  say(world, a, "web", 1);
  live(world, 10_000);
  expect(a.channel.counts.dropped).toBe(1);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(9000);
  if (end !== undefined) end.isStalled = false;
  live(world, 6000);
  expect(a.channel.lagMs(world.time)).toBe(0);
});

test("in a row of ten regions nothing lags at rest, though what passed 8 borders is sent to nobody", () => {
  const [world, ...row] = regions("abcdefghij");
  for (const [n, node] of row.slice(1).entries()) world.link(row[n] as WorldNode, node);
  for (const node of row) say(world, node, "web", 1);
  live(world, 3 * MINUTE);
  expect(shownAt(row[9] as WorldNode)).not.toContain("ca web 1");
  expect(row.flatMap(({ channel }) => channel.backlogs(world.time).map(({ lagMs }) => lagMs))).toEqual(Array(18).fill(0));
});

test("what another node of the region took by fewer borders goes, though a comparison just left it out", () => {
  const [world, a, b] = regions("ab") as [BorderWorld, WorldNode, WorldNode];
  world.regions.set("cz", "rz");
  live(world, 10_000);
  a.held.take(sealOf({ source: "cz", name: "web", version: 1 }, 7), { cluster: "cy", region: "ry" }, world.time);
  world.link(a, b);
  live(world, 3000);
  for (const [key, row] of a.held.rows) a.held.rows.set(key, { ...row, hops: 7, seal: () => ({ ...row.sealed, hops: 7 }) });
  expect(shownAt(b)).toEqual([]);
  live(world, 30_000);
  expect(shownAt(b)).toEqual(["cz web 1"]);
});

test("what passed 8 borders is not due in a region with which there is no link", () => {
  const [world, a] = known();
  const apart = new Apart(a.held);
  const look = () => apart.look(new Map([["rb", [["svc"]]]]), new Set(), new Map(), world.time);
  const lagsMs = [8, 7].map((passed) => {
    look();
    world.regions.set("cz", "rz");
    a.held.take(sealOf({ source: "cz", name: `web${passed}`, version: 1 }, passed - 1), { cluster: "cy", region: "ry" }, world.time);
    look();
    live(world, 1000);
    return apart.lagMs(world.time);
  });
  expect(lagsMs).toEqual([0, 1000]);
});

test("on a link on which something always changes nothing lags but what waits, also after a gap", () => {
  const [world, a, b] = known();
  let version = 0;
  world.onStep = () => {
    version += 1;
    say(world, a, `s${version % 50}`, version);
  };
  const lags = (ms: number) => {
    let mostMs = 0;
    for (let at = 0; at < ms; at += 1000) {
      world.run(1000);
      mostMs = Math.max(mostMs, a.channel.lagMs(world.time));
    }
    return mostMs;
  };
  expect(lags(3 * MINUTE)).toBeLessThan(500);
  world.unlink(a, b);
  live(world, 10_000);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(9000);
  world.link(a, b);
  live(world, 10_000);
  expect(lags(2 * MINUTE)).toBeLessThan(500);
});

/** b holds of a third region what a has no room for, so that a and b never agree. */
function neverEqual(options: Partial<BorderOptions> = {}): readonly [BorderWorld, WorldNode, WorldNode] {
  const [world, a, b, c] = regions("abc", new BorderWorld(options)) as [BorderWorld, WorldNode, WorldNode, WorldNode];
  a.held.refuses = ({ source }) => source === "cc";
  world.link(a, b);
  world.link(b, c);
  for (const region of ["ra", "rb"]) world.borderExports.set(region, [["svc"]]);
  say(world, c, "theirs", 1);
  live(world, MINUTE);
  return [world, a, b];
}

test("what was refused and then taken back lags no more, though the neighbour holds more than this side", () => {
  const [world, a, b] = neverEqual();
  b.held.refuses = ({ name }) => name === "web";
  say(world, a, "web", 1);
  live(world, 4 * MINUTE);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(MINUTE);
  b.held.refuses = () => false;
  say(world, a, "web", 2, { isWithdrawn: true });
  live(world, 4 * MINUTE);
  expect(a.channel.lagMs(world.time)).toBe(0);
});

test("what was dropped and taken back lags no more, though the neighbour holds more than this side", () => {
  const [world, a] = neverEqual({ storeForwardMs: 4000 });
  const end = a.ends.get("b");
  if (end !== undefined) end.isStalled = true;
  say(world, a, "web", 1);
  say(world, a, "web", 2, { isWithdrawn: true });
  live(world, 10_000);
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(9000);
  if (end !== undefined) end.isStalled = false;
  live(world, 4 * MINUTE);
  expect(a.channel.lagMs(world.time)).toBe(0);
});

test("silence is no word that all was taken, where the neighbour may not answer so often", () => {
  const [world, a, b] = neverEqual({ storeForwardMs: 4000 });
  live(world, 10 * MINUTE);
  const end = a.ends.get("b");
  let [lacked, unsaid] = [0, 0];
  for (let n = 0; n < 4; n++) {
    if (end !== undefined) end.isStalled = true;
    say(world, a, `web${n}`, 1);
    live(world, 10_000);
    if (end !== undefined) end.isStalled = false;
    for (let at = 0; at < MINUTE; at += 1000) {
      world.run(1000);
      if (shownAt(b).includes(`ca web${n} 1`)) continue;
      lacked += 1;
      if (a.channel.lagMs(world.time) === 0) unsaid += 1;
    }
  }
  expect(lacked).toBeGreaterThan(0);
  expect(unsaid).toBe(0);
});

test("a comparison from between two drops does not settle what was dropped last", () => {
  const [world, a, b] = known(new BorderWorld({ storeForwardMs: 4000 }));
  const apart = new Apart(a.held);
  const rules = new Map([[b.region, [["svc"]]]]);
  const look = (isDropped: boolean, handedMonoMs?: number) =>
    apart.look(rules, new Set([b.region]), new Map([[b.region, [{ isDropped, handedMonoMs: () => handedMonoMs }]]]), world.time);
  look(false);
  const sinceMs = world.time.monoMs;
  for (const version of [1, 2]) {
    say(world, a, "web", version);
    look(true);
    world.run(2000);
  }
  look(false, sinceMs + 1000);
  expect(apart.lagMs(world.time)).toBeGreaterThan(0);
  look(false, world.time.monoMs);
  expect(apart.lagMs(world.time)).toBe(0);
});

test("where one of two links with a region ends, nothing lags that was due there", () => {
  const world = new BorderWorld();
  const [a, one, two] = [world.add("a", "ca", "ra"), world.add("one", "cb", "rb"), world.add("two", "cc", "rb")];
  world.borderExports.set("rb", [[]]);
  for (const far of [one, two]) world.link(a, far);
  live(world, 60_000);
  say(world, a, "web", 1);
  world.run(2000);
  world.unlink(a, one);
  const lags = Array.from({ length: 20 }, () => {
    world.run(100);
    return a.channel.lagMs(world.time);
  });
  expect(Math.max(...lags)).toBe(0);
});
