import fc from "fast-check";
import { expect, test } from "vitest";
import keys from "../../docs/examples/shards/keys.json" with { type: "json" };
import { sha256Hex } from "../../src/lib/crypto.ts";
import { shardOfKey } from "../../src/lib/shard-key.ts";

// The Go client checks the same rows (test/interop/go).
test("each published key has its published shard", () => {
  for (const { namespace, count, key, key_hex, shard } of keys) {
    const bytes = key_hex === undefined ? Buffer.from(key ?? "") : Buffer.from(key_hex, "hex");
    expect([shardOfKey(namespace, count, bytes), key ?? key_hex]).toEqual([shard, key ?? key_hex]);
    if (key !== undefined) expect([shardOfKey(namespace, count, key), key]).toEqual([shard, key]);
  }
});

test("the shard is floor(count × u / 2^64) of the first 8 bytes of SHA-256", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 20 }), fc.string({ unit: "grapheme" }), (count, key) => {
      const u = BigInt(`0x${sha256Hex(`orders\0${key}`).slice(0, 16)}`);
      expect(shardOfKey("orders", count, key)).toBe(Number((BigInt(count) * u) >> 64n));
    }),
  );
});
