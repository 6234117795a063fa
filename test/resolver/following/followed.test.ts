/** P17 and the cursors of resolvers with generated histories: the streams of P3, which also read at resolvers and move between these and nodes. `test/nightly` plays more of them. */
import { expect, test } from "vitest";
import { runs } from "../../fakes/effort.ts";
import { playAny, playBusy } from "../../fakes/resolver-histories.ts";

test("P17: a resolver holds at its bookmarks what its upstream holds, and a stream that moves to or from it what a query there answers", () => {
  expect(playAny(runs(100))).toBeGreaterThan(runs(500));
});

test("so it is where few keys change all the time, and streams come and go with fresh cursors", () => {
  expect(playBusy(runs(100))).toBeGreaterThan(runs(300));
});
