import fc from "fast-check";
import { expect, test } from "vitest";
import { TokenBuckets } from "../../../src/lib/token-bucket.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import { type Charge, Charges, MAX_KEYS_TOLD } from "../../../src/policy/limits/charges.ts";
import { Limits, type RateLimits } from "../../../src/policy/limits/rate-limits.ts";

const WINDOW_MS = 1000;
const KEY = "a";

interface Schedule {
  readonly limit: number;
  /** How many of ten calls each worker gets. */
  readonly weights: readonly number[];
  readonly maxDelayMs: number;
  /** Calls that arrive together, and the ms before the next ones. */
  readonly burst: number;
  readonly gapMs: number;
  readonly windows: number;
  readonly seed: number;
}

function randomOf(seed: number): () => number {
  let state = seed + 1;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

interface Worker {
  readonly buckets: TokenBuckets;
  readonly charges: Charges;
}

function workersOf(count: number, limit: number): readonly Worker[] {
  return Array.from({ length: count }, () => {
    const buckets = new TokenBuckets({ limit, windowMs: WINDOW_MS, maxKeys: 10 });
    const charges = new Charges(() => undefined);
    charges.share("calls", buckets);
    return { buckets, charges };
  });
}

/** When calls were admitted, at whichever worker. Each message to another worker is under way for a random time. */
function admittedAt({ limit, weights, maxDelayMs, burst, gapMs, windows, seed }: Schedule): readonly number[] {
  const random = randomOf(seed);
  const workers = workersOf(weights.length, limit);
  const turns = weights.flatMap((weight, i) => Array.from({ length: weight }, () => i));
  let mail: { readonly atMs: number; readonly to: Worker; readonly charges: readonly Charge[] }[] = [];
  const admitted: number[] = [];
  for (let now = 0; now < windows * WINDOW_MS; now += gapMs * (0.5 + random())) {
    for (const { to, charges, atMs } of mail.filter((each) => each.atMs <= now)) to.charges.apply(charges, atMs);
    mail = mail.filter(({ atMs }) => atMs > now);
    for (let i = 0; i < burst; i++) {
      const worker = workers[turns[Math.floor(random() * turns.length)] ?? 0];
      if (worker?.buckets.take(KEY, now) === 0) admitted.push(now);
    }
    for (const from of workers) {
      const charges = structuredClone(from.charges.take());
      for (const to of workers) if (to !== from) mail.push({ atMs: now + random() * maxDelayMs, to, charges });
    }
  }
  return admitted;
}

const countIn = (admitted: readonly number[], from: number, ms: number) => admitted.filter((at) => at >= from && at < from + ms).length;

const SPREAD = {
  limit: fc.integer({ min: 50, max: 300 }),
  weights: fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 2, maxLength: 4 }),
  maxDelayMs: fc.double({ min: 0, max: 5, noNaN: true }),
  seed: fc.nat(1e6),
};

test("under steady load the workers together admit the limit in every window, ±10 % and what is under way", () => {
  fc.assert(
    fc.property(fc.record({ ...SPREAD, excess: fc.integer({ min: 3, max: 20 }) }), ({ excess, ...spread }) => {
      const { limit, weights, maxDelayMs } = spread;
      const admitted = admittedAt({ ...spread, burst: 1, gapMs: WINDOW_MS / (limit * excess), windows: 6 });
      const underWay = weights.length * (1 + (maxDelayMs * limit) / WINDOW_MS);
      for (let from = 2 * WINDOW_MS; from < 5 * WINDOW_MS; from += 97)
        expect(Math.abs(countIn(admitted, from, WINDOW_MS) - limit)).toBeLessThanOrEqual(0.1 * limit + underWay);
    }),
    { numRuns: 40 },
  );
});

test("whatever comes when, a window has at most what a lone thread admits in it, and what was not told yet", () => {
  fc.assert(
    fc.property(
      fc.record({ ...SPREAD, burst: fc.integer({ min: 1, max: 900 }), gapMs: fc.integer({ min: 1, max: 1500 }) }),
      ({ burst, gapMs, ...spread }) => {
        fc.pre(burst / gapMs < 20);
        const admitted = admittedAt({ ...spread, burst, gapMs, windows: 6 });
        const untold = Math.max(...admitted.map((from) => countIn(admitted, from, spread.maxDelayMs + 1e-6)));
        for (const from of new Set(admitted)) expect(countIn(admitted, from, WINDOW_MS)).toBeLessThanOrEqual(2 * spread.limit + untold);
      },
    ),
    { numRuns: 40 },
  );
});

test("a key that rested has a full bucket at each worker again, and one charged without measure waits for a window at most", () => {
  const [here, there] = workersOf(2, 5);
  const charges = [{ sort: "calls", counts: new Map([[KEY, 1_000_000]]) }];
  here?.charges.apply(charges, 0);
  expect(here?.buckets.take(KEY, 0)).toBeCloseTo(WINDOW_MS);
  expect(here?.buckets.take(KEY, WINDOW_MS)).toBe(0);
  there?.charges.apply(charges, 0);
  const taken = Array.from({ length: 6 }, () => there?.buckets.take(KEY, 2 * WINDOW_MS));
  expect(taken.filter((wait) => wait === 0)).toHaveLength(5);
});

const LIMITS: RateLimits = {
  readsPerMinute: 2,
  writesPerMinute: 2,
  namespaceReadsPerMinute: 3,
  namespaceWritesPerMinute: 3,
  watches: 0,
  windowMs: 60_000,
  maxKeys: 1000,
};
const STRANGER = anonymousCaller("local", "192.0.2.1");
const KNOWN: Caller = { ...STRANGER, tenant: "acme" };

/** The limits of a worker, and how often it said that there is something to tell. */
function limited() {
  const said: string[] = [];
  const charges = new Charges(() => said.push("taken"));
  const limits = new Limits(
    LIMITS,
    () => undefined,
    (sort, buckets) => charges.share(sort, buckets),
  );
  return { limits, charges, said };
}

test.each([KNOWN, STRANGER])(
  "what one worker admits, another does not admit again: reads and writes of a caller and in a namespace",
  (caller) => {
    const [here, there] = [limited(), limited()];
    for (const cost of ["read", "write"] as const) {
      for (let i = 0; i < 2; i++) here.limits.admit(caller, cost, 0);
      for (let i = 0; i < 3; i++) here.limits.admitIn(["svc"], caller, cost, 0);
    }
    expect(here.said).toEqual(["taken"]);
    there.charges.apply(structuredClone(here.charges.take()), 500);
    for (const cost of ["read", "write"] as const) {
      expect(() => there.limits.admit(caller, cost, 500)).toThrow(`has 2 ${cost}s a minute and used them; try again in 30000 ms`);
      expect(() => there.limits.admitIn(["svc"], caller, cost, 500)).toThrow(`namespace "svc" has 3 ${cost}s a minute`);
      there.limits.admitIn(["other"], caller, cost, 500);
    }
    expect(here.charges.take()).toEqual([]);
  },
);

test("a refused call tells nothing; a token that was told and is given back is told again", () => {
  const { limits, charges, said } = limited();
  const call = () => {
    limits.admit(KNOWN, "read", 0);
    limits.admitIn(["svc"], STRANGER, "read", 0);
  };
  for (let i = 0; i < 2; i++) call();
  charges.take();
  expect(call).toThrow("2 reads a minute");
  expect([charges.take(), said]).toEqual([[], ["taken"]]);
  limits.admitIn(["svc"], STRANGER, "read", 0);
  charges.take();
  limits.admit(STRANGER, "read", 0);
  charges.take();
  expect(() => limits.admitIn(["other", "svc"], STRANGER, "read", 0)).toThrow('namespace "svc"');
  expect(charges.take()).toEqual([{ sort: "read strangers", counts: new Map([["address 192.0.2.1", -1]]) }]);
});

test("a flood of new keys makes no message above its bound", () => {
  const [worker] = workersOf(1, 5);
  for (let i = 0; i < 3 * MAX_KEYS_TOLD; i++) worker?.buckets.take(`key-${i}`, 0);
  worker?.buckets.take("key-0", 0);
  const counts = worker?.charges.take()[0]?.counts;
  expect(counts?.size).toBeLessThanOrEqual(MAX_KEYS_TOLD);
  expect(counts?.get("key-0")).toBe(2);
  worker?.buckets.take("key-9999", 0);
  expect(worker?.charges.take()[0]?.counts).toEqual(new Map([["key-9999", 1]]));
});
