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

let againCount = 0;

/** Gives slots until no more can be given or freed, and returns the owners of the slots that were freed. */
function settle(shared: FairShareLimiter<string>): readonly string[] {
  const freed: string[] = [];
  for (;;) {
    const item = shared.acquireNext();
    const from = shared.preemptible;
    if (item === undefined && from === undefined) return freed;
    if (item !== undefined || from === undefined) continue;
    shared.release(from);
    shared.enqueue(from, `${from}-again${againCount++}`);
    freed.push(from);
  }
}

const owners = (count: number) => Array.from({ length: count }, (_, i) => `slow${i}:`);

test("an owner that begins to wait while four owners have a quarter each gets slots until all have the same number", () => {
  const shared = limiter(256);
  wait(shared, Object.fromEntries(owners(4).map((owner) => [owner, 80])));
  expect([settle(shared), shared.usedCount]).toEqual([[], 256]);
  wait(shared, { quick: 1 });
  expect(settle(shared)).toHaveLength(1);
  expect(shared.waitingCount).toBe(4 * 80 + 1 - 256);
  wait(shared, { quick: 100 }, 1);
  // 51 of 256 slots are a fifth.
  expect(settle(shared)).toHaveLength(50);
  expect(settle(shared)).toEqual([]);
});

test.each([1, 4, 5, 128, 255])(
  "with %i owners of slow items, an owner of quick items gets a slot immediately, each time, for one freed slot",
  (count) => {
    const shared = limiter(256);
    wait(shared, Object.fromEntries(owners(count).map((owner) => [owner, 300])));
    settle(shared);
    for (let round = 0; round < 50; round++) {
      const before = shared.waitingCount;
      shared.enqueue("quick", `quick${round}`);
      const freed = settle(shared);
      expect([freed.length, shared.waitingCount - before]).toEqual([1, 1]);
      expect(freed).not.toContain("quick");
      shared.release("quick");
      settle(shared);
    }
  },
);

test("with more owners of slow items than slots, no slot is freed, and an owner of quick items waits for at most one end of an item per waiting owner", () => {
  const shared = limiter(256);
  const running: string[] = [];
  const acquire = () => running.push(...takeAll(shared));
  wait(shared, Object.fromEntries(owners(300).map((owner) => [owner, 50])));
  acquire();
  for (let round = 0; round < 20; round++) {
    shared.enqueue("quick", `quick${round}`);
    acquire();
    expect(shared.preemptible).toBeUndefined();
    let endCount = 0;
    for (; !running.includes(`quick${round}`); endCount++) {
      const owner = `${running.shift()?.split(":")[0]}:`;
      shared.release(owner);
      acquire();
    }
    expect(endCount).toBeLessThanOrEqual(45);
    running.splice(running.indexOf(`quick${round}`), 1);
    shared.release("quick");
    acquire();
  }
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
            const fewest = Math.min(...[...waiting].filter(([, items]) => items.length > 0).map(([each]) => taken.get(each) ?? 0));
            expect(taken.get(from)).toBe(Math.max(...taken.values()));
            expect(taken.get(from)).toBeGreaterThan(fewest + 1);
            shared.release(from);
            taken.set(from, (taken.get(from) ?? 0) - 1);
          } else break;
        }
        const total = [...taken.values()].reduce((sum, count) => sum + count, 0);
        expect([shared.usedCount, total <= 8]).toEqual([total, true]);
        for (const [each, items] of waiting)
          if (items.length > 0 && (taken.get(each) ?? 0) < 2)
            expect(Math.max(...taken.values())).toBeLessThanOrEqual((taken.get(each) ?? 0) + 1);
      });
    }),
    { numRuns: runs(300) },
  );
});
