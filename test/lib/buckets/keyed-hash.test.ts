import { expect, test } from "vitest";
import { type HashKey, keyedHash } from "../../../src/lib/buckets/keyed-hash.ts";
import { hashHex } from "../../../src/lib/hash64.ts";

// The vectors of the reference implementation (github.com/veorq/SipHash, vectors.h): the bytes 0, 1, 2, … under the key 0, 1, …, 7.
test.each([
  { length: 0, hash: "218d1f59b9b83cc8" },
  { length: 2, hash: "064f39ef7c50eb57" },
  { length: 4, hash: "d5e78a175be52ea1" },
  { length: 6, hash: "ce3e91358aa2bc25" },
  { length: 8, hash: "edfee820bce4858c" },
])("the hash of $length bytes is that of the reference", ({ length, hash }) => {
  const text = String.fromCharCode(...Array.from({ length: length / 2 }, (_, i) => 2 * i + ((2 * i + 1) << 8)));
  const { low, high } = keyedHash(text, [0x03020100, 0x07060504]);
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setUint32(0, low, true);
  bytes.setUint32(4, high, true);
  expect(hashHex({ high: bytes.getUint32(0), low: bytes.getUint32(4) })).toBe(hash);
});

test("another key gives other hashes, and either half of it counts", () => {
  const keys: HashKey[] = [
    [1, 2],
    [1, 3],
    [3, 2],
    [0xffff_ffff, 0xffff_ffff],
  ];
  expect(new Set(keys.map((key) => hashHex(keyedHash("address 192.0.2.1", key)))).size).toBe(4);
});
