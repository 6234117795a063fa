import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { BoundedMap } from "../../src/lib/bounded-map.ts";
import { runs } from "../fakes/effort.ts";

const MAX = 4;
const MANY = 300_000;
const steps = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ act: fc.constant("set" as const), key: fc.nat(8), value: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constant("delete" as const), key: fc.nat(8) }) },
    { weight: 1, arbitrary: fc.record({ act: fc.constant("clear" as const) }) },
  ),
  { maxLength: 100 },
);

test("a bounded map has the newest keys, oldest first, and reports each key that it evicts", () => {
  fc.assert(
    fc.property(steps, (history) => {
      const evicted: (readonly [number, number])[] = [];
      const map = new BoundedMap<number, number>(MAX, (key, value) => evicted.push([key, value]));
      let model: (readonly [number, number])[] = [];
      const modelEvicted: (readonly [number, number])[] = [];
      for (const step of history) {
        if (step.act === "clear") map.clear();
        else if (step.act === "delete") map.delete(step.key);
        else map.set(step.key, step.value);
        model = step.act === "clear" ? [] : model.filter(([key]) => key !== step.key);
        if (step.act === "set") model = [...model, [step.key, step.value]];
        modelEvicted.push(...model.slice(0, -MAX));
        model = model.slice(-MAX);
        expect([...map]).toEqual(model);
      }
      expect(evicted).toEqual(modelEvicted);
    }),
    { numRuns: runs(300) },
  );
});

test("a bounded map that never evicts keeps none of the tables that it has outgrown", () => {
  const map = new BoundedMap<number, number>(MANY);
  const before = liveBytes();
  for (let i = 0; i < MANY; i++) map.set(i % 100, i);
  expect(liveBytes() - before).toBeLessThan(1_000_000);
});

function liveBytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().heapUsed;
}
