import { expect, test } from "vitest";
import {
  attemptOf,
  IdempotentAnswers,
  NO_ATTEMPT,
  type RegisterFields,
  type RetryIdentity,
  restoredAttempt,
  storedAttempt,
} from "../../../src/discovery/registrar/idempotent-answers.ts";
import { stamped } from "../../fakes/registry.ts";

const [ALICE, BOB] = [{ principal: "alice" }, { principal: "bob" }];
const LEASE = { leaseId: "n/1", ttlMs: 1000 };

function answers(): IdempotentAnswers {
  return new IdempotentAnswers({ maxCount: 2, maxTtlMs: 5000 });
}

function asked(key: string, digest = "d".repeat(32)): RetryIdentity {
  return { key, digest };
}

const REQUEST: RegisterFields = {
  stampedEntries: [stamped("a"), stamped("b")],
  ttlMs: 1000,
  leaseId: "",
  isStatic: false,
  idempotencyKey: "k",
};

test("a request is the same one by its entries, ttl, lease and kind of lease, and not by the load that it reports", () => {
  const digest = (over: Partial<RegisterFields> = {}) => attemptOf({ ...REQUEST, ...over }).digest;
  const others: Partial<RegisterFields>[] = [
    { stampedEntries: [stamped("a")] },
    { stampedEntries: [stamped("b"), stamped("a")] },
    { stampedEntries: [stamped("a"), stamped("b", { tags: ["new"] })] },
    { ttlMs: undefined },
    { leaseId: "n/1" },
    { ttlMs: undefined, isStatic: true },
  ];
  expect(new Set([digest(), ...others.map(digest)]).size).toBe(others.length + 1);
  expect(digest({ stampedEntries: [stamped("a"), stamped("b", { load: { activeClients: 7 } })] })).toBe(digest());
  expect(attemptOf({ ...REQUEST, idempotencyKey: "" })).toEqual(NO_ATTEMPT);
});

test("the journal keeps key and digest in one text", () => {
  for (const attempt of [attemptOf(REQUEST), asked("a\nb"), NO_ATTEMPT]) expect(restoredAttempt(storedAttempt(attempt))).toEqual(attempt);
});

test("a key that was of another request is refused; when the answer to that is over, nothing is found", () => {
  const kept = answers();
  kept.keep(ALICE, asked("k"), LEASE, 0);
  expect(() => kept.find(ALICE, asked("k", "other"), 1)).toThrow("idempotency_key: was already used for a request with different entries");
  expect(kept.find(ALICE, asked("k", "other"), 1000)).toBeUndefined();
});

test("a retried request finds its answer for the lease's ttl and not longer", () => {
  const kept = answers();
  kept.keep(ALICE, asked("k"), LEASE, 0);
  expect(kept.find(ALICE, asked("k"), 999)).toMatchObject(LEASE);
  expect(kept.find(ALICE, asked("k"), 1000)).toBeUndefined();
});

test("an answer about a static lease is kept for the longest ttl", () => {
  const kept = answers();
  kept.keep(ALICE, asked("k"), { leaseId: "n/1", ttlMs: undefined }, 0);
  expect(kept.find(ALICE, asked("k"), 4999)).toBeDefined();
  expect(kept.find(ALICE, asked("k"), 5000)).toBeUndefined();
});

test("a key is its principal's own, and no key finds nothing", () => {
  const kept = answers();
  kept.keep(ALICE, asked("k"), LEASE, 0);
  kept.keep(ALICE, asked(""), LEASE, 0);
  expect([kept.find(BOB, asked("k"), 0), kept.find(ALICE, asked(""), 0)]).toEqual([undefined, undefined]);
});

test("above the bound the oldest answer goes", () => {
  const kept = answers();
  for (const key of ["a", "b", "c"]) kept.keep(ALICE, asked(key), LEASE, 0);
  expect(["a", "b", "c"].map((key) => kept.find(ALICE, asked(key), 0) !== undefined)).toEqual([false, true, true]);
});

test("what has run out is swept, what was taken back is gone", () => {
  const kept = answers();
  kept.keep(ALICE, asked("a"), LEASE, 0);
  kept.sweep(1000);
  kept.keep(ALICE, asked("b"), LEASE, 1000);
  kept.forget(ALICE, "b");
  expect([kept.find(ALICE, asked("a"), 500), kept.find(ALICE, asked("b"), 1000)]).toEqual([undefined, undefined]);
});
