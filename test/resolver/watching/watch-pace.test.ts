/** When a resolver lets go what is wanted no more (semantics.md, Resolver 14). */
import { expect, test } from "vitest";
import { WatchPace } from "../../../src/resolver/watching/watch-pace.ts";

test("what is wanted again, and then no more, stays anew for the whole time", () => {
  const pace = new WatchPace({ intervalMs: 0, lingerMs: 5000 });
  const next = (unwantedCount: number, monoMs: number) => pace.next({ followedCount: 2, unwantedCount, addedCount: 0 }, monoMs);
  expect([next(1, 0), next(0, 1000), next(1, 6000), pace.dueMonoMs]).toEqual([undefined, undefined, undefined, 11_000]);
  expect([next(1, 10_999), next(1, 11_000)]).toEqual([undefined, "narrow"]);
});
