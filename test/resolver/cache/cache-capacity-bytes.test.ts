/** The bound of bytes of a resolver holds for all that it keeps: for entries, for the traces of those that ended, and for its own books. */
import { expect, test } from "vitest";
import { KIND, keyText } from "../../../src/catalog/record/record.ts";
import { NamePopularity } from "../../../src/resolver/cache/popularity.ts";
import { RECORD_BYTES } from "../../../src/resolver/fetching/fetched-cache.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

const MAX_ENTRIES = 1000;
/** How often each name was asked for is counted whatever else there is. */
const BOOKS = new NamePopularity(MAX_ENTRIES).bytes;
/** As much as is taken in at a time. */
const MESSAGE_BYTES = 20_000;
const TOMBSTONE_BYTES = 300;

function world(roomBytes: number) {
  const of = new ResolverWorld(["a"], { maxEntries: MAX_ENTRIES, maxBytes: BOOKS + roomBytes });
  const key = (n: number) =>
    keyText({ kind: KIND.SERVICE, namespace: "svc", name: "db", instanceId: String(n).padStart(4, "0"), clusterId: "c1" });
  const held = () => {
    const { recordCount, tombstoneCount, slab } = of.replica;
    return slab.stats().usedBytes + (recordCount - tombstoneCount) * RECORD_BYTES + tombstoneCount * TOMBSTONE_BYTES;
  };
  return { of, key, held };
}

test("a thousand entries that come and go leave no more behind than the bound allows, and everything goes on", () => {
  const { of, key, held } = world(150_000);
  of.put("a", key(0));
  of.run(2000);
  let most = 0;
  for (let n = 1; n <= 1000; n++) {
    of.put("a", key(n));
    of.end("a", key(n), 1);
    if (n % 10 > 0) continue;
    of.run(100);
    most = Math.max(most, held());
  }
  expect(most).toBeGreaterThan(100_000);
  expect(most).toBeLessThan(150_000 + MESSAGE_BYTES);
  expect([of.machine.isReady, of.machine.fault]).toEqual([true, undefined]);
});

test("what grows beyond the bound is not taken in: the books of what was asked for count too", () => {
  const { of, key, held } = world(100_000);
  of.put("a", key(0));
  of.run(2000);
  for (let n = 1; n < 400; n++) {
    of.put("a", key(n));
    of.run(100);
  }
  expect(of.machine.fault).toMatch(/do not fit/);
  expect(held()).toBeLessThan(100_000 + MESSAGE_BYTES);
});
