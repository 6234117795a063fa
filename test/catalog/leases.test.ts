import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Leases, type LeaseTerms } from "../../src/catalog/leases.ts";
import { type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { runs } from "../fakes/effort.ts";

function key(instanceId: string): KeyText {
  return keyText({ kind: KIND.SERVICE, namespace: "a", name: "b", instanceId, clusterId: "c" });
}

const MINE: LeaseTerms = { ttlMs: 1000, principal: "me" };

/** Ends every lease that is due, as the catalog does; returns their ids in the order they ended. */
function sweep(leases: Leases, monoMs: number, maxCount: number): string[] {
  const ended: string[] = [];
  while (leases.nextDeadlineMs() <= monoMs) {
    for (const id of leases.expire(monoMs, maxCount)) {
      leases.end(id);
      ended.push(id);
    }
  }
  return ended;
}

test("a lease expires one ttl after its last renewal, and not before", () => {
  const leases = new Leases();
  leases.grant("l1", MINE, 100);
  expect(leases.nextDeadlineMs()).toBe(1100);
  expect(leases.renew("l1", 900)).toBe(1000);
  expect(sweep(leases, 1899, 10)).toEqual([]);
  expect(leases.find("l1")?.deadlineMonoMs).toBe(1900);
  expect(sweep(leases, 1900, 10)).toEqual(["l1"]);
  expect(leases.find("l1")).toBeUndefined();
  expect(leases.renew("l1", 1901)).toBeUndefined();
  expect(leases.nextDeadlineMs()).toBe(NEVER);
});

test("a static lease never expires", () => {
  const leases = new Leases();
  leases.grant("s", { ttlMs: undefined, principal: "" }, 0);
  expect(leases.nextDeadlineMs()).toBe(NEVER);
  expect(leases.renew("s", 5)).toBe(Number.POSITIVE_INFINITY);
  expect(leases.find("s")).toEqual({ id: "s", ttlMs: undefined, principal: "", deadlineMonoMs: undefined, keyCount: 0 });
  expect(leases.expire(1e12, 10)).toEqual([]);
});

test("an expired lease is told again until it is ended", () => {
  const leases = new Leases();
  leases.grant("l1", MINE, 0);
  expect(leases.expire(1000, 10)).toEqual(["l1"]);
  expect(leases.expire(1000, 10)).toEqual(["l1"]);
  leases.end("l1");
  expect(leases.expire(1000, 10)).toEqual([]);
});

test("a renewal by a clock that stands still or runs back never shortens a lease", () => {
  const leases = new Leases();
  leases.grant("l1", MINE, 500);
  leases.renew("l1", 100);
  expect(leases.find("l1")?.deadlineMonoMs).toBe(1500);
});

test("a key attached to another lease leaves the first", () => {
  const leases = new Leases();
  leases.grant("l1", MINE, 0);
  leases.grant("l2", { ttlMs: 1000, principal: "you" }, 0);
  expect(leases.attach("l1", key("1"))).toBeUndefined();
  expect(leases.attach("l1", key("1"))).toBeUndefined();
  expect(leases.attach("l2", key("1"))).toBe("l1");
  expect(leases.keysOf("l1")).toEqual([]);
  expect(leases.keysOf("l2")).toEqual([key("1")]);
  expect(leases.leaseOf(key("1"))).toBe("l2");
  expect(leases.principalOfLease("l2")).toBe("you");
  leases.detach(key("1"));
  expect(leases.leaseOf(key("1"))).toBeUndefined();
  expect(leases.has("l2")).toBe(true);
});

test("a lease id is granted once, and a key only goes under a lease that exists", () => {
  const leases = new Leases();
  leases.grant("l1", MINE, 0);
  expect(() => leases.grant("l1", MINE, 0)).toThrow("assertion failed");
  expect(() => leases.attach("l2", key("1"))).toThrow("assertion failed");
});

test("one sweep does bounded work, however many leases were renewed in one instant", () => {
  const leases = new Leases();
  for (let i = 0; i < 20_000; i += 1) leases.grant(`l${i}`, MINE, 0);
  for (let i = 1; i < 20_000; i += 1) leases.renew(`l${i}`, 500);
  let calls = 0;
  const ended: string[] = [];
  while (leases.nextDeadlineMs() <= 1000) {
    for (const id of leases.expire(1000, 100)) {
      leases.end(id);
      ended.push(id);
    }
    calls += 1;
  }
  expect(ended).toEqual(["l0"]);
  expect(calls).toBeGreaterThan(2);
  expect(leases.nextDeadlineMs()).toBe(1500);
});

const id = fc.constantFrom("a", "b", "c", "d", "e");
const keys = fc.integer({ min: 0, max: 30 }).map((i) => key(String(i)));
const step = fc.oneof(
  fc.record({ act: fc.constant("grant" as const), id, ttlMs: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }) }),
  fc.record({ act: fc.constant("renew" as const), id }),
  fc.record({ act: fc.constant("end" as const), id }),
  fc.record({ act: fc.constant("attach" as const), id, key: keys }),
  fc.record({ act: fc.constant("detach" as const), key: keys }),
  fc.record({ act: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 30 }) }),
);

interface ModelLease {
  readonly ttlMs: number;
  deadlineMs: number;
  readonly keys: Set<KeyText>;
}

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const SAME = [undefined, undefined] as const;

/** The same steps done to a plain map of deadlines and sets; each answer comes with the right one. */
class LeaseModel {
  readonly leases = new Map<string, ModelLease>();
  #nowMs = 0;

  /** What the leases answered, and what they should have. */
  follow(next: Step, real: Leases, maxCount: number): readonly [unknown, unknown] {
    switch (next.act) {
      case "grant":
        if (this.leases.has(next.id)) return SAME;
        real.grant(next.id, { ttlMs: next.ttlMs, principal: next.id }, this.#nowMs);
        this.leases.set(next.id, { ttlMs: next.ttlMs ?? Infinity, deadlineMs: this.#nowMs + (next.ttlMs ?? Infinity), keys: new Set() });
        return SAME;
      case "renew": {
        const lease = this.leases.get(next.id);
        const got = real.renew(next.id, this.#nowMs);
        if (lease !== undefined) lease.deadlineMs = this.#nowMs + lease.ttlMs;
        return [got, lease?.ttlMs];
      }
      case "end": {
        const keysThen = [...(this.leases.get(next.id)?.keys ?? [])];
        this.leases.delete(next.id);
        return [real.end(next.id).toSorted(), keysThen.toSorted()];
      }
      case "attach": {
        if (!this.leases.has(next.id)) return SAME;
        const before = [...this.leases].find(([, lease]) => lease.keys.has(next.key))?.[0];

        this.#drop(next.key);
        this.leases.get(next.id)?.keys.add(next.key);
        return [real.attach(next.id, next.key), before === next.id ? undefined : before];
      }
      case "detach":
        real.detach(next.key);
        this.#drop(next.key);
        return SAME;
      case "wait": {
        this.#nowMs += next.ms;
        const due = [...this.leases].filter(([, lease]) => lease.deadlineMs <= this.#nowMs).map(([dueId]) => dueId);
        for (const ended of due) this.leases.delete(ended);
        return [sweep(real, this.#nowMs, maxCount).toSorted(), due.toSorted()];
      }
    }
  }

  #drop(held: KeyText): void {
    for (const lease of this.leases.values()) lease.keys.delete(held);
  }
}

test("leases do what a plain map of deadlines and sets does", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 3 }), (history, maxCount) => {
      const leases = new Leases(7);
      const model = new LeaseModel();
      for (const next of history) {
        const [got, want] = model.follow(next, leases, maxCount);
        expect(got).toEqual(want);
      }
      expect([...leases.ids()].toSorted()).toEqual([...model.leases.keys()].toSorted());
      expect(leases.size).toBe(model.leases.size);
      for (const [leaseId, lease] of model.leases) {
        expect(leases.keysOf(leaseId).toSorted()).toEqual([...lease.keys].toSorted());
        expect(leases.find(leaseId)?.keyCount).toBe(lease.keys.size);
        expect([...lease.keys].every((held) => leases.leaseOf(held) === leaseId)).toBe(true);
      }
    }),
    { numRuns: runs(300) },
  );
});

test("what is noted of the keys of a lease is forgotten when it gets another key, and with the lease", () => {
  const leases = new Leases();
  leases.grant("a", { ttlMs: 1000, principal: "" }, 0);
  leases.attach("a", key("1"));
  leases.mark("a", 7);
  leases.attach("a", key("1"));
  leases.renew("a", 500);
  leases.detach(key("1"));
  expect([leases.markOf("a"), leases.markOf("b")]).toEqual([7, 0]);
  leases.attach("a", key("2"));
  expect(leases.markOf("a")).toBe(0);
  leases.mark("a", 8);
  leases.end("a");
  // It takes the slot that is free.
  leases.grant("c", { ttlMs: 1000, principal: "" }, 0);
  expect([leases.markOf("a"), leases.markOf("c")]).toEqual([0, 0]);
});
