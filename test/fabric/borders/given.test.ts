/** What a neighbour is given that it lacks: new versions for nothing, and little of what it was given before (docs/design/summaries.md, What a neighbour is given again). */
import { expect, test } from "vitest";
import { KIND, keyParts } from "../../../src/catalog/record/record.ts";
import { Given } from "../../../src/fabric/borders/given.ts";
import { BORDER_FIXED } from "../../../src/fabric/borders/options.ts";
import { EndedTerms } from "../../../src/fabric/borders/terms.ts";
import type { Listed } from "../../../src/summary/held/digests.ts";
import { recordKey } from "../../../src/summary/keys.ts";

const HOUR = 3_600_000;
const OPTIONS = { ...BORDER_FIXED, storeForwardMs: 300_000, storeForwardCount: 200 };

/** Of the orders from one number to another, the last not among them. */
function lackingOf(from: number, to: number, source = "ca"): readonly Listed[] {
  return Array.from({ length: to - from }, (_, n) => {
    const order = from + n;
    const key = recordKey({ source, kind: KIND.SERVICE, namespace: "svc", serviceId: `s${order}`, channel: 3 });
    return { key, hash: BigInt(order), version: 1, order, isWithdrawn: false };
  });
}

function whole<T>(work: Generator<void, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

function open(isAmongFirst = false) {
  const given = new Given(OPTIONS);
  given.begin({ isAmongFirst });
  const give = (
    lacking: readonly Listed[],
    monoMs: number,
    { revision = Number.MAX_SAFE_INTEGER, waiting = [] as readonly Listed[] } = {},
  ) => {
    const isWaiting = (key: string) => waiting.some((each) => each.key === key);
    return whole(given.give("ca", { lacking, revision, isWaiting, isLive: () => true }, monoMs));
  };
  return { given, give };
}

test.each([1, 20, 300])("of %i summaries all are given once, then twice more or 64, and then all in an hour", (count) => {
  const { give } = open();
  const lacking = lackingOf(0, count);
  let total = 0;
  for (let ms = 0; ms < 1000; ms++) total += give(lacking, ms).length;
  expect(total).toBe(count + Math.max(2 * count, 64));
  for (let minute = 1; minute <= 600; minute++) total += give(lacking, minute * 60_000).length;
  expect(total).toBeLessThanOrEqual(count + Math.max(12 * count, 12 * 32));
});

test("what there is room for is others each time, so all have their turn", () => {
  const { give } = open();
  const lacking = lackingOf(0, 200);
  for (let n = 0; n < 3; n++) give(lacking, 0);
  const seen = new Set<string>();
  for (let minute = 1; minute < 180; minute++) for (const key of give(lacking, minute * 60_000)) seen.add(key);
  expect(seen.size).toBe(200);
});

test("what changed since costs nothing, also where nothing else is given any more", () => {
  const { give } = open();
  const lacking = lackingOf(0, 100);
  for (let n = 0; n < 5; n++) give(lacking, 0, { revision: 100 });
  const fresh = lackingOf(101, 301);
  expect(give([...lacking, ...fresh], 0, { revision: 301 })).toEqual(fresh.map(({ key }) => key));
  expect(give([...lacking, ...fresh], 0, { revision: 301 })).toEqual([]);
});

test("what waits is not given, and is as new as before when it waits no more", () => {
  const { give } = open();
  const lacking = lackingOf(0, 100);
  const waiting = lacking.slice(40, 50);
  expect(give(lacking, 0, { revision: 100, waiting })).toHaveLength(90);
  for (let n = 0; n < 9; n++) give(lackingOf(0, 30), 0, { revision: 30 });
  expect(give(waiting, 0, { revision: 100 })).toHaveLength(10);
});

test("who refused all and takes some of it is given the rest at once, three times and then once in ten minutes", () => {
  const { given, give } = open();
  const lacking = lackingOf(0, 100);
  for (let n = 0; n < 4; n++) give(lacking, 0);
  const rest: number[] = [];
  for (let n = 1; n <= 10; n++) {
    const monoMs = n * BORDER_FIXED.digestIntervalMs;
    const tried = given.try(monoMs);
    expect(tried).toHaveLength(4);
    rest.push(
      give(
        lacking.filter(({ key }) => !tried.includes(key)),
        monoMs,
      ).length,
    );
    give(lacking, monoMs);
  }
  expect(rest.filter((count) => count === 96)).toHaveLength(3);
  const tried = given.try(HOUR / 2);
  expect(
    give(
      lacking.filter(({ key }) => !tried.includes(key)),
      HOUR / 2,
    ),
  ).toHaveLength(96);
});

test("before a digest 64 are tried in all, of 30 sources in turn, and once in the time between two", () => {
  const { given } = open();
  const names = Array.from({ length: 30 }, (_, n) => `c${n}`);
  const found = (source: string) => ({
    lacking: lackingOf(0, 100, source),
    revision: 100,
    isWaiting: () => false,
    isLive: () => true,
  });
  for (const name of names) for (let n = 0; n < 4; n++) whole(given.give(name, found(name), 0));
  const first = given.try(0);
  expect([first.length, given.try(BORDER_FIXED.digestIntervalMs - 1).length]).toEqual([64, 0]);
  const second = given.try(BORDER_FIXED.digestIntervalMs);
  const sources = new Set([...first, ...second].map((key) => keyParts(key).clusterId));
  expect(sources.size).toBe(30);
});

test.each([
  { isAmongFirst: true, tried: 64 },
  { isAmongFirst: false, tried: 0 },
])("a new link, among the first: $isAmongFirst, tries $tried of a source before its time", ({ isAmongFirst, tried }) => {
  const { given, give } = open();
  const lacking = lackingOf(0, 200);
  for (let n = 0; n < 4; n++) give(lacking, 0);
  expect(given.try(0)).toHaveLength(4);
  given.begin({ isAmongFirst });
  expect(given.try(1000)).toEqual([]);
  give(lacking, 1000);
  expect(given.try(2000)).toHaveLength(tried);
});

test("what waits makes nothing else free that was given before", () => {
  const { give } = open();
  const lacking = lackingOf(0, 100);
  for (let n = 0; n < 5; n++) give(lacking, 0, { revision: 100 });
  expect(give(lacking, 0, { revision: 100, waiting: lacking.slice(10, 11) })).toEqual([]);
  expect(give(lacking, 0, { revision: 100 })).toEqual([]);
});

test("what is lacking again after all was taken counts as refused since then", () => {
  const { given, give } = open();
  const lacking = lackingOf(0, 100);
  for (const ms of [0, 1000]) give(lacking, ms, { revision: 100 });
  expect(given.refusedSinceMs).toBe(0);
  given.lackingOnly(new Map());
  expect(given.refusedSinceMs).toBeUndefined();
  give(lacking, HOUR, { revision: 100 });
  expect(given.refusedSinceMs).toBe(HOUR);
});

test("links to one cluster that are up at once have terms of their own, and a later link has those of one that ended", () => {
  const ended = new EndedTerms(OPTIONS);
  const take = () => ended.take("ca", { monoMs: 0, wallMs: 0 });
  const [first, second] = [take(), take()];
  expect(first).not.toBe(second);
  for (const terms of [first, second]) ended.keep("ca", terms);
  expect([take(), take()]).toEqual([second, first]);
  expect([first, second]).not.toContain(take());
});
