import fc from "fast-check";
import { expect, test } from "vitest";
import { LocalHealth, Suspicion, SuspicionTable, suspicionBounds, suspicionTimeoutMs } from "../../../src/fabric/membership/suspicion.ts";
import { updateOf } from "../../fakes/fabric-values.ts";
import { memberlistMs } from "../../fakes/memberlist.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";

test.each([
  { memberCount: 1, minMs: 5000, wanted: 0 },
  { memberCount: 3, minMs: 5000, wanted: 0 },
  { memberCount: 4, minMs: 5000, wanted: 2 },
  { memberCount: 5, minMs: 4000, wanted: 2 },
  { memberCount: 10, minMs: 4000, wanted: 2 },
  { memberCount: 12, minMs: 4316.72, wanted: 2 },
  { memberCount: 100, minMs: 5000, wanted: 2 },
  { memberCount: 10_000, minMs: 5000, wanted: 2 },
])("among $memberCount a suspicion lasts at least $minMs ms and wants $wanted confirmations", ({ memberCount, minMs, wanted }) => {
  const bounds = suspicionBounds(memberCount, MEMBERSHIP_OPTIONS);
  expect(bounds.minMs).toBeCloseTo(minMs, 1);
  expect(bounds.maxMs).toBeCloseTo(6 * minMs, 1);
  expect(bounds.wanted).toBe(wanted);
});

test.each([1, 4, 5, 100])("among %i a suspicion lasts as long as the settings say at least", (memberCount) => {
  expect(suspicionBounds(memberCount, { ...MEMBERSHIP_OPTIONS, suspicionMinMs: 8000 })).toMatchObject({ minMs: 8000, maxMs: 48_000 });
  expect(suspicionBounds(memberCount, { ...MEMBERSHIP_OPTIONS, suspicionMinMs: 10 })).toEqual(
    suspicionBounds(memberCount, MEMBERSHIP_OPTIONS),
  );
});

test.each([12, 100, 1000])("among %i a death is decided no later than by memberlist, whatever the confirmations", (memberCount) => {
  for (let confirmations = 0; confirmations <= 3; confirmations++) {
    const ours = suspicionTimeoutMs(confirmations, suspicionBounds(memberCount, MEMBERSHIP_OPTIONS));
    expect(ours).toBeLessThanOrEqual(memberlistMs(memberCount, confirmations) + 1e-6);
  }
});

test("each confirmation shortens a suspicion, and never below the least", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10_000 }), fc.nat(10), (memberCount, confirmations) => {
      const bounds = suspicionBounds(memberCount, MEMBERSHIP_OPTIONS);
      const timeoutMs = suspicionTimeoutMs(confirmations, bounds);
      expect(timeoutMs).toBeGreaterThanOrEqual(bounds.minMs);
      expect(timeoutMs).toBeLessThanOrEqual(bounds.maxMs);
      expect(suspicionTimeoutMs(confirmations + 1, bounds)).toBeLessThanOrEqual(timeoutMs);
    }),
  );
});

test("only different accusers confirm, and only as many as are wanted", () => {
  const suspicion = new Suspicion("a", 1000, { minMs: 4000, maxMs: 24_000, wanted: 2 });
  expect(suspicion.deadlineMonoMs).toBe(25_000);
  expect(suspicion.confirm("a")).toBe(false);
  expect(suspicion.confirm("b")).toBe(true);
  expect(suspicion.deadlineMonoMs).toBeCloseTo(1000 + 24_000 - 20_000 * (Math.log(2) / Math.log(3)), 3);
  expect(suspicion.confirm("c")).toBe(true);
  expect(suspicion.deadlineMonoMs).toBe(5000);
  expect(suspicion.confirm("d")).toBe(false);
  expect(suspicion.accusers).toEqual(["a", "b", "c"]);
});

test("time slept does not count", () => {
  const suspicion = new Suspicion("a", 1000, { minMs: 4000, maxMs: 4000, wanted: 0 });
  suspicion.postpone(7000);
  expect(suspicion.deadlineMonoMs).toBe(12_000);
});

test("who slept long waits for a word once more", () => {
  const suspicion = new Suspicion("a", 1000, { minMs: 4000, maxMs: 4000, wanted: 0 });
  suspicion.postpone(7000, 15_900);
  expect(suspicion.deadlineMonoMs).toBe(15_900);
  suspicion.postpone(7000, 16_000);
  expect(suspicion.deadlineMonoMs).toBe(22_900);
});

test("a member that is suspected anew is due when its newer suspicion is (seed 228)", () => {
  const suspicions = new SuspicionTable(MEMBERSHIP_OPTIONS);
  const member = { update: updateOf("n1", { status: "suspect", accuser: "n2" }), suspicion: undefined };
  suspicions.start(member, 1, 1000);
  const firstDueMs = suspicions.nextDeadlineMs();
  suspicions.start(member, 1, 2000);
  expect(suspicions.nextDeadlineMs()).toBe(firstDueMs + 1000);
  expect([...suspicions.expired(firstDueMs)]).toEqual([]);
  expect([...suspicions.expired(firstDueMs + 1000)]).toEqual([{ member, accusers: ["n2"] }]);
  suspicions.end(member);
  expect(suspicions.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
});

test("local health stays from 0 to 8 and stretches times accordingly", () => {
  const health = new LocalHealth();
  health.improve();
  expect(health.scaleMs(500)).toBe(500);
  health.worsen(3);
  health.improve();
  expect(health.score).toBe(2);
  expect(health.scaleMs(500)).toBe(1500);
  health.worsen(100);
  expect(health.score).toBe(8);
});
