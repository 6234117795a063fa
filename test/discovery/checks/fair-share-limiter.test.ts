/** Fair sharing of slots among owners. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FairShareLimiter } from "../../../src/discovery/checks/fair-share-limiter.ts";
import { runs } from "../../fakes/effort.ts";

function limiter(slotCount: number, reservedCount = 0) {
  return new FairShareLimiter<string>({ slotCount, reservedCount });
}

/** Items of these owners wait: `a0`, `a1`, … of the owner `a`. */
function wait(shared: FairShareLimiter<string>, counts: Readonly<Record<string, number>>, from = 0): void {
  for (const [owner, count] of Object.entries(counts)) for (let i = from; i < from + count; i++) shared.enqueue(owner, `${owner}${i}`);
}

function takeAll(shared: FairShareLimiter<string>): readonly string[] {
  const taken: string[] = [];
  for (let item = shared.acquireNext(); item !== undefined; item = shared.acquireNext()) taken.push(item);
  return taken;
}

const countOf = (owner: string, items: readonly string[]) => items.filter((item) => item.startsWith(owner)).length;

test.each([
  { what: "a single owner gets all slots", waiting: { a: 20 }, taken: { a: 16 } },
  { what: "two owners that want more than their share get a quarter each", waiting: { a: 20, b: 20 }, taken: { a: 4, b: 4 } },
  { what: "slots that other owners do not need go to an owner that wants more", waiting: { a: 20, b: 2 }, taken: { a: 14, b: 2 } },
  { what: "four owners share all slots", waiting: { a: 9, b: 9, c: 9, d: 9 }, taken: { a: 4, b: 4, c: 4, d: 4 } },
  {
    what: "more owners than slots take turns",
    waiting: Object.fromEntries("abcdefghijklmnopqr".split("").map((owner) => [owner, 2])),
    taken: { a: 1, p: 1, q: 0 },
  },
])("with 16 slots, $what", ({ waiting, taken }) => {
  const shared = limiter(16);
  wait(shared, waiting);
  const items = takeAll(shared);
  for (const [owner, count] of Object.entries(taken)) expect([owner, countOf(owner, items)]).toEqual([owner, count]);
});

test("owners take turns, and the items of each owner get slots in order", () => {
  const shared = limiter(16);
  wait(shared, { a: 3, b: 1, c: 2 });
  expect(takeAll(shared)).toEqual(["a0", "b0", "c0", "a1", "c1", "a2"]);
});

test("an owner that begins to wait while another owner has all slots gets slots from it, up to its share", () => {
  const shared = limiter(16);
  wait(shared, { a: 40 });
  takeAll(shared);
  expect(shared.preemptible).toBeUndefined();
  wait(shared, { b: 10 });
  const taken: string[] = [];
  for (let from = shared.preemptible; from !== undefined; from = shared.preemptible) {
    expect(from).toBe("a");
    shared.release(from);
    taken.push(...takeAll(shared));
  }
  expect(taken).toEqual(["b0", "b1", "b2", "b3"]);
  // While both owners wait, an owner with a full share gets no free slot.
  shared.release("a");
  expect(takeAll(shared)).toEqual([]);
});

test("a reserved slot stays free while other owners are registered", () => {
  const shared = limiter(2, 1);
  shared.register("a");
  wait(shared, { a: 5 });
  expect(takeAll(shared)).toEqual(["a0", "a1"]);
  shared.register("b");
  shared.release("a");
  expect(takeAll(shared)).toEqual([]);
  wait(shared, { b: 2 });
  expect(takeAll(shared)).toEqual(["b0"]);
  shared.release("b");
  expect(takeAll(shared)).toEqual(["b1"]);
  shared.release("b");
  shared.unregister("b");
  expect(takeAll(shared)).toEqual(["a2"]);
});

test("a cancelled item gets no slot, and an item waits only once", () => {
  const shared = limiter(16);
  wait(shared, { a: 2, b: 1 });
  wait(shared, { a: 2 });
  expect(shared.waitingCount).toBe(3);
  shared.cancel("a", "a0");
  shared.cancel("b", "b0");
  shared.cancel("c", "c0");
  expect([shared.waitingCount, takeAll(shared), shared.waitingCount]).toEqual([1, ["a1"], 0]);
});

test("with random requests, releases and cancellations, an owner below its share waits only while no slot can be freed", () => {
  const act = fc.record({ owner: fc.constantFrom("a", "b", "c", "d", "e"), what: fc.constantFrom("wait", "wait", "leave", "withdraw") });
  fc.assert(
    fc.property(fc.array(act, { maxLength: 120 }), (acts) => {
      const shared = limiter(8);
      const [waiting, taken] = [new Map<string, string[]>(), new Map<string, number>()];
      acts.forEach(({ owner, what }, n) => {
        const own = waiting.get(owner) ?? [];
        waiting.set(owner, own);
        const has = taken.get(owner) ?? 0;
        if (what === "wait") {
          shared.enqueue(owner, `${owner}${n}`);
          own.push(`${owner}${n}`);
        } else if (what === "leave" && has > 0) {
          shared.release(owner);
          taken.set(owner, has - 1);
        } else if (what === "withdraw" && own.length > 0) shared.cancel(owner, own.shift() ?? "");
        for (;;) {
          const item = shared.acquireNext();
          const from = shared.preemptible;
          if (item !== undefined) {
            const by = item.charAt(0);
            expect(waiting.get(by)?.shift()).toBe(item);
            taken.set(by, (taken.get(by) ?? 0) + 1);
          } else if (from !== undefined) {
            expect(taken.get(from)).toBeGreaterThan(2);
            shared.release(from);
            taken.set(from, (taken.get(from) ?? 0) - 1);
          } else break;
        }
        const total = [...taken.values()].reduce((sum, count) => sum + count, 0);
        expect([shared.usedCount, total <= 8]).toEqual([total, true]);
        for (const [each, items] of waiting)
          if (items.length > 0 && (taken.get(each) ?? 0) < 2) expect(Math.max(...taken.values())).toBeLessThanOrEqual(2);
      });
    }),
    { numRuns: runs(300) },
  );
});
