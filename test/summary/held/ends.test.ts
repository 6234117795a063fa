import fc from "fast-check";
import { expect, test } from "vitest";
import type { KeyText } from "../../../src/catalog/record/record.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { Ends } from "../../../src/summary/held/ends.ts";
import { runs } from "../../fakes/effort.ts";
import { HeldWorld, START_MS } from "../../fakes/held-world.ts";

/** Two nodes of two regions; the second one is to hold so many summaries of the first, which end one millisecond after another. */
function manyEnds(count: number) {
  const world = new HeldWorld();
  const [a, b] = [world.node({ nodeId: "a1", clusterId: "A" }), world.node({ nodeId: "b1", clusterId: "B" })];
  a.beacon();
  b.takeFrom(a, "beacon");
  for (let n = 0; n < count; n++) {
    a.say(`s${n}`, { notAfterWallMs: START_MS + 10_000 + n });
    b.takeFrom(a, `s${n}`);
  }
  return { world, b };
}

test("2,000 ends one millisecond after another wake the node a hundred times, and each costs no look at the others", {
  tags: ["night"],
}, () => {
  const { world, b } = manyEnds(2000);
  expect(b.shown).toHaveLength(2000);
  let [wakeCount, readCount] = [0, 0];
  while (world.nowMs < 12_100) {
    const { monoMs, wallMs } = b.time;
    // Who compares an end with the clock reads the clock.
    const time: Time = {
      monoMs,
      get wallMs() {
        readCount += 1;
        return wallMs;
      },
    };
    wakeCount += 1;
    b.held.work(time);
    world.nowMs = Math.max(world.nowMs + 1, Math.min(12_100, b.held.nextDeadlineMs(b.time)));
  }
  b.settle();
  expect(b.shown).toEqual([]);
  expect(wakeCount).toBeLessThan(250);
  expect(readCount).toBeLessThan(10_000);
});

test("an end that stands alone comes at its instant", () => {
  const { world, b } = manyEnds(1);
  world.nowMs = 9999;
  b.settle();
  expect([b.shown.length, b.held.nextDeadlineMs(b.time)]).toEqual([1, 10_000]);
  world.nowMs = 10_000;
  b.settle();
  expect(b.shown).toEqual([]);
});

test("whatever ends are set, moved and taken away, and however the clock goes, what is over is what the clock has passed", () => {
  const keys = Array.from({ length: 6 }, (_, n) => `k${n}` as KeyText);
  const step = fc.record({
    key: fc.constantFrom(...keys),
    endMs: fc.option(fc.nat(40), { nil: undefined }),
    wallMs: fc.nat(40),
    isClock: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const ends = new Ends();
      const model = new Map<KeyText, number>();
      let time = { monoMs: 0, wallMs: 0 };
      for (const { key, endMs, wallMs, isClock } of steps) {
        const before = new Set(keys.filter((each) => ends.isOver(each)));
        if (isClock) {
          time = { monoMs: time.monoMs + 20, wallMs };
          const turned = ends.advance(time);
          const isTurned = (each: KeyText) => before.has(each) !== ends.isOver(each);
          expect(turned.toSorted()).toEqual(keys.filter((each) => isTurned(each)));
        } else {
          ends.set(key, endMs, time);
          if (endMs === undefined) model.delete(key);
          else model.set(key, endMs);
        }
        const isOver = (each: KeyText) => (model.get(each) ?? Number.POSITIVE_INFINITY) <= time.wallMs;
        expect(keys.filter((each) => ends.isOver(each))).toEqual(keys.filter((each) => isOver(each)));
        expect(ends.hasMore).toBe(false);
      }
    }),
    { numRuns: runs(200) },
  );
});

test("ends that come all at once turn in slices", () => {
  const ends = new Ends();
  for (let n = 0; n < 2500; n++) ends.set(`k${n}` as KeyText, 5, { monoMs: 0, wallMs: 0 });
  const slices = [1, 2, 3, 4].map((monoMs) => [ends.advance({ monoMs, wallMs: 5 }).length, ends.hasMore]);
  expect(slices).toEqual([
    [1000, true],
    [1000, true],
    [500, false],
    [0, false],
  ]);
});
