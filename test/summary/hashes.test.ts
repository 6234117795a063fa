/** The hashes of digests between regions. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { Sum64 } from "../../src/lib/hash64.ts";
import { BUCKETS, bucketOf, contribution, keyHash } from "../../src/summary/hashes.ts";
import { recordKey } from "../../src/summary/keys.ts";

const KEYS = Array.from({ length: 64 }, (_, n) =>
  recordKey({ source: "eu-1", kind: KIND.SERVICE, namespace: "svc.market", serviceId: `web-${n}`, channel: SCOPE.GLOBAL }),
);

test("a key that is ahead here and another that is ahead there never cancel out, and the numbers of a bucket and of a contribution stay as they are", () => {
  for (const [n, a] of KEYS.entries())
    for (const b of KEYS.slice(n + 1)) {
      const sum = new Sum64();
      sum.add(contribution(keyHash(a), 2));
      sum.add(contribution(keyHash(b), 1));
      sum.subtract(contribution(keyHash(a), 1));
      sum.subtract(contribution(keyHash(b), 2));
      expect(sum.value).not.toBe(0n);
    }
  expect(new Set(KEYS.map((key) => bucketOf(keyHash(key)))).size).toBeGreaterThan(BUCKETS / 8);
  const [first = KEYS[0]] = KEYS;
  expect([bucketOf(keyHash(first!)), contribution(keyHash(first!), 1_700_000_000)]).toMatchInlineSnapshot(`
    [
      64,
      {
        "high": 861117930,
        "low": 1567728784,
      },
    ]
  `);
});
