import { expect, test } from "vitest";
import { Answers } from "../../src/discovery/answers.ts";

const [ALICE, BOB] = [{ principal: "alice" }, { principal: "bob" }];
const LEASE = { leaseId: "n/1", ttlMs: 1000 };

function answers(): Answers {
  return new Answers({ maxCount: 2, maxTtlMs: 5000 });
}

test("a retried request finds its answer for the lease's ttl and not longer", () => {
  const kept = answers();
  kept.keep(ALICE, "k", LEASE, 0);
  expect(kept.find(ALICE, "k", 999)).toMatchObject(LEASE);
  expect(kept.find(ALICE, "k", 1000)).toBeUndefined();
});

test("an answer about a static lease is kept for the longest ttl", () => {
  const kept = answers();
  kept.keep(ALICE, "k", { leaseId: "n/1", ttlMs: undefined }, 0);
  expect(kept.find(ALICE, "k", 4999)).toBeDefined();
  expect(kept.find(ALICE, "k", 5000)).toBeUndefined();
});

test("a key is its principal's own, and no key finds nothing", () => {
  const kept = answers();
  kept.keep(ALICE, "k", LEASE, 0);
  kept.keep(ALICE, "", LEASE, 0);
  expect([kept.find(BOB, "k", 0), kept.find(ALICE, "", 0)]).toEqual([undefined, undefined]);
});

test("above the bound the oldest answer goes", () => {
  const kept = answers();
  for (const key of ["a", "b", "c"]) kept.keep(ALICE, key, LEASE, 0);
  expect(["a", "b", "c"].map((key) => kept.find(ALICE, key, 0) !== undefined)).toEqual([false, true, true]);
});

test("what has run out is swept, what was taken back is gone", () => {
  const kept = answers();
  kept.keep(ALICE, "a", LEASE, 0);
  kept.sweep(1000);
  kept.keep(ALICE, "b", LEASE, 1000);
  kept.forget(ALICE, "b");
  expect([kept.find(ALICE, "a", 500), kept.find(ALICE, "b", 1000)]).toEqual([undefined, undefined]);
});
