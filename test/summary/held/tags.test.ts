/** Where a service may not be named it is called by its tag, which only its cluster can make (docs/design/summaries.md, Tags). */
import { expect, test } from "vitest";
import { runThrough } from "../../../src/lib/machine.ts";
import {
  definedDigest,
  facts,
  HeldWorld,
  liveOf,
  MEMORY,
  sealedBeacon,
  sealedSummary,
  signerOf,
  summaryKey,
} from "../../fakes/held-world.ts";

const EVERYTHING = { passes: () => true };
const ALL_BUCKETS: ReadonlySet<number> = new Set(Array.from({ length: 256 }, (_, n) => n));

/** A cluster that signs with a key of its own, and a node of another one that hears it. */
function pairOf(keyId = "key-of-A") {
  const world = new HeldWorld();
  world.keys.regions.set("A", "A");
  world.keys.counting.add("A key-of-A").add(`A ${keyId}`);
  const a = world.node({ nodeId: "a1", clusterId: "A", parts: { signer: signerOf(keyId) } });
  return { world, a, b: world.node({ nodeId: "b1", clusterId: "B" }) };
}

test("a tag is the same from the same key, another one from another key, and stays when the key of its cluster changes", () => {
  const [{ world, a }, same, other] = [pairOf(), pairOf(), pairOf("key-2")];
  for (const node of [a, same.a, other.a]) for (const name of ["cart", "shop"]) node.say(name);
  expect([same.a.tagOf("cart"), same.a.tagOf("shop")]).toEqual([a.tagOf("cart"), a.tagOf("shop")]);
  expect(new Set([a.tagOf("cart"), a.tagOf("shop"), other.a.tagOf("cart"), other.a.tagOf("shop")]).size).toBe(4);
  world.keys.counting.add("A key-2");
  const renewed = world.node({ nodeId: "a2", clusterId: "A", parts: { signer: signerOf("key-2") } });
  renewed.hear(a);
  expect([
    renewed.say("cart", { endpointCount: 9 }),
    renewed.tagOf("cart"),
    renewed.held.own.find(summaryKey("cart", "A"), renewed.time)?.keyId,
  ]).toEqual([(a.held.own.find(summaryKey("cart", "A"), a.time)?.version ?? 0) + 1, a.tagOf("cart"), "key-2"]);
  // What another node said just before is not looked at yet.
  const sooner = world.node({ nodeId: "a3", clusterId: "A", parts: { signer: signerOf("key-2") } });
  sooner.receive(a);
  sooner.held.export(facts("shop", { source: "A" }), sooner.time);
  expect(sooner.tagOf("shop")).toBe(a.tagOf("shop"));
});

test("a cluster that lost its disks and its key takes the tag from its own words that come back", () => {
  const { world, a, b } = pairOf();
  a.beacon();
  a.say("cart");
  for (const name of ["beacon", "cart"]) b.takeFrom(a, name);
  world.keys.counting.add("A key-2");
  const tag = b.tagOf("cart", "A");
  const again = world.node({ nodeId: "a1", clusterId: "A", parts: { signer: signerOf("key-2") } });
  expect(again.takeFrom(b, "cart", "A")).toBe("echo");
  again.say("cart");
  expect([again.tagOf("cart"), b.takeFrom(again, "cart")]).toEqual([tag, "taken"]);
});

test("nobody can check by a list whether a service of a name is held", () => {
  const hashes = ["key-of-A", "key-2"].map((keyId) => {
    const { a, b } = pairOf(keyId);
    a.beacon();
    a.say("merger");
    for (const name of ["beacon", "merger"]) b.takeFrom(a, name);
    return runThrough(b.held.list(EVERYTHING, ALL_BUCKETS)).map(({ hash }) => hash);
  });
  expect(new Set(hashes.flat()).size).toBe(2);
});

test("two summaries with one tag hurt their own source only", () => {
  const { world, a, b } = pairOf();
  const c = world.node({ nodeId: "c1", clusterId: "C" });
  for (const node of [a, c]) node.beacon();
  c.say("cart");
  const tag = c.tagOf("cart");
  for (const name of ["beacon", "cart"]) b.takeFrom(c, name);
  b.takeFrom(a, "beacon");
  for (const serviceId of ["one", "two", "three"]) b.takeSeal(sealedSummary({ serviceId, tag: serviceId === "three" ? 8n : tag }));
  const version = (a.held.beaconOf("A")?.version ?? 0) + 1;
  const digest = () => expect(b.held.digest(EVERYTHING)).toMatchObject(definedDigest(b, liveOf(b, EVERYTHING)));
  digest();
  expect(b.takeSeal(sealedBeacon({ version, withdrawals: [{ tag, version: 1001 }] }), { isBeacon: true })).toBe("taken");
  expect(b.shown.map((text) => text.split("@")[0])).toEqual(["C/cart", "A/three"]);
  expect(b.takeSeal(sealedSummary({ serviceId: "four", tag }))).toBe("older");
  expect(b.takeSeal(sealedSummary({ serviceId: "two", tag, version: 1002 }))).toBe("taken");
  expect(b.shown.map((text) => text.split("@")[0])).toEqual(["C/cart", "A/three", "A/two"]);
});

test("a digest follows a source that changes the tag of a summary, in a new version or in one of another exporter", () => {
  const { a, b } = pairOf();
  a.beacon();
  b.takeFrom(a, "beacon");
  expect(b.held.digest(EVERYTHING)?.count).toBe(0);
  const digests = [
    sealedSummary({ tag: 1n }),
    sealedSummary({ tag: 2n, version: 1001 }),
    sealedSummary({ tag: 3n, version: 1001, exporter: "a2" }),
  ].map((seal) => {
    expect(b.takeSeal(seal)).toBe("taken");
    expect(b.held.digest(EVERYTHING)).toMatchObject(definedDigest(b, liveOf(b, EVERYTHING)));
    return b.held.digest(EVERYTHING)?.digest;
  });
  expect(new Set(digests).size).toBe(3);
});

test("what beacons took back is remembered up to a bound, and the oldest of the source with the most goes", () => {
  const { world, a, b } = pairOf();
  const c = world.node({ nodeId: "c1", clusterId: "C" });
  c.say("gone");
  const gone = c.sealOf("gone");
  c.say("gone", { withdrawn: true });
  for (const node of [a, c]) {
    node.beacon();
    b.takeFrom(node, "beacon");
  }
  const version = a.held.beaconOf("A")?.version ?? 0;
  for (let n = 1; n <= 501; n++) {
    const withdrawals = Array.from({ length: 100 }, (_, i) => ({ tag: BigInt(n * 100 + i), version: 1001 }));
    // Of one source four a second are taken.
    world.nowMs += 250;
    b.takeSeal(sealedBeacon({ version: version + n, withdrawals, generatedWallMs: b.time.wallMs }), { isBeacon: true });
  }
  expect(b.takeSeal(sealedSummary({ serviceId: "new", tag: 50_199n }))).toBe("older");
  expect(b.takeSeal(sealedSummary({ serviceId: "old", tag: 100n }))).toBe("taken");
  expect(b.takeSeal(gone, { from: c })).toBe("older");
  expect(b.shown).toEqual(["A/old@1000"]);
  // When they are forgotten there is room again.
  world.nowMs += MEMORY;
  b.settle();
  const withdrawals = [1n, 2n].map((tag) => ({ tag, version: 1001 }));
  const ending = { version: version + 502, generatedWallMs: b.time.wallMs, withdrawals };
  expect(b.takeSeal(sealedBeacon(ending), { isBeacon: true })).toBe("taken");
  expect([1n, 2n].map((tag) => b.takeSeal(sealedSummary({ serviceId: `n${tag}`, tag })))).toEqual(["older", "older"]);
});

test("a source that floods beacons is looked through once a second", () => {
  const { world, a, b } = pairOf();
  a.beacon();
  b.takeFrom(a, "beacon");
  b.takeSeal(sealedSummary({ tag: 7n }));
  const version = a.held.beaconOf("A")?.version ?? 0;
  const tell = (n: number) =>
    b.takeSeal(sealedBeacon({ version: version + n, withdrawals: [{ tag: BigInt(n), version: 1001 }] }), { isBeacon: true });
  for (let n = 1; n <= 7; n++) tell(n);
  expect([b.shown, b.held.nextDeadlineMs(b.time)]).toEqual([["A/cart@1000"], world.nowMs + 1000]);
  world.nowMs += 1000;
  b.settle();
  expect(b.shown).toEqual([]);
});

test("keys that come when others have gone have their own tags and versions", () => {
  const { world, a } = pairOf();
  a.beacon();
  for (const name of ["one", "two", "three"]) a.say(name);
  a.say("one", { withdrawn: true });
  a.held.digest(EVERYTHING);
  world.nowMs = MEMORY;
  a.settle();
  expect(a.held.sources(a.time)[0]?.summaries).toBe(2);
  a.beacon();
  for (const name of ["four", "five", "two"]) a.say(name);
  const live = liveOf(a, EVERYTHING);
  expect(live.size).toBe(4);
  expect(a.held.digest(EVERYTHING)).toMatchObject(definedDigest(a, live));
  expect(new Map(runThrough(a.held.list(EVERYTHING, ALL_BUCKETS)).map(({ key, version }) => [key, version]))).toEqual(live);
});
