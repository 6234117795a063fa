/** How long fetched answers are good, and that a name is fetched once at a time. */
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { type FetchOutcome, SharedFetches } from "../../../src/resolver/fetching/shared-fetches.ts";

const HOUR_MS = 3_600_000;
const TTLS = { zoneMs: 15_000, regionMs: 30_000, globalMs: 60_000, negativeMs: 10_000 };
const NONE = undefined;

function answer(isOutdated = false) {
  return { content: "x", ageMs: 0, arrivedMonoMs: 0, isOutdated };
}

test.each<{ scope: Scope | undefined; ttlMs: number }>([
  { scope: SCOPE.ZONE, ttlMs: 15_000 },
  { scope: SCOPE.REGION, ttlMs: 30_000 },
  { scope: SCOPE.GLOBAL, ttlMs: 60_000 },
])("an answer with scope $scope is fresh for $ttlMs ms, stale for twice as long, then a miss", ({ scope, ttlMs }) => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  const at = [0, ttlMs - 1, ttlMs, 3 * ttlMs - 1, 3 * ttlMs].map((monoMs) => fetches.stateOf(answer(), scope, monoMs, undefined));
  expect(at).toEqual(["fresh", "fresh", "stale", "stale", "miss"]);
});

test("a negative answer is never stale, and a change ends it at once; another answer is then stale", () => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  expect([9999, 10_000].map((monoMs) => fetches.stateOf(answer(), NONE, monoMs, undefined))).toEqual(["fresh", "miss"]);
  expect([NONE, SCOPE.ZONE].map((scope) => fetches.stateOf(answer(true), scope, 1, undefined))).toEqual(["miss", "stale"]);
});

test("while no upstream answers nothing expires before max_stale, counted from when none answered any more", () => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  const cutOffMs = 40_000;
  for (const [one, scope] of [
    [answer(), NONE],
    [answer(), SCOPE.ZONE],
    [answer(true), SCOPE.ZONE],
  ] as const)
    expect([HOUR_MS, cutOffMs + HOUR_MS - 1, cutOffMs + HOUR_MS].map((monoMs) => fetches.stateOf(one, scope, monoMs, cutOffMs))).toEqual([
      "stale",
      "stale",
      "miss",
    ]);
  expect(new SharedFetches<string>(TTLS, 0).stateOf(answer(), SCOPE.ZONE, 1e12, cutOffMs)).toBe("stale");
});

test("what was told in an outage is stale for twice its ttl after it, if the outage was no longer than max_stale; a negative answer is not", () => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  const endMs = 40_000 + HOUR_MS - 1;
  fetches.onSilence(40_000, endMs);
  const at = [endMs, endMs + 29_999, endMs + 30_000];
  expect(at.map((monoMs) => fetches.stateOf(answer(), SCOPE.ZONE, monoMs, undefined))).toEqual(["stale", "stale", "miss"]);
  expect(at.map((monoMs) => fetches.stateOf(answer(true), SCOPE.ZONE, monoMs, undefined))).toEqual(["stale", "stale", "miss"]);
  expect(fetches.stateOf(answer(), NONE, endMs, undefined)).toBe("miss");
  const late = new SharedFetches<string>(TTLS, HOUR_MS);
  late.onSilence(40_000, endMs + 1);
  expect(late.stateOf(answer(), SCOPE.ZONE, endMs + 1, undefined)).toBe("miss");
});

test("one fetch runs for a name, and all that wait are told its outcome", () => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  const told: FetchOutcome<string>[] = [];
  const isFirst = [1, 2, 3].map(() => fetches.wait("k", (outcome) => told.push(outcome)));
  expect(isFirst).toEqual([true, false, false]);
  const outcome = { answer: answer() };
  fetches.ended("k", outcome);
  expect(told).toEqual([outcome, outcome, outcome]);
  // The next one asks again.
  expect(fetches.wait("k", () => {})).toBe(true);
});

test("what changed while it was fetched is outdated when it arrives", () => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  fetches.changed("k");
  fetches.wait("k", () => {});
  expect(fetches.hasChanged("k")).toBe(false);
  fetches.changed("k");
  expect(fetches.hasChanged("k")).toBe(true);
  fetches.ended("k", { error: new WaymarkError("not_ready", "away") });
  fetches.wait("k", () => {});
  expect(fetches.hasChanged("k")).toBe(false);
});

test("beyond 1,000 fetches callers are refused, but not those that wait for one under way", () => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  for (let n = 0; n < 1000; n++) fetches.wait(`k${n}`, () => {});
  expect(() => fetches.wait("more", () => {})).toThrow(expect.objectContaining({ reason: "not_ready" }));
  expect(fetches.wait("k0", () => {})).toBe(false);
  fetches.ended("k1", { answer: answer(NONE) });
  expect(fetches.wait("more", () => {})).toBe(true);
});

test("who is told may ask again at once: that is another fetch", () => {
  const fetches = new SharedFetches<string>(TTLS, HOUR_MS);
  const started: boolean[] = [];
  let toldCount = 0;
  fetches.wait("a", () => {
    started.push(fetches.wait("a", () => (toldCount += 1)));
    fetches.changed("a");
  });
  fetches.ended("a", { answer: answer() });
  expect([started, toldCount, fetches.hasChanged("a")]).toEqual([[true], 0, true]);
  fetches.ended("a", { answer: answer() });
  expect(toldCount).toBe(1);
});
