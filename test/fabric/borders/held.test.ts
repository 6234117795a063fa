/** Border links between nodes with the summaries that nodes have: signed, verified, and dropped when their source is lost. */
import { expect, test } from "vitest";
import { type HeldNode, type HeldSpec, HeldWorld, MINUTE, NO_POLICY, STALE_KEEP, TTL } from "../../fakes/held-world.ts";
import { BorderWorld, type WorldNode } from "./border-world.ts";

interface Region {
  readonly held: HeldNode;
  node: WorldNode;
}

/** Nodes with borders; those of one region hear each other. */
class Row {
  readonly held = new HeldWorld();
  readonly borders = new BorderWorld();
  readonly all: Region[];
  /** Nodes of a region tell each other ages only so often. */
  agesEveryMs = 1;

  constructor(...specs: readonly HeldSpec[]) {
    const made = specs.map((spec) => this.held.node(spec));
    this.borders.time = made[0]?.time ?? this.borders.time;
    this.all = made.map((held) => ({ held, node: this.borders.add(held.spec.nodeId, held.clusterId, held.region, held.held) }));
    this.borders.onStep = () => {
      this.held.nowMs = this.borders.time.monoMs;
      const withAges = this.held.nowMs % this.agesEveryMs === 0;
      for (const a of this.all) for (const b of this.all) if (a !== b && a.held.region === b.held.region) a.held.hear(b.held, withAges);
      for (const { held } of this.all) held.settle();
    };
  }

  at(n: number): Region {
    const region = this.all[n];
    if (region === undefined) throw new Error(`there is no region ${n}`);
    return region;
  }

  join(a: number, b: number): void {
    this.borders.link(this.at(a).node, this.at(b).node);
  }

  cut(a: number, b: number): void {
    this.borders.unlink(this.at(a).node, this.at(b).node);
  }

  /** The node starts with nothing, and with its clock so far ahead. */
  restart(n: number, skewMs = 0): void {
    const { held, node } = this.at(n);
    const again = this.held.node({ ...held.spec, skewMs });
    this.all[n] = { held: again, node: this.borders.replace(node, again.held) };
  }

  /** Runs on, with beacons of these. */
  live(ms: number, beating: readonly number[] = this.all.keys().toArray()): void {
    for (let left = ms; left > 0; left -= 40_000) {
      for (const n of beating) this.at(n).held.beacon();
      this.borders.run(Math.min(left, 40_000));
    }
  }

  shown(n: number): readonly string[] {
    const { held } = this.at(n);
    return held.shown.filter((line) => !line.startsWith(`${held.clusterId}/`)).map((line) => line.replace(/@\d+/, ""));
  }
}

/** Regions of one cluster and node each, linked in a row. */
function linked(...names: readonly string[]): Row {
  const row = new Row(...names.map((name) => ({ nodeId: `${name}1`, clusterId: name })));
  for (let n = 1; n < names.length; n++) row.join(n - 1, n);
  return row;
}

test("what a cluster says is shown two borders on, until it is taken back or the source is lost, and a region that was cut off comes to the same", () => {
  const row = linked("a", "h", "b");
  row.live(10_000);
  const { held } = row.at(0);
  for (let n = 0; n < 50; n++) held.say(`s${n}`);
  row.live(2000);
  expect([row.shown(1).length, row.shown(2).length]).toEqual([50, 50]);
  held.say("s0", { withdrawn: true });
  row.live(1000);
  expect(row.shown(2)).toHaveLength(49);
  row.cut(0, 1);
  held.say("s1", { withdrawn: true });
  held.say("new");
  row.live(TTL + MINUTE);
  expect(row.shown(2).every((line) => line.endsWith("*"))).toBe(true);
  row.join(0, 1);
  const sinceMs = row.borders.time.monoMs;
  row.live(5000);
  expect(row.shown(2).filter((line) => !line.endsWith("*"))).toHaveLength(49);
  // The beacon tells of the withdrawal.
  expect([row.borders.summariesTo("h", sinceMs), row.borders.summariesTo("b", sinceMs)]).toEqual([1, 1]);
  row.cut(0, 1);
  row.live(TTL + STALE_KEEP + MINUTE, [1, 2]);
  expect([row.shown(1), row.shown(2)]).toEqual([[], []]);
  // What is dropped is not given again, from nowhere.
  const restMs = row.borders.time.monoMs;
  row.live(3 * MINUTE, [1, 2]);
  expect(row.borders.summariesTo("b", restMs) + row.borders.summariesTo("h", restMs)).toBe(0);
  row.join(0, 1);
  row.live(8000);
  expect(row.shown(2)).toHaveLength(49);
});

test("a cluster that lost its disks goes above what others know of it, with their signed word for it", () => {
  const row = linked("a", "b");
  row.live(10_000);
  const versions = ["s0", "s1"].map((name) => row.at(0).held.say(name, { endpointCount: 7 }));
  row.live(2000);
  row.cut(0, 1);
  row.restart(0);
  row.join(0, 1);
  row.live(5000);
  const exceeds = row.at(0).held.held.takeExceeds();
  expect(exceeds.flatMap(({ key }) => (key === undefined ? [] : [key.serviceId])).toSorted()).toEqual(["s0", "s1"]);
  expect(exceeds.map(({ version }) => version)).toEqual(expect.arrayContaining(versions));
});

test.each([
  { when: "at once", awayMs: 0, want: ["a/new", "a/s0"] },
  { when: "when it was stale there", awayMs: TTL + MINUTE, want: ["a/new", "a/s0"] },
  // A version that was dropped with its source is known as ended, and nobody has its signed word any more.
  { when: "after it was dropped there, but for what it said in a higher version", awayMs: TTL + STALE_KEEP + MINUTE, want: ["a/new"] },
])("a cluster that lost its disks, and whose clock was set back, is heard again $when", ({ awayMs, want }) => {
  const row = new Row({ nodeId: "b1", clusterId: "b" }, { nodeId: "a1", clusterId: "a", skewMs: 9 * MINUTE });
  row.join(0, 1);
  row.live(10_000);
  for (const name of ["s0", "s1"]) row.at(1).held.say(name, { endpointCount: 7 });
  row.live(2000);
  row.cut(0, 1);
  if (awayMs > 0) row.live(awayMs, [0]);
  // Its versions begin below those that were known of it.
  row.restart(1, -9 * MINUTE);
  const { held } = row.at(1);
  held.beacon();
  for (const name of ["s0", "new"]) held.say(name, { endpointCount: 9 });
  row.join(0, 1);
  // Longer than a ttl, so that nothing is fresh by what was heard of it before.
  for (let n = 0; n < 8; n++) {
    if (n % 2 === 0) held.beacon();
    row.borders.run(n === 0 ? 2000 : 20_000);
    for (const { key } of held.held.takeExceeds())
      if (key === undefined) held.beacon();
      else if (held.held.restate(key, held.time) === undefined) held.held.takeBack(key, NO_POLICY, held.time);
  }
  expect(row.shown(0)).toEqual(want);
  const sources = row.at(0).held.held.sources(row.at(0).held.time);
  expect(sources.find(({ source }) => source === "a")?.state).toBe("fresh");
});

test("a chain of relays makes no source younger, a policy that hides tells nothing again, and hops are those of the borders", () => {
  const row = linked("a", "h", "b");
  row.live(5000, [0]);
  row.at(0).held.say("web");
  row.live(1000, []);
  row.cut(1, 2);
  row.borders.run(50_000);
  row.join(1, 2);
  row.borders.run(5000);
  const ages = [1, 2].map((n) => Math.round(row.at(n).held.ageOf("a") / 1000));
  expect(ages[1]).toBe(ages[0]);
  expect([1, 2].map((n) => row.at(n).held.sealOf("web", "a").hops)).toEqual([1, 2]);
  const sinceMs = row.borders.time.monoMs;
  for (const { held } of row.all) held.held.rulesChanged();
  row.live(2000, []);
  expect(row.borders.sent.filter(({ atMs, frame }) => atMs >= sinceMs && frame.kind === "borderBatch")).toEqual([]);
});

test("a source is as fresh at the end of a chain of regions as at its beginning, also where another node of a region passes it on", {
  tags: ["night"],
}, () => {
  const regions = "abcdefgh".split("");
  const row = new Row(...regions.flatMap((name) => [1, 2].map((n) => ({ nodeId: `${name}${n}`, clusterId: name }))));
  row.agesEveryMs = 1000;
  for (let n = 1; n < regions.length; n++) row.join(2 * n - 1, 2 * n);
  row.live(5 * MINUTE, [0]);
  const sinceMs = row.borders.time.monoMs;
  const oldest: number[] = regions.map(() => 0);
  for (let left = 4 * MINUTE; left > 0; left -= 4000) {
    if (left % 40_000 === 0) row.at(0).held.beacon();
    row.borders.run(4000);
    for (const [n, ageMs] of oldest.entries()) oldest[n] = Math.max(ageMs, row.at(2 * n + 1).held.ageOf("a"));
  }
  // Two seconds for each region: ages come a second after records.
  for (const [n, ageMs] of oldest.entries()) expect(ageMs).toBeLessThanOrEqual(40_000 + 2000 * n);
  const beacons = row.borders.sent.flatMap(({ atMs, frame }) => (atMs > sinceMs && frame.kind === "borderBatch" ? frame.beacons : []));
  expect(beacons.length).toBeLessThanOrEqual(6 * 2 * (regions.length - 1));
});

test("a relay that is always first with a beacon, and lies about its age, ends no source here nor beyond", () => {
  const row = linked("a", "b", "c");
  row.live(5000, [0]);
  for (let n = 0; n < 8; n++) {
    const [a, b] = [row.at(0).held, row.at(1).held];
    a.beacon();
    expect(b.takeSeal({ ...a.sealOf("beacon"), hops: 2 }, { isBeacon: true, ageMs: 9 * MINUTE })).toBe("taken");
    row.borders.run(40_000);
  }
  for (const n of [1, 2]) expect(row.at(n).held.ageOf("a")).toBeLessThanOrEqual(41_000);
});

test("two clusters of a region with a link each: a change crosses once, whichever node of the other region has the link", () => {
  const specs = ["a1", "a2", "b1", "b2"].map((nodeId) => ({
    nodeId,
    clusterId: nodeId.startsWith("a") ? nodeId : "b",
    region: nodeId.slice(0, 1),
  }));
  const row = new Row(...specs);
  row.join(0, 2);
  row.join(1, 3);
  row.live(90_000, [0, 1, 2]);
  const sinceMs = row.borders.time.monoMs;
  row.at(0).held.say("web");
  row.at(1).held.say("web");
  row.live(3000, []);
  expect([row.shown(2).length, row.shown(3).length]).toEqual([2, 2]);
  expect(row.borders.summariesTo("b", sinceMs)).toBe(2);
});

test("what was refused for an hour, because the settings did not name its cluster, comes within 100 s after they do", {
  tags: ["night"],
}, () => {
  const { keys } = new HeldWorld();
  const row = new Row({ nodeId: "a1", clusterId: "a" }, { nodeId: "b1", clusterId: "b", parts: { keys } });
  keys.add("b", "b");
  row.join(0, 1);
  for (let n = 0; n < 50; n++) row.at(0).held.say(`s${n}`);
  row.live(70 * MINUTE);
  expect(row.shown(1)).toEqual([]);
  keys.add("a", "a");
  row.at(1).held.held.keysChanged(["a"]);
  row.live(100_000);
  expect(row.shown(1)).toHaveLength(50);
});
