import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { KEY_BOUNDS } from "../../../src/seal/cluster-keys.ts";
import { KeyRegistry } from "../../../src/seal/key-registry.ts";
import type { Draft } from "../../../src/summary/building/drafts.ts";
import { HeldWorld, MINUTE, START_MS, summaryKey } from "../../fakes/held-world.ts";
import { announcedKey, signingKey } from "../../fakes/signing-keys.ts";
import { SummaryNode } from "../../fakes/summary-world.ts";

const [OLD, NEW, OTHER] = [signingKey(1), signingKey(2), signingKey(3)];
const row = (cluster: string, { publicKey }: typeof OLD) => ({ cluster, region: cluster, publicKey: publicKey.raw });

/** Nodes with a registry of keys each. The settings have the old key of cluster A, and one of B. */
function worldOf() {
  const world = new HeldWorld();
  const node = (nodeId: string, clusterId: string, signer: typeof OLD) => {
    const keys = new KeyRegistry(KEY_BOUNDS);
    keys.configure([row("A", OLD), row("B", OTHER)], { wallMs: START_MS });
    return Object.assign(world.node({ nodeId, clusterId, parts: { keys, signer } }), { keys });
  };
  const nodes = { a: node("a1", "A", OLD), renewed: node("a2", "A", NEW), b1: node("b1", "B", OTHER), b2: node("b2", "B", OTHER) };
  const announced = announcedKey({
    cluster: "A",
    key: NEW,
    by: OLD,
    notBeforeWallMs: START_MS + MINUTE,
    notAfterWallMs: START_MS + 90 * MINUTE,
  });
  return { world, node, ...nodes, seal: { ...announced, hops: 0 } };
}

test("a new key counts at every node of a region once it is announced under a trusted one, and ends with that one", () => {
  const { world, a, renewed, b1, b2, seal } = worldOf();
  renewed.say("cart");
  expect([
    b1.takeFrom(renewed, "cart"),
    b1.held.announce({ ...seal, signature: OTHER.sign("waymark.key.v1", seal.signed) }, b1.time),
  ]).toEqual(["unknown_key", "bad_signature"]);
  const none = b1.held.announcements();
  expect([b1.held.announce(seal, b1.time), b1.held.announce(seal, b1.time)]).toEqual([undefined, undefined]);
  b2.hear(b1);
  for (const { held } of [b1, b2]) {
    expect(held.announcements()).toEqual([seal]);
    expect(held.announcements()).toBe(held.announcements());
  }
  expect(none).toEqual([]);
  // Its time has not come.
  expect(b1.takeFrom(renewed, "cart")).toBe("unknown_key");
  world.nowMs = MINUTE;
  a.beacon();
  b1.takeFrom(a, "beacon");
  expect(b1.takeFrom(renewed, "cart")).toBe("taken");
  b2.hear(b1);
  expect([b1.shown.length, b2.shown.length]).toEqual([1, 1]);
  // A key that is removed takes with it what was announced under it.
  b2.keys.configure([row("A", signingKey(4)), row("B", OTHER)], { wallMs: START_MS + MINUTE });
  b2.held.keysChanged(b2.keys.changedSince(0));
  b2.settle();
  expect([b1.shown.length, b2.shown.length]).toEqual([1, 0]);
  // Time alone ends it too.
  world.nowMs = 90 * MINUTE;
  b1.keys.tick(b1.time);
  b1.held.keysChanged(b1.keys.changedSince(0));
  b1.settle();
  expect(b1.held.replica.lookup.namespaces.list()).not.toContain("svc.shop");
});

test("what was told before the key of its cluster is shown when the key comes", () => {
  const { world, node, a, renewed, b1, seal } = worldOf();
  world.nowMs = MINUTE;
  a.beacon();
  renewed.say("cart");
  b1.takeFrom(a, "beacon");
  for (const each of [b1.held.announce(seal, b1.time), b1.takeFrom(renewed, "cart")]) expect(each).not.toBe("unknown_key");
  const late = node("b3", "B", OTHER);
  late.keys.configure([row("B", OTHER)], { wallMs: START_MS });
  late.hear(b1);
  expect([late.shown, late.held.announcements()]).toEqual([[], []]);
  late.keys.configure([row("A", OLD), row("B", OTHER)], { wallMs: START_MS });
  late.held.keysChanged();
  late.settle();
  expect(late.shown).toHaveLength(1);
});

test("what did not change since a cluster changed its key stays in sight when the old key goes, and what it took back stays away", () => {
  const { world, a, b1, seal } = worldOf();
  world.nowMs = MINUTE;
  const hand = { key: OLD };
  const signer = {
    get keyId() {
      return hand.key.keyId;
    },
    sign: (...args: Parameters<typeof OLD.sign>) => hand.key.sign(...args),
  };
  const same = world.node({ nodeId: "a1", clusterId: "A", parts: { keys: a.keys, signer } });
  const builder = new SummaryNode("a1", { source: { clusterId: "A", region: "A" } }, same.held.own);
  builder.record({ namespace: "svc.shop", name: "cart", at: "a1", clusterId: "A", region: "A" }, BODY.ENTRY, same.time);
  builder.builder.follow({ members: ["a1"], standing: "exporting" });
  const build = () => {
    for (const until = world.nowMs + 10_000; world.nowMs < until; world.nowMs += 1000) {
      const drafts: Draft[] = [];
      builder.builder.tick(same.time, drafts);
      for (const { facts } of drafts) same.held.export(facts, same.time);
      same.settle();
    }
  };
  const toB = () => ["beacon", "cart", "gone"].map((name) => b1.takeFrom(same, name));
  build();
  same.say("gone");
  const live = same.sealOf("gone");
  same.say("gone", { withdrawn: true });
  same.beacon();
  expect(toB()).toEqual(["taken", "taken", "taken"]);
  expect([same.held.announce(seal, same.time), b1.held.announce(seal, b1.time)]).toEqual([undefined, undefined]);
  hand.key = NEW;
  build();
  same.beacon();
  expect(toB()).toEqual(["taken", "taken", "taken"]);
  b1.keys.configure([row("A", NEW), row("B", OTHER)], b1.time);
  b1.held.keysChanged(["A"]);
  b1.settle();
  expect(b1.shown.map((text) => text.split("@")[0])).toEqual(["A/cart"]);
  expect([b1.takeSeal(live, { from: same }), same.held.own.find(summaryKey("gone", "A"), same.time)?.keyId]).toEqual(["older", NEW.keyId]);
});
