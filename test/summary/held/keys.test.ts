import { describe, expect, test, vi } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { KEY_BOUNDS } from "../../../src/signing/cluster-keys.ts";
import { KeyRegistry } from "../../../src/signing/key-registry.ts";
import type { Draft } from "../../../src/summary/building/drafts.ts";
import { encodeBeacon, encodeSummary } from "../../../src/summary/codec.ts";
import { type Beacon, MAX_VERSION, type Summary } from "../../../src/summary/summary.ts";
import { facts, type HeldNode, HeldWorld, keyOf, MEMORY, MINUTE, STALE_KEEP, START_MS, summaryKey, TTL } from "../../fakes/held-world.ts";
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

test("what is said from another region than the settings have now is hidden, and shown when they have it again", () => {
  const { a, b1, b2 } = worldOf();
  a.say("cart");
  a.beacon();
  expect([b1.takeFrom(a, "beacon"), b1.takeFrom(a, "cart")]).toEqual(["taken", "taken"]);
  b2.hear(b1);
  for (const region of ["elsewhere", "A"]) {
    for (const node of [b1, b2]) {
      node.keys.configure([{ ...row("A", OLD), region }, row("B", OTHER)], { wallMs: START_MS });
      node.held.keysChanged(node.keys.changedSince(0));
      node.settle();
      expect(node.shown).toHaveLength(region === "A" ? 1 : 0);
    }
  }
});

test("what is held of a cluster that the settings name no more is kept for as long as that of a lost one, and comes again when they name it", () => {
  const { world, a, b1, b2 } = worldOf();
  const take = (...names: readonly string[]) => names.map((name) => b1.takeFrom(a, name));
  const configure = (...rows: readonly ReturnType<typeof row>[]) => {
    for (const node of [b1, b2]) {
      node.keys.configure([...rows, row("B", OTHER)], node.time);
      node.held.keysChanged(["A"]);
      node.settle();
    }
  };
  const share = () => {
    b2.hear(b1);
    b1.hear(b2);
  };
  const held = ({ held: { replica } }: typeof b1) =>
    ["cart", "gone"].flatMap((name) => replica.records(keyOf(name, "A")).filter(({ body }) => body === BODY.ENTRY)).length;
  a.say("cart");
  a.say("gone");
  a.say("gone", { withdrawn: true });
  a.beacon();
  take("beacon", "cart", "gone");
  share();
  configure();
  expect([b1, b2].map((node) => [held(node), node.shown.length])).toEqual([
    [2, 0],
    [2, 0],
  ]);
  for (const untilMs of [TTL + STALE_KEEP, MEMORY + MINUTE, MEMORY + 2 * MINUTE]) {
    world.nowMs = untilMs;
    for (const node of [b1, b2]) node.settle();
    share();
  }
  expect([b1, b2].map((node) => [held(node), node.held.sources(node.time).filter(({ source }) => source === "A").length])).toEqual([
    [0, 0],
    [0, 0],
  ]);
  configure(row("A", OLD));
  a.beacon();
  expect(take("beacon", "cart")).toEqual(["taken", "taken"]);
  share();
  for (const node of [b1, b2]) expect(node.shown).toHaveLength(1);
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
      for (const draft of drafts) same.held.export(draft.facts, same.time);
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

describe("a stolen key that is removed from the settings", () => {
  const STOLEN = signingKey(5);
  const [BOTH, TRUE] = [
    [row("A", OLD), row("A", STOLEN), row("B", OTHER)],
    [row("A", OLD), row("B", OTHER)],
  ];
  const HIGH = 2 ** 51;
  const forged = (said: Partial<Summary> = {}) => {
    const content = { version: HIGH, exporter: "a1", keyId: STOLEN.keyId, generatedWallMs: START_MS, ttlMs: 60_000, tag: 7n };
    const signed = encodeSummary({ ...facts("cart", { source: "A" }), ...content, ...said });
    return { signed, signature: STOLEN.sign("waymark.summary.v1", signed), hops: 0 };
  };
  const forgedBeacon = (withdrawals: Beacon["withdrawals"] = [], version = HIGH) => {
    const content = { version, exporter: "a1", keyId: STOLEN.keyId, generatedWallMs: START_MS, ttlMs: 60_000 };
    const signed = encodeBeacon({ source: "A", region: "A", ...content, ingress: [], withdrawals });
    return { signed, signature: STOLEN.sign("waymark.beacon.v1", signed), hops: 0 };
  };

  /** The nodes of B have heard the truth, and then what the thief says. */
  function deceived(lies: (b1: HeldNode, b2: HeldNode, tag: bigint) => void) {
    const worldA = worldOf();
    const { world, a, b1, b2 } = worldA;
    for (const each of [b1, b2]) each.keys.configure(BOTH, { wallMs: START_MS });
    a.beacon();
    a.say("cart");
    for (const name of ["beacon", "cart"]) b1.takeFrom(a, name);
    b2.hear(b1);
    const tag = a.tagOf("cart");
    lies(b1, b2, tag);
    for (let n = 0; n < 2; n++) for (const [one, other] of [[b1, b2] as const, [b2, b1] as const]) one.hear(other);
    const remove = () => {
      for (const each of [b1, b2]) {
        each.keys.configure(TRUE, { wallMs: START_MS });
        each.held.keysChanged(["A"]);
        each.settle();
      }
    };
    const shown = () => {
      for (let n = 0; n < 2; n++) for (const [one, other] of [[b1, b2] as const, [b2, b1] as const]) one.hear(other);
      return [b1, b2].map((node) => node.shown.map((text) => text.split("@")[0]?.concat(text.endsWith("*") ? "*" : "")).join());
    };
    return { ...worldA, remove, shown, world };
  }

  test.each<[string, (b1: HeldNode, b2: HeldNode, tag: bigint) => void]>([
    ["a beacon", (b1) => void b1.takeSeal(forgedBeacon(), { isBeacon: true })],
    ["withdrawals in a beacon", (b1, _, tag) => void b1.takeSeal(forgedBeacon([{ tag, version: HIGH }]), { isBeacon: true })],
    ["a summary", (b1) => void b1.takeSeal(forged())],
    ["a withdrawal", (b1, _, tag) => void b1.takeSeal(forged({ withdrawn: true, tag }))],
    [
      "a summary that two nodes took, of which one ended its own",
      (b1, b2) => {
        b1.takeSeal(forged());
        b2.takeSeal(forged());
      },
    ],
    [
      "ages",
      (b1, b2) => {
        for (const each of [b1, b2]) each.held.heardAge({ source: "A", version: HIGH, ageMs: 0 }, each.time);
      },
    ],
  ])("holds back nothing true after it said %s", (_, lies) => {
    const { world, a, b1, remove, shown } = deceived(lies);
    const revision = b1.held.revision;
    world.nowMs = MINUTE;
    remove();
    a.beacon();
    a.say("cart", { endpointCount: 9 });
    expect([b1.takeFrom(a, "beacon"), b1.takeFrom(a, "cart")]).toEqual(["taken", "taken"]);
    expect(shown()).toEqual(["A/cart", "A/cart"]);
    world.nowMs += 100_000;
    expect(shown()).toEqual(["A/cart", "A/cart"]);
    // Neighbours are told too.
    const told: boolean[] = [];
    b1.held.changesSince(revision, ({ isBeacon }) => told.push(isBeacon) > 0);
    expect(told).toContain(true);
  });

  test("what it hid was ended here, and comes with the next comparison", () => {
    const { remove, shown } = deceived((b1, _, tag) => {
      b1.takeSeal(forgedBeacon([{ tag, version: HIGH }]), { isBeacon: true });
      b1.takeSeal(forged({ withdrawn: true, tag }));
    });
    expect(shown()).toEqual(["", ""]);
    remove();
    expect(shown()).toEqual(["", ""]);
  });

  test("leaves its own cluster a version for what it says", () => {
    const { world, a } = worldOf();
    a.keys.configure(BOTH, { wallMs: START_MS });
    const versions = [a.say("cart"), a.beacon()];
    expect([a.takeSeal(forged({ version: MAX_VERSION })), a.takeSeal(forgedBeacon([], MAX_VERSION), { isBeacon: true })]).toEqual([
      "echo",
      "echo",
    ]);
    expect([a.say("cart"), a.beacon()]).toEqual([undefined, undefined]);
    a.keys.configure(TRUE, { wallMs: START_MS });
    a.held.keysChanged(["A"]);
    a.settle();
    world.nowMs = 1000;
    expect([a.say("cart"), a.beacon()]).toEqual(versions.map((version) => (version ?? 0) + 1));
  });

  test("ends a withdrawal of a true key no sooner", () => {
    const { world, a, b1, remove, shown } = deceived(() => {});
    const old = a.sealOf("cart");
    a.say("cart", { withdrawn: true });
    a.beacon();
    expect(b1.takeFrom(a, "beacon")).toBe("taken");
    remove();
    world.nowMs += 1000;
    expect([b1.takeSeal(old), shown()]).toEqual(["older", ["", ""]]);
  });
});

test("what a key signed or announced that is gone is kept for as long as that of a lost cluster, though its cluster lives", () => {
  const { world, a, renewed, b1, seal } = worldOf();
  const BY_NEW = announcedKey({
    cluster: "A",
    key: signingKey(6),
    by: NEW,
    notBeforeWallMs: START_MS,
    notAfterWallMs: START_MS + 90 * MINUTE,
  });
  const held = () => {
    const names: string[] = [];
    b1.held.replica.changesSince(0, ({ body, name }) => body !== BODY.ENTRY || names.push(name) > 0);
    return names.length;
  };
  const live = (untilMs: number) => {
    for (; world.nowMs < untilMs; world.nowMs += MINUTE / 2) {
      a.beacon();
      b1.takeFrom(a, "beacon");
      b1.settle();
    }
  };
  const configure = (...rows: readonly ReturnType<typeof row>[]) => {
    b1.keys.configure([...rows, row("B", OTHER)], b1.time);
    b1.held.keysChanged(["A"]);
    b1.settle();
  };
  configure(row("A", OLD), row("A", NEW));
  a.say("cart");
  for (const name of ["s0", "s1"]) renewed.say(name);
  live(MINUTE);
  expect([b1.takeFrom(a, "cart"), ...["s0", "s1"].map((name) => b1.takeFrom(renewed, name))]).toEqual(["taken", "taken", "taken"]);
  expect(b1.held.announce({ ...BY_NEW, hops: 0 }, b1.time)).toBeUndefined();
  expect([b1.shown.length, held()]).toEqual([3, 5]);
  // Somebody who takes the key out by mistake, and sees it soon, loses nothing.
  configure(row("A", OLD));
  expect(b1.shown).toHaveLength(1);
  live(2 * MINUTE);
  configure(row("A", OLD), row("A", NEW));
  expect(b1.shown).toHaveLength(3);
  configure(row("A", OLD));
  live(3 * MINUTE + TTL + STALE_KEEP);
  expect([b1.shown.length, held()]).toEqual([1, 2]);
  // What was ended keeps nothing out.
  configure(row("A", OLD), row("A", NEW));
  expect([b1.takeFrom(renewed, "s0"), b1.held.announce(seal, b1.time), b1.shown.length]).toEqual(["taken", undefined, 2]);
});

/** Cluster A lives, and settings of b1 change. A summary of A that a later key of it signed is held at b1, and the key is taken out of the settings. */
function takenOut(alsoAsked?: string) {
  const { world, a, renewed, b1 } = worldOf();
  const live = (untilMs: number) => {
    for (; world.nowMs < untilMs; world.nowMs += MINUTE / 2) {
      a.beacon();
      b1.takeFrom(a, "beacon");
      if (alsoAsked !== undefined) b1.held.keysChanged([alsoAsked]);
      b1.settle();
    }
  };
  const configure = (...rows: readonly ReturnType<typeof row>[]) => {
    b1.keys.configure([...rows, row("B", OTHER)], b1.time);
    b1.held.keysChanged(["A"]);
    b1.settle();
  };
  const bringBack = () => configure(row("A", OLD), row("A", NEW));
  const takeOut = () => configure(row("A", OLD));
  bringBack();
  renewed.say("cart");
  live(MINUTE);
  b1.takeFrom(renewed, "cart");
  const outMs = world.nowMs;
  takeOut();
  return { world, b1, live, bringBack, takeOut, outMs };
}

test("a key that was taken out by mistake twice is waited for as long the second time", () => {
  const { b1, live, bringBack, takeOut, outMs } = takenOut();
  live(outMs + MINUTE);
  bringBack();
  live(outMs + TTL + STALE_KEEP - MINUTE);
  expect(b1.shown).toHaveLength(1);
  takeOut();
  live(outMs + TTL + STALE_KEEP + MINUTE);
  expect(b1.shown).toEqual([]);
  bringBack();
  expect(b1.shown).toHaveLength(1);
});

test("a key that goes right before the first deadline is waited for as long, also if it is asked for late", () => {
  const { world, b1, live, bringBack, takeOut, outMs } = takenOut();
  live(outMs + MINUTE);
  bringBack();
  live(outMs + TTL + STALE_KEEP - 3 * MINUTE);
  world.nowMs = outMs + TTL + STALE_KEEP - 5000;
  b1.settle();
  // All askings of a minute are used up.
  for (let n = 0; n < 6; n++) {
    b1.held.keysChanged(["A"]);
    b1.settle();
  }
  expect(b1.shown).toHaveLength(1);
  takeOut();
  for (let n = 0; n < 60; n++) {
    world.nowMs += 1000;
    b1.settle();
  }
  expect(b1.shown).toEqual([]);
  bringBack();
  for (let n = 0; n < 60; n++) {
    world.nowMs += 1000;
    b1.settle();
  }
  expect(b1.shown).toHaveLength(1);
});

test.each(["A", "B"])("what a key that is gone signed ends at its time, also if keys of %s change each half minute", (cluster) => {
  const { world, b1, live, bringBack, outMs } = takenOut(cluster);
  live(outMs + TTL + STALE_KEEP + 3 * MINUTE);
  bringBack();
  live(world.nowMs + MINUTE);
  expect(b1.shown).toEqual([]);
});

test("what a key that is gone took back is no word of its cluster", () => {
  const { a, renewed, b1 } = worldOf();
  const configure = (...rows: readonly ReturnType<typeof row>[]) => {
    b1.keys.configure([...rows, row("B", OTHER)], b1.time);
    b1.held.keysChanged(["A"]);
    b1.settle();
  };
  configure(row("A", OLD), row("A", NEW));
  a.beacon();
  b1.takeFrom(a, "beacon");
  renewed.say("cart");
  renewed.say("cart", { withdrawn: true });
  b1.takeFrom(renewed, "cart");
  const takenBack = () => {
    const found: boolean[] = [];
    b1.held.replica.changesSince(0, (record) => (record.name === "cart" && found.push(b1.held.isTakenBack(record)), true));
    return found;
  };
  b1.settle();
  expect(takenBack()).toEqual([true]);
  configure(row("A", OLD));
  expect(takenBack()).toEqual([false]);
});

test("a cluster that announces keys without end has a few of them held, and those that are over go", () => {
  const { world, b1 } = worldOf();
  const keys = Array.from({ length: 12 }, (_, n) => signingKey(10 + n));
  const records = () => {
    let count = 0;
    b1.held.replica.changesSince(0, ({ body }) => (count += Number(body === BODY.ENTRY)) > 0);
    return count;
  };
  const answers = new Map<string | undefined, number>();
  for (let n = 0; n < 600; n++) {
    world.nowMs += 100;
    const times = { notBeforeWallMs: b1.time.wallMs, notAfterWallMs: b1.time.wallMs + 50 };
    const text = announcedKey({ cluster: "A", key: keys[n % 12] ?? NEW, by: OLD, ...times });
    const answer = b1.held.announce({ ...text, hops: 0 }, b1.time);
    answers.set(answer, (answers.get(answer) ?? 0) + 1);
    b1.keys.tick(b1.time);
    b1.settle();
  }
  expect([...answers.keys()]).toEqual([undefined, "limit"]);
  expect(answers.get(undefined)).toBeLessThanOrEqual(32 + 7);
  world.nowMs += MINUTE;
  b1.keys.tick(b1.time);
  b1.held.keysChanged(["A"]);
  b1.settle();
  expect(records()).toBe(0);
  expect(b1.held.announcements()).toEqual([]);
});

test("who forges announcements in the name of a cluster keeps none of its own out", () => {
  const { b1, seal } = worldOf();
  for (let n = 0; n < 100; n++) {
    const times = { notBeforeWallMs: START_MS + n, notAfterWallMs: START_MS + MINUTE };
    const forged = { ...announcedKey({ cluster: "A", key: NEW, by: OLD, ...times }), signature: OTHER.sign("waymark.key.v1", seal.signed) };
    expect(b1.held.announce({ ...forged, hops: 0 }, b1.time)).toBe("bad_signature");
  }
  expect(b1.held.announce(seal, b1.time)).toBeUndefined();
});

test("keys of a cluster that change without end have its records asked a few times a minute", () => {
  const { world, a, b1 } = worldOf();
  a.beacon();
  b1.takeFrom(a, "beacon");
  for (let n = 0; n < 50; n++) {
    a.say(`s${n}`);
    b1.takeFrom(a, `s${n}`);
  }
  const asked = vi.spyOn(b1.keys, "counts");
  for (let n = 0; n < 600; n++) {
    world.nowMs += 100;
    b1.held.keysChanged(["A"]);
    b1.settle();
  }
  expect(asked.mock.calls.length).toBeLessThanOrEqual(51 * 13);
  // The last change is looked at too.
  b1.keys.configure([row("B", OTHER)], b1.time);
  b1.held.keysChanged(["A"]);
  b1.settle();
  for (const until = world.nowMs + 10_000; world.nowMs < until; ) {
    world.nowMs = Math.min(until, Math.max(world.nowMs + 1, b1.held.nextDeadlineMs(b1.time)));
    b1.settle();
  }
  expect(b1.shown).toEqual([]);
});

test("what is hidden because its key is gone is not asked again for that change, however many slices it takes", () => {
  const { a, b1 } = worldOf();
  a.beacon();
  b1.takeFrom(a, "beacon");
  for (let n = 0; n < 600; n++) {
    a.held.export(facts(`s${n}`, { source: "A" }), a.time);
    b1.held.take(a.sealOf(`s${n}`), { cluster: "A", region: "A" }, b1.time);
  }
  b1.settle();
  expect(b1.shown).toHaveLength(600);
  const verified = vi.spyOn(b1.keys, "refusal");
  b1.keys.configure([row("A", NEW), row("B", OTHER)], b1.time);
  b1.held.keysChanged(["A"]);
  b1.settle();
  expect([b1.shown, verified.mock.calls.length]).toEqual([[], 0]);
});
