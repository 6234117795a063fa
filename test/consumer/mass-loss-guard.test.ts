import { expect, test } from "vitest";
import { GUARD_DEFAULTS, MassLossGuard } from "../../src/consumer/mass-loss-guard.ts";
import { Rng } from "../../src/lib/rng.ts";

const { windowMs, holdMs } = GUARD_DEFAULTS;

/** A name with so many entries, of which some are lost at the given times. Returns the keys that are held after each loss. */
function lose(count: number, timesMs: readonly number[], guard = new MassLossGuard<string>()): readonly (readonly string[])[] {
  let remaining = count;
  return timesMs.map((atMs, i) => {
    remaining -= 1;
    return guard.noteLoss({ name: "web", key: `k${i}`, entry: `e${i}` }, remaining, atMs).map(({ key }) => key);
  });
}

test.each([
  { name: "two of three", count: 3, timesMs: [0, 1], held: [[], ["k0", "k1"]] },
  { name: "one of three", count: 3, timesMs: [0], held: [[]] },
  { name: "both of two, which is a small name", count: 2, timesMs: [0, 0], held: [[], []] },
  { name: "half of four, which is not more than half", count: 4, timesMs: [0, 0], held: [[], []] },
  { name: "three of four, and then the last", count: 4, timesMs: [0, 0, 0, 5], held: [[], [], ["k0", "k1", "k2"], ["k3"]] },
  { name: "two of three, and the last when the window is over", count: 3, timesMs: [0, 0, windowMs], held: [[], ["k0", "k1"], []] },
  { name: "two of three, more than 30 s apart", count: 3, timesMs: [0, windowMs], held: [[], []] },
  { name: "two of three, just within 30 s", count: 3, timesMs: [0, windowMs - 1], held: [[], ["k0", "k1"]] },
])("a name loses $name", ({ count, timesMs, held }) => {
  expect(lose(count, timesMs)).toEqual(held);
});

test("a held entry is released after its time, and not before", () => {
  const guard = new MassLossGuard<string>();
  lose(3, [0, 10], guard);
  expect([guard.heldCount, guard.nextDeadlineMs()]).toEqual([2, 10 + holdMs]);
  expect(guard.tick(9 + holdMs)).toEqual([]);
  expect(guard.tick(10 + holdMs).map(({ key, entry }) => `${key} ${entry}`)).toEqual(["k0 e0", "k1 e1"]);
  expect([guard.heldCount, guard.nextDeadlineMs(), guard.tick(20 + holdMs)]).toEqual([0, Infinity, []]);
});

test("a put ends the hold of its key, and a certain end does", () => {
  const guard = new MassLossGuard<string>();
  lose(3, [0, 0], guard);
  expect([guard.noteReturn("web", "k0"), guard.noteReturn("web", "k0"), guard.heldCount]).toEqual([true, false, 1]);
  expect([guard.noteEnd("web", "k1", 5), guard.noteEnd("web", "k1", 5), guard.heldCount]).toEqual([true, false, 0]);
  expect(guard.tick(holdMs)).toEqual([]);
});

test("entries that were unregistered meanwhile count among those that the name had", () => {
  const guard = new MassLossGuard<string>();
  for (let i = 0; i < 7; i++) guard.noteEnd("web", `gone${i}`, 0);
  // Ten there were: two that expire are few.
  expect(guard.noteLoss({ name: "web", key: "a", entry: "" }, 2, 1)).toEqual([]);
  expect(guard.noteLoss({ name: "web", key: "b", entry: "" }, 1, 2)).toEqual([]);
});

test("a name's losses say nothing about another name", () => {
  const guard = new MassLossGuard<string>();
  guard.noteLoss({ name: "web", key: "a", entry: "" }, 2, 0);
  expect(guard.noteLoss({ name: "db", key: "a", entry: "" }, 2, 0)).toEqual([]);
});

test("what was lost once more is kept from then on, and is not the oldest any more", () => {
  const guard = new MassLossGuard<string>();
  const loseOne = (key: string, atMs: number) => guard.noteLoss({ name: "web", key, entry: key }, 9, atMs);
  loseOne("a", 0);
  loseOne("b", 1);
  guard.noteReturn("web", "a");
  loseOne("a", 2);
  expect([1, 2, 3].map(() => guard.releaseOldest()?.key)).toEqual(["b", "a", undefined]);
});

test("what is kept goes in the order in which it came where there is no room; what was let go counts for the rest of its name", () => {
  const forgotten: string[] = [];
  const guard = new MassLossGuard<string>(GUARD_DEFAULTS, (entry) => forgotten.push(entry));
  guard.noteLoss({ name: "web", key: "a", entry: "a" }, 3, 0);
  guard.noteLoss({ name: "web", key: "b", entry: "b" }, 2, 1);
  expect([guard.releaseOldest()?.key, guard.keptCount, guard.unheldCount]).toEqual(["a", 1, 0]);
  // Three of four: the first of them is missed now.
  expect(guard.noteLoss({ name: "web", key: "c", entry: "c" }, 1, 2).map(({ key }) => key)).toEqual(["b", "c"]);
  expect([guard.keptCount, guard.heldCount, guard.unheldCount]).toEqual([2, 2, 1]);
  guard.noteLoss({ name: "db", key: "x", entry: "x" }, 9, 3);
  expect([1, 2, 3, 4].map(() => guard.releaseOldest()?.key)).toEqual(["b", "c", "x", undefined]);
  expect([guard.keptCount, guard.heldCount, guard.unheldCount, guard.tick(holdMs)]).toEqual([0, 0, 3, []]);
  expect(forgotten).toEqual(["a", "b", "c", "x"]);
});

test("each entry is told once when it is kept no longer, whatever ends that", () => {
  const forgotten: string[] = [];
  const guard = new MassLossGuard<string>(GUARD_DEFAULTS, (entry) => forgotten.push(entry));
  lose(5, [0, 0, 0, 0, 0], guard);
  guard.noteLoss({ name: "db", key: "x", entry: "x" }, 9, 1);
  expect([guard.keptCount, forgotten]).toEqual([6, []]);
  guard.noteReturn("web", "k0");
  guard.noteEnd("web", "k1", 2);
  expect(guard.releaseOldest()?.key).toBe("k2");
  guard.tick(1 + windowMs);
  expect([guard.keptCount, forgotten]).toEqual([2, ["e0", "e1", "e2", "x"]]);
  guard.tick(holdMs);
  expect([guard.keptCount, forgotten.slice(4)]).toEqual([0, ["e3", "e4"]]);
});

/** What ended or was lost: kept for ever, and counted anew each time. */
interface Happened {
  readonly key: string;
  readonly atMs: number;
  readonly isLoss: boolean;
}

test("over random histories it holds what a naive count says", () => {
  for (let seed = 0; seed < 12; seed++) {
    const rng = new Rng(`guard ${seed}`);
    const guard = new MassLossGuard<string>();
    const live = new Set<string>();
    const held = new Map<string, number>();
    let open: Happened[] = [];
    let nowMs = 0;
    for (let step = 0; step < 400; step++) {
      nowMs += rng.int(4000);
      const key = `k${rng.int(8)}`;
      for (const { key: released } of guard.tick(nowMs)) held.delete(released);
      for (const [one, sinceMs] of held) expect(nowMs - sinceMs, `${seed} ${one}`).toBeLessThan(holdMs);
      open = open.filter(({ atMs }) => nowMs - atMs < windowMs);
      if (!live.has(key)) {
        live.add(key);
        expect(guard.noteReturn("web", key)).toBe(held.delete(key));
        open = open.filter((one) => !(one.isLoss && one.key === key));
        continue;
      }
      live.delete(key);
      const isLoss = rng.int(4) > 0;
      open.push({ key, atMs: nowMs, isLoss });
      if (!isLoss) {
        expect(guard.noteEnd("web", key, nowMs)).toBe(false);
        continue;
      }
      const lost = open.filter((one) => one.isLoss).map((one) => one.key);
      const isMuch = live.size + open.length >= 3 && 2 * lost.length > live.size + open.length;
      const now = guard.noteLoss({ name: "web", key, entry: "" }, live.size, nowMs).map((one) => one.key);
      expect(now, `seed ${seed}, step ${step}`).toEqual(isMuch ? lost.filter((one) => !held.has(one)) : []);
      for (const one of now) held.set(one, nowMs);
      expect(guard.heldCount).toBe(held.size);
    }
  }
});
