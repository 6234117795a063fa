import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { decodeSummary } from "../../../src/summary/codec.ts";
import { MAX_VERSION } from "../../../src/summary/summary.ts";
import {
  sealedBeacon as beacon,
  HeldWorld,
  keyOf,
  MAX_HOPS,
  MINUTE,
  NO_POLICY,
  type Sealed,
  SKEW,
  STALE_KEEP,
  START_MS,
  sealedSummary as sealed,
  signerOf,
  summaryKey,
  TTL,
} from "../../fakes/held-world.ts";

function turned(seal: Sealed): Sealed {
  const signed = seal.signed.slice();
  signed[signed.length - 1] = (signed.at(-1) ?? 0) ^ 1;
  return { ...seal, signed };
}

/** The same fields in another order: protobuf has no canonical form. */
function encodedAgain({ signed, ...seal }: Sealed): Sealed {
  return { ...seal, signed: Buffer.concat([signed.subarray(10), signed.subarray(0, 10)]) };
}

const OTHER = "B";

test.each<[string, string, Sealed, boolean?]>([
  ["rightly signed", "taken", sealed()],
  ["the same again", "known", sealed({ serviceId: "held" })],
  ["replayed", "older", sealed({ serviceId: "held", version: 999 })],
  ["changed under way", "bad_signature", turned(sealed())],
  ["encoded again", "bad_signature", encodedAgain(sealed())],
  ["not signed", "unsigned", sealed({}, "key-of-A", false)],
  ["signed by another cluster", "unknown_key", sealed({}, "key-of-B")],
  ["signed as a beacon", "bad_signature", { ...sealed(), signature: signerOf("key-of-A").sign("waymark.beacon.v1", sealed().signed) }],
  ["of an unknown cluster", "unknown_key", sealed({ source: "Z", regions: [] })],
  ["claiming another's region", "not_owner", sealed({ regions: ["A", OTHER] })],
  ["of a channel that stays in its region", "not_owner", sealed({ channel: SCOPE.REGION })],
  ["of a channel that stays in its cluster", "not_owner", sealed({ channel: SCOPE.ZONE })],
  ["of the control plane", "not_owner", sealed({ namespace: "discovery.summaries" })],
  ["made too far ahead of our clock", "future", sealed({ generatedWallMs: START_MS + SKEW + 1 })],
  ["made just not too far ahead", "taken", sealed({ generatedWallMs: START_MS + SKEW })],
  ["expired, of a source that is not heard", "stale", sealed({ generatedWallMs: START_MS - SKEW - 1 })],
  ["through too many borders", "limit", { ...sealed(), hops: MAX_HOPS }],
  ["about ourselves", "echo", sealed({ source: OTHER, regions: [OTHER] }, "key-of-B")],
  ["of the same version by a lower exporter", "conflict", sealed({ serviceId: "held", exporter: "a0" })],
  ["of the same version by a higher exporter", "taken", sealed({ serviceId: "held", exporter: "a2" })],
  ["no summary at all", "bad_signature", { ...sealed(), signed: Buffer.from("hello") }],
  ["a beacon", "taken", beacon({ version: 1001 }), true],
  ["a beacon replayed", "known", beacon(), true],
  ["an older beacon", "older", beacon({ version: 999 }), true],
  ["an old beacon", "stale", beacon({ version: 1001, generatedWallMs: START_MS - SKEW - 1 }), true],
  ["a beacon of the future", "future", beacon({ version: 1001, generatedWallMs: START_MS + SKEW + 1 }), true],
  ["a beacon that claims another's region", "not_owner", beacon({ version: 1001, region: OTHER }), true],
  ["a summary as a beacon", "bad_signature", sealed(), true],
])("what a border brings is judged: %s: %s", (_, outcome, seal, isBeacon = false) => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "b1", clusterId: OTHER });
  world.keys.add("A", "A");
  node.takeSeal(sealed({ serviceId: "held" }));
  if (isBeacon) node.takeSeal(beacon(), { isBeacon });
  const before = { ...node.held.refusals };
  expect(node.takeSeal(seal, { isBeacon })).toBe(outcome);
  const counted = Object.entries(node.held.refusals).filter(([why, count]) => count !== before[why as keyof typeof before]);
  const isRefused = outcome !== "taken" && outcome !== "known";
  if (isRefused) {
    expect(counted).toEqual([[outcome, 1]]);
    expect(node.held.takeRefused().at(-1)?.why).toBe(outcome);
  }
});

test("a service that does not change is taken long after it was said, if its source is heard", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  a.say("cart");
  world.nowMs = 60 * MINUTE;
  a.beacon();
  expect(b.takeFrom(a, "cart")).toBe("stale");
  expect([b.takeFrom(a, "beacon"), b.takeFrom(a, "cart")]).toEqual(["taken", "taken"]);
  expect(b.shown).toHaveLength(1);
});

/** Cluster A has a key in the settings, Z is a border without one, and nothing else is named. */
const UNSIGNED = { options: { requireSignatures: false, neighbours: [{ clusterId: "Z", region: "Z" }] } };
const ofZ = (said: Parameters<typeof sealed>[0] = {}) =>
  sealed({ source: "Z", regions: ["Z"], serviceId: "z", keyId: "", ...said }, "none", false);

test.each<[what: string, outcome: string, seal: Sealed, isBeacon?: boolean]>([
  ["of a border without a key", "taken", ofZ()],
  ["of a border that claims another region", "not_owner", ofZ({ regions: ["A"] })],
  ["of a cluster with a key", "unsigned", sealed({ keyId: "" }, "none", false)],
  ["of a cluster with a key, above what it signed", "unsigned", sealed({ serviceId: "held", version: 5000, keyId: "" }, "none", false)],
  ["a beacon of a cluster with a key", "unsigned", { ...beacon({ version: 1001 }), signature: new Uint8Array() }, true],
  ["of a cluster that nothing names", "unknown_key", ofZ({ source: "Y", regions: ["Y"] })],
  ["of a cluster that nothing names, in no region", "unknown_key", ofZ({ source: "Y", regions: [] })],
  ["of ourselves", "echo", ofZ({ source: OTHER, regions: [OTHER] })],
])("without required signatures, what is not signed: %s: %s", (_, outcome, seal, isBeacon = false) => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const [node, relay] = [
    world.node({ nodeId: "b1", clusterId: OTHER, ...UNSIGNED }),
    world.node({ nodeId: "c1", clusterId: "C", region: OTHER }),
  ];
  expect([node.takeSeal(beacon(), { isBeacon: true }), node.takeSeal(sealed({ serviceId: "held" }))]).toEqual(["taken", "taken"]);
  expect(node.takeSeal(seal, { isBeacon })).toBe(outcome);
  expect(node.takeSeal(sealed({ serviceId: "x" }, "key-of-B"))).toBe("unknown_key");
  expect(node.held.refusals.unsigned).toBe(outcome === "taken" || outcome === "unsigned" ? 1 : 0);
  const want = outcome === "taken" ? ["A/held", "Z/z"] : ["A/held"];
  expect(node.shown.map((text) => text.split("@")[0])).toEqual(want);
  // A node of the region tells the same as a record.
  if (isBeacon) return;
  const inside = world.node({ nodeId: "b2", clusterId: OTHER, ...UNSIGNED });
  relay.stage(seal, decodeSummary(seal.signed).version);
  relay.held.replica.commit(relay.held.replica.lastSeq, relay.time);
  inside.hear(relay);
  expect(inside.shown.map((text) => text.split("@")[0])).toEqual(want.slice(1));
});

test("what our owner rule denies is held for relays and hidden, and shown when the rule changes; an import rule hides too", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  let [isOwner, imports] = [false, true];
  const asked: unknown[] = [];
  const parts = {
    isOwner: (_: unknown, source: unknown) => {
      asked.push(source);
      return isOwner;
    },
    imports: () => imports,
  };
  const b = world.node({ nodeId: "b1", clusterId: "B", parts });
  a.say("cart");
  a.beacon();
  expect([b.takeFrom(a, "beacon"), b.takeFrom(a, "cart")]).toEqual(["taken", "not_owner"]);
  expect([b.shown.length, b.held.refusals.not_owner]).toEqual([0, 1]);
  expect(asked[0]).toEqual({ clusterId: "A", region: "A" });
  b.sealOf("cart", "A");
  isOwner = true;
  b.held.rulesChanged();
  b.settle();
  expect(b.shown).toHaveLength(1);
  imports = false;
  b.held.rulesChanged();
  b.settle();
  expect(b.shown).toHaveLength(0);
  // What its own cluster says comes over no border.
  const version = b.say("own");
  expect(b.shown).toEqual([`B/own@${version}*`]);
});

test("a neighbour whose words are refused all the time hides no refusal of another one", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const node = world.node({ nodeId: "b1", clusterId: OTHER });
  const claims = (source: string, via: string) =>
    node.held.take(sealed({ source, regions: [source] }, "none"), { cluster: via, region: via }, node.time);
  for (let n = 0; n < 500; n++) claims(`made-up-${n}`, "C");
  claims("A", "D");
  const events = node.held.takeRefused();
  expect([events.filter(({ via }) => via === "C").length, events.filter(({ via }) => via === "D").length]).toEqual([60, 1]);
  for (let n = 0; n < 500; n++) claims(`made-up-${n}`, `N${n}`);
  expect(node.held.takeRefused().length).toBe(240);
});

test("events for the audit are bounded, counts are not", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const node = world.node({ nodeId: "b1", clusterId: OTHER });
  for (let n = 0; n < 500; n++) node.held.take(sealed({ serviceId: `s${n}` }, "key-of-B"), { cluster: "A", region: "A" }, node.time);
  expect(node.held.refusals.unknown_key).toBe(500);
  expect(node.held.takeRefused()).toHaveLength(5);
  for (let n = 0; n < 500; n++)
    node.held.take(sealed({ source: `z${n}`, regions: [] }, "key-of-B"), { cluster: "A", region: "A" }, node.time);
  expect(node.held.takeRefused().length).toBeLessThan(60);
});

test("a full source is refused and tried again after a minute, a full node refuses the source with the most, and never its own", () => {
  const world = new HeldWorld();
  for (const source of ["A", "C", "D"]) world.keys.add(source, source);
  const node = world.node({ nodeId: "b1", clusterId: "B", options: { maxOfSource: 4, maxInAll: 6, maxSources: 3 } });
  const give = (source: string, n: number) =>
    node.takeSeal(sealed({ source, regions: [source], serviceId: `s${n}`, keyId: `key-of-${source}` }, `key-of-${source}`));
  expect([0, 1, 2, 3, 4].map((n) => give("A", n))).toEqual(["taken", "taken", "taken", "taken", "limit"]);
  expect(node.held.sources(node.time)).toMatchObject([{ source: "A", state: "stale", summaries: 4, isFull: true, ageMs: undefined }]);
  expect([...(node.held.sources(node.time)[0]?.refused ?? [])]).toEqual([["limit", 1]]);
  expect(node.takeSeal(sealed({ serviceId: "s1", version: 1001 }))).toBe("taken");
  expect([0, 1].map((n) => give("C", n))).toEqual(["taken", "taken"]);
  expect(give("C", 2)).toBe("taken");
  expect(node.held.sources(node.time).map(({ source, summaries }) => `${source} ${summaries}`)).toEqual(["A 3", "C 3"]);
  expect(give("C", 3)).toBe("limit");
  node.say("own");
  expect(
    node.held
      .sources(node.time)
      .map(({ summaries }) => summaries)
      .reduce((a, b) => a + b),
  ).toBe(6);
  expect(give("D", 1)).toBe("limit");
  world.nowMs += MINUTE;
  expect(node.held.sources(node.time).some(({ isFull }) => isFull)).toBe(false);
});

test("where room is made for another source, that goes which no other node has", () => {
  const world = new HeldWorld();
  for (const source of ["A", "C"]) world.keys.add(source, source);
  const seal = (source: string, serviceId: string) =>
    sealed({ source, regions: [source], serviceId, keyId: `key-of-${source}` }, `key-of-${source}`);
  // Of equal records that of the last name counts, so this node keeps its own.
  const [full, other] = [
    world.node({ nodeId: "b2", clusterId: "B", options: { maxInAll: 2 } }),
    world.node({ nodeId: "b1", clusterId: "B" }),
  ];
  for (const node of [full, other]) node.takeSeal(seal("A", "both"));
  full.hear(other);
  full.takeSeal(seal("A", "alone"));
  expect([full.takeSeal(seal("C", "new")), full.shown]).toEqual(["taken", ["A/both@1000*", "C/new@1000*"]]);
});

// ---- what we say ourselves ----
test("a new key starts at the Unix time in seconds, and after that no clock decides", () => {
  const world = new HeldWorld();
  const [a, b] = ["a1", "a2"].map((nodeId, i) => world.node({ nodeId, clusterId: "A", skewMs: i * -9 * MINUTE }));
  if (!a || !b) throw new Error();
  const first = a.say("cart");
  expect(first).toBe(START_MS / 1000);
  b.hear(a);
  expect(b.say("cart")).toBe(START_MS / 1000 + 1);
  a.hear(b);
  expect([a.say("cart"), a.beacon(), a.beacon()]).toEqual([START_MS / 1000 + 2, START_MS / 1000, START_MS / 1000 + 1]);
});

test("a cluster that lost all its disks is told by its own echo, and goes above it", () => {
  const world = new HeldWorld();
  const [old, b] = [world.node({ nodeId: "a1", clusterId: "A", skewMs: 5 * MINUTE }), world.node({ nodeId: "b1", clusterId: "B" })];
  old.say("cart");
  old.beacon();
  b.takeFrom(old, "beacon");
  b.takeFrom(old, "cart");
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  const lost = a.say("cart") ?? 0;
  expect(b.takeFrom(a, "cart")).toBe("older");
  expect(a.takeFrom(b, "cart", "A")).toBe("echo");
  expect(a.held.takeExceeds()).toEqual([{ key: summaryKey("cart", "A"), version: lost + 300 }]);
  expect(a.held.takeExceeds()).toEqual([]);
  expect(a.held.restate(summaryKey("cart", "A"), a.time)).toBe(lost + 301);
  expect(b.takeFrom(a, "cart")).toBe("taken");
  // What it knows nothing of any more is taken back.
  const gone = sealed({ serviceId: "gone" });
  for (let n = 0; n < 2; n++) {
    expect(a.takeSeal(gone)).toBe("echo");
    expect(a.held.takeExceeds()).toEqual([{ key: summaryKey("gone", "A"), version: 1000 }]);
  }
  expect([a.held.restate(summaryKey("gone", "A"), a.time), a.held.takeBack(summaryKey("gone", "A"), NO_POLICY, a.time)]).toEqual([
    undefined,
    1001,
  ]);
  expect([a.takeSeal(gone), a.held.takeExceeds(), a.held.find(keyOf("gone", "A"))?.isWithdrawn]).toEqual(["echo", [], true]);
  expect(a.takeFrom(b, "beacon", "A")).toBe("echo");
  expect(a.held.takeExceeds()).toEqual([{ key: undefined, version: lost + 300 }]);
  expect(a.beacon()).toBe(lost + 301);
  // A forger cannot drive the numbers.
  const forged = sealed({ version: 2 ** 52, keyId: "key-of-A" }, "key-of-B");
  expect([a.takeSeal(forged), a.takeFrom(b, "cart", "A"), a.held.takeExceeds()]).toEqual(["echo", "echo", []]);
});

test("an echo that comes to a node without the key is held there and shown to nobody, so that the nodes that sign hear of it and go above", () => {
  const world = new HeldWorld();
  const spec = { clusterId: "A" };
  const [old, b] = [world.node({ ...spec, nodeId: "a0", skewMs: 5 * MINUTE }), world.node({ nodeId: "b1", clusterId: "B" })];
  for (const name of ["cart", "gone"]) old.say(name);
  old.beacon();
  for (const name of ["beacon", "cart", "gone"]) b.takeFrom(old, name);
  const [a1, a2] = [world.node({ ...spec, nodeId: "a1" }), world.node({ ...spec, nodeId: "a2", parts: { signer: undefined } })];
  const lost = a1.say("cart") ?? 0;
  a1.beacon();
  a2.hear(a1);
  const shown = [`A/cart@${lost}`, `A/cart@${lost}`];
  const showing = () => [a1, a2].map((node) => node.shown.map((text) => text.split("*")[0]).join(" "));
  for (const name of ["beacon", "cart", "gone"]) expect(a2.takeFrom(b, name, "A")).toBe("echo");
  a1.hear(a2);
  expect(showing()).toEqual(shown);
  const exceeds = a1.held.takeExceeds().map(({ key, version }) => `${key?.serviceId ?? "beacon"} ${version}`);
  expect(exceeds.toSorted()).toEqual(["beacon", "cart", "gone"].map((name) => `${name} ${lost + 300}`));
  expect(a1.held.restate(summaryKey("cart", "A"), a1.time)).toBe(lost + 301);
  expect([a1.held.restate(summaryKey("gone", "A"), a1.time), a1.held.takeBack(summaryKey("gone", "A"), NO_POLICY, a1.time)]).toEqual([
    undefined,
    lost + 301,
  ]);
  expect(a1.beacon()).toBe(lost + 301);
  a2.hear(a1);
  for (const name of ["beacon", "cart", "gone"]) expect(b.takeFrom(a2, name, "A")).toBe("taken");
  // It holds nothing for them any more.
  for (const key of [keyOf("cart", "A"), keyOf("gone", "A")]) expect(a2.held.replica.own(key)?.body).not.toBe(BODY.ENTRY);
  a1.hear(a2);
  expect(a1.held.takeExceeds()).toEqual([]);
  expect(showing()).toEqual([`A/cart@${lost + 301}`, `A/cart@${lost + 301}`]);
  // What is not above all that is known, and what is not rightly signed, is held nowhere.
  const before = a2.held.replica.revision;
  expect([a2.takeFrom(b, "cart", "A"), a2.takeSeal(sealed({ version: 2 ** 52, keyId: "key-of-A" }, "key-of-B"))]).toEqual(["echo", "echo"]);
  expect(a2.held.replica.revision).toBe(before);
});

test("a node with the key holds an echo for the exporter of the service, once, and the builder takes that for no word of the cluster", () => {
  const world = new HeldWorld();
  const spec = { clusterId: "A" };
  const isExporterOf = () => false;
  const [a1, a2, a3] = [
    world.node({ ...spec, nodeId: "a1" }),
    world.node({ ...spec, nodeId: "a2", parts: { isExporterOf } }),
    world.node({ ...spec, nodeId: "a3", parts: { isExporterOf } }),
  ];
  const echo = sealed({ serviceId: "cart", version: 2_000_000_000 });
  expect(a2.takeSeal(echo)).toBe("echo");
  a1.hear(a2);
  a3.hear(a2);
  expect(a1.held.takeExceeds()).toEqual([{ key: summaryKey("cart", "A"), version: 2_000_000_000 }]);
  const [record] = a1.held.replica.records(keyOf("cart", "A"));
  expect(record !== undefined && a1.held.own.counts(record, a1.time)).toBe(false);
  const before = [a2.held.replica.revision, a3.held.replica.revision];
  for (const node of [a2, a3]) expect(node.takeSeal(echo)).toBe("echo");
  expect([a2.held.replica.revision, a3.held.replica.revision]).toEqual(before);
  // It ends when the exporter has said it.
  expect(a1.say("cart")).toBe(2_000_000_001);
  a2.hear(a1);
  expect(a2.held.replica.own(keyOf("cart", "A"))?.body).not.toBe(BODY.ENTRY);
});

test("an echo takes not the place of what a node without the key took over, which may be the last copy", () => {
  const world = new HeldWorld();
  const [a1, a2] = [
    world.node({ nodeId: "a1", clusterId: "A" }),
    world.node({ nodeId: "a2", clusterId: "A", parts: { signer: undefined } }),
  ];
  const version = a1.say("cart") ?? 0;
  a2.hear(a1);
  const { replica } = a2.held;
  const earlier = [...replica.origins.values()].filter((origin) => origin !== replica.self);
  for (const origin of earlier) origin.isTakenOver = true;
  a2.stage(a1.sealOf("cart"), version);
  replica.commit(replica.lastSeq, a2.time);
  a2.settle();
  const echo = sealed({ version: version + 7 });
  expect(a2.takeSeal(echo)).toBe("echo");
  for (const origin of earlier) replica.forgetOrigin(origin, a2.time);
  a2.settle();
  // Whoever comes later hears of it from this node alone.
  const late = world.node({ nodeId: "a3", clusterId: "A" });
  late.hear(a2);
  expect([late.shown.length, late.held.takeExceeds()]).toEqual([1, []]);
  // As soon as somebody says something of it, there is room for the echo.
  expect(late.say("cart", { endpointCount: 9 })).toBe(version + 1);
  a2.hear(late);
  expect(a2.takeSeal(echo)).toBe("echo");
  late.hear(a2);
  expect(late.held.takeExceeds()).toEqual([{ key: summaryKey("cart", "A"), version: version + 7 }]);
});

test("of several words of its own that come back, in whatever order, a cluster goes above the highest", () => {
  for (const versions of [
    [1001, 1003, 1002],
    [1003, 1001],
  ]) {
    const world = new HeldWorld();
    const a = world.node({ nodeId: "a1", clusterId: "A" });
    for (const version of versions) expect(a.takeSeal(sealed({ serviceId: "gone", version }))).toBe("echo");
    expect(a.held.takeBack(summaryKey("gone", "A"), NO_POLICY, a.time)).toBe(1004);
  }
});

test("a relay that says that no border was passed is no nearer to the source than a relay is", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const [near, far] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  expect(far.takeSeal({ ...sealed(), hops: 0 })).toBe("taken");
  expect(far.sealOf("cart", "A").hops).toBe(2);
  expect(far.takeSeal({ ...sealed({ serviceId: "other" }), hops: 0 }, { from: near })).toBe("taken");
  expect(far.sealOf("other", "A").hops).toBe(1);
});

test("of a full source no signature is looked at", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const b = world.node({ nodeId: "b1", clusterId: "B", options: { maxOfSource: 1 } });
  const refusal = world.keys.refusal.bind(world.keys);
  let looks = 0;
  world.keys.refusal = (...asked) => {
    looks += 1;
    return refusal(...asked);
  };
  expect(["cart", "two", "three"].map((serviceId) => b.takeSeal(sealed({ serviceId })))).toEqual(["taken", "limit", "limit"]);
  expect(looks).toBe(2);
});

test("the own cluster has room beyond all bounds, and is never full", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A", options: { maxOfSource: 2, maxInAll: 2 } });
  for (const name of ["cart", "two", "three", "four"]) expect(a.say(name)).toBeDefined();
  expect([a.shown.length, a.held.sources(a.time).map(({ isFull }) => isFull)]).toEqual([4, [false]]);
});

test("the own cluster has a place when there is none for other sources", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const b = world.node({ nodeId: "b1", clusterId: "B", options: { maxSources: 1 } });
  expect([b.takeSeal(sealed()), b.say("mine")]).toEqual(["taken", START_MS / 1000]);
  expect(b.held.sources(b.time).map(({ source, summaries }) => [source, summaries])).toEqual([
    ["A", 1],
    ["B", 1],
  ]);
});

test("an unsigned word of the own cluster drives no version, also where signatures are not required", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A", options: { requireSignatures: false } });
  expect([a.takeSeal(sealed({ serviceId: "gone" }, "key-of-A", false)), a.held.takeExceeds()]).toEqual(["echo", []]);
  expect([a.takeSeal(sealed({ serviceId: "gone" })), a.held.takeExceeds().length]).toEqual(["echo", 1]);
});

test("a later beacon that took long makes its source no older than the one before", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const b = world.node({ nodeId: "b1", clusterId: "B" });
  expect(b.takeSeal(beacon({ version: 1001 }), { isBeacon: true })).toBe("taken");
  world.nowMs = 10_000;
  expect(b.takeSeal(beacon({ version: 1002 }), { isBeacon: true, ageMs: MINUTE })).toBe("taken");
  expect(b.ageOf("A")).toBe(10_000);
});

test("exporters that follow each other are in no conflict", () => {
  const world = new HeldWorld();
  const [a1, a2] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "a2", clusterId: "A" })];
  a1.say("cart");
  a2.hear(a1);
  a2.say("cart", { endpointCount: 4 });
  a1.hear(a2);
  expect([a1, a2].map(({ held }) => [held.refusals.conflict, held.takeExceeds()])).toEqual([
    [0, []],
    [0, []],
  ]);
});

test("a beacon that says less of a withdrawal than one before takes nothing back of it", () => {
  const world = new HeldWorld();
  world.keys.add("A", "A");
  const b = world.node({ nodeId: "b1", clusterId: "B" });
  for (const [version, withdrawn] of [
    [1001, 1005],
    [1002, 1003],
  ] as const)
    b.takeSeal(beacon({ version, withdrawals: [{ tag: 7n, version: withdrawn }] }), { isBeacon: true });
  expect([b.takeSeal(sealed({ version: 1004 })), b.takeSeal(sealed({ version: 1006 }))]).toEqual(["older", "taken"]);
});

test("the highest version is said, and none above it", () => {
  for (const [version, next] of [
    [MAX_VERSION - 1, MAX_VERSION],
    [MAX_VERSION, undefined],
  ] as const) {
    const world = new HeldWorld();
    const a = world.node({ nodeId: "a1", clusterId: "A" });
    expect(a.takeSeal(sealed({ serviceId: "gone", version }))).toBe("echo");
    expect(a.held.takeBack(summaryKey("gone", "A"), NO_POLICY, a.time)).toBe(next);
  }
});

test("a summary may be kept the longer the wider its channel is", () => {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  const ttls = [SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL].map((channel) => {
    a.say("cart", { channel });
    return a.held.own.find({ ...summaryKey("cart", "A"), channel }, a.time);
  });
  expect(ttls).toMatchObject([TTL / 4, TTL / 2, TTL].map((ttlMs) => ({ ttlMs })));
});

test("what another node of the cluster said just now is verified when it is asked for, so that nobody takes it for gone", () => {
  const world = new HeldWorld();
  const [a1, a2] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "a2", clusterId: "A" })];
  const key = summaryKey("cart", "A");
  for (const endpointCount of [1, 2, 3]) {
    const said = a1.say("cart", { endpointCount }) ?? 0;
    a2.receive(a1);
    if (endpointCount === 2) expect(a2.held.own.find(key, a2.time)).toMatchObject({ endpointCount });
    else expect(a2.held.restate(key, a2.time)).toBe(said + 1);
    a1.hear(a2);
  }
});

test("of two exporters at once the higher one counts everywhere, and the lower one is told to go above", () => {
  const world = new HeldWorld();
  const [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map((nodeId) => world.node({ nodeId, clusterId: nodeId.startsWith("a") ? "A" : "B" }));
  if (!a1 || !a2 || !b1 || !b2) throw new Error();
  a1.say("cart", { endpointCount: 1 });
  a2.say("cart", { endpointCount: 2 });
  b1.takeFrom(a2, "cart");
  b2.takeFrom(a1, "cart");
  for (const [one, other] of [
    [b1, b2],
    [b2, b1],
    [a1, a2],
    [a2, a1],
    [b1, b2],
  ] as const)
    one.hear(other);
  for (const node of [a1, a2, b1, b2]) {
    const best = node.held.replica.view(
      node.held.best(node.held.replica.lookup.cursor().next()?.key ?? ("" as never))?.key ?? ("" as never),
    );
    const content = best === undefined ? undefined : node.held.contentOf(best as never);
    expect(content).toMatchObject({ summary: { endpointCount: 2 } });
  }
  expect([a1, a2].map(({ held }) => held.takeExceeds().length)).toEqual([1, 0]);
  expect(a1.held.refusals.conflict).toBe(1);
  const above = a1.held.restate(summaryKey("cart", "A"), a1.time);
  a2.hear(a1);
  expect(a2.shown).toEqual([`A/cart@${above}*`]);
});

test("without the key of its cluster a node says nothing, also where signatures are not required", () => {
  const world = new HeldWorld();
  const parts = { signer: undefined };
  const silent = world.node({ nodeId: "a1", clusterId: "A", parts });
  expect([silent.say("cart"), silent.beacon(), silent.shown]).toEqual([undefined, undefined, []]);
  const open = world.node({ nodeId: "a1", clusterId: "A", parts, options: { requireSignatures: false } });
  expect([open.say("cart", { channel: SCOPE.REGION }), open.beacon(), open.shown]).toEqual([undefined, undefined, []]);
});

// ---- what border links read ----
test("a border link reads the keys of which the version changed, once each, and not those that are only shown or hidden", () => {
  const world = new HeldWorld();
  const [a, b, c] = ["A", "B", "B"].map((clusterId, i) => world.node({ nodeId: `n${i}`, clusterId }));
  if (!a || !b || !c) throw new Error();
  const from = { b: b.held.revision, c: c.held.revision };
  const read = (node: typeof a, after: number) => {
    const seen: string[] = [];
    node.held.changesSince(after, (held) => seen.push(`${held.isBeacon ? "beacon" : held.source}${held.isWithdrawn ? " gone" : ""}`) > 0);
    return seen;
  };
  a.say("cart");
  a.beacon();
  b.takeFrom(a, "beacon");
  b.takeFrom(a, "cart");
  c.hear(b);
  expect([read(b, from.b), read(c, from.c)]).toEqual([
    ["beacon", "A"],
    ["beacon", "A"],
  ]);
  const after = b.held.revision;
  world.nowMs = 3 * MINUTE;
  b.settle();
  b.held.rulesChanged();
  b.settle();
  expect(read(b, after)).toEqual([]);
  a.say("cart");
  b.takeFrom(a, "cart");
  a.say("cart", { withdrawn: true });
  b.takeFrom(a, "cart");
  expect([read(b, after), read(b, from.b)]).toEqual([["A gone"], ["beacon", "A gone"]]);
  expect(b.held.find(keyOf("cart", "A"))).toMatchObject({ source: "A", namespace: "svc.shop", isWithdrawn: true });
  expect(b.held.find(keyOf("none", "A"))).toBeUndefined();
});

test("a border link is told of no summary anew when its source is dropped, or comes back", () => {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  const reader = world.node({ nodeId: "b2", clusterId: "B" });
  const from = reader.held.revision;
  a.beacon();
  a.say("cart");
  for (const name of ["beacon", "cart"]) b.takeFrom(a, name);
  reader.hear(b);
  const read = (after: number) => {
    const seen: string[] = [];
    reader.held.changesSince(after, ({ isBeacon }) => seen.push(isBeacon ? "beacon" : "summary") > 0);
    return [reader.shown.length, seen];
  };
  expect(read(from)).toEqual([1, ["beacon", "summary"]]);
  const before = reader.held.revision;
  world.nowMs = TTL + STALE_KEEP;
  reader.settle();
  expect(read(before)).toEqual([0, []]);
  a.beacon();
  reader.takeFrom(a, "beacon");
  expect(read(before)).toEqual([1, ["beacon"]]);
});

test("borders that were passed are counted at arrival, and a region knows whom it hears directly", () => {
  const world = new HeldWorld();
  const [a, r, b1, b2] = ["A", "R", "B", "B"].map((clusterId, i) => world.node({ nodeId: `n${i}`, clusterId }));
  if (!a || !r || !b1 || !b2) throw new Error();
  a.say("cart");
  a.beacon();
  for (const name of ["beacon", "cart"]) expect([r.takeFrom(a, name), b2.takeFrom(r, name, "A")]).toEqual(["taken", "taken"]);
  b1.hear(b2);
  expect([b1.sealOf("cart", "A").hops, b1.held.beacons(b1.time)[0]?.hops]).toEqual([2, 2]);
  // The same beacon from its own cluster comes nearer, and no receipt moves by it.
  world.nowMs = MINUTE;
  expect([b1.takeFrom(a, "cart"), b1.takeSeal(a.sealOf("beacon"), { isBeacon: true, from: a })]).toEqual(["known", "taken"]);
  b2.hear(b1);
  expect([b1, b2].map(({ held, time }) => held.beacons(time).map(({ source, hops, ageMs }) => [source, hops, ageMs]))).toEqual([
    [["A", 1, MINUTE]],
    [["A", 1, MINUTE]],
  ]);
  expect(b2.held.replica.recordCount - b2.held.replica.tombstoneCount).toBe(2);
  world.nowMs = 60 * MINUTE;
  b1.settle();
  expect([b1.held.beacons(b1.time), b1.held.regionOf("A"), b1.held.regionOf("B"), b1.held.regionOf("Z")]).toEqual([
    [],
    "A",
    "B",
    undefined,
  ]);
});

test("a source that sends beacons without end is heard a few times a second, and nobody else can use that up", () => {
  const world = new HeldWorld();
  const node = world.node({ nodeId: "b1", clusterId: "B" });
  world.keys.add("A", "A");
  const answers: string[] = [];
  const say = (version: number, isForged: boolean) => {
    const right = beacon({ version, generatedWallMs: node.time.wallMs });
    const seal = isForged ? { ...right, signature: new Uint8Array(64) } : right;
    answers.push(node.takeSeal(seal, { isBeacon: true }));
  };
  for (let n = 0; n < 500; n++) say(1000 + n, true);
  for (let n = 0; n < 2000; n++) {
    world.nowMs += 10;
    say(2000 + n, false);
  }
  const countOf = (word: string) => answers.filter((answer) => answer === word).length;
  expect([countOf("bad_signature"), countOf("taken") + countOf("limit")]).toEqual([500, 2000]);
  expect(countOf("taken")).toBeGreaterThanOrEqual(60 + 4 * 19);
  expect(countOf("taken")).toBeLessThanOrEqual(60 + 4 * 20);
});

test("two beacons of one version, told again and again by a relay, keep out no later beacon of their source", () => {
  const world = new HeldWorld();
  world.node({ nodeId: "a1", clusterId: "A" });
  const b = world.node({ nodeId: "b1", clusterId: "B" });
  const via = { cluster: "R", region: "R" };
  b.held.takeBeacon(beacon({ version: 1000, exporter: "a2" }), via, b.time, 0);
  const losing = beacon({ version: 1000, exporter: "a1" });
  for (let n = 0; n < 100; n++) b.held.takeBeacon(losing, via, b.time, 0);
  const later = beacon({ version: 1001, exporter: "a2", generatedWallMs: START_MS });
  expect(b.held.takeBeacon(later, { cluster: "A", region: "A" }, b.time, 0)).toEqual({ kind: "taken" });
});
