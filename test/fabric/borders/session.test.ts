/** What crosses borders, in small worlds of regions in virtual time: what arrives, how often, when, and at what cost. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { runs, sized } from "../../fakes/effort.ts";
import { BorderWorld, type Exports, type WorldNode } from "./border-world.ts";
import { sealOf } from "./held-map.ts";
import { live, MINUTE, mesh, pair, regions, say, sayMany, shownAt } from "./small-worlds.ts";

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

test("regions in full mesh: a change goes to each region once, and at rest only beacons and digests go", () => {
  const others = sized(19, 9);
  const world = mesh(others + 1);
  live(world, 80_000);
  const sinceMs = world.time.monoMs;
  for (const node of world.nodes) say(world, node, "web", 1);
  live(world, 40_000);
  for (const node of world.nodes) expect(shownAt(node)).toHaveLength(others);
  for (const node of world.nodes) expect(Math.max(...node.held.copies.values())).toBeLessThanOrEqual(3);
  expect(world.summariesTo("r7", sinceMs)).toBe(others);
  const restMs = world.time.monoMs;
  live(world, 40_000);
  expect([world.summariesTo("r7", restMs), world.beaconsTo("r7", restMs)]).toEqual([0, others]);
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

test("a link that breaks now and then, with a change each time, is equal soon after it is back, each time", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 100, 1);
  live(world, 2 * MINUTE);
  for (let version = 2; version < 16; version++) {
    world.unlink(a, b);
    say(world, a, "s7", version);
    world.run(3000);
    world.link(a, b);
    world.run(1500);
    expect(shownAt(b)).toContain(`ca s7 ${version}`);
    world.run(8500);
  }
});

test("a side that answers no more, because it was asked often, is not said to hold the same", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 10, 1);
  live(world, MINUTE);
  const equalMonoMs = () => a.channel.backlogs(world.time)[0]?.exportedEqualMonoMs ?? 0;
  b.held.refuse = "limit";
  say(world, a, "s1", 2);
  const sinceMs = world.time.monoMs;
  live(world, 10 * MINUTE);
  expect(equalMonoMs()).toBeLessThanOrEqual(sinceMs);
  b.held.refuse = undefined;
  live(world, 4 * MINUTE);
  expect(shownAt(b)).toContain("ca s1 2");
  expect(equalMonoMs()).toBeGreaterThan(world.time.monoMs - MINUTE);
});

test.each([
  { when: "while it is down", isLost: false },
  { when: "just before it breaks, so that they are lost with it", isLost: true },
])("a link that breaks each minute, with 200 changes of one source $when, has them all soon after it is back, each time", ({ isLost }) => {
  const [world, a, b] = pair();
  sayMany(world, a, 300, 1);
  live(world, 2 * MINUTE);
  for (let version = 2; version < 17; version++) {
    if (!isLost) world.unlink(a, b);
    for (let n = 0; n < 200; n++) say(world, a, `s${(version * 50 + n) % 300}`, version);
    if (isLost) {
      // They are sent, and do not arrive.
      world.run(260);
      world.unlink(a, b);
    }
    live(world, 3000);
    world.link(a, b);
    live(world, 10_000);
    expect(shownAt(b).filter((line) => line.endsWith(` ${version}`))).toHaveLength(200);
    live(world, 47_000);
  }
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
        // One of those that there are: of all that could be, most are not.
        withdraw: ({ node: one, service: other }) => {
          const id = [...truth.keys()][(5 * one + other) % Math.max(1, truth.size)];
          const said = id === undefined ? undefined : truth.get(id);
          if (id === undefined || said === undefined) return;
          truth.delete(id);
          say(world, nodeAt(said.node), `s${id.split(" ")[1]}`, ++version, { namespace: said.namespace, isWithdrawn: true });
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
    { numRuns: runs(100) },
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

test("what was refused because its source was lost here comes 3 s after the source is heard of again, though the other side knew of no loss", () => {
  const [world, a, b] = pair();
  live(world, 2 * MINUTE);
  b.held.refuse = "stale";
  sayMany(world, a, 20, 1);
  live(world, 50_000);
  expect(shownAt(b)).toEqual([]);
  b.held.refuse = undefined;
  b.held.resumedCount += 1;
  world.run(3000);
  expect(shownAt(b)).toHaveLength(20);
});

test("a node that is held for a moment again and again takes no source for older than it is, and answers digests", () => {
  const [world, a, b] = pair();
  say(world, a, "web", 1);
  for (let at = 0; at < 10 * MINUTE; at += 500) {
    if (at % 40_000 === 0) a.held.beat(world.time.monoMs, world.time);
    b.channel.stoodStill(100, world.time);
    world.run(500);
  }
  const ageMs = b.held.beacons(world.time).find(({ source }) => source === "ca")?.ageMs;
  expect(ageMs).toBeLessThan(42_000);
  b.held.refuse = "limit";
  say(world, a, "late", 1);
  for (let at = 0; at < 2 * MINUTE; at += 500) {
    if (at === MINUTE) b.held.refuse = undefined;
    b.channel.stoodStill(100, world.time);
    world.run(500);
  }
  expect(shownAt(b)).toEqual(["ca late 1", "ca web 1"]);
});
