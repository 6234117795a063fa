import fc from "fast-check";
import { expect, test } from "vitest";
import type { Hash64 } from "../../src/lib/fnv.ts";
import { Sum64 } from "../../src/lib/sum64.ts";

const half = fc.oneof(fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff), fc.nat(0xffff_ffff));
const hashes = fc.array(fc.record({ high: half, low: half }));

function naive(of: readonly Hash64[]): bigint {
  return of.reduce((sum, { high, low }) => BigInt.asUintN(64, sum + ((BigInt(high) << 32n) | BigInt(low))), 0n);
}

test("what is added and not taken away again is the sum modulo 2^64, in any order", () => {
  fc.assert(
    fc.property(hashes, hashes, (kept, passing) => {
      const sum = new Sum64();
      for (const hash of passing) sum.subtract(hash);
      for (const hash of [...kept, ...passing]) sum.add(hash);
      expect(sum.value).toBe(naive(kept));
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
      expect(both.value).toBe(naive([...one, ...other]));
    }),
  );
});
