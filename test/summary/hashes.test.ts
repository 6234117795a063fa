/** The hashes of digests between regions. */
import { expect, test } from "vitest";
import { Sum64 } from "../../src/lib/hash64.ts";
import { opaqueTag } from "../../src/signing/signer.ts";
import { BUCKETS, bucketOf, contribution, tagHash } from "../../src/summary/held/digests.ts";
import { signingKey } from "../fakes/signing-keys.ts";

const KEYS = Array.from({ length: 64 }, (_, n) => opaqueTag(signingKey(1), `key ${n}`));
const hashOf = (tag: bigint) => tagHash("eu-1", tag);

test("a key that is ahead here and another that is ahead there never cancel out, and the numbers of a bucket and of a contribution stay as they are", () => {
  for (const [n, a] of KEYS.entries())
    for (const b of KEYS.slice(n + 1)) {
      const sum = new Sum64();
      sum.add(contribution(hashOf(a), 2));
      sum.add(contribution(hashOf(b), 1));
      sum.subtract(contribution(hashOf(a), 1));
      sum.subtract(contribution(hashOf(b), 2));
      expect(sum.value).not.toBe(0n);
    }
  expect(new Set(KEYS.map((tag) => bucketOf(hashOf(tag)))).size).toBeGreaterThan(BUCKETS / 8);
  const [first = KEYS[0]] = KEYS;
  expect([bucketOf(hashOf(first!)), contribution(hashOf(first!), 1_700_000_000)]).toMatchInlineSnapshot(`
    [
      154,
      {
        "high": 3709795031,
        "low": 1181408710,
      },
    ]
  `);
});
