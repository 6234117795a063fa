import { expect, test } from "vitest";
import { runThrough } from "../../src/lib/machine.ts";

test("work in slices runs to its end in one go and gives its result", () => {
  let steps = 0;
  function* work(): Generator<void, string> {
    for (; steps < 3; steps++) yield;
    return "done";
  }
  expect(runThrough(work())).toBe("done");
  expect(steps).toBe(3);
});
