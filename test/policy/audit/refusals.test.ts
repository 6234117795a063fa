import fc from "fast-check";
import { expect, test } from "vitest";
import { NEVER } from "../../../src/lib/machine.ts";
import type { AuditEvent } from "../../../src/policy/audit/record.ts";
import { RefusalAudit } from "../../../src/policy/audit/record.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import type { LimitRefusal } from "../../../src/policy/limits/rate-limits.ts";
import { sized } from "../../fakes/effort.ts";

const at = (monoMs: number) => ({ monoMs, wallMs: 1_000_000 + monoMs });

function refusal(tenant: string, reason: LimitRefusal["reason"] = "rate_limited"): LimitRefusal {
  const caller = { ...anonymousCaller("c1", "192.0.2.1"), principal: `${tenant}-app`, tenant };
  return { caller, action: "read", namespace: "svc", reason, detail: "over" };
}

function audit(maxKeys = 100) {
  const events: AuditEvent[] = [];
  return { events, refusals: new RefusalAudit({ record: (event) => events.push(event) }, maxKeys) };
}

/** Calls a record stands for. */
function countOf({ detail }: AuditEvent): number {
  return Number(/(\d+) calls refused/.exec(detail)?.[1] ?? 1);
}

test("the first refusal is recorded at once, with who, from where and why", () => {
  const { events, refusals } = audit();
  refusals.note(refusal("a"), at(10));
  expect(events).toEqual([
    {
      atWallMs: 1_000_010,
      kind: "access",
      principal: "a-app",
      tenant: "a",
      source: "192.0.2.1",
      action: "read",
      namespace: "svc",
      outcome: "denied",
      reason: "rate_limited",
      rule: "",
      before: "",
      after: "",
      requestId: "",
      subjects: "",
      tokenId: "",
      ticket: "",
      detail: "over",
    },
  ]);
});

test("a caller that several threads refuse has a record a second of each, which arrives whole where the audit is kept", () => {
  const [one, two] = [audit(), audit()];
  for (let ms = 0; ms < 3000; ms += 10) for (const { refusals } of [one, two]) refusals.note(refusal("a"), at(ms));
  const arrived = structuredClone([...one.events, ...two.events]);
  expect(arrived).toEqual([...one.events, ...two.events]);
  expect(arrived.map(countOf)).toEqual([1, 100, 100, 1, 100, 100]);
});

test("what follows within a second is one record with its count, at the second's end or with the next refusal", () => {
  const { events, refusals } = audit();
  for (let i = 0; i < 1000; i++) refusals.note(refusal("a"), at(i * 0.9));
  expect(events).toHaveLength(1);
  expect(refusals.nextDeadlineMs()).toBe(1000);
  refusals.tick(at(999));
  expect(events).toHaveLength(1);
  refusals.tick(at(1000));
  refusals.tick(at(1000));
  expect(events.map(countOf)).toEqual([1, 999]);
  refusals.note(refusal("a"), at(1500));
  refusals.note(refusal("a"), at(2001));
  expect(events.map(countOf)).toEqual([1, 999, 2]);
});

test("callers and reasons are told apart", () => {
  const { events, refusals } = audit();
  for (const each of [refusal("a"), refusal("b"), refusal("a", "quota_exceeded"), refusal("a")]) refusals.note(each, at(0));
  expect(events.map(({ tenant, reason }) => `${tenant} ${reason}`)).toEqual(["a rate_limited", "b rate_limited", "a quota_exceeded"]);
});

test("an idle caller is forgotten, and nothing is asked any more", () => {
  const { refusals } = audit();
  refusals.note(refusal("a"), at(0));
  refusals.tick(at(1000));
  expect([refusals.size, refusals.nextDeadlineMs()]).toEqual([0, NEVER]);
});

test("however many callers, they are bounded, and no refusal is lost", () => {
  const count = sized(200_000, 20_000);
  const { events, refusals } = audit(2000);
  for (let i = 0; i < count; i++) {
    refusals.note(refusal(`t${i}`), at(0));
    refusals.note(refusal(`t${i}`), at(0));
  }
  expect(refusals.size).toBe(2000);
  refusals.close(at(1));
  expect(refusals.size).toBe(0);
  expect(events.reduce((sum, event) => sum + countOf(event), 0)).toBe(2 * count);
});

test("every refusal is in exactly one record, and a caller has at most one a second", () => {
  const step = fc.record({ tenant: fc.constantFrom("a", "b", "c"), gapMs: fc.nat(700), isTick: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const { events, refusals } = audit();
      let now = 0;
      let noted = 0;
      for (const { tenant, gapMs, isTick } of steps) {
        now += gapMs;
        if (isTick) refusals.tick(at(now));
        else {
          noted += 1;
          refusals.note(refusal(tenant), at(now));
        }
      }
      for (const name of ["a", "b", "c"]) {
        const times = events.filter(({ tenant }) => tenant === name).map(({ atWallMs }) => atWallMs);
        times.slice(1).forEach((time, i) => expect(time - (times[i] ?? 0)).toBeGreaterThanOrEqual(1000));
      }
      refusals.close(at(now));
      expect(events.reduce((sum, event) => sum + countOf(event), 0)).toBe(noted);
    }),
  );
});
