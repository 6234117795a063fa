/** Which keys a lost origin had (semantics.md, Orphans). */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BODY, type KeyText } from "../../../src/catalog/record/record.ts";
import {
  bytesOfKeys,
  hasHash,
  KeysLeft,
  keyHash,
  keysOfBytes,
  type LostKeys,
  MAX_LOST_KEYS,
} from "../../../src/catalog/replica/lost-keys.ts";
import { LostOrigins } from "../../../src/catalog/replica/lost-origins.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const time = (monoMs: number) => ({ monoMs, wallMs: 1_760_000_000_000 + monoMs });
const [FIRST, SECOND, THIRD] = KEYS as unknown as readonly [KeyText, KeyText, KeyText];

function keysAt(through: number, ...keys: readonly KeyText[]): LostKeys {
  return { through, hashes: Uint32Array.from(keys, keyHash).toSorted() };
}

test("the hash of a key is part of the protocol", () => {
  const texts = ["", "svc\u00001\u0000web\u00001\u0000c1", "svc\u00001\u0000ü\u00001\u0000c1"] as readonly string[] as readonly KeyText[];
  expect(texts.map(keyHash)).toEqual([2_872_998_923, 619_072_248, 934_317_690]);
});

test("an origin leaves the keys of its entries, and none of what it ended itself", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  for (const key of [FIRST, SECOND]) a.put(key, 0, time(1));
  a.end(SECOND, BODY.EXPIRED, time(2));
  a.commit(time(2));
  b.copy(a, "a/1", time(3));
  const origin = b.replica.origins.get("a/1");
  if (origin === undefined) throw new Error("b knows a");
  // Records above its number are here, and others are not.
  origin.unsettled = { from: 2, until: 5 };
  expect(KeysLeft.of(origin)).toBeUndefined();
  origin.unsettled = undefined;
  origin.lacks = { count: 1, why: "refused" };
  expect(KeysLeft.of(origin)).toBeUndefined();
  origin.lacks = undefined;
  b.replica.forgetOrigin(origin, time(4), false, 1);
  expect([b.replica.lost.keysOf("a/1"), b.replica.lost.mayNeed(THIRD)]).toEqual([undefined, true]);
  while (b.replica.isForgetting) b.replica.sweep(1, time(5));
  expect([b.replica.lost.keysOf("a/1"), b.replica.lost.mayNeed(THIRD)]).toEqual([keysAt(3, FIRST), false]);
});

test("any list of hashes travels as bytes and is searched as it was; what is no list of them is none", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(0xffffffff), { maxLength: 50 }), fc.nat(0xffffffff), (all, other) => {
      const keys = keysOfBytes(bytesOfKeys({ through: 7, hashes: Uint32Array.from(all) }), 7);
      if (keys === undefined) throw new Error("it is a list");
      expect([...keys.hashes]).toEqual(all.toSorted((a, b) => a - b));
      for (const hash of all) expect(hasHash(keys, hash)).toBe(true);
      expect(hasHash(keys, other)).toBe(all.includes(other));
    }),
  );
  expect(keysOfBytes(new Uint8Array(7), 1)).toBeUndefined();
  expect(keysOfBytes(new Uint8Array(4 * MAX_LOST_KEYS + 4), 1)).toBeUndefined();
});

test("a tombstone may be needed by a lost origin that had its key, or of which not all keys are known", () => {
  const lost = new LostOrigins();
  expect(lost.mayNeed(FIRST)).toBe(false);
  lost.note({ nodeId: "a", generation: 1, through: 5, mark: 0 });
  expect(lost.mayNeed(FIRST)).toBe(true);
  lost.noteKeys("a/1", keysAt(5, FIRST));
  expect([FIRST, SECOND].map((key) => lost.mayNeed(key))).toEqual([true, false]);
  // Somebody had heard more of it.
  lost.note({ nodeId: "a", generation: 1, through: 7, mark: 0 });
  expect([FIRST, SECOND].map((key) => lost.mayNeed(key))).toEqual([true, true]);
  lost.noteKeys("a/1", keysAt(7, SECOND));
  expect([FIRST, SECOND].map((key) => lost.mayNeed(key))).toEqual([false, true]);
  lost.noteKeys("a/1", keysAt(6, FIRST));
  lost.noteKeys("a/1", keysAt(8, FIRST));
  expect(lost.keysOf("a/1")).toEqual(keysAt(7, SECOND));
  lost.note({ nodeId: "b", generation: 1, through: 3, mark: 0 });
  lost.noteKeys("b/1", keysAt(3, THIRD));
  expect([FIRST, SECOND, THIRD].map((key) => lost.mayNeed(key))).toEqual([false, true, true]);
  lost.markAll();
  expect([lost.mayNeed(SECOND), lost.keysOf("a/1")]).toEqual([false, undefined]);
});

test("keys of origins that are not lost are not kept, nor more than there is room for", () => {
  const lost = new LostOrigins();
  lost.noteKeys("a/1", keysAt(5, FIRST));
  expect(lost.keysOf("a/1")).toBeUndefined();
  const many = { through: 1, hashes: new Uint32Array(MAX_LOST_KEYS) };
  for (const nodeId of ["a", "b", "c", "d", "e"]) {
    expect(lost.hasRoomForKeys).toBe(nodeId !== "e");
    lost.note({ nodeId, generation: 1, through: 1, mark: 0 });
    lost.noteKeys(`${nodeId}/1`, many);
  }
  expect(["a", "d", "e"].map((nodeId) => lost.keysOf(`${nodeId}/1`) !== undefined)).toEqual([true, true, false]);
  lost.memberChanged({ nodeId: "a", generation: 1 }, "left");
  lost.noteKeys("e/1", many);
  expect(lost.keysOf("e/1")).toBe(many);
});

test("the origin of a tombstone is forgotten too: a mark takes its place only where its key is one of a lost origin's", () => {
  for (const [key, mark] of [
    [FIRST, 1],
    [SECOND, 0],
  ] as const) {
    const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
    a.put(FIRST, 0, time(1));
    a.commit(time(1));
    c.copy(a, "a/1", time(2));
    const ofA = c.replica.origins.get("a/1");
    if (ofA === undefined) throw new Error("c knows a");
    c.replica.forgetOrigin(ofA, time(3));
    // Put and taken out while a is away.
    b.put(key, 0, time(4));
    b.end(key, BODY.UNREGISTERED, time(5));
    b.commit(time(5));
    c.copy(b, "b/1", time(6));
    const ofB = c.replica.origins.get("b/1");
    if (ofB === undefined) throw new Error("c knows b");
    c.replica.forgetOrigin(ofB, time(7), true);
    expect(c.replica.lost.markOf("a/1")).toBe(mark);
  }
});
