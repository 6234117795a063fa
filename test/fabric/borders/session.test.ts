/** What crosses borders, in small worlds of regions in virtual time: what arrives, how often, when, and at what cost. */
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { FabricOutput } from "../../../src/fabric/io-types.ts";
import { runs } from "../../fakes/effort.ts";
import { BorderWorld, type Exports, type WorldNode } from "./border-world.ts";
import { type Saying, sealOf } from "./held-map.ts";

const MINUTE = 60_000;

/** What readers of the node are shown of other regions. */
function shownAt({ held, region }: WorldNode): readonly string[] {
  const others = held.live().filter(({ source }) => held.regionOf(source) !== region);
  return others.map(({ source, name, version }) => `${source} ${name} ${version}`).toSorted();
}

function say(world: BorderWorld, node: WorldNode, name: string, version: number, more: Saying = {}): void {
  node.held.say({ name, version, ...more }, world.time);
}

function sayMany(world: BorderWorld, node: WorldNode, count: number, version: number): void {
  for (let n = 0; n < count; n++) say(world, node, `s${n}`, version);
}

/** Runs on, with a beacon of each cluster every 40 s. */
function live(world: BorderWorld, ms: number): void {
  for (let left = ms; left > 0; left -= 40_000) {
    for (const { held } of world.nodes) held.beat(world.time.monoMs, world.time);
    world.run(Math.min(left, 40_000));
  }
}

/** A region of one border node for each letter. */
function regions(letters: string, world = new BorderWorld()): readonly [BorderWorld, ...WorldNode[]] {
  return [world, ...letters.split("").map((letter) => world.add(letter, `c${letter}`, `r${letter}`))];
}

/** Two regions with a link. */
function pair(world = new BorderWorld(), sides: readonly Exports[] = []): readonly [BorderWorld, WorldNode, WorldNode] {
  const [, a, b] = regions("ab", world) as [BorderWorld, WorldNode, WorldNode];
  world.link(a, b, ...sides);
  return [world, a, b];
}

function mesh(count: number): BorderWorld {
  const world = new BorderWorld();
  for (let n = 0; n < count; n++) world.add(`n${n}`, `c${n}`, `r${n}`);
  for (const [n, a] of world.nodes.entries()) for (const b of world.nodes.slice(n + 1)) world.link(a, b);
  return world;
}

test("a new service crosses a hub in a second, its withdrawal waits for no window, and what is not GLOBAL stays", () => {
  const [world, a, hub, b] = regions("ahb") as [BorderWorld, WorldNode, WorldNode, WorldNode];
  world.link(a, hub);
  world.link(hub, b);
  live(world, 10_000);
  say(world, a, "web", 1);
  say(world, a, "near", 1, { channel: SCOPE.REGION });
  world.run(700);
  expect([shownAt(b), shownAt(hub)]).toEqual([["ca web 1"], ["ca web 1"]]);
  say(world, a, "web", 2, { isWithdrawn: true });
  world.run(240);
  expect([shownAt(b), shownAt(hub)]).toEqual([[], []]);
  // Nothing goes back.
  expect([b.channel.counts.sentSummaries, b.channel.counts.sentBeacons]).toEqual([0, 1]);
});

test("20 regions in full mesh: a change goes to each region once, and at rest only beacons and digests go", () => {
  const world = mesh(20);
  live(world, 80_000);
  const sinceMs = world.time.monoMs;
  for (const node of world.nodes) say(world, node, "web", 1);
  live(world, 40_000);
  for (const node of world.nodes) expect(shownAt(node)).toHaveLength(19);
  for (const node of world.nodes) expect(Math.max(...node.held.copies.values())).toBeLessThanOrEqual(3);
  expect(world.summariesTo("r7", sinceMs)).toBe(19);
  const restMs = world.time.monoMs;
  live(world, 40_000);
  expect([world.summariesTo("r7", restMs), world.beaconsTo("r7", restMs)]).toEqual([0, 19]);
});

test("3 regions of 2 clusters of 3 nodes: an idle border link costs below 200 B/s with beacons, and each cluster hears of all others", () => {
  const world = new BorderWorld();
  for (const region of ["a", "b", "c"]) for (const n of [0, 1, 2, 3, 4, 5]) world.add(`${region}${n}`, `${region}-${n % 2}`, region);
  const node = (name: string) => world.nodes.find(({ nodeId }) => nodeId === name) as WorldNode;
  // Two links of each pair, of either cluster, at different nodes.
  const links = [
    ["a0", "b0"],
    ["a1", "b1"],
    ["b2", "c0"],
    ["b3", "c1"],
    ["c2", "a2"],
    ["c3", "a3"],
  ] as const;
  for (const [x, y] of links) world.link(node(x), node(y));
  for (const n of ["a0", "a1", "b0", "b1", "c0", "c1"]) for (let s = 0; s < 20; s++) say(world, node(n), `s${s}`, 1);
  const beat = (ms: number) => {
    for (let left = ms; left > 0; left -= 40_000) {
      for (const n of ["a0", "a1", "b0", "b1", "c0", "c1"]) node(n).held.beat(world.time.monoMs, world.time);
      world.run(40_000);
    }
  };
  beat(2 * MINUTE);
  for (const each of world.nodes) expect(shownAt(each)).toHaveLength(80);
  const restMs = world.time.monoMs;
  beat(2 * MINUTE);
  for (const [x, y] of links) {
    const rate = world.bytesPerSecond(node(x), node(y), restMs) + world.bytesPerSecond(node(y), node(x), restMs);
    expect(rate).toBeGreaterThan(0);
    expect(rate).toBeLessThan(100);
  }
  const changeMs = world.time.monoMs;
  say(world, node("a0"), "s0", 2);
  beat(40_000);
  // Once over the cluster's own link to each region.
  expect([world.summariesTo("b", changeMs), world.summariesTo("c", changeMs)]).toEqual([1, 1]);
});

test("after 10 minutes apart each changed service goes once, whatever changed how often, and both are equal within 5 s", () => {
  const [world, a, b] = pair(new BorderWorld({ maxListed: 1 }));
  sayMany(world, a, 400, 1);
  say(world, b, "there", 1);
  live(world, 40_000);
  world.unlink(a, b);
  for (let version = 2; version < 5; version++) {
    sayMany(world, a, 120, version);
    live(world, 3 * MINUTE);
  }
  say(world, a, "s399", 2, { isWithdrawn: true });
  for (let n = 0; n < 20; n++) say(world, a, `never-seen-${n}`, 2, { isWithdrawn: true });
  const sinceMs = world.time.monoMs;
  world.link(a, b);
  world.run(5000);
  expect(shownAt(b)).toHaveLength(399);
  expect(shownAt(b).filter((line) => line.endsWith(" 4"))).toHaveLength(120);
  expect([world.summariesTo("rb", sinceMs), world.summariesTo("ra", sinceMs)]).toEqual([121, 0]);
  live(world, 2 * MINUTE);
  expect(world.summariesTo("rb", sinceMs)).toBe(121);
});

test("a region that comes back to a mesh hears of each change from its own cluster alone", () => {
  const world = mesh(5);
  const [lone, ...others] = world.nodes as [WorldNode, ...WorldNode[]];
  live(world, 80_000);
  for (const other of others) world.unlink(lone, other);
  for (const other of others) sayMany(world, other, 30, 2);
  live(world, 10 * MINUTE);
  const sinceMs = world.time.monoMs;
  for (const other of others) world.link(lone, other);
  world.run(5000);
  expect(shownAt(lone)).toHaveLength(120);
  expect(world.summariesTo(lone.region, sinceMs)).toBe(120);
});

test("a link that takes nothing drops its list above 200, and digests bring each change once", () => {
  const [world, a, b] = pair(new BorderWorld({ digestIntervalMs: 10 * MINUTE }));
  live(world, 30_000);
  const end = a.ends.get("b");
  if (end !== undefined) end.isStalled = true;
  const sinceMs = world.time.monoMs;
  for (let version = 1; version < 8; version++) {
    sayMany(world, a, 250, version);
    world.run(2000);
  }
  world.run(6000);
  expect(a.channel.counts.dropped).toBeGreaterThan(0);
  if (end !== undefined) end.isStalled = false;
  live(world, 5000);
  expect([shownAt(b).filter((line) => line.endsWith(" 7")).length, world.summariesTo("rb", sinceMs)]).toEqual([250, 250]);
});

test.each([
  { link: "a link", side: {}, perStep: 1 },
  { link: "a slow link that is never done", side: { bytesPerSecond: 6000 }, perStep: 20 },
  { link: "a link that takes a frame each 300 ms", side: {}, perStep: 4, frameEveryMs: 300 },
])("what $link lacks is found though something always waits on it, and is given once", ({ side, perStep, frameEveryMs = 0 }) => {
  const [world, a, b] = pair(new BorderWorld(), [side]);
  for (let n = 0; n < 5; n++) say(world, a, `lost${n}`, 1);
  live(world, 30_000);
  const end = a.ends.get("b");
  if (end !== undefined) end.frameEveryMs = frameEveryMs;
  let version = 1;
  const change = (ms: number) => {
    for (const untilMs = world.time.monoMs + ms; world.time.monoMs < untilMs; version++) {
      for (let n = 0; n < perStep; n++) say(world, a, `s${(version * perStep + n) % 1000}`, version);
      world.run(100);
      expect(a.channel.backlogs(world.time)[0]?.unsent).toBeGreaterThan(0);
    }
  };
  change(70_000);
  const lost = [...b.held.rows.values()].filter(({ sealed }) => Buffer.from(sealed.signed).includes("lost"));
  expect(lost).toHaveLength(5);
  for (const { key } of lost) b.held.rows.delete(key);
  const { given } = a.channel.counts;
  change(70_000);
  expect(shownAt(b).filter((line) => line.includes("lost"))).toHaveLength(5);
  expect(a.channel.counts.given - given).toBe(5);
});

test.each([
  { when: "while it is up", isBefore: false },
  { when: "before it came up", isBefore: true },
])(
  "a slow link sends what changed $when at its bytes a second, higher priority first and beacons at once, and the lag tells the oldest",
  ({ isBefore }) => {
    const [world, a, b] = regions("ab") as [BorderWorld, WorldNode, WorldNode];
    if (!isBefore) world.link(a, b, { bytesPerSecond: 20_000 });
    live(world, 30_000);
    const sinceMs = world.time.monoMs;
    sayMany(world, a, 600, 1);
    for (let n = 0; n < 100; n++) say(world, a, `p${n}`, 1, { namespace: "first" });
    if (isBefore) world.link(a, b, { bytesPerSecond: 20_000 });
    world.run(isBefore ? 2600 : 1000);
    expect(shownAt(b).filter((line) => line.includes(" p"))).toHaveLength(100);
    expect(a.channel.lagMs(world.time)).toBeGreaterThan(500);
    a.held.beat(world.time.monoMs, world.time);
    world.run(200);
    expect(b.held.beacons(world.time).find(({ source }) => source === "ca")?.ageMs).toBeLessThan(300);
    world.run(12_000);
    expect(shownAt(b)).toHaveLength(700);
    expect(a.channel.lagMs(world.time)).toBe(0);
    expect(world.bytesPerSecond(a, b, sinceMs)).toBeLessThan(22_000);
  },
);

test("a border without a link lags since the first change that is due there", () => {
  const [world, a, b] = pair();
  for (const region of ["ra", "rb"]) world.borderExports.set(region, [["svc"], ["shared.*"]]);
  live(world, 5000);
  world.unlink(a, b);
  live(world, 20_000);
  expect([a.channel.lagMs(world.time), b.channel.lagMs(world.time)]).toEqual([0, 0]);
  say(world, a, "near", 1, { channel: SCOPE.REGION });
  // What no border of that region lets out is due on none.
  say(world, a, "secret", 1, { namespace: "secret" });
  live(world, 5000);
  expect(a.channel.lagMs(world.time)).toBe(0);
  for (const version of [1, 2]) {
    say(world, a, "web", version);
    live(world, 15_000);
  }
  expect(a.channel.lagMs(world.time)).toBeGreaterThan(28_000);
  expect(b.channel.lagMs(world.time)).toBe(0);
  world.link(a, b, { exports: ["svc"] });
  live(world, 5000);
  expect([shownAt(b).length, a.channel.lagMs(world.time)]).toEqual([1, 0]);
});

test("of two regions without a link each has the lag of what is due there", () => {
  const world = new BorderWorld();
  const a = world.add("a1", "a", "ra");
  world.borderExports.set("rb", [["svc"]]);
  world.borderExports.set("rc", [["other"]]);
  live(world, 5000);
  say(world, a, "web", 1);
  live(world, 10_000);
  expect(a.channel.apartMs("rb", world.time)).toBeGreaterThan(9000);
  expect(a.channel.apartMs("rc", world.time)).toBe(0);
});

test("a list that waits longer than store_forward is dropped, and what is left of it is found by a comparison", () => {
  const [world, a, b] = pair(new BorderWorld({ storeForwardMs: 4000 }), [{ bytesPerSecond: 5000 }]);
  live(world, 30_000);
  sayMany(world, a, 300, 1);
  world.run(8000);
  expect(a.channel.counts.dropped).toBe(1);
  live(world, MINUTE);
  expect([shownAt(b).length, world.summariesTo("rb", 0)]).toEqual([300, 300]);
});

test("in a row of regions a summary passes 8 borders and no more", () => {
  const [world, first, ...others] = regions("abcdefghijk") as [BorderWorld, WorldNode, ...WorldNode[]];
  for (const [n, node] of others.entries()) world.link(world.nodes[n] as WorldNode, node);
  live(world, 10_000);
  say(world, first, "web", 1);
  live(world, 30_000);
  expect(others.map((node) => shownAt(node).length)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
  // Each passed it on once, and none passed it back.
  expect(world.nodes.map(({ channel }) => channel.counts.sentSummaries)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
});

test("a relay leaves out what a region has a link for: also a cluster without border nodes; and when that link is lost it gives it", () => {
  const world = new BorderWorld({ digestIntervalMs: 10 * MINUTE, rulesIntervalMs: 5000 });
  const [a, mate, b, c] = [
    world.add("a", "a-0", "ra"),
    world.add("m", "a-1", "ra"),
    world.add("b", "cb", "rb"),
    world.add("c", "cc", "rc"),
  ];
  for (const [x, y] of [
    [a, b],
    [b, c],
    [c, a],
  ] as const)
    world.link(x, y);
  live(world, 80_000);
  const sinceMs = world.time.monoMs;
  say(world, mate, "web", 1);
  world.run(3000);
  expect([shownAt(b), world.summariesTo("rb", sinceMs)]).toEqual([["a-1 web 1"], 1]);
  world.unlink(a, b);
  say(world, mate, "web", 2);
  live(world, 2 * MINUTE);
  expect(shownAt(b)).toEqual(["a-1 web 2"]);
});

test("what is late on its own link is not given twice by others", () => {
  const [world, a, hub, b] = regions("ahb") as [BorderWorld, WorldNode, WorldNode, WorldNode];
  for (const [x, y] of [
    [a, hub],
    [hub, b],
    [a, b],
  ] as const)
    world.link(x, y);
  live(world, 80_000);
  world.delayOf = ({ from, to }) => (from === a && to === b ? 1500 : 40);
  const sinceMs = world.time.monoMs;
  for (let n = 0; n < 60; n++) {
    say(world, a, `s${n}`, 1);
    live(world, 700);
  }
  live(world, 10_000);
  expect([shownAt(b).length, world.summariesTo("rb", sinceMs)]).toEqual([60, 60]);
});

test("a relay that passes a beacon on late makes its source no younger; announcements of keys go once a link and not back", () => {
  const [world, a, hub, b] = regions("ahb") as [BorderWorld, WorldNode, WorldNode, WorldNode];
  world.link(a, hub);
  a.held.beat(1, world.time);
  say(world, a, "web", 1);
  a.held.announce(sealOf({ source: "ca", version: 77 }));
  world.run(90_000);
  world.link(hub, b);
  world.run(2000);
  expect(b.held.beacons(world.time).find(({ source }) => source === "ca")?.ageMs).toBeGreaterThan(90_000);
  world.run(3000);
  expect(shownAt(b)).toEqual(["ca web 1"]);
  world.run(20_000);
  const keys = world.sent.flatMap(({ from, to, frame }) =>
    frame.kind === "borderBatch" && frame.keys.length > 0 ? [`${from.nodeId}${to.nodeId}`] : [],
  );
  expect(keys).toEqual(["ah", "hb"]);
});

test("a cluster that lost its disks is told what others know of it, and of nothing else; nobody else's summaries come back to it", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 40, 5);
  live(world, 40_000);
  world.unlink(a, b);
  const again = world.replace(a);
  say(world, again, "s0", 1);
  world.link(again, b);
  world.run(5000);
  expect([again.held.exceeded.size, b.channel.counts.given]).toEqual([40, 40]);
  expect(shownAt(b)).toHaveLength(40);
});

test("an older word of the other side's own cluster is answered with its last one, once a minute for each key; one of another cluster is not", () => {
  const [world, a, b, c] = regions("abc") as [BorderWorld, WorldNode, WorldNode, WorldNode];
  for (const far of [b, c]) world.link(a, far);
  live(world, 10_000);
  say(world, b, "web", 7);
  live(world, 2000);
  const old = {
    summaries: ["ca", "cb"].map((source) => sealOf({ source, name: "web", version: 3 })),
    beacons: [sealOf({ source: "cb", version: 3 })],
  };
  const sinceMs = world.time.monoMs;
  for (let n = 0; n < 90; n++) {
    for (const far of ["b", "c"])
      a.ends.get(far)?.session.receive({ kind: "borderBatch", ...old, keys: [], beaconAgesMs: [0] }, world.time, []);
    world.run(1000);
  }
  expect([world.summariesTo("rb", sinceMs), world.beaconsTo("rb", sinceMs)]).toEqual([2, 2]);
  expect([world.summariesTo("rc", sinceMs), world.beaconsTo("rc", sinceMs)]).toEqual([0, 0]);
  expect(a.channel.counts.refused.get("older")).toBe(90 * 4);
});

test("a flood is not read: the link rests, what comes all the same is dropped unread, and digests bring it later", () => {
  const [world, a, b] = pair();
  live(world, 30_000);
  sayMany(world, a, 9000, 1);
  world.run(2000);
  expect(b.held.rows.size).toBeLessThan(4000);
  world.run(12_000);
  expect([shownAt(b).length, b.channel.counts.flooded]).toEqual([9000, 0]);
  const session = b.ends.get("a")?.session;
  const flood = Array.from({ length: 1000 }, (_, n) => sealOf({ source: "ca", version: 2, name: `s${n}` }));
  for (let n = 0; n < 20; n++)
    session?.receive({ kind: "borderBatch", summaries: flood, beacons: [], keys: [], beaconAgesMs: [] }, world.time, []);
  expect(b.channel.counts.flooded).toBeGreaterThan(12_000);
});

test("a frame of many seals is judged 32 at a time, of several links in turn, and the link is not read while more waits", () => {
  const [world, a] = regions("abc") as [BorderWorld, WorldNode];
  for (const far of world.nodes.slice(1)) world.link(a, far);
  world.run(1000);
  const taken = () => a.held.live().map(({ source }) => source);
  const out: FabricOutput[] = [];
  for (const far of ["b", "c"]) {
    const summaries = Array.from({ length: 600 }, (_, n) => sealOf({ source: `c${far}`, name: `s${n}`, version: 1 }));
    const batch = { kind: "borderBatch", summaries, beacons: [], keys: [], beaconAgesMs: [] } as const;
    a.ends.get(far)?.session.receive(batch, world.time, out);
  }
  expect([taken(), out.map(({ kind }) => kind)]).toEqual([[], ["rest", "rest"]]);
  let [seen, most] = [0, 0];
  world.onStep = () => {
    most = Math.max(most, taken().length - seen);
    seen = taken().length;
  };
  world.run(80);
  for (const source of ["cb", "cc"]) expect(taken().filter((each) => each === source).length).toBeGreaterThan(30);
  world.run(1000);
  expect([taken().length, most]).toEqual([1200, 32]);
});

test("a neighbour that lies in digests, asks without end, or refuses all that it is given costs a bounded number of bytes", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 500, 1);
  live(world, 40_000);
  const sinceMs = world.time.monoMs;
  const [ofA, ofB] = [a.ends.get("b")?.session, b.ends.get("a")?.session];
  b.held.refuse = "unknown_key";
  for (let n = 0n; n < 3000n; n++) {
    // Other rules cause comparisons, too.
    if (n % 6n === 0n) ofA?.receive({ kind: "borderRules", exports: ["*"], directSources: n % 12n === 0n ? ["cx"] : [] }, world.time, []);
    const buckets = Array.from({ length: 256 }, (_, bucket) => n * 256n + BigInt(bucket));
    ofA?.receive({ kind: "borderDigest", digest: n, count: 7, isAnswer: false, buckets: [] }, world.time, []);
    ofA?.receive({ kind: "borderDigest", digest: n, count: Number(n % 2n), isAnswer: true, buckets }, world.time, []);
    ofA?.receive(
      { kind: "borderHave", isAnswer: false, buckets: buckets.map((_, bucket) => bucket), hashes: [], versions: [] },
      world.time,
      [],
    );
    ofA?.receive(
      { kind: "borderHave", isAnswer: true, buckets: buckets.map((_, bucket) => bucket), hashes: [n], versions: [1] },
      world.time,
      [],
    );
    world.run(100);
  }
  expect(ofB).toBeDefined();
  const { answers, lists, given, ignored } = a.channel.counts;
  expect(answers).toBeLessThan(15);
  expect(lists).toBeLessThan(15);
  expect(given).toBeLessThanOrEqual(5 * 500);
  expect(ignored).toBeGreaterThan(1000);
  expect(world.bytesPerSecond(a, b, sinceMs)).toBeLessThan(4000);
  expect(world.sent.filter(({ from, frame }) => from === a && frame.kind === "borderHave" && !frame.isAnswer).length).toBeLessThan(14);
  const rules = { kind: "borderRules", exports: ["*"], directSources: [] } as const;
  const news = Array.from({ length: 30 }, () => ofA?.receive(rules, world.time, []).map(({ kind }) => kind));
  expect([news[0], news.at(-1)]).toEqual([[], ["badFrame"]]);
});

test.each([
  { name: "of one source", isRelayed: false, never: 0 },
  { name: "that a relay gives", isRelayed: true, never: 0 },
  { name: "of which some is refused for ever", isRelayed: false, never: 30 },
])(
  "what was refused for hours comes within a minute and a half after the reason went, and costs little meanwhile: $name",
  ({ isRelayed, never }) => {
    const [world, a, hub, b] = regions("ahb") as [BorderWorld, WorldNode, WorldNode, WorldNode];
    const giver = isRelayed ? hub : a;
    world.link(giver, b);
    if (isRelayed) world.link(a, hub);
    sayMany(world, a, 300, 1);
    b.held.refuse = "limit";
    live(world, 2 * MINUTE);
    const { given } = giver.channel.counts;
    live(world, 3 * 60 * MINUTE);
    // Some of it is tried with each comparison, and all of it less and less often.
    expect(giver.channel.counts.given - given).toBeLessThan(6 * 300 + 4 * 9 * 60);
    b.held.refuse = undefined;
    b.held.refuses = ({ name }) => Number(name?.slice(1)) < never;
    const sinceMs = world.time.monoMs;
    for (const { held } of world.nodes) held.beat(world.time.monoMs, world.time);
    while (shownAt(b).length < 300 - never && world.time.monoMs < sinceMs + 90_000) world.run(1000);
    expect(shownAt(b)).toHaveLength(300 - never);
  },
);

test("a neighbour that tells other rules without end causes few sums, and those that no link uses are let go", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 20, 1);
  live(world, 5000);
  expect([a.held.summed.size, a.held.summedCount]).toEqual([2, 2]);
  const session = () => a.ends.get("b")?.session;
  const tell = (exports: readonly string[]) => {
    session()?.receive({ kind: "borderRules", exports, directSources: [] }, world.time, []);
    session()?.receive({ kind: "borderDigest", digest: 1n, count: 1, isAnswer: false, buckets: [] }, world.time, []);
  };
  for (let n = 0; n < 120; n++) {
    tell([`made-up-${n}`]);
    world.run(500);
    expect(a.held.summed.size).toBeLessThanOrEqual(2);
    // Another link does not make more of them.
    if (n % 10 === 9) {
      world.unlink(a, b);
      expect(a.held.summed.size).toBe(1);
      world.link(a, b);
    }
  }
  // Its own rule once, and for the neighbour eight at once and one each ten seconds.
  expect(a.held.summedCount).toBeLessThanOrEqual(1 + 8 + 6);
  // The rule that was told last counts in the end.
  tell(["*"]);
  world.run(12_000);
  say(world, b, "late", 1);
  live(world, 45_000);
  expect([shownAt(a), a.held.summed.size]).toEqual([["cb late 1"], 2]);
});

test("a neighbour that tells 1,024 patterns has them read a few times, and not once for each namespace that is held", () => {
  const [world, a] = pair();
  let readCount = 0;
  const patterns = Array.from({ length: 1024 }, (_, n) => `svc.n${n}.*`);
  const exports = new Proxy(patterns, {
    get: (target, at) => {
      readCount += Number(typeof at === "string" && /^\d+$/.test(at));
      return Reflect.get(target, at) as unknown;
    },
  });
  const via = { cluster: "cb", region: "rb" };
  for (let n = 0; n < 500; n++) a.held.take(sealOf({ source: "cb", version: 1, name: `s${n}`, namespace: `other.n${n}` }), via, world.time);
  a.ends.get("b")?.session.receive({ kind: "borderRules", exports, directSources: [] }, world.time, []);
  const digest = { kind: "borderDigest", digest: 1n, count: 1, isAnswer: false, buckets: [] } as const;
  a.ends.get("b")?.session.receive(digest, world.time, []);
  expect(a.held.summed.size).toBe(1);
  expect(readCount).toBeLessThan(10 * patterns.length);
});

test("a neighbour that connects anew again and again may do no more than on one link", () => {
  const [world, a, b] = pair();
  sayMany(world, b, 100, 1);
  live(world, 10_000);
  const sinceMs = world.time.monoMs;
  const flood = Array.from({ length: 1000 }, (_, n) => sealOf({ source: "cb", version: 1, name: `s${n % 100}` }));
  const batch = { kind: "borderBatch", summaries: flood, beacons: [], keys: [], beaconAgesMs: [] } as const;
  const rules = { kind: "borderRules", exports: ["*"], directSources: [] } as const;
  const { counts } = b.channel;
  let refusedRules = 0;
  for (let n = 0n; n < 40n; n++) {
    world.unlink(a, b);
    world.link(a, b);
    const session = b.ends.get("a")?.session;
    for (let k = 0; k < 10; k++) session?.receive(batch, world.time, []);
    for (let k = 0; k < 20; k++) refusedRules += session?.receive(rules, world.time, []).length ?? 0;
    // It lacks everything, it says, and it has something else.
    const buckets = Array.from({ length: 256 }, (_, bucket) => n * 256n + BigInt(bucket) + 1n);
    for (let k = 0; k < 10; k++) {
      world.run(20);
      session?.receive({ kind: "borderDigest", digest: n + 1n, count: 0, isAnswer: true, buckets }, world.time, []);
      session?.receive({ kind: "borderDigest", digest: n + 1n, count: 1, isAnswer: false, buckets: [] }, world.time, []);
    }
    world.run(800);
  }
  expect(world.time.monoMs - sinceMs).toBe(40_000);
  expect(counts.flooded).toBeGreaterThan(340_000);
  expect(refusedRules).toBeGreaterThan(40 * 20 - 20 - 80);
  expect(counts.answers).toBeLessThan(10);
  expect(counts.given).toBeLessThanOrEqual(4 * 100);
});

test("what a neighbour lacks is put in line without a look at each of it", () => {
  const [world, a] = pair();
  live(world, 5000);
  sayMany(world, a, 500, 1);
  world.withheld = () => true;
  world.run(1000);
  const session = a.ends.get("b")?.session;
  const find = vi.spyOn(a.held, "find");
  // Digests go each 20 s; one is on its way.
  const buckets = Array.from({ length: 256 }, () => 1n);
  for (let n = 0; n < 2000 && a.channel.counts.given === 0; n++) {
    find.mockClear();
    session?.receive({ kind: "borderDigest", digest: 1n, count: 0, isAnswer: true, buckets }, world.time, []);
    for (let k = 0; k < 3; k++) session?.tick(world.time);
    if (a.channel.counts.given === 0) world.run(20);
  }
  expect([a.channel.counts.given, find.mock.calls.length]).toEqual([500, 0]);
});

test("a neighbour that withholds a source is found by the digests of others", () => {
  const [world, a, hub, b] = regions("ahb") as [BorderWorld, WorldNode, WorldNode, WorldNode];
  for (const [x, y] of [
    [a, hub],
    [hub, b],
    [a, b],
  ] as const)
    world.link(x, y);
  live(world, 80_000);
  world.withheld = ({ from, to }) => from === a && to === b;
  say(world, a, "web", 1);
  live(world, 40_000);
  expect(shownAt(b)).toEqual(["ca web 1"]);
  const ageMs = () => b.held.beacons(world.time).find(({ source }) => source === "ca")?.ageMs;
  // The hub is asked after half a ttl, and tells the next beacon, so the source is not stale for a moment.
  for (let n = 0; n < 5; n++) {
    live(world, 40_000);
    expect(ageMs()).toBeLessThan(2 * MINUTE);
  }
  expect(ageMs()).toBeLessThan(MINUTE);
});

interface Step {
  readonly kind: "say" | "withdraw" | "cut" | "heal" | "restart" | "wait";
  readonly node: number;
  readonly far: number;
  readonly service: number;
}

test("what is taken back while it waits goes once", () => {
  const [world, a, b] = pair();
  live(world, 5000);
  say(world, a, "web", 1);
  world.run(40);
  say(world, a, "web", 2, { isWithdrawn: true });
  world.run(2000);
  expect([a.channel.counts.sentSummaries, shownAt(b)]).toEqual([1, []]);
});

test("a list of what is held goes in frames of so many, whatever the buckets are", () => {
  const [world, a, b] = pair(new BorderWorld({ maxListed: 10 }));
  sayMany(world, a, 300, 1);
  live(world, 10_000);
  world.unlink(a, b);
  sayMany(world, a, 200, 2);
  live(world, 2000);
  world.link(a, b);
  live(world, 20_000);
  expect(shownAt(b).filter((text) => text.endsWith(" 2"))).toHaveLength(200);
  const lists = world.sent.flatMap(({ frame }) => (frame.kind === "borderHave" ? [frame.hashes.length] : []));
  expect(Math.max(...lists)).toBe(10);
});

test("the rule of a neighbour is let go when its link ends", () => {
  const [world, a, b] = pair();
  live(world, 5000);
  expect(a.held.summed.size).toBe(2);
  world.unlink(a, b);
  expect(a.held.summed.size).toBe(1);
});

test("a digest that the other side contradicts is no word that both hold the same", () => {
  const [world, a, b] = pair();
  live(world, 30_000);
  world.withheld = ({ from }) => from === a;
  const sinceMs = world.time.monoMs;
  say(world, a, "web", 1);
  live(world, 2 * MINUTE);
  const equalMs = () => a.channel.backlogs(world.time)[0]?.exportedEqualMonoMs ?? 0;
  expect([equalMs() > 0, equalMs() <= sinceMs, shownAt(b)]).toEqual([true, true, []]);
  world.withheld = () => false;
  live(world, 2 * MINUTE);
  expect([equalMs() > sinceMs, shownAt(b)]).toEqual([true, ["ca web 1"]]);
});

test("what the other side does not take is given again after ever longer pauses", () => {
  const [world, a] = pair();
  live(world, 30_000);
  world.withheld = ({ from }) => from === a;
  say(world, a, "web", 1);
  live(world, 10 * MINUTE);
  // After 10 s, 20 s, 40 s and so on, at the next comparison.
  expect(a.channel.counts.given).toBeGreaterThan(3);
  expect(a.channel.counts.given).toBeLessThan(8);
});

test("older words of so many keys are answered a minute, and no more", () => {
  const [world, a, b] = pair(new BorderWorld({ maxEchoed: 3 }));
  live(world, 10_000);
  sayMany(world, b, 9, 7);
  live(world, 5000);
  const summaries = Array.from({ length: 9 }, (_, n) => sealOf({ source: "cb", name: `s${n}`, version: 3 }));
  const tell = () =>
    a.ends.get("b")?.session.receive({ kind: "borderBatch", summaries, beacons: [], keys: [], beaconAgesMs: [] }, world.time, []);
  const sinceMs = world.time.monoMs;
  for (let n = 0; n < 50; n++) {
    tell();
    world.run(1000);
  }
  expect(world.summariesTo("rb", sinceMs)).toBe(3);
  world.run(15_000);
  tell();
  world.run(1000);
  expect(world.summariesTo("rb", sinceMs)).toBe(6);
});

test("links whose neighbours tell the same rule are all compared at once, however many there are", () => {
  const world = new BorderWorld();
  const a = world.add("a1", "a", "ra");
  for (let n = 0; n < 12; n++) world.link(a, world.add(`b${n}`, "b", "rb"), {}, { exports: ["svc"] });
  live(world, 6000);
  const compared = a.channel.backlogs(world.time).filter(({ importedEqualMonoMs }) => importedEqualMonoMs !== undefined);
  expect(compared).toHaveLength(12);
});

test("whatever is said, cut, healed and restarted in a ring, a star or a mesh, in the end each region shows exactly what others export to it", () => {
  const steps = fc.array(
    fc.record<Step>({
      kind: fc.constantFrom("say", "say", "withdraw", "cut", "heal", "restart", "wait"),
      node: fc.nat(3),
      far: fc.nat(3),
      service: fc.nat(4),
    }),
    { maxLength: 25 },
  );
  const rules = fc.array(fc.constantFrom<readonly string[]>([], ["svc"], ["svc.a.*"], ["svc.b", "svc.a"]), {
    minLength: 16,
    maxLength: 16,
  });
  fc.assert(
    fc.property(fc.constantFrom("ring", "star", "mesh"), rules, steps, (form, exports, list) => {
      const [world] = regions("abcd");
      const wanted = LINKS[form].map(([x, y]) => ({
        x,
        y,
        sides: [{ exports: exports[x * 4 + y] ?? [] }, { exports: exports[y * 4 + x] ?? [] }] as const,
      }));
      const nodeAt = (n: number) => world.nodes[n] as WorldNode;
      const join = (of: (typeof wanted)[number]) => world.link(nodeAt(of.x), nodeAt(of.y), ...of.sides);
      for (const each of wanted) join(each);
      // No two links are equally fast.
      world.delayOf = ({ from, to }) => 20 + 40 * ((7 * from.nodeId.charCodeAt(0) + 3 * to.nodeId.charCodeAt(0)) % 11);
      const isUp = ({ x, y }: (typeof wanted)[number]) => nodeAt(x).ends.has(nodeAt(y).nodeId);
      let version = 0;
      const truth = new Map<string, { readonly node: number; readonly namespace: string; readonly version: number }>();
      const doing: Record<Step["kind"], (step: Step) => void> = {
        say: ({ node, service }) => {
          const namespace = NAMESPACES[service % NAMESPACES.length] ?? "svc";
          say(world, nodeAt(node), `s${service}`, ++version, { namespace });
          truth.set(`${node} ${service}`, { node, namespace, version });
        },
        withdraw: ({ node, service }) => {
          if (!truth.delete(`${node} ${service}`)) return;
          say(world, nodeAt(node), `s${service}`, ++version, {
            namespace: NAMESPACES[service % NAMESPACES.length] ?? "svc",
            isWithdrawn: true,
          });
        },
        cut: ({ node }) => {
          const link = wanted[node % wanted.length];
          if (link !== undefined && isUp(link)) world.unlink(nodeAt(link.x), nodeAt(link.y));
        },
        heal: ({ node }) => {
          const link = wanted[node % wanted.length];
          if (link !== undefined && !isUp(link)) join(link);
        },
        restart: ({ node }) => {
          const links = wanted.filter((link) => (link.x === node || link.y === node) && isUp(link));
          for (const { x, y } of links) world.unlink(nodeAt(x), nodeAt(y));
          for (const link of links) join(link);
        },
        wait: ({ far }) => live(world, 100 * (far + 1) ** 4),
      };
      for (const step of list) doing[step.kind](step);
      for (const link of wanted) if (!isUp(link)) join(link);
      live(world, 4 * MINUTE);
      for (let at = 0; at < 4; at++) expect(shownAt(nodeAt(at))).toEqual(expected(at, wanted, truth));
    }),
    { numRuns: runs(30) },
  );
});

const LINKS = {
  ring: [
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 0],
  ],
  star: [
    [0, 1],
    [0, 2],
    [0, 3],
  ],
  mesh: [
    [0, 1],
    [0, 2],
    [0, 3],
    [1, 2],
    [1, 3],
    [2, 3],
  ],
} as const;
const NAMESPACES = ["svc", "svc.a", "svc.a.x", "svc.b"];

/** The dumb model: what reaches a region by exports alone, one step after another. */
function expected(
  at: number,
  links: readonly { readonly x: number; readonly y: number; readonly sides: readonly [Exports, Exports] }[],
  truth: ReadonlyMap<string, { readonly node: number; readonly namespace: string; readonly version: number }>,
): readonly string[] {
  const passes = ({ exports = [] }: Exports, namespace: string) =>
    exports.length === 0 ||
    exports.some((pattern) =>
      pattern.endsWith(".*") ? namespace.startsWith(pattern.slice(0, -1)) : `${namespace}.`.startsWith(`${pattern}.`),
    );
  const shown: string[] = [];
  for (const [id, { node, namespace, version }] of truth) {
    const reached = new Set([node]);
    for (const _ of "abcd")
      for (const { x, y, sides } of links) {
        if (reached.has(x) && passes(sides[0], namespace)) reached.add(y);
        if (reached.has(y) && passes(sides[1], namespace)) reached.add(x);
      }
    if (node !== at && reached.has(at)) shown.push(`c${"abcd"[node]} s${id.split(" ")[1]} ${version}`);
  }
  return shown.toSorted();
}
