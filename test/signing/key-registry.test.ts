/** Which keys count: by cases, by attacks, and beside a dumb model of trust. */
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { encodeKeyAnnouncement } from "../../gen/waymark/fabric/v1/fabric_codec.ts";
import { Ed25519PublicKey } from "../../src/lib/crypto.ts";
import { KEY_BOUNDS } from "../../src/signing/cluster-keys.ts";
import { KeyRegistry } from "../../src/signing/key-registry.ts";
import { CONTEXT, keyIdOf, type SignatureContext, type SignedBytes, type SigningKey } from "../../src/signing/signer.ts";
import { runs } from "../fakes/effort.ts";
import { announcedKey, type KeyRow, signingKey } from "../fakes/signing-keys.ts";
import { type Told, TrustModel } from "../fakes/trust-model.ts";

const KEYS = Array.from({ length: 8 }, (_, number) => signingKey(number));
const keyOf = (number: number): SigningKey => KEYS[number]!;
const TEXT = Buffer.from("a summary");
const utf8 = (text: string) => Buffer.from(text);

/** `a0 b1` names key 0 for cluster a and key 1 for cluster b. */
const rows = (text: string): readonly KeyRow[] =>
  text
    .split(" ")
    .filter((word) => word !== "")
    .map(([cluster = "", number]) => ({ cluster, region: `region-${cluster}`, publicKey: keyOf(Number(number)).publicKey.raw }));

const registryOf = (configured: string, wallMs = 0, bounds: Partial<typeof KEY_BOUNDS> = {}) => {
  const registry = new KeyRegistry({ ...KEY_BOUNDS, ...bounds });
  registry.configure(rows(configured), { wallMs });
  return registry;
};

const tell = (key: number, by: number, more: Partial<Parameters<typeof announcedKey>[0]> = {}) =>
  announcedKey({ cluster: "a", key: keyOf(key), by: keyOf(by), notBeforeWallMs: 0, notAfterWallMs: 1000, ...more });

/** What a reader says of a summary of the cluster that the key signed. */
const answer = (registry: KeyRegistry, cluster: string, key: number, wallMs = 0, context: SignatureContext = CONTEXT.SUMMARY) =>
  registry.refusal(cluster, keyOf(key).keyId, context, TEXT, keyOf(key).sign(CONTEXT.SUMMARY, TEXT), wallMs);

/** The numbers of the keys of cluster a that count. */
const counting = (registry: KeyRegistry, wallMs = 0, cluster = "a") =>
  KEYS.flatMap(({ keyId }, number) => (registry.counts(cluster, keyId, wallMs) ? [number] : []));

/** Key 1 announced by key 0, and the signature. */
const GOLDEN = [
  "0a01611210313634396333613062346265333534381a20df50d42f5cef87e42409cddf7d3cff5e63e9eac79137dc50d846f873728ebb1b2210656139363632646132396633653363382880d095ffbc313080a0f1c2b1343a4017fb03c26a800b32c0d7630f33bb601066078d9aaff0e63ae624781898329b3024b609529e5ee790b1f59bd6b6d5ed72276607ca852d106cc678ee4f74904d05",
  "51f9f63b3aa6bac0d0e23bc7d468dffbcd3e9264e8f25d703f28f40a20d0a551ee2e56622d07b5ab3eacc0191eedefa93fa118d577c5028d84ce2e3be842f40f",
];

test.each([
  { what: "a key of the settings", cluster: "a", key: 0, want: undefined },
  { what: "a second key of the settings, while a cluster changes its key", cluster: "a", key: 1, want: undefined },
  { what: "a key that nobody named", cluster: "a", key: 3, want: "unknown_key" },
  { what: "another cluster's key", cluster: "a", key: 2, want: "unknown_key" },
  { what: "a cluster that the settings do not name", cluster: "c", key: 0, want: "unknown_key" },
  { what: "a signature that was made in another context", cluster: "a", key: 0, context: CONTEXT.BEACON, want: "bad_signature" },
])("$what: $want", ({ cluster, key, context, want }) => {
  expect(answer(registryOf("a0 a1 b2"), cluster, key, 0, context)).toBe(want);
});

test("a signature counts for its own bytes only, whole, and by the key whose id it names", () => {
  const registry = registryOf("a0 a1");
  const signature = keyOf(0).sign(CONTEXT.SUMMARY, TEXT);
  const ask = (key: number, text: Uint8Array, with_: Uint8Array) =>
    registry.refusal("a", keyOf(key).keyId, CONTEXT.SUMMARY, text, with_, 0);
  expect(ask(0, TEXT, signature)).toBeUndefined();
  expect(ask(1, TEXT, signature)).toBe("bad_signature");
  expect(ask(0, utf8("a summarx"), signature)).toBe("bad_signature");
  for (const length of [0, 63]) expect(ask(0, TEXT, signature.subarray(0, length))).toBe("bad_signature");
  expect(ask(0, TEXT, Buffer.concat([signature, utf8("x")]))).toBe("bad_signature");
});

test("regions are what the settings say, and of no other cluster", () => {
  const registry = registryOf("a0 b2");
  expect(["a", "b", "c"].map((cluster) => registry.regionOf(cluster))).toEqual(["region-a", "region-b", undefined]);
  registry.configure([{ ...rows("a0")[0]!, region: "elsewhere" }], { wallMs: 0 });
  expect(["a", "b"].map((cluster) => registry.regionOf(cluster))).toEqual(["elsewhere", undefined]);
  expect(registry.changedSince(2)?.toSorted()).toEqual(["a", "b"]);
});

/** One announcement of key 3 for cluster a, whose settings name key 0. */
const fields = {
  clusterId: "a",
  keyId: keyOf(3).keyId,
  publicKey: keyOf(3).publicKey.raw,
  signedBy: keyOf(0).keyId,
  notBeforeMs: 0,
  notAfterMs: 1000,
  holderSignature: keyOf(3).sign(CONTEXT.KEY_HOLDER, utf8("a")),
};
const signedAs = (changed: Partial<typeof fields>, by = 0, context: SignatureContext = CONTEXT.KEY): SignedBytes => {
  const signed = encodeKeyAnnouncement({ ...fields, ...changed });
  return { signed, signature: keyOf(by).sign(context, signed) };
};
/** y = 0: a point of order 4. */
const smallOrder = new Uint8Array(32);
const PART = fields.publicKey.subarray(1);

test.each([
  { what: "a good announcement", sealed: signedAs({}), want: undefined },
  { what: "no signature", sealed: { ...signedAs({}), signature: new Uint8Array() }, want: "unsigned" },
  { what: "the signature of a beacon", sealed: signedAs({}, 0, CONTEXT.BEACON), want: "bad_signature" },
  { what: "a signature by another key than it names", sealed: signedAs({}, 3), want: "bad_signature" },
  { what: "its own word", sealed: signedAs({ signedBy: keyOf(3).keyId }, 3), want: "bad_signature" },
  { what: "the word of another cluster", sealed: signedAs({ signedBy: keyOf(2).keyId }, 2), want: "unknown_key" },
  { what: "a cluster that the settings do not name", sealed: signedAs({ clusterId: "c" }), want: "unknown_key" },
  { what: "a cluster whose key signed nothing", sealed: signedAs({ clusterId: "b", signedBy: keyOf(2).keyId }), want: "bad_signature" },
  { what: "a time that is over", sealed: signedAs({ notAfterMs: 10 }), want: "stale" },
  { what: "a time without length", sealed: signedAs({ notBeforeMs: 1000 }), want: "bad_signature" },
  { what: "an id that is not the key's", sealed: signedAs({ keyId: keyOf(4).keyId }), want: "bad_signature" },
  { what: "a part of a key", sealed: signedAs({ publicKey: PART, keyId: keyIdOf(PART) }), want: "bad_signature" },
  { what: "a key of small order", sealed: signedAs({ publicKey: smallOrder, keyId: keyIdOf(smallOrder) }), want: "bad_signature" },
  { what: "a key whose holder does not agree", sealed: signedAs({ holderSignature: new Uint8Array(64) }), want: "bad_signature" },
  {
    what: "a key whose holder agreed with another cluster",
    sealed: signedAs({ holderSignature: keyOf(3).sign(CONTEXT.KEY_HOLDER, utf8("b")) }),
    want: "bad_signature",
  },
  {
    what: "another cluster's key",
    sealed: signedAs({ publicKey: keyOf(2).publicKey.raw, keyId: keyOf(2).keyId }),
    want: "conflict",
  },
  { what: "bytes that say nothing", sealed: { signed: utf8("\x0f"), signature: new Uint8Array(64) }, want: "bad_signature" },
  { what: "more bytes than an announcement has", sealed: signedAs({ clusterId: "a".repeat(1000) }), want: "limit" },
])("an announcement with $what: $want", ({ sealed, want }) => {
  const registry = registryOf("a0 b2", 10);
  expect(registry.announce(sealed, { wallMs: 10 })).toBe(want);
  expect(counting(registry, 10)).toEqual(want === undefined ? [0, 3] : [0]);
  expect(registry.announcements(10)).toEqual(want === undefined ? [sealed] : []);
});

test("an announcement has the same bytes in every version, and those of earlier versions are taken", () => {
  const { signed, signature } = tell(1, 0, { notBeforeWallMs: 1_700_000_000_000, notAfterWallMs: 1_800_000_000_000 });
  expect([signed, signature].map((bytes) => Buffer.from(bytes).toString("hex"))).toEqual(GOLDEN);
  const [text = "", proof = ""] = GOLDEN;
  const registry = registryOf("a0");
  expect(registry.announce({ signed: Buffer.from(text, "hex"), signature: Buffer.from(proof, "hex") }, { wallMs: 0 })).toBeUndefined();
  expect(counting(registry, 1_700_000_000_000)).toEqual([0, 1]);
});

test("an announced key counts from its beginning to its end, and a clock that is set back brings it back", () => {
  const registry = registryOf("a0");
  expect(registry.announce(tell(3, 0, { notBeforeWallMs: 100, notAfterWallMs: 200 }), { wallMs: 50 })).toBeUndefined();
  for (const [wallMs, want] of [
    [99, [0]],
    [100, [0, 3]],
    [199, [0, 3]],
    [200, [0]],
    [150, [0, 3]],
    [0, [0]],
  ] as const) {
    registry.tick({ wallMs });
    expect(counting(registry, wallMs)).toEqual(want);
    expect(answer(registry, "a", 3, wallMs)).toBe(want.length === 2 ? undefined : "unknown_key");
  }
  expect(registry.version()).toBe(6);
});

test("a key ends with the key that announced it: times of a chain overlap, and none outlasts another", () => {
  const registry = registryOf("a0");
  registry.announce(tell(1, 0, { notBeforeWallMs: 100, notAfterWallMs: 300 }), { wallMs: 0 });
  registry.announce(tell(2, 1, { notBeforeWallMs: 0, notAfterWallMs: 900 }), { wallMs: 0 });
  expect([0, 100, 299, 300].map((wallMs) => counting(registry, wallMs))).toEqual([[0], [0, 1, 2], [0, 1, 2], [0]]);
  // The cluster announces the key once more, under the key of the settings.
  registry.announce(tell(2, 0, { notBeforeWallMs: 250, notAfterWallMs: 500 }), { wallMs: 250 });
  expect([300, 499, 500].map((wallMs) => counting(registry, wallMs))).toEqual([[0, 2], [0, 2], [0]]);
});

test("a key whose short way is over does not count by one that is too long", () => {
  const registry = registryOf("a0", 0, { maxDepth: 2 });
  for (const sealed of [tell(2, 0, { notAfterWallMs: 100 }), tell(3, 2), tell(1, 0), tell(2, 1)]) registry.announce(sealed, { wallMs: 0 });
  expect([99, 100].map((wallMs) => counting(registry, wallMs))).toEqual([
    [0, 1, 2, 3],
    [0, 1, 2],
  ]);
});

test("the version moves with what is told to others, also before a key counts and when its time is over", () => {
  const registry = registryOf("a0");
  const seen = () => [registry.version(), registry.announcements(0).length];
  const before = seen();
  for (const more of [{ notBeforeWallMs: 500 }, { notBeforeWallMs: 500 }, { notBeforeWallMs: 600 }])
    registry.announce(tell(1, 0, more), { wallMs: 0 });
  expect([before, seen()]).toEqual([
    [1, 0],
    [3, 2],
  ]);
  registry.tick({ wallMs: 1000 });
  expect([registry.version(), registry.announcements(1000).length, registry.changedSince(3)]).toEqual([4, 0, ["a"]]);
});

test("a bad signature makes nobody wait longer", () => {
  const registry = registryOf("a0", 0, { maxWaiting: 1 });
  registry.announce(tell(2, 1), { wallMs: 0 });
  expect(registry.announce({ ...tell(3, 0), signature: new Uint8Array(64) }, { wallMs: 0 })).toBe("bad_signature");
  registry.announce(tell(1, 0), { wallMs: 0 });
  expect(counting(registry)).toEqual([0, 1, 2]);
});

test("keys that announce each other do not count longer than the one that the settings lead to", () => {
  const registry = registryOf("a0");
  for (const sealed of [tell(1, 0, { notAfterWallMs: 100 }), tell(2, 1, { notAfterWallMs: 900 }), tell(1, 2, { notAfterWallMs: 900 })])
    expect(registry.announce(sealed, { wallMs: 0 })).toBeUndefined();
  expect([99, 100].map((wallMs) => counting(registry, wallMs))).toEqual([[0, 1, 2], [0]]);
});

test("announcements may come in any order: one whose signer is not known waits for it", () => {
  const chain = [tell(1, 0), tell(2, 1), tell(3, 2)];
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    const registry = registryOf("a0");
    for (const at of order) registry.announce(chain[at]!, { wallMs: 0 });
    expect(counting(registry)).toEqual([0, 1, 2, 3]);
    // Those of a signer come first, so that who is told them need not wait.
    expect(registry.announcements(0)).toEqual(chain);
    expect(registry.announcements(1000)).toEqual([]);
  }
  const early = registryOf("a5");
  expect(early.announce(chain[0]!, { wallMs: 0 })).toBe("unknown_key");
  early.configure(rows("a5 a0"), { wallMs: 0 });
  expect(counting(early)).toEqual([0, 1, 5]);
});

test("removing a key of the settings ends all that was announced under it, and nothing else", () => {
  const registry = registryOf("a0 a5 b2");
  for (const sealed of [tell(1, 0), tell(3, 1), tell(4, 5), tell(6, 2, { cluster: "b" })]) registry.announce(sealed, { wallMs: 0 });
  const { length: all } = registry.announcements(0);
  const version = registry.version();
  registry.configure(rows("a5 b2"), { wallMs: 0 });
  expect([all, counting(registry), counting(registry, 0, "b")]).toEqual([4, [4, 5], [2, 6]]);
  expect([registry.announcements(0).length, registry.changedSince(version)]).toEqual([2, ["a"]]);
  // A key that the settings name by now stays, with what was announced under it.
  registry.configure(rows("a4 b2"), { wallMs: 0 });
  expect(counting(registry)).toEqual([4]);
  registry.configure(rows("b2"), { wallMs: 0 });
  registry.configure(rows("a5 b2"), { wallMs: 0 });
  expect(counting(registry)).toEqual([5]);
});

test("a key is of one cluster: that of the settings, else the first that announced it", () => {
  const registry = registryOf("a0 b2");
  const mine = tell(3, 0);
  const theirs = tell(3, 2, { cluster: "b" });
  expect([registry.announce(mine, { wallMs: 0 }), registry.announce(theirs, { wallMs: 0 })]).toEqual([undefined, "conflict"]);
  expect([counting(registry), counting(registry, 0, "b")]).toEqual([[0, 3], [2]]);
  registry.configure(rows("a0 b2 b3"), { wallMs: 0 });
  expect([counting(registry), counting(registry, 0, "b")]).toEqual([[0], [2, 3]]);
  // It stays with the cluster that has it when the settings do not name it any more, and goes to the other one when that announcement ends.
  registry.configure(rows("a0 b2"), { wallMs: 0 });
  expect([counting(registry), counting(registry, 0, "b")]).toEqual([[0], [2, 3]]);
  registry.configure(rows("a0 b5"), { wallMs: 0 });
  expect([counting(registry), counting(registry, 0, "b")]).toEqual([[0, 3], [5]]);
});

test("what is told to others are the bytes that came, also when the buffer that they came in is used again", () => {
  const registry = registryOf("a0");
  const sealed = tell(1, 0);
  const buffer = { signed: Buffer.from(sealed.signed), signature: Buffer.from(sealed.signature) };
  registry.announce(buffer, { wallMs: 0 });
  buffer.signed.fill(0);
  buffer.signature.fill(0);
  expect(registry.announcements(0).map(({ signed, signature }) => Buffer.concat([signed, signature]))).toEqual([
    Buffer.concat([sealed.signed, sealed.signature]),
  ]);
  expect(counting(registry)).toEqual([0, 1]);
});

test("bounds: announcements that are kept, those that wait, the length of a chain; what is over makes room", () => {
  const registry = registryOf("a0", 0, { maxAnnounced: 2, maxWaiting: 2, maxDepth: 1 });
  const say = (sealed: SignedBytes, wallMs = 0) => registry.announce(sealed, { wallMs });
  expect([say(tell(1, 0, { notAfterWallMs: 10 })), say(tell(2, 0))]).toEqual([undefined, undefined]);
  // A third has no room, and a second hop is too far. Of three that wait, the oldest is forgotten; one that comes again takes no room twice.
  expect([say(tell(4, 2)), say(tell(5, 2)), say(tell(3, 0)), say(tell(3, 0))]).toEqual(["unknown_key", "unknown_key", "limit", "limit"]);
  expect(counting(registry)).toEqual([0, 1, 2]);
  // Announcement 1 is over: 6 has its room.
  expect([say(tell(2, 0), 10), say(tell(6, 0), 10), counting(registry, 10)]).toEqual([undefined, undefined, [0, 2, 6]]);
  // 5 gets on as 2 is named by the settings.
  registry.configure(rows("a2"), { wallMs: 10 });
  expect(counting(registry, 10)).toEqual([2, 5]);
  const long = registryOf("a0");
  for (let key = 1; key <= 6; key++) long.announce(tell(key, key - 1), { wallMs: 0 });
  expect(counting(long)).toEqual([0, 1, 2, 3, 4]);
});

test("announcements that wait are verified once, however many others come and end at once", () => {
  const registry = registryOf("a0 b7");
  // Another cluster has this key, so these wait.
  for (let end = 901; end < 909; end++) expect(registry.announce(tell(7, 0, { notAfterWallMs: end }), { wallMs: 0 })).toBe("conflict");
  const verify = vi.spyOn(Ed25519PublicKey.prototype, "verify");
  for (let wallMs = 0; wallMs < 100; wallMs++) {
    const sealed = tell(1 + (wallMs % 6), 0, { notBeforeWallMs: wallMs, notAfterWallMs: wallMs + 1 });
    expect(registry.announce(sealed, { wallMs })).toBeUndefined();
    registry.tick({ wallMs: wallMs + 1 });
  }
  // The signature of each, and that of the key's holder.
  expect(verify.mock.calls.length).toBeLessThanOrEqual(200);
  verify.mockRestore();
});

test("changes that are too long ago may be any", () => {
  const registry = registryOf("a0");
  const names = Array.from({ length: 1100 }, (_, i) => `c${i}`);
  for (const cluster of names) registry.configure([{ ...rows("a0")[0]!, cluster }], { wallMs: 0 });
  expect(registry.changedSince(1)).toBeUndefined();
  expect(registry.changedSince(registry.version() - 1)).toEqual(["c1099"]);
  expect(registry.changedSince(registry.version())).toEqual([]);
});

test("people see every key, where it is from and whether it counts", () => {
  const registry = registryOf("a0 b2");
  registry.announce(tell(1, 0, { notBeforeWallMs: 100 }), { wallMs: 0 });
  const seen = (wallMs: number) =>
    registry
      .list(wallMs)
      .map(({ cluster, region, keyId, counts, announced }) => [
        cluster + KEYS.findIndex((key) => key.keyId === keyId),
        region,
        counts,
        announced?.signedBy,
      ]);
  expect(seen(0)).toEqual([
    ["a0", "region-a", true, undefined],
    ["a1", "region-a", false, keyOf(0).keyId],
    ["b2", "region-b", true, undefined],
  ]);
  expect(seen(100)[1]?.[2]).toBe(true);
});

/** Keys that both clusters may announce would make the model as hard as the registry: each announces its own half of them. */
const CLUSTERS = ["a", "b"] as const;
const anyKeyOf = (cluster: string) => fc.integer({ min: 0, max: 3 }).map((key) => (cluster === "a" ? key : key + 4));
const anyTime = fc.integer({ min: 0, max: 6 });
const anyStep = fc.oneof(
  { weight: 1, arbitrary: fc.array(fc.tuple(fc.integer({ min: 0, max: 7 }), fc.constantFrom(...CLUSTERS)), { maxLength: 3 }) },
  {
    weight: 5,
    arbitrary: fc.constantFrom(...CLUSTERS).chain((cluster) =>
      fc.record({
        cluster: fc.constant(cluster),
        key: anyKeyOf(cluster),
        by: fc.oneof({ weight: 5, arbitrary: anyKeyOf(cluster) }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 7 }) }),
        fromMs: anyTime,
        lengthMs: fc.integer({ min: 1, max: 6 }),
        signer: fc.option(fc.integer({ min: 0, max: 7 }), { nil: undefined, freq: 8 }),
        context: fc.oneof({ weight: 8, arbitrary: fc.constant(CONTEXT.KEY) }, { weight: 1, arbitrary: fc.constant(CONTEXT.BEACON) }),
      }),
    ),
  },
  { weight: 2, arbitrary: anyTime },
);

test("the registry trusts exactly what a dumb model of trust does, and tells others enough to trust the same", () => {
  const bounds = { ...KEY_BOUNDS, maxAnnounced: 100, maxWaiting: 100, maxDepth: 2 };
  fc.assert(
    fc.property(fc.array(anyStep, { minLength: 4, maxLength: 24 }), (steps) => {
      const registry = new KeyRegistry(bounds);
      const model = new TrustModel(bounds.maxDepth);
      let configured: readonly KeyRow[] = [];
      let wallMs = 0;
      let before = new Map<string, string>();
      const trusted = (cluster: string, at: number) => KEYS.flatMap((_, key) => (model.trusts(cluster, key, at) ? [key] : []));
      for (const step of [[[0, "a"] as const], ...steps]) {
        const version = registry.version();
        if (typeof step === "number") {
          wallMs = step;
          registry.tick({ wallMs });
        } else if ("cluster" in step) {
          const { signer = step.by, context, lengthMs, ...rest } = step;
          const told: Told = { ...rest, untilMs: step.fromMs + lengthMs };
          const more = { cluster: told.cluster, notBeforeWallMs: told.fromMs, notAfterWallMs: told.untilMs };
          const { signed } = tell(told.key, told.by, more);
          registry.announce({ signed, signature: keyOf(signer).sign(context, signed) }, { wallMs });
          if (signer === told.by && context === CONTEXT.KEY) model.announce(told, wallMs);
        } else {
          const owners = new Map(step);
          configured = rows([...owners].map(([key, cluster]) => cluster + key).join(" "));
          registry.configure(configured, { wallMs });
          model.configure(owners);
        }
        const now = new Map(CLUSTERS.map((cluster) => [cluster as string, trusted(cluster, wallMs).join()]));
        for (const cluster of CLUSTERS) expect(counting(registry, wallMs, cluster).join()).toBe(now.get(cluster));
        const changed = CLUSTERS.filter((cluster) => now.get(cluster) !== (before.get(cluster) ?? ""));
        expect(registry.changedSince(version)).toEqual(expect.arrayContaining(changed));
        before = now;
      }
      const other = new KeyRegistry(bounds);
      other.configure(configured, { wallMs });
      for (const sealed of registry.announcements(wallMs)) other.announce(sealed, { wallMs });
      for (let later = wallMs; later <= 12; later++)
        for (const cluster of CLUSTERS) expect(counting(other, later, cluster)).toEqual(counting(registry, later, cluster));
    }),
    { numRuns: runs(100) },
  );
});
