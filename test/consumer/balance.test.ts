/** How reported loads distribute calls over endpoints: away from bad endpoints, and evenly over equal endpoints even if reports are old. */
import { expect, test } from "vitest";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { Chooser } from "../../src/consumer/chooser.ts";
import type { Candidate } from "../../src/consumer/endpoint.ts";
import { SELECT_POLICY } from "../../src/consumer/locality-levels.ts";
import { WeightTree } from "../../src/consumer/pool.ts";
import { NameRotation } from "../../src/consumer/rotation-cache.ts";
import { select } from "../../src/consumer/select.ts";
import { Rng } from "../../src/lib/rng.ts";

type Load = NonNullable<Candidate["view"]["load"]>;

const WALL = 1_700_000_000_000;
const at = (monoMs: number) => ({ monoMs, wallMs: WALL + monoMs });
const OPTIONS = { policy: SELECT_POLICY.LOAD_AWARE, region: "", zone: "" } as const;
const GOOD: Partial<Load> = { utilization: 0.3, latencyMs: 20 };

function candidate(key: string, load: Partial<Load>, { atMs = 0, weight = 0 } = {}): Candidate {
  const whole = { utilization: 0, errorRate: 0, latencyMs: 0, activeClients: 0, ...load, observedWallMs: WALL + atMs };
  const targets = [{ priority: 0, weight }];
  return { key, view: { region: "", zone: "", health: HEALTH.HEALTHY, targets, load: whole } };
}

function chooserOf(candidates: readonly Candidate[]): Chooser<Candidate> {
  const chooser = new Chooser<Candidate>({ ...OPTIONS, start: 0 });
  for (const one of candidates) chooser.put(one);
  return chooser;
}

/** The share of choices that go to keys with this prefix. */
function shareOf(chooser: Chooser<Candidate>, start: string, nowMs: number): number {
  const rng = new Rng(7);
  const chosen = Array.from({ length: 5_000 }, () => chooser.choose(at(nowMs), () => rng.next())?.key ?? "");
  return chosen.filter((key) => key.startsWith(start)).length / chosen.length;
}

/** The same for Resolve, which starts without state each time. */
function resolvedShareOf(candidates: readonly Candidate[], start: string, nowMs: number): number {
  const rng = new Rng(7);
  const options = { ...OPTIONS, hashKey: "", turns: new NameRotation(0), limit: 1, counts: undefined, explain: false };
  const draw = () => select(candidates, { ...options, random: () => rng.next(), time: at(nowMs) }).ranked[0]?.key ?? "";
  const chosen = Array.from({ length: 2_000 }, draw);
  return chosen.filter((key) => key.startsWith(start)).length / chosen.length;
}

test.each([
  { bad: "90 % errors", load: { ...GOOD, errorRate: 0.9 }, most: 0 },
  { bad: "95 % load", load: { ...GOOD, utilization: 0.95 }, most: 0.02 },
  { bad: "900 ms", load: { ...GOOD, latencyMs: 900 }, most: 0.02 },
])("of two endpoints, the one that reports $bad gets at most $most of the choices, even if the report is 5 s old", ({ load, most }) => {
  for (const weights of [
    [1, 1],
    [9, 1],
  ] as const)
    for (const nowMs of [0, 5_000]) {
      const both = [candidate("bad", load, { weight: weights[0] }), candidate("good", GOOD, { weight: weights[1] })];
      expect(shareOf(chooserOf(both), "bad", nowMs)).toBeLessThanOrEqual(most);
      expect(resolvedShareOf(both, "bad", nowMs)).toBeLessThanOrEqual(most);
    }
});

const named = (count: number, start: string, load: Partial<Load>, atMs = 0) =>
  Array.from({ length: count }, (_, i) => candidate(`${start}${i}`, load, { atMs }));
const FAILING = { errorRate: 0.9 };

test("of endpoints that report errors, a tenth of the level or one is ejected, the others get few calls, and none is ejected if most report errors", () => {
  // One of two bad endpoints in four is ejected, and the other is always drawn together with a good one.
  expect(shareOf(chooserOf([...named(1, "bad", FAILING), ...named(3, "good", GOOD)]), "bad", 0)).toBe(0);
  expect(shareOf(chooserOf([...named(2, "bad", FAILING), ...named(2, "good", GOOD)]), "bad", 0)).toBeLessThan(0.01);
  const most = chooserOf([...named(3, "bad", FAILING), ...named(1, "good", GOOD)]);
  const rng = new Rng(1);
  const chosen = new Set(Array.from({ length: 500 }, () => most.choose(at(0), () => rng.next())?.key));
  expect(chosen).toEqual(new Set(["bad0", "bad1", "bad2", "good0"]));
  for (const all of [named(1, "bad", FAILING), named(2, "bad", FAILING)]) expect(shareOf(chooserOf(all), "bad", 0)).toBe(1);
  expect(shareOf(chooserOf(named(2, "bad", FAILING)), "bad0", 0)).toBeCloseTo(0.5, 1);
});

test("an ejected endpoint returns with a better report, if most report errors, or if its report is old, but not before its ejection for failed calls ends", () => {
  const chooser = chooserOf([candidate("bad", FAILING), candidate("good", GOOD)]);
  expect(shareOf(chooser, "bad", 0)).toBe(0);
  chooser.put(candidate("good", FAILING, { atMs: 1_000 }));
  expect(shareOf(chooser, "bad", 1_000)).toBeGreaterThan(0);
  chooser.put(candidate("good", GOOD, { atMs: 2_000 }));
  chooser.put(candidate("bad", FAILING, { atMs: 2_000 }));
  expect(shareOf(chooser, "bad", 2_000)).toBe(0);
  expect(shareOf(chooser, "bad", 61_999)).toBe(0);
  expect(shareOf(chooser, "bad", 62_000)).toBeGreaterThan(0);
  chooser.put(candidate("bad", FAILING, { atMs: 63_000 }));
  expect(shareOf(chooser, "bad", 63_000)).toBe(0);
  for (let i = 0; i < 40; i++) chooser.put(candidate("bad", GOOD, { atMs: 64_000 + i * 1_000 }));
  expect(shareOf(chooser, "bad", 104_000)).toBeGreaterThan(0.3);
  const bad = chooser.find("bad");
  if (bad === undefined) throw new Error("it was put");
  for (let i = 0; i < 5; i++) {
    chooser.started(bad);
    chooser.failed(bad, at(104_000));
  }
  chooser.put(candidate("bad", FAILING, { atMs: 105_000 }));
  expect(shareOf(chooser, "bad", 105_000)).toBe(0);
  chooser.put(candidate("bad", GOOD, { atMs: 106_000 }));
  expect(shareOf(chooser, "bad", 133_999)).toBe(0);
  expect(shareOf(chooser, "bad", 134_000)).toBeGreaterThan(0);
});

interface World {
  /** Utilisation of both endpoints with the calls according to their weights. */
  readonly rho: number;
  readonly weights: readonly [number, number];
  readonly reportEveryMs: number;
  /** Until this time the first endpoint reports full load, and the second reports no load. */
  readonly misleadsUntilMs?: number;
}

const CALLERS = 20;
const CALLS_A_SECOND = 200;
const DELAY_MS = 5_000;
const WINDOW = 10 * CALLS_A_SECOND;

/** The share of the first endpoint in each 10 s of five minutes, starting when the callers have correct reports. */
function windowsOf({ rho, weights, reportEveryMs, misleadsUntilMs = 0 }: World): readonly number[] {
  const rng = new Rng(3);
  const names = ["first", "second"] as const;
  const callers = Array.from({ length: CALLERS }, () => new Chooser<Candidate>({ ...OPTIONS, start: rng.next() }));
  const total = weights[0] + weights[1];
  const calls = [0, 0];
  const sent: { readonly untilMs: number; readonly candidate: Candidate }[] = [];
  const chosen: number[] = [];
  for (const caller of callers) for (const [i, weight] of weights.entries()) caller.put({ ...candidate(names[i] ?? "", {}, { weight }) });
  for (let call = 0; call < 360 * CALLS_A_SECOND; call++) {
    const nowMs = (call * 1000) / CALLS_A_SECOND;
    if (call > 0 && nowMs % reportEveryMs === 0)
      for (const [i, weight] of weights.entries()) {
        const share = ((calls[i] ?? 0) * 1000) / reportEveryMs / ((CALLS_A_SECOND * weight) / total);
        const utilization = nowMs < misleadsUntilMs ? 0.95 - 0.9 * i : Math.min(1, rho * share);
        sent.push({ untilMs: nowMs + DELAY_MS, candidate: candidate(names[i] ?? "", { utilization }, { atMs: nowMs, weight }) });
        calls[i] = 0;
      }
    while ((sent[0]?.untilMs ?? Infinity) <= nowMs) {
      const report = sent.shift();
      for (const caller of callers) if (report !== undefined) caller.put(report.candidate);
    }
    const key = callers[call % CALLERS]?.choose(at(nowMs), () => rng.next())?.key;
    const index = key === "first" ? 0 : 1;
    calls[index] = (calls[index] ?? 0) + 1;
    chosen.push(1 - index);
  }
  const from = (misleadsUntilMs > 0 ? misleadsUntilMs / 1000 + 60 : 20) * CALLS_A_SECOND;
  const windows: number[] = [];
  let sum = 0;
  for (let i = from; i < chosen.length; i++) {
    sum += chosen[i] ?? 0;
    if (i >= from + WINDOW) sum -= chosen[i - WINDOW] ?? 0;
    if (i >= from + WINDOW - 1) windows.push(sum / WINDOW);
  }
  return windows;
}

test.each([
  { rho: 0.5, reportEveryMs: 5_000 },
  { rho: 0.8, reportEveryMs: 5_000 },
  { rho: 0.8, reportEveryMs: 1_000 },
  { rho: 0.5, reportEveryMs: 5_000, misleadsUntilMs: 30_000 },
  { rho: 0.8, reportEveryMs: 5_000, misleadsUntilMs: 30_000 },
])("20 callers with reports that are 5 s old do not swing between two equal endpoints: %o", (world) => {
  const windows = windowsOf({ ...world, weights: [1, 1] });
  expect(
    Math.min(
      ...windows.slice(0, 1),
      windows.reduce((least, one) => Math.min(least, one), 1),
    ),
  ).toBeGreaterThan(0.3);
  expect(windows.reduce((most, one) => Math.max(most, one), 0)).toBeLessThan(0.7);
});

test.each([
  { rho: 0.3, reportEveryMs: 5_000 },
  { rho: 0.8, reportEveryMs: 5_000 },
  { rho: 0.8, reportEveryMs: 1_000 },
])("nor do they deviate from the weights 1 and 9: %o", (world) => {
  const windows = windowsOf({ ...world, weights: [1, 9] });
  const mean = windows.reduce((sum, one) => sum + one, 0) / windows.length;
  expect(mean).toBeGreaterThan(0.08);
  expect(mean).toBeLessThan(0.12);
});

test("another index is drawn in proportion to the weights of the others, and never the same one", () => {
  const weights = [3, 1, 4, 1, 5];
  const tree = new WeightTree();
  for (const [i, weight] of weights.entries()) tree.add(i, weight);
  for (const [index, weight] of weights.entries()) {
    const others = weights.flatMap((one, i) => (i === index ? [] : new Array<number>(one).fill(i)));
    const drawn = others.map((_, i) => tree.drawOther((i + 0.5) / others.length, index, weight));
    expect(drawn).toEqual(others);
  }
});
