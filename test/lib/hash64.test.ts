import fc from "fast-check";
import { expect, test } from "vitest";
import { fnv64, type Hash64, hashFraction, hashHex, Sum64 } from "../../src/lib/hash64.ts";

/** The definition, in BigInt. */
function naive(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text, "utf16le")) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, "0");
}

test("the hash is FNV-1a over the code units, in one go or in parts", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 40 }), fc.string({ maxLength: 10 }), (a, b) => {
      expect(hashHex(fnv64(a))).toBe(naive(a));
      expect(hashHex(fnv64(b, fnv64(a)))).toBe(naive(a + b));
    }),
  );
});

test("fractions of texts that differ at their end are spread evenly", () => {
  const buckets = Array.from({ length: 16 }, () => 0);
  for (let i = 0; i < 16_000; i += 1) {
    const bucket = Math.floor(hashFraction(fnv64(`same-start-${i}`)) * 16);
    buckets[bucket] = (buckets[bucket] ?? 0) + 1;
  }
  expect(Math.min(...buckets)).toBeGreaterThan(850);
  expect(Math.max(...buckets)).toBeLessThan(1150);
});

const half = fc.oneof(fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff), fc.nat(0xffff_ffff));
const hashes = fc.array(fc.record({ high: half, low: half }));

function naiveSum(of: readonly Hash64[]): bigint {
  return of.reduce((sum, { high, low }) => BigInt.asUintN(64, sum + ((BigInt(high) << 32n) | BigInt(low))), 0n);
}

test("what is added and not taken away again is the sum modulo 2^64, in any order", () => {
  fc.assert(
    fc.property(hashes, hashes, (kept, passing) => {
      const sum = new Sum64();
      for (const hash of passing) sum.subtract(hash);
      for (const hash of [...kept, ...passing]) sum.add(hash);
      expect(sum.value).toBe(naiveSum(kept));
    }),
  );
});

test("a sum can be added to another", () => {
  fc.assert(
    fc.property(hashes, hashes, (one, other) => {
      const [sum, both] = [new Sum64(), new Sum64()];
      for (const hash of other) sum.add(hash);
      for (const hash of one) both.add(hash);
      both.add(sum.hash);
      expect(both.value).toBe(naiveSum([...one, ...other]));
    }),
  );
});
