import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY, KIND } from "../../../src/catalog/record/record.ts";
import { beaconKey } from "../../../src/summary/keys.ts";
import { MAX_VERSION } from "../../../src/summary/summary.ts";
import {
  facts,
  type HeldNode,
  HeldWorld,
  keyOf,
  MEMORY,
  MINUTE,
  SKEW,
  STALE_KEEP,
  START_MS,
  sealedBeacon,
  sealedSummary,
  signerOf,
  summaryKey,
  TTL,
} from "../../fakes/held-world.ts";

/** Cluster A, and two nodes of the region of B. A has said `cart`, and b1 has heard of it. */
function worldOf(said: Parameters<HeldNode["say"]>[1] = {}) {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  const [b1, b2] = [world.node({ nodeId: "b1", clusterId: "B" }), world.node({ nodeId: "b2", clusterId: "B" })];
  const version = a.say("cart", said) ?? 0;
  a.beacon();
  b1.takeFrom(a, "beacon");
  b1.takeFrom(a, "cart");
  const at = (ms: number, node = b1) => {
    world.nowMs = ms;
    node.settle();
    return node.shown.map((text) => text.replace(`A/cart@${version}`, "cart"));
  };
  return { world, a, b1, b2, version, at };
}

test("a beacon is read once, whoever asks how often where its cluster takes calls, and anew when another one counts", () => {
  const world = new HeldWorld();
  const [a, b, c] = ["A", "B", "B"].map((clusterId, i) => world.node({ nodeId: `n${i}`, clusterId }));
  if (!a || !b || !c) throw new Error();
  const ingress = (url: string) => [{ urls: [url], scope: SCOPE.GLOBAL, capabilities: [], tags: [] }];
  a.held.makeBeacon(ingress("https://one"), a.time);
  expect(b.held.beaconOf("A")).toBeUndefined();
  b.takeFrom(a, "beacon");
  c.hear(b);
  for (const node of [b, c]) {
    const first = node.held.beaconOf("A");
    expect(first?.ingress[0]?.urls).toEqual(["https://one"]);
    expect(node.held.beaconOf("A")).toBe(first);
  }
  world.nowMs += MINUTE;
  a.held.makeBeacon(ingress("https://two"), a.time);
  b.takeFrom(a, "beacon");
  c.hear(b);
  for (const node of [b, c]) expect(node.held.beaconOf("A")?.ingress[0]?.urls).toEqual(["https://two"]);
  // Two exporters said the same version, and the higher one counts.
  const version = b.held.beaconOf("A")?.version ?? 0;
  const other = sealedBeacon({ version, exporter: "z", generatedWallMs: a.time.wallMs, ingress: ingress("https://three") });
  expect(b.takeSeal(other, { isBeacon: true })).toBe("taken");
  c.hear(b);
  for (const node of [b, c]) expect(node.held.beaconOf("A")?.ingress[0]?.urls).toEqual(["https://three"]);
  // Its key counts no more.
  world.keys.counting.clear();
  b.held.keysChanged(["A"]);
  b.settle();
  expect(b.held.beaconOf("A")).toBeUndefined();
});

test("a beacon that claims a day confirms for no longer than this node's own ttl", () => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "b1", clusterId: "B" });
  world.keys.add("A", "A");
  node.takeSeal(sealedBeacon({ ttlMs: 24 * 60 * MINUTE }), { isBeacon: true });
  const stateAt = (ms: number) => {
    world.nowMs = ms;
    node.settle();
    return node.held.sources(node.time).map(({ state }) => state);
  };
  expect([TTL - 1, TTL].map(stateAt)).toEqual([["fresh"], ["stale"]]);
});

test("beacons that claim a ttl of 1 ms turn their source no more often than each twelfth of this node's own ttl", () => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "b1", clusterId: "B" });
  world.keys.add("A", "A");
  const turns: string[] = [];
  for (let n = 0; n < 50; n++) {
    if (n % 2 === 0) node.takeSeal(sealedBeacon({ version: 1000 + n, ttlMs: 1 }), { isBeacon: true });
    if (n === 0) for (let name = 0; name < 100; name++) node.takeSeal(sealedSummary({ serviceId: `s${name}`, tag: BigInt(name + 1) }));
    turns.push(node.held.sources(node.time)[0]?.state ?? "");
    world.nowMs += 100;
    node.settle();
  }
  expect(new Set(turns)).toEqual(new Set(["fresh"]));
  // The last one was 200 ms ago.
  expect(node.held.nextDeadlineMs(node.time)).toBe(world.nowMs - 200 + TTL / 12);
});

test("a summary is stale when its source is, however short a time readers may keep it", () => {
  const world = new HeldWorld();
  const [a, a2] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "a2", clusterId: "A" })];
  const channels = { zone: SCOPE.ZONE, region: SCOPE.REGION, global: SCOPE.GLOBAL };
  for (const [name, channel] of Object.entries(channels)) a.say(name, { channel });
  a.beacon();
  a2.hear(a);
  const staleAt = (ms: number) => {
    world.nowMs = ms;
    a2.settle();
    return a2.shown.map((text) => text.endsWith("*"));
  };
  expect(staleAt(TTL - 1)).toEqual([false, false, false]);
  expect(staleAt(TTL)).toEqual([true, true, true]);
});

test("a lost source is stale at the ttl and dropped after stale_keep, and comes back with its next beacon", () => {
  const { world, a, b1, at, version } = worldOf();
  expect([0, TTL - 1, TTL, TTL + STALE_KEEP - 1, TTL + STALE_KEEP].map((ms) => at(ms))).toEqual([
    ["cart"],
    ["cart"],
    ["cart*"],
    ["cart*"],
    [],
  ]);
  // What was dropped is held no longer, and what is heard again is taken again, though it did not change.
  expect(b1.held.replica.self.log.list().filter(({ sizeBytes, kind }) => sizeBytes > 0 && kind === 1)).toEqual([]);
  world.nowMs += MINUTE;
  a.say("late");
  expect([b1.takeFrom(a, "late"), b1.takeFrom(a, "cart")]).toEqual(["stale", "stale"]);
  a.beacon();
  expect([b1.takeFrom(a, "beacon"), b1.takeFrom(a, "cart")]).toEqual(["taken", "taken"]);
  expect(at(world.nowMs)).toEqual(["cart"]);
  expect(b1.held.best(b1.held.best(a.held.replica.lookup.cursor().next()?.key ?? ("" as never))?.key ?? ("" as never))?.hlc).toBeDefined();
  expect(version).toBeGreaterThan(0);
});

test.each([
  ["before it did any work", 0],
  ["when it had begun to drop what it held", 1],
])(
  "a node that stood still for long, and is told a beacon %s, shows nothing again that its source may have taken back meanwhile",
  (_, slices) => {
    const { world, a, b1 } = worldOf();
    for (let n = 0; n < 900; n++) {
      a.held.export(facts(`s${n}`, { source: "A" }), a.time);
      b1.held.take(a.sealOf(`s${n}`), { cluster: "A", region: "A" }, b1.time);
    }
    b1.settle();
    const before = b1.shown.length;
    for (let n = 0; n < 900; n++) a.held.export(facts(`s${n}`, { source: "A", withdrawn: true }), a.time);
    // Nobody remembers the withdrawals any more.
    world.nowMs += 60 * MINUTE;
    a.settle();
    a.beacon();
    for (let n = 0; n < slices; n++) b1.held.work(b1.time);
    b1.takeFrom(a, "beacon");
    expect([before, b1.shown]).toEqual([901, []]);
    // What its cluster still says comes with the next comparison.
    expect([b1.takeFrom(a, "cart"), b1.shown.length]).toEqual(["taken", 1]);
  },
);

test("a deadline is told for each turn, and readers see a record again when it turns stale", () => {
  const { world, b1 } = worldOf();
  const turns: number[] = [];
  const before = b1.held.replica.revision;
  for (let next = b1.held.nextDeadlineMs(b1.time); next < TTL + STALE_KEEP + MINUTE; next = b1.held.nextDeadlineMs(b1.time)) {
    turns.push((world.nowMs = next));
    b1.settle();
    if (turns.length === 1) expect(b1.held.replica.revision).toBeGreaterThan(before);
  }
  expect(turns).toEqual([TTL, TTL + STALE_KEEP]);
});

test.each<[string, Parameters<HeldNode["say"]>[1], [number, string[]][]]>([
  [
    "of a rule with windows at the ttl",
    { noStale: true },
    [
      [TTL - 1, ["cart"]],
      [TTL, []],
    ],
  ],
  [
    "at its end, fresh",
    { notAfterWallMs: START_MS + MINUTE },
    [
      [MINUTE - 1, ["cart"]],
      [MINUTE, []],
      [MINUTE - 1, ["cart"]],
    ],
  ],
  [
    "at its end, stale",
    { notAfterWallMs: START_MS + 5 * MINUTE },
    [
      [5 * MINUTE - 1, ["cart*"]],
      [5 * MINUTE, []],
    ],
  ],
])("a summary is not shown %s", (_, said, steps) => {
  const { at } = worldOf(said);
  for (const [ms, shown] of steps) expect(at(ms)).toEqual(shown);
});

test("the end of a window comes by the reader's own clock", () => {
  const { world, a } = worldOf({ notAfterWallMs: START_MS + MINUTE });
  const fast = world.node({ nodeId: "c1", clusterId: "C", skewMs: 5 * MINUTE });
  fast.takeFrom(a, "beacon");
  fast.takeFrom(a, "cart");
  expect(fast.shown).toEqual([]);
});

test("a node of the region shows what another one took, as fresh as it was there, and no restart makes a source fresh", () => {
  const { world, b1, b2, at } = worldOf();
  world.nowMs = MINUTE;
  b2.hear(b1, false);
  expect(at(MINUTE, b2)).toEqual(["cart*"]);
  b2.hear(b1);
  expect(at(MINUTE, b2)).toEqual(["cart"]);
  const [plain, saved] = [world.restarted(b2, false), world.restarted(b1, true, MINUTE)];
  expect([at(2 * MINUTE, plain), at(2 * MINUTE, saved), at(2 * MINUTE, b2)]).toEqual([[], ["cart*"], ["cart*"]]);
  plain.hear(b2);
  expect(at(2 * MINUTE, plain)).toEqual(["cart*"]);
  expect(at(TTL + STALE_KEEP, saved)).toEqual([]);
  // A source that nobody heard is dropped by all together.
  const unheard = world.node({ nodeId: "b3", clusterId: "B" });
  expect(unheard.held.ages(unheard.time)).toEqual([]);
});

test("ages that are told make a source no younger than its beacon, and move a receipt once", () => {
  const { world, a, b1, b2 } = worldOf();
  const [age] = b1.held.ages(b1.time);
  if (age === undefined) throw new Error("no age");
  // Known only once the beacon is proven here.
  b2.held.heardAge({ ...age, ageMs: 1000 }, b2.time);
  b2.hear(b1, false);
  expect(b2.shown[0]).not.toContain("*");
  expect(b2.held.ages(b2.time)).toEqual([{ ...age, ageMs: 1000 }]);
  expect([b1, b2].map(({ held, time }) => held.newAges(time).length + held.newAges(time).length)).toEqual([1, 1]);
  // Two nodes that tell each other theirs do not move them.
  world.nowMs = MINUTE;
  for (let n = 0; n < 50; n++) {
    world.nowMs += 2000;
    const ages = b1.held.ages({ ...b1.time, monoMs: world.nowMs - 1900 });
    for (const each of ages) b2.held.heardAge(each, b2.time);
    for (const each of b2.held.ages({ ...b2.time, monoMs: world.nowMs - 1900 })) b1.held.heardAge(each, b1.time);
  }
  expect(b1.held.ages(b1.time)[0]?.ageMs).toBe(world.nowMs);
  expect([b1, b2].map(({ held, time }) => held.newAges(time))).toEqual([[], []]);
  // Who lies does not keep a source alive: its beacon is too old.
  world.nowMs = 2 * SKEW + MINUTE;
  b1.settle();
  b1.held.heardAge({ ...age, ageMs: 0 }, b1.time);
  expect(b1.held.sources(b1.time)[0]?.state).toBe("dropped");
  // A relay that passes a beacon on late makes the source no younger.
  world.nowMs = 30 * MINUTE;
  a.beacon();
  const late = a.sealOf("beacon");
  world.nowMs += 5 * MINUTE;
  expect(b1.takeSeal(late, { isBeacon: true, ageMs: 5 * MINUTE })).toBe("taken");
  expect(b1.held.sources(b1.time)[0]?.state).toBe("stale");
});

test("ages that a member makes up add no source that the settings do not name, and keep no other one out", () => {
  const { world, a, b1 } = worldOf();
  const c = world.node({ nodeId: "c1", clusterId: "C" });
  for (let n = 0; n < 300; n++) b1.held.heardAge({ source: `x${n}`, version: n, ageMs: n }, b1.time);
  c.beacon();
  const stateOf = () => b1.held.sources(b1.time).map(({ source, state }) => `${source} ${state}`);
  expect([b1.takeFrom(c, "beacon"), stateOf(), b1.held.ages(b1.time).length]).toEqual(["taken", ["A fresh", "C fresh"], 2]);
  // Nor of one that they name.
  for (const version of [0, 1, a.held.best(beaconKey("A"))?.hlc ?? 0, 2 ** 51])
    b1.held.heardAge({ source: "A", version, ageMs: 90 * MINUTE }, b1.time);
  b1.settle();
  expect(stateOf()).toEqual(["A fresh", "C fresh"]);
});

test("where signatures are not required, a source that the settings name takes the place of one that they do not name and of which nothing is held", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  const b1 = world.node({ nodeId: "b1", clusterId: "B", options: { requireSignatures: false, maxSources: 2 } });
  for (const source of ["x1", "x2", "x3"]) b1.held.heardAge({ source, version: 1, ageMs: 0 }, b1.time);
  a.beacon();
  expect([b1.takeFrom(a, "beacon"), b1.held.sources(b1.time).map(({ source }) => source)]).toEqual(["taken", ["x2", "A"]]);
});

test.each<[string, (version: number) => { version: number; ageMs: number }[]]>([
  ["of the next beacon", (version) => [{ version, ageMs: 90 * MINUTE }]],
  ["of later beacons", (version) => Array.from({ length: 20 }, (_, n) => ({ version: version + n * n, ageMs: 0 }))],
])("ages %s that a member makes up do not hide that of the true one", (_, liesOf) => {
  const { world, a, b1, b2 } = worldOf();
  b2.hear(b1);
  world.nowMs = TTL - MINUTE;
  const version = a.beacon() ?? 0;
  b1.takeFrom(a, "beacon");
  for (const lie of liesOf(version)) b2.held.heardAge({ source: "A", ...lie }, b2.time);
  b2.receive(b1);
  for (const age of b1.held.ages(b1.time)) b2.held.heardAge(age, b2.time);
  for (const lie of liesOf(version)) b2.held.heardAge({ source: "A", ...lie }, b2.time);
  b2.settle();
  world.nowMs = TTL + 1000;
  expect(b2.held.sources(b2.time).map(({ state }) => state)).toEqual(["fresh"]);
});

test("a relay that is first, and lies about the age of a beacon, does not hide the age that the next one tells", () => {
  const { world, a, b1, b2 } = worldOf();
  b2.hear(b1);
  for (const lost of [false, true]) {
    world.nowMs += lost ? TTL + MINUTE : MINUTE;
    a.beacon();
    const first = { isBeacon: true, ageMs: 9 * MINUTE };
    expect(b1.takeSeal({ ...a.sealOf("beacon"), hops: 3 }, first)).toBe("taken");
    world.nowMs += 100;
    // By way of a node of the region that has it from the liar, and that is nearer.
    b2.hear(b1);
    expect([b1.takeSeal({ ...a.sealOf("beacon"), hops: 3 }, { isBeacon: true, ageMs: 50 }), b2.takeFrom(a, "beacon")]).toEqual([
      "known",
      "taken",
    ]);
    expect([b1.ageOf("A"), b2.ageOf("A")]).toEqual([100, 100]);
  }
});

test("a beacon that is replayed makes its source no younger than when it was held first", () => {
  const { world, a, b1 } = worldOf();
  world.nowMs = MINUTE;
  a.beacon();
  const seal = a.sealOf("beacon");
  expect(b1.takeSeal(seal, { isBeacon: true, ageMs: MINUTE })).toBe("taken");
  const replay = (afterMs: number, signed = seal.signed) => {
    world.nowMs = MINUTE + afterMs;
    b1.takeSeal({ ...seal, signed }, { isBeacon: true });
    return b1.ageOf("A");
  };
  // Nobody verifies what is known, so it must be the same bytes.
  const forged = Uint8Array.from(sealedBeacon({ version: a.held.best(beaconKey("A"))?.hlc ?? 0 }).signed);
  expect([replay(10, forged), replay(TTL / 3 + 1)]).toEqual([MINUTE + 10, MINUTE + TTL / 3 + 1]);
  world.nowMs += MINUTE;
  a.beacon();
  b1.takeSeal(a.sealOf("beacon"), { isBeacon: true, ageMs: MINUTE });
  const heldMs = world.nowMs;
  world.nowMs += 30_000;
  b1.takeSeal(a.sealOf("beacon"), { isBeacon: true });
  expect(b1.ageOf("A")).toBe(world.nowMs - heldMs);
});

test("a cluster that says nothing for long keeps its own beacon, which others were told of", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  const version = a.beacon() ?? 0;
  for (world.nowMs = MEMORY; world.nowMs < 3 * MEMORY; world.nowMs += MINUTE) a.settle();
  expect([a.held.beaconOf("A")?.version, a.held.sources(a.time).map(({ source }) => source), a.beacon()]).toEqual([
    version,
    ["A"],
    version + 1,
  ]);
});

test("that nobody has heard of a source is no news of it, however late it was said", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const b = world.node({ nodeId: "b1", clusterId: "B" });
  b.takeSeal(sealedSummary());
  b.held.heardAge({ source: "A", version: 0, ageMs: 0 }, b.time);
  b.settle();
  expect(b.shown).toEqual(["A/cart@1000*"]);
});

test("of receipts that are told before their beacons are proven that of the latest beacon counts, in whatever order", () => {
  for (const told of [
    [1005, 1003],
    [1003, 1005],
  ]) {
    const world = new HeldWorld();
    world.keys.add("A", "A");
    const [b1, b2] = [world.node({ nodeId: "b1", clusterId: "B" }), world.node({ nodeId: "b2", clusterId: "B" })];
    for (const version of told) b1.held.heardAge({ source: "A", version, ageMs: version === 1005 ? 1000 : MINUTE }, b1.time);
    b2.takeSeal(sealedBeacon({ version: 1005 }), { isBeacon: true });
    b1.hear(b2, false);
    expect([b1.ageOf("A"), b1.held.sources(b1.time).map(({ state }) => state)]).toEqual([1000, ["fresh"]]);
  }
});

test("the age of a beacon that is not here yet is kept when an earlier beacon comes meanwhile", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const [b1, b2] = [world.node({ nodeId: "b1", clusterId: "B" }), world.node({ nodeId: "b2", clusterId: "B" })];
  b1.held.heardAge({ source: "A", version: 1005, ageMs: 1000 }, b1.time);
  for (const version of [1003, 1005]) {
    b2.takeSeal(sealedBeacon({ version }), { isBeacon: true });
    b1.hear(b2, false);
  }
  expect([b1.ageOf("A"), b1.held.sources(b1.time).map(({ state }) => state)]).toEqual([1000, ["fresh"]]);
});

test("a beacon's exporter is due each third of a ttl, whoever made the last one", () => {
  const { world, a } = worldOf();
  const other = world.node({ nodeId: "a2", clusterId: "A" });
  world.nowMs = 1000;
  other.hear(a);
  // Of the first one that it heard of, the age tells when it was made.
  expect([a.held.beaconDueMonoMs, other.held.beaconDueMonoMs]).toEqual([TTL / 3, TTL / 3]);
  world.nowMs = 2000;
  a.beacon();
  world.nowMs = 3000;
  other.hear(a);
  // Nobody can put it off by an age, nor by saying it late.
  expect([a.held.beaconDueMonoMs, other.held.beaconDueMonoMs]).toEqual([TTL / 3 + 2000, TTL / 3 + 3000]);
});

test.each([
  { awayMs: 10_000, withFile: true, dueMs: TTL / 3 },
  { awayMs: TTL / 3, withFile: true, dueMs: TTL / 3 },
  { awayMs: 60 * MINUTE, withFile: true, dueMs: TTL / 3 },
  { awayMs: 60 * MINUTE, withFile: false, dueMs: 0 },
])("a lone exporter that was away for $awayMs ms sends its next beacon when its cluster would have", ({ awayMs, withFile, dueMs }) => {
  const { world, a } = worldOf();
  const again = world.restarted(a, withFile, awayMs);
  expect(again.held.beaconDueMonoMs).toBe(dueMs);
  expect(again.beacon()).toBeGreaterThan(0);
  expect(again.held.beaconDueMonoMs).toBe(awayMs + TTL / 3);
});

test("a node of the region that has the last beacon, and tells no age of it, does not put off the next one", () => {
  const { world, a } = worldOf();
  world.nowMs = MINUTE;
  const again = world.node({ nodeId: "a2", clusterId: "A" });
  again.hear(a, false);
  expect(again.held.beaconDueMonoMs).toBe(0);
});

test("a cluster that has no version left for its beacon tries again each second, and not all the time", () => {
  const { world, a } = worldOf();
  const last = sealedBeacon({ version: MAX_VERSION });
  a.takeSeal(last, { isBeacon: true });
  world.nowMs = TTL;
  expect([a.beacon(), a.held.beaconDueMonoMs]).toEqual([undefined, TTL + 1000]);
});

// ---- what nodes of the region tell ----
test("a forged record of a member is skipped, also under a higher stamp, and the highest that is proven shows", () => {
  const { world, b1, b2, version } = worldOf();
  const evil = world.node({ nodeId: "b0", clusterId: "B" });
  const forge = (said: object, hlc: number, by = "key-of-A"): void => {
    const seal = { ...sealedSummary({ version: version + 9, ...said }, by, true, "key-of-A"), hops: 1 };
    // The stamp of a record is written by the node that holds it.
    const { replica } = evil.held;
    replica.commit(evil.stage(seal, hlc).seq, evil.time);
  };
  forge({}, version + 9, "key-of-B");
  b2.hear(b1);
  b2.hear(evil);
  expect(b2.shown).toEqual([`A/cart@${version}`]);
  // A true but older one, under a stamp that is not its version.
  forge({ version: version - 1, endpointCount: 99 }, version + 20);
  b2.hear(evil);
  expect(b2.shown).toEqual([`A/cart@${version}`]);
  expect(b2.held.best(b2.held.replica.lookup.cursor().next()?.key ?? ("" as never))?.hlc).toBe(version);
  // What the forger claims counts for nothing when the cluster itself numbers or borders bring more.
  forge({ version: version + 1 }, version + 1);
  b2.hear(evil);
  expect(b2.shown).toEqual([`A/cart@${version + 1}`]);
});

test("a member cannot end what others hold by a tombstone", () => {
  const world = new HeldWorld();
  const [a1, a2, evil] = ["a1", "a2", "a3"].map((nodeId) => world.node({ nodeId, clusterId: "A" }));
  if (!a1 || !a2 || !evil) throw new Error();
  a1.say("cart");
  evil.hear(a1);
  evil.endAll(2 ** 51);
  for (const node of [a1, a2]) node.hear(evil);
  a2.hear(a1);
  expect([a1.shown.length, a2.shown.length]).toEqual([1, 1]);
  // A forged summary carries the end that it followed.
  const forged = sealedSummary({ version: 2 ** 51 + 1 }, "key-of-Z", true, "key-of-A");
  evil.held.replica.commit(evil.stage(forged, 2 ** 51 + 1).seq, evil.time);
  for (const node of [a1, a2]) node.hear(evil);
  expect([a1.shown.length, a2.shown.length]).toEqual([1, 1]);
});

test("a key that goes hides what it signed, and one that comes shows it, in slices", () => {
  const { world, a, b1, b2 } = worldOf();
  for (let n = 0; n < 300; n++) {
    a.held.export(facts(`s${n}`, { source: "A" }), a.time);
    b1.held.take(a.sealOf(`s${n}`), { cluster: "A", region: "A" }, b1.time);
  }
  b2.hear(b1);
  expect(b2.shown).toHaveLength(301);
  world.keys.counting.delete("A key-of-A");
  const late = world.node({ nodeId: "b3", clusterId: "B" });
  late.hear(b1);
  b2.held.keysChanged();
  b2.settle();
  expect([b2.shown.length, late.shown.length]).toEqual([0, 0]);
  world.keys.counting.add("A key-of-A");
  let slices = 0;
  for (const node of [b2, late]) {
    node.held.keysChanged();
    while (node.held.work(node.time)) slices += 1;
    expect(node.held.replica.lookup.size).toBe(302);
  }
  expect(slices).toBeGreaterThan(10);
});

// ---- withdrawals ----
test("a withdrawal hides at once, is remembered for ttl, stale_keep and twice the skew, and then forgotten", () => {
  const { world, a, b1, b2, version, at } = worldOf();
  const old = a.sealOf("cart");
  b2.hear(b1);
  expect(a.say("cart", { withdrawn: true })).toBe(version + 1);
  expect(b1.takeFrom(a, "cart")).toBe("taken");
  b2.hear(b1);
  expect([b1.shown, b2.shown]).toEqual([[], []]);
  expect(b1.takeSeal(old)).toBe("older");
  world.nowMs = MEMORY - 1;
  b1.settle();
  expect(b1.held.sources(b1.time)[0]?.summaries).toBe(1);
  expect(at(MEMORY)).toEqual([]);
  expect(b1.held.sources(b1.time)[0]?.summaries).toBe(0);
  // This node remembers the version for as long as it has room.
  a.settle();
  a.beacon();
  expect([a.held.beaconOf("A")?.withdrawals, b1.takeFrom(a, "beacon"), b1.takeSeal(old)]).toEqual([[], "taken", "older"]);
  expect([a.say("cart") ?? 0, b1.takeFrom(a, "cart")]).toEqual([version + 2, "taken"]);
});

test("what was taken over from a node that is gone ends when a beacon takes it back, though that node's record is still held", () => {
  const { world, a, b1, version } = worldOf();
  const b0 = world.node({ nodeId: "b0", clusterId: "B" });
  b0.hear(b1);
  const { replica } = b0.held;
  for (const origin of replica.origins.values()) origin.isTakenOver = true;
  b0.stage(b1.sealOf("cart", "A"), version);
  replica.commit(replica.lastSeq, b0.time);
  b0.settle();
  const live = () => replica.self.log.list().filter(({ body, kind }) => body === BODY.ENTRY && kind === KIND.SERVICE).length;
  const before = live();
  a.say("cart", { withdrawn: true });
  a.beacon();
  b0.takeFrom(a, "beacon");
  world.nowMs += 1000;
  b0.settle();
  expect([before, live(), b0.shown]).toEqual([1, 0, []]);
});

test("a withdrawal is remembered longer where a node still holds what it took back", () => {
  const { a, b1, b2, at, world } = worldOf();
  a.say("cart", { withdrawn: true });
  b2.takeFrom(a, "beacon");
  b2.takeFrom(a, "cart");
  b2.hear(b1);
  // b1 is gone, and its record is still here.
  expect(at(MEMORY, b2)).toEqual([]);
  world.nowMs += MINUTE;
  a.settle();
  a.beacon();
  expect(b2.takeFrom(a, "beacon")).toBe("taken");
  expect(at(world.nowMs, b2)).toEqual([]);
});

test("a withdrawal is remembered no longer for a record that a member forged", () => {
  const { world, a, b1, version } = worldOf();
  a.say("cart", { withdrawn: true });
  b1.takeFrom(a, "cart");
  const evil = world.node({ nodeId: "b0", clusterId: "B" });
  const forged = { ...sealedSummary({ version: version - 1 }, "key-of-B", true, "key-of-A"), hops: 1 };
  evil.held.replica.commit(evil.stage(forged, version - 1).seq, evil.time);
  b1.hear(evil);
  expect(b1.held.best(keyOf("cart", "A"))?.hlc).toBe(version + 1);
  world.nowMs = MEMORY + MINUTE;
  b1.settle();
  expect(b1.held.best(keyOf("cart", "A"))).toBeUndefined();
});

test("a relay that withholds a withdrawal is undone by the beacon, which names those of channel GLOBAL in turn", () => {
  const { world, a, b1, b2, version } = worldOf();
  for (let n = 0; n < 150; n++) {
    a.held.export(facts(`s${n}`, { source: "A" }), a.time);
    a.held.export(facts(`s${n}`, { source: "A", withdrawn: true }), a.time);
  }
  a.held.export(facts("hidden", { source: "A", channel: 3, withdrawn: true }), a.time);
  const hidden = a.held.own.find({ ...summaryKey("hidden", "A"), channel: 3 }, a.time)?.tag ?? 0n;
  const old = a.sealOf("cart");
  a.say("cart", { withdrawn: true });
  a.say("unseen");
  const unseen = a.sealOf("unseen");
  a.say("unseen", { withdrawn: true });
  const named: bigint[] = [];
  for (let n = 0; n < 3; n++) {
    world.nowMs += 1000;
    a.beacon();
    named.push(...(a.held.beaconOf("A")?.withdrawals ?? []).map(({ tag }) => tag));
    b1.takeFrom(a, "beacon");
    b2.hear(b1);
  }
  expect(named).toHaveLength(300);
  expect(new Set(named).size).toBe(152);
  expect([named.includes(a.tagOf("cart")), named.includes(hidden)]).toEqual([true, false]);
  // Whoever hears a beacon, which goes to all neighbours, learns no name.
  for (const name of ["cart", "svc.shop"]) expect(Buffer.from(a.sealOf("beacon").signed).includes(name)).toBe(false);
  expect([b1.shown, b2.shown, b1.takeSeal(old), b2.takeSeal(old)]).toEqual([[], [], "older", "older"]);
  // Of this one nothing was ever held.
  expect([b1.takeSeal(unseen), b2.takeSeal(unseen)]).toEqual(["older", "older"]);
  expect(b1.takeFrom(a, "cart")).toBe("taken");
  expect(a.held.restate(summaryKey("none", "A"), a.time)).toBeUndefined();
  expect(version).toBeGreaterThan(0);
});

test("withdrawals that are over at once are forgotten in slices", () => {
  const { world, a } = worldOf();
  for (const withdrawn of [false, true]) for (let n = 0; n < 1000; n++) a.held.export(facts(`s${n}`, { source: "A", withdrawn }), a.time);
  a.settle();
  const held = () => a.held.replica.recordCount - a.held.replica.tombstoneCount;
  const before = held();
  world.nowMs += MEMORY;
  a.held.work(a.time);
  expect(before - held()).toBeLessThanOrEqual(400);
  a.settle();
  expect(before - held()).toBe(1000);
});

test("what is over is dropped in rounds, each of which drops all of it", () => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "a1", clusterId: "A", options: { pruneIntervalMs: 30_000 } });
  for (let n = 0; n < 900; n++) node.held.export(facts(`s${n}`, { source: "A", withdrawn: true }), node.time);
  const live = () => node.held.replica.recordCount - node.held.replica.tombstoneCount;
  const dueAfter = () => node.held.nextDeadlineMs(node.time) - world.nowMs;
  world.nowMs += MEMORY - 1000;
  node.settle();
  world.nowMs += 1000;
  node.settle();
  expect([live(), dueAfter()]).toEqual([900, 29_000]);
  world.nowMs += 29_000;
  for (let n = 0; dueAfter() <= 0; n++) {
    node.settle();
    if (n > 9) throw new Error("the round does not end");
  }
  expect([live(), dueAfter() >= 29_000]).toEqual([0, true]);
});

test("the records of many takers go until one is left", () => {
  const { world, a, b1, b2 } = worldOf();
  const nodes = [b1, b2, world.node({ nodeId: "b3", clusterId: "B" }), world.node({ nodeId: "b4", clusterId: "B" })];
  for (const node of nodes) {
    node.takeFrom(a, "beacon");
    node.takeFrom(a, "cart");
  }
  for (let round = 0; round < 3; round++) for (const one of nodes) for (const other of nodes) if (one !== other) one.hear(other);
  for (const { held } of nodes) {
    expect(held.replica.recordCount - held.replica.tombstoneCount).toBe(2);
    expect(held.replica.lookup.size).toBe(2);
  }
});

test("what comes right behind the beacon of a source that was dropped is taken, and the beacon is told on at once", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  a.beacon();
  a.say("cart");
  b.takeFrom(a, "beacon");
  world.nowMs = TTL + STALE_KEEP;
  b.settle();
  a.beacon();
  const via = { cluster: "A", region: "A" };
  const taken = [b.held.takeBeacon(a.sealOf("beacon"), via, b.time, 0), b.held.take(a.sealOf("cart"), via, b.time)];
  expect(taken.map(({ kind }) => kind)).toEqual(["taken", "taken"]);
  expect(b.held.beacons(b.time).map(({ source }) => source)).toEqual(["A"]);
  b.settle();
  expect(b.shown).toHaveLength(1);
});

test("the version of what a stolen key signed keeps nothing out once that is ended", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  const b = world.node({ nodeId: "b1", clusterId: "B" });
  world.keys.counting.add("A stolen");
  a.beacon();
  b.takeFrom(a, "beacon");
  expect(b.takeSeal(sealedSummary({ version: 2 ** 50, keyId: "stolen" }, "stolen"))).toBe("taken");
  world.keys.counting.delete("A stolen");
  b.held.keysChanged(["A"]);
  for (const untilMs = TTL + STALE_KEEP + MINUTE; world.nowMs < untilMs; world.nowMs += MINUTE) {
    a.beacon();
    b.takeFrom(a, "beacon");
    b.settle();
  }
  expect(b.held.replica.own(keyOf("cart", "A"))?.body).toBe(BODY.EXPIRED);
  const version = a.say("cart");
  expect([b.takeFrom(a, "cart"), b.shown]).toEqual(["taken", [`A/cart@${version}`]]);
});

test("borders ask again of a source that was dropped, and not of one that was only stale", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  const heardAfter = (ms: number) => {
    world.nowMs += ms;
    b.settle();
    a.beacon();
    b.takeFrom(a, "beacon");
    return b.held.resumedCount;
  };
  expect([0, MINUTE, TTL, TTL + STALE_KEEP - 1].map(heardAfter)).toEqual([0, 0, 0, 0]);
  expect([TTL + STALE_KEEP, MINUTE].map(heardAfter)).toEqual([1, 1]);
});

test("a beacon that is replayed to a node that starts makes its source no younger than its region knows it to be", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  a.beacon();
  b.takeFrom(a, "beacon");
  const replayed = a.sealOf("beacon");
  world.nowMs = TTL + MINUTE;
  const again = world.restarted(b, true);
  expect([again.takeSeal(replayed, { isBeacon: true, from: a }), again.ageOf("A")]).toEqual(["known", TTL + MINUTE]);
});

test("of a source that is forgotten no beacon is left", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  a.beacon();
  b.takeFrom(a, "beacon");
  world.nowMs = MEMORY + TTL;
  b.settle();
  const left = b.held.replica.records(beaconKey("A")).filter(({ body }) => body === BODY.ENTRY);
  expect([b.held.sources(b.time).length, left]).toEqual([0, []]);
});

test("a key that was taken out by mistake, once more, ends nothing at once", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  world.keys.counting.add("A other");
  const pass = (ms: number) => {
    for (const untilMs = world.nowMs + ms; world.nowMs < untilMs; world.nowMs += MINUTE) {
      a.beacon();
      b.takeFrom(a, "beacon");
      b.settle();
    }
  };
  const count = (does: boolean) => {
    if (does) world.keys.counting.add("A other");
    else world.keys.counting.delete("A other");
    b.held.keysChanged(["A"]);
    b.settle();
    return b.shown.length;
  };
  const take = (version: number) => b.takeSeal(sealedSummary({ version, keyId: "other", generatedWallMs: a.time.wallMs }, "other"));
  pass(MINUTE);
  expect([take(1000), count(false)]).toEqual(["taken", 0]);
  pass(TTL + STALE_KEEP + MINUTE);
  expect([count(true), take(1001), b.shown.length]).toEqual([0, "taken", 1]);
  pass(MINUTE);
  expect(count(false)).toBe(0);
  pass(MINUTE);
  expect(count(true)).toBe(1);
});

test("what a stolen key took back by a beacon is shown again when the key counts no more", () => {
  const world = new HeldWorld();
  const [a, b, c] = ["A", "B", "B"].map((clusterId, n) => world.node({ nodeId: `n${n}`, clusterId })) as [HeldNode, HeldNode, HeldNode];
  a.beacon();
  a.say("cart");
  for (const name of ["beacon", "cart"]) b.takeFrom(a, name);
  c.hear(b);
  world.keys.counting.add("A stolen");
  const version = 2 ** 40;
  const forged = sealedBeacon({ version, keyId: "stolen", withdrawals: [{ tag: a.tagOf("cart"), version }] });
  const signature = signerOf("stolen").sign("waymark.beacon.v1", forged.signed);
  expect([c.shown.length, c.takeSeal({ ...forged, signature }, { isBeacon: true })]).toEqual([1, "taken"]);
  world.nowMs += 2000;
  c.settle();
  expect(c.shown).toEqual([]);
  world.keys.counting.delete("A stolen");
  c.held.keysChanged(["A"]);
  c.settle();
  expect(c.shown).toHaveLength(1);
});

test("rules that change again and again are looked at once, and not once for each change", () => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "a1", clusterId: "A" });
  for (let n = 0; n < 1000; n++) node.held.export(facts(`s${n}`, { source: "A" }), node.time);
  node.settle();
  for (let n = 0; n < 100; n++) node.held.rulesChanged();
  let slices = 1;
  while (node.held.work(node.time)) slices += 1;
  expect(slices).toBeLessThan(10);
});
