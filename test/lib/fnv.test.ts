import * as fc from "fast-check";
import { expect, test } from "vitest";
import { fnv64, hashFraction, hashHex } from "../../src/lib/fnv.ts";
import { anyChar } from "../fakes/any-char.ts";

/** The definition, in BigInt. */
function naive(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text, "utf16le")) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, "0");
}

test("the hash is FNV-1a over the code units, in one go or in parts", () => {
  fc.assert(
    fc.property(fc.string({ unit: anyChar, maxLength: 40 }), fc.string({ maxLength: 10 }), (a, b) => {
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
