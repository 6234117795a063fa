import fc from "fast-check";
import { expect, test } from "vitest";
import { AuditQueue } from "../../../src/policy/audit/queue.ts";
import type { AuditEvent } from "../../../src/policy/audit/record.ts";
import { EVENT } from "../audit-fixture.ts";

const named = (detail: string): AuditEvent => ({ ...EVENT, detail });
const details = (events: readonly AuditEvent[]) => events.map((event) => event.detail);

test("a batch is the oldest events, and the same again until it is written", () => {
  const queue = new AuditQueue(10);
  for (const name of ["a", "b", "c"]) expect(queue.push(named(name))).toBe("taken");
  expect(details(queue.takeBatch(2))).toEqual(["a", "b"]);
  queue.push(named("d"));
  expect(details(queue.takeBatch(9))).toEqual(["a", "b"]);
  queue.batchWritten();
  expect(queue).toMatchObject({ pendingCount: 2, writtenCount: 2, takenCount: 4 });
  expect(details(queue.takeBatch(9))).toEqual(["c", "d"]);
});

test("what does not fit is lost, and a record of how many comes before whatever is taken next", () => {
  const queue = new AuditQueue(2);
  for (const name of ["a", "b"]) queue.push(named(name));
  expect([queue.push(named("c")), queue.push(named("d"))]).toEqual(["lost", "lost"]);
  queue.takeBatch(1);
  queue.batchWritten();
  expect(queue.push(named("e"))).toBe("lost");
  expect(details(queue.takeBatch(9))).toEqual(["b", "2 events lost"]);
  queue.batchWritten();
  expect(queue.push(named("f"))).toBe("taken");
  expect(details(queue.takeBatch(9))).toEqual(["1 event lost", "f"]);
});

test("events over 32 MiB of subjects are lost, even if there are few events", () => {
  const queue = new AuditQueue(1000);
  const large = { ...EVENT, subjects: "x".repeat(1024 * 1024) };
  for (let i = 0; i < 32; i++) expect(queue.push(large)).toBe("taken");
  expect(queue.push(large)).toBe("lost");
  queue.takeBatch(1);
  queue.batchWritten();
  expect(queue.push(large)).toBe("taken");
});

test("every event is written in order or counted in a loss record, for any interleaving", () => {
  const steps = fc.array(fc.constantFrom("push", "take", "written"), { maxLength: 200 });
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 5 }), (plan, bound) => {
      const queue = new AuditQueue(bound);
      const written: AuditEvent[] = [];
      let batch: readonly AuditEvent[] = [];
      let pushed = 0;
      const write = (): void => {
        if (batch.length === 0) return;
        written.push(...batch);
        batch = [];
        queue.batchWritten();
      };
      for (const step of plan) {
        if (step === "push") queue.push(named(`${pushed++}`));
        if (step === "take") batch = queue.takeBatch(3);
        if (step === "written") write();
        expect(queue.pendingCount).toBeLessThanOrEqual(bound);
      }
      do {
        write();
        batch = queue.takeBatch(3);
      } while (batch.length > 0);
      let next = 0;
      for (const { action, detail } of written) {
        if (action === "audit.lost") next += Number.parseInt(detail, 10);
        else expect(Number(detail)).toBe(next++);
      }
      expect(next).toBe(pushed);
    }),
  );
});
