/** No fail-over, restart or change of the clock makes an age smaller (semantics.md, Resolver 9). */
import { expect, test } from "vitest";
import { UpstreamFreshness } from "../../src/resolver/upstream-freshness.ts";

test("the age is the one that was stated, and the time since", () => {
  const freshness = new UpstreamFreshness();
  expect(freshness.ageMs({ monoMs: 5 })).toBe(Number.POSITIVE_INFINITY);
  freshness.stated(40, { monoMs: 1000 });
  expect([1000, 1500, 9000].map((monoMs) => freshness.ageMs({ monoMs }))).toEqual([40, 540, 8040]);
});

test("a message that is no bookmark changes no age, only the silence", () => {
  const freshness = new UpstreamFreshness();
  freshness.stated(0, { monoMs: 0 });
  freshness.heard({ monoMs: 0 }, { isChangesOnly: true });
  expect([3000, 3001].map((monoMs) => freshness.isSilent({ monoMs }))).toEqual([false, true]);
  freshness.heard({ monoMs: 5000 }, { isChangesOnly: true });
  expect([freshness.isSilent({ monoMs: 5000 }), freshness.ageMs({ monoMs: 5000 })]).toEqual([false, 5000]);
});

test("single changes do not end the time in which nothing more was said, and what was before it does not count", () => {
  const freshness = new UpstreamFreshness();
  freshness.heard({ monoMs: 1000 }, { isChangesOnly: false });
  freshness.heard({ monoMs: 5000 }, { isChangesOnly: true });
  expect([0, 1500].map((sinceMonoMs) => freshness.changesOnlyMs(sinceMonoMs, { monoMs: 9000 }))).toEqual([8000, 7500]);
});

test.each([
  { what: "goes on", wallMs: 61_000, ageMs: 60_500 },
  { what: "stands still", wallMs: 1000, ageMs: 500 },
  { what: "was set back", wallMs: 999, ageMs: Number.POSITIVE_INFINITY },
])("a copy on disk is as old as its age when it was saved and the time by the wall clock, which $what", ({ wallMs, ageMs }) => {
  const freshness = new UpstreamFreshness();
  freshness.restore({ ageMs: 500, savedWallMs: 1000 }, { monoMs: 7, wallMs });
  expect(freshness.ageMs({ monoMs: 7 })).toBe(ageMs);
  expect(freshness.isSilent({ monoMs: 7 })).toBe(true);
});
