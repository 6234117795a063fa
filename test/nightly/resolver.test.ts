/** P17 with many histories; `test/resolver/watching/watched-catalog.test.ts` plays the first of them. */
import { expect, test } from "vitest";
import { playAny, playBusy } from "../fakes/resolver-histories.ts";

const HOUR = 3_600_000;

test("P17: a resolver holds at its bookmarks what its upstream holds, after 10,000 histories", { timeout: HOUR }, () => {
  expect(playAny(10_000)).toBeGreaterThan(100_000);
});

test("so it is in 10,000 histories in which few keys change all the time", { timeout: HOUR }, () => {
  expect(playBusy(10_000)).toBeGreaterThan(300);
});
