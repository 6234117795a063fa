/** Choices of a client among endpoints that come and go: shares of levels, load, turns, ejection. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { Chooser, type ChooserOptions } from "../../src/consumer/chooser.ts";
import type { Candidate, Endpoint as EndpointOf } from "../../src/consumer/endpoint.ts";
import type { HealthNumber } from "../../src/consumer/health-tiers.ts";
import { SELECT_POLICY } from "../../src/consumer/locality-levels.ts";
import { Rng } from "../../src/lib/rng.ts";

type Endpoint = EndpointOf<Candidate>;
type Load = NonNullable<Candidate["view"]["load"]>;

const WALL = 1_700_000_000_000;
const at = (monoMs: number) => ({ monoMs, wallMs: WALL + monoMs });
const START = at(0);

function candidate(key: string, spec: Partial<Candidate["view"]> & { readonly weight?: number } = {}): Candidate {
  const { weight = 0, ...view } = spec;
  return { key, view: { region: "r1", zone: "z1", health: HEALTH.HEALTHY, load: undefined, targets: [{ priority: 0, weight }], ...view } };
}

function load(utilization: number): Load {
  return { utilization, errorRate: 0, latencyMs: 0, activeClients: 0, observedWallMs: WALL };
}

function chooserOf(candidates: readonly Candidate[], options: Partial<ChooserOptions> = {}): Chooser<Candidate> {
  const chooser = new Chooser<Candidate>({ policy: SELECT_POLICY.LOAD_AWARE, region: "r1", zone: "z1", start: 0, ...options });
  for (const one of candidates) chooser.put(one);
  return chooser;
}

const many = (count: number, name: string, spec: Parameters<typeof candidate>[1] = {}) =>
  Array.from({ length: count }, (_, i) => candidate(`${name}${String(i).padStart(3, "0")}`, spec));

const ZONES = { near: { zone: "z1" }, region: { zone: "z2" }, far: { region: "r2", zone: "z9" } } as const;

/** Number of choices by the first letters of the key. */
function tally(chooser: Chooser<Candidate>, choices: number, time = START): ReadonlyMap<string, number> {
  const rng = new Rng(11);
  const counts = new Map<string, number>();
  for (let i = 0; i < choices; i++) {
    const name = chooser.choose(time, () => rng.next())?.key.replace(/\d+$/, "") ?? "none";
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

const keys = (chooser: Chooser<Candidate>, count: number, time = START) =>
  Array.from({ length: count }, () => chooser.choose(time, () => 0.5)?.key ?? "none").join(" ");

/** Calls to the endpoint begin. */
function start(chooser: Chooser<Candidate>, key: string, count: number): void {
  for (let i = 0; i < count; i++) chooser.started(endpointOf(chooser, key));
}

/** Fails calls to an endpoint until it is ejected or `count` have failed. */
function failTimes(chooser: Chooser<Candidate>, endpoint: Endpoint | undefined, count: number, time = START): void {
  if (endpoint === undefined) return;
  for (let i = 0; i < count; i++) {
    chooser.started(endpoint);
    chooser.failed(endpoint, time);
  }
}

const { HEALTHY, DEGRADED, CRITICAL, MAINTENANCE, ORPHANED, UNSET } = HEALTH;

test.each<{ readonly healths: readonly HealthNumber[]; readonly want: string }>([
  { healths: [UNSET, HEALTHY, DEGRADED, CRITICAL, MAINTENANCE, ORPHANED], want: "e0 e1 e0" },
  { healths: [DEGRADED, CRITICAL, MAINTENANCE, ORPHANED], want: "e0 e0 e0" },
  { healths: [CRITICAL, MAINTENANCE, ORPHANED], want: "e0 e2 e0" },
  { healths: [MAINTENANCE, ORPHANED], want: "e1 e1 e1" },
  { healths: [MAINTENANCE, MAINTENANCE], want: "none none none" },
  { healths: [], want: "none none none" },
])("the best health tier of $healths wins, and MAINTENANCE is never chosen: $want", ({ healths, want }) => {
  for (const policy of [SELECT_POLICY.LOAD_AWARE, SELECT_POLICY.ROUND_ROBIN]) {
    const chooser = chooserOf(
      healths.map((health, i) => candidate(`e${i}`, { health })),
      { policy },
    );
    expect(keys(chooser, 3)).toBe(want);
  }
});

test("no policy ever chooses an entry in MAINTENANCE, however entries come, change and go", () => {
  const step = fc.record({
    key: fc.constantFrom("a", "b", "c", "d"),
    health: fc.constantFrom<HealthNumber>(0, 1, 2, 3, 4, 5),
    isGone: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.constantFrom(...Object.values(SELECT_POLICY)), fc.array(step, { maxLength: 40 }), (policy, steps) => {
      const chooser = chooserOf([], { policy });
      const held = new Map<string, HealthNumber>();
      const rng = new Rng(3);
      for (const { key, health, isGone } of steps) {
        if (isGone) {
          chooser.remove(key);
          held.delete(key);
        } else {
          chooser.put(candidate(key, { health }));
          held.set(key, health);
        }
        const tiers = [...held.values()].map((one) => [0, 0, 1, 2, 9, 2][one] ?? 9);
        const best = Math.min(9, ...tiers.map((tier) => (policy === SELECT_POLICY.HASH && tier === 1 ? 0 : tier)));
        const chosen = chooser.choose(START, () => rng.next(), { hashKey: "k", avoid: undefined });
        if (best === 9) expect(chosen).toBeUndefined();
        else
          expect(held.get(chosen?.key ?? "")).toSatisfy(
            (one: HealthNumber) => [0, 0, policy === SELECT_POLICY.HASH ? 0 : 1, 2, 9, 2][one] === best,
          );
        expect(chooser.size).toBe(held.size);
      }
    }),
  );
});

test.each([
  { name: "a healthy zone takes everything", near: [10, 0], region: [10, 0], far: [10, 0], want: [1, 0, 0] },
  { name: "a zone that lost a quarter still takes everything", near: [15, 5], region: [10, 0], far: [10, 0], want: [1, 0, 0] },
  { name: "a zone that lost half takes 70 %", near: [5, 5], region: [10, 0], far: [10, 0], want: [0.7, 0.3, 0] },
  { name: "what the region cannot take goes elsewhere", near: [5, 5], region: [1, 9], far: [10, 0], want: [0.7, 0.14, 0.16] },
  { name: "levels that cannot take everything take it in proportion", near: [2, 8], region: [1, 9], far: [1, 9], want: [0.5, 0.25, 0.25] },
  { name: "a zone without a healthy entry takes nothing", near: [0, 3], region: [1, 1], far: [0, 0], want: [0, 1, 0] },
])("$name", ({ near, region, far, want }) => {
  const all = Object.entries({ near, region, far }).flatMap(([name, [fit = 0, sick = 0]]) => {
    const place = { near: ZONES.near, region: ZONES.region, far: ZONES.far }[name];
    return [
      ...many(fit, name, { ...place }),
      ...many(sick, `sick-${name}`, { ...place, health: name === "near" ? MAINTENANCE : CRITICAL }),
    ];
  });
  for (const policy of [SELECT_POLICY.LOAD_AWARE, SELECT_POLICY.ROUND_ROBIN, SELECT_POLICY.RANDOM]) {
    for (const isLoaded of [false, true]) {
      const loaded = all.map((one) => ({ ...one, view: { ...one.view, load: isLoaded ? load(0.3) : undefined } }));
      const counts = tally(chooserOf(loaded, { policy }), 1000);
      for (const [i, name] of ["near", "region", "far"].entries()) expect((counts.get(name) ?? 0) / 1000).toBeCloseTo(want[i] ?? 0, 2);
    }
  }
});

test("without a preferred place there is one level", () => {
  const all = [...many(1, "near", ZONES.near), ...many(1, "region", ZONES.region), ...many(2, "far", ZONES.far)];
  expect(keys(chooserOf(all, { region: "", zone: "" }), 5)).toBe("far000 far001 near000 region000 far000");
});

test("where no load is known the choice is nginx's smooth weighted round robin in key order", () => {
  const all = [candidate("b", { weight: 1 }), candidate("a", { weight: 5 }), candidate("c", { weight: 1 })];
  expect(keys(chooserOf(all), 14)).toBe("a a b a c a a a a b a c a a");
  expect(keys(chooserOf(many(4, "e"), { start: 0.6 }), 5)).toBe("e002 e003 e000 e001 e002");
  expect(keys(chooserOf(all, { policy: SELECT_POLICY.ROUND_ROBIN }), 7)).toBe("a a b a c a a");
});

test("with LOAD_AWARE, two different endpoints are drawn and the less loaded wins, so the most loaded gets no calls while others have headroom", () => {
  const all = [candidate("idle", { load: load(0) }), candidate("busy", { load: load(0.9) }), candidate("full", { load: load(1) })];
  const chooser = chooserOf(all);
  const counts = tally(chooser, 9000);
  // Of three pairs, the idle one is in two, and the busy one is alone with the full one in the other.
  expect([(counts.get("idle") ?? 0) / 9000, (counts.get("busy") ?? 0) / 9000]).toEqual([
    expect.closeTo(2 / 3, 1),
    expect.closeTo(1 / 3, 1),
  ]);
  expect(counts.get("full")).toBeUndefined();
  expect(chooser.counts).toEqual({ choices: 9000, byLoad: 9000 });
});

test("weights count in choices by load and at random", () => {
  const all = [candidate("light", { weight: 1, load: load(0.2) }), candidate("heavy", { weight: 3, load: load(0.2) })];
  for (const policy of [SELECT_POLICY.LOAD_AWARE, SELECT_POLICY.RANDOM]) {
    const counts = tally(chooserOf(all, { policy }), 8000);
    expect((counts.get("heavy") ?? 0) / 8000).toBeCloseTo(0.75, 1);
  }
});

test("an old report counts less: after an hour a loaded one is as good as one of which nothing is known", () => {
  const chooser = chooserOf([candidate("full", { load: load(1) }), candidate("unknown")]);
  expect(tally(chooser, 1000).get("full")).toBeUndefined();
  expect(tally(chooser, 1000, at(30_000)).get("full")).toBeLessThan(100);
  expect(tally(chooser, 1000, at(3_600_000)).get("full")).toBeGreaterThan(400);
});

/** The endpoint of a key that was put. */
function endpointOf(chooser: Chooser<Candidate>, key: string): Endpoint {
  const endpoint = chooser.find(key);
  if (endpoint === undefined) throw new Error(`${key} was not put`);
  return endpoint;
}

function succeed(chooser: Chooser<Candidate>, key: string, latencyMs: number, time = START): void {
  chooser.started(endpointOf(chooser, key));
  chooser.succeeded(endpointOf(chooser, key), latencyMs, time);
}

const shareOf = (chooser: Chooser<Candidate>, key: string, time = START) => (tally(chooser, 4000, time).get(key) ?? 0) / 4000;

test.each<{ readonly what: string; readonly act: (chooser: Chooser<Candidate>) => void }>([
  { what: "slower", act: (chooser) => succeed(chooser, "a", 40) },
  {
    what: "slower once, because an average of latencies falls slowly",
    act: (chooser) => (succeed(chooser, "a", 400), succeed(chooser, "a", 10)),
  },
  { what: "failing", act: (chooser) => (succeed(chooser, "a", 10), failTimes(chooser, chooser.find("a"), 3)) },
  { what: "busy with calls", act: (chooser) => (succeed(chooser, "a", 10), start(chooser, "a", 2)) },
])("an endpoint that is $what loses to another, until that is long ago", ({ what, act }) => {
  const chooser = chooserOf([candidate("a"), candidate("b")]);
  succeed(chooser, "b", 10);
  act(chooser);
  expect(shareOf(chooser, "a")).toBeLessThan(0.3);
  if (what === "busy with calls") for (let i = 0; i < 2; i++) chooser.abandoned(endpointOf(chooser, "a"));
  expect(shareOf(chooser, "a", at(7_200_000))).toBeCloseTo(0.5, 1);
});

test("a failure is forgotten after later calls went well", () => {
  const chooser = chooserOf([candidate("a"), candidate("b")]);
  failTimes(chooser, chooser.find("a"), 4);
  succeed(chooser, "a", 10, at(120_000));
  succeed(chooser, "b", 80, at(120_000));
  expect(shareOf(chooser, "a", at(120_000))).toBeGreaterThan(0.8);
});

test("an endpoint of three times the weight stands three times the calls in flight, whoever else was there", () => {
  const chooser = chooserOf([candidate("gone", { weight: 1000 }), candidate("light", { weight: 1 }), candidate("heavy", { weight: 3 })]);
  start(chooser, "heavy", 3);
  start(chooser, "light", 3);
  for (const key of ["light", "heavy"]) succeed(chooser, key, 10);
  chooser.remove("gone");
  // With the mean weight of both, it has 3/7 of the other's headroom, and keeps half of its quarter.
  expect(shareOf(chooser, "light")).toBeCloseTo(0.13, 1);
  const reported = chooserOf([
    candidate("gone", { weight: 1000 }),
    candidate("a", { load: load(0.2) }),
    candidate("b", { load: load(0.7) }),
  ]);
  reported.remove("gone");
  reported.started(endpointOf(reported, "a"));
  expect(shareOf(reported, "a")).toBeCloseTo(0.5, 1);
});

test("loads and weights stay those of their endpoints when others go", () => {
  const all = [
    candidate("first", { load: load(1), weight: 1 }),
    candidate("busy", { load: load(0.9), weight: 3 }),
    candidate("idle", { load: load(0), weight: 1 }),
  ];
  const chooser = chooserOf(all);
  chooser.remove("first");
  expect(shareOf(chooser, "busy")).toBeLessThan(0.01);
  const random = chooserOf([candidate("first"), candidate("light", { weight: 1 }), candidate("heavy", { weight: 5 })], {
    policy: SELECT_POLICY.RANDOM,
  });
  random.remove("first");
  expect(shareOf(random, "heavy")).toBeCloseTo(5 / 6, 1);
});

test("an entry that changes keeps its turn, unless it changes its level or weight", () => {
  const chooser = chooserOf(many(3, "e"), { policy: SELECT_POLICY.ROUND_ROBIN });
  expect(keys(chooser, 1)).toBe("e000");
  chooser.put(candidate("e000", { load: load(0.5) }));
  expect(keys(chooser, 3)).toBe("e001 e002 e000");
  chooser.put(candidate("e001", { zone: "z2" }));
  expect(keys(chooser, 2)).toBe("e002 e000");
});

test("the first call that ends turns choices in turn into choices by load", () => {
  const chooser = chooserOf([candidate("a"), candidate("b")]);
  expect(keys(chooser, 2)).toBe("a b");
  expect(chooser.counts.byLoad).toBe(0);
  const a = chooser.find("a");
  if (a === undefined) throw new Error("it was put");
  chooser.started(a);
  chooser.succeeded(a, 5, START);
  expect(tally(chooser, 100).get("none")).toBeUndefined();
  expect(chooser.counts).toEqual({ choices: 102, byLoad: 100 });
  chooser.remove("a");
  expect(keys(chooser, 2)).toBe("b b");
  expect(chooser.counts.byLoad).toBe(100);
});

test("five failures in a row eject an endpoint for 30 s, the second time for 60 s; a success in between starts anew", () => {
  const chooser = chooserOf([candidate("a"), candidate("b")], { policy: SELECT_POLICY.ROUND_ROBIN });
  const a = chooser.find("a");
  failTimes(chooser, a, 4);
  expect(keys(chooser, 2)).toBe("a b");
  if (a !== undefined) {
    chooser.started(a);
    chooser.succeeded(a, 1, START);
  }
  failTimes(chooser, a, 4);
  expect(keys(chooser, 2)).toBe("a b");
  failTimes(chooser, a, 1);
  expect(keys(chooser, 3)).toBe("b b b");
  expect(keys(chooser, 2, at(29_999))).toBe("b b");
  expect(keys(chooser, 2, at(30_000)).split(" ").toSorted()).toEqual(["a", "b"]);
  failTimes(chooser, a, 5, at(30_000));
  expect(keys(chooser, 2, at(89_999))).toBe("b b");
  expect(keys(chooser, 2, at(90_000)).split(" ").toSorted()).toEqual(["a", "b"]);
  // It has five failures again.
  failTimes(chooser, a, 4, at(90_000));
  expect(keys(chooser, 2, at(90_000)).split(" ").toSorted()).toEqual(["a", "b"]);
  if (a !== undefined) chooser.succeeded(a, 1, at(90_000));
  // Ten minutes without an ejection are forgiven.
  failTimes(chooser, a, 5, at(690_000));
  expect(keys(chooser, 2, at(719_999))).toBe("b b");
  expect(keys(chooser, 2, at(720_000)).split(" ").toSorted()).toEqual(["a", "b"]);
});

test("at most a tenth of a level or one is ejected, never the last, and shares follow", () => {
  for (const [count, most] of [
    [1, 0],
    [2, 1],
    [9, 1],
    [20, 2],
    [59, 5],
  ] as const) {
    const chooser = chooserOf(many(count, "e"), { policy: SELECT_POLICY.ROUND_ROBIN });
    for (const endpoint of chooser.endpoints()) failTimes(chooser, endpoint, 7);
    expect(new Set(keys(chooser, count * 2).split(" ")).size).toBe(count - most);
  }
});

test("an ejection lasts five minutes at most", () => {
  const chooser = chooserOf([candidate("a"), candidate("b")], { policy: SELECT_POLICY.ROUND_ROBIN });
  let nowMs = 0;
  for (let i = 1; i <= 12; i++) {
    failTimes(chooser, chooser.find("a"), 5, at(nowMs));
    const lastsMs = Math.min(i, 10) * 30_000;
    expect(keys(chooser, 2, at(nowMs + lastsMs - 1))).toBe("b b");
    nowMs += lastsMs;
    expect(keys(chooser, 2, at(nowMs))).toContain("a");
  }
});

test("where so many went that too many are ejected, the one that is due first comes back", () => {
  const chooser = chooserOf(many(20, "e"), { policy: SELECT_POLICY.ROUND_ROBIN });
  failTimes(chooser, chooser.find("e019"), 5, at(2000));
  failTimes(chooser, chooser.find("e018"), 5, at(1000));
  for (let i = 0; i < 12; i++) {
    const left = new Set(keys(chooser, 60, at(3000)).split(" "));
    expect([left.has("e018"), left.has("e019")]).toEqual([i > 0, false]);
    chooser.remove(`e00${i}`.replace("e0010", "e010").replace("e0011", "e011"));
  }
});

test("however endpoints fail, come, change and go: ejected are at most a tenth or one of a level, and never all of it", () => {
  const step = fc.oneof(
    fc.record({ act: fc.constant("put" as const), i: fc.nat(24), health: fc.constantFrom<HealthNumber>(1, 2, 4) }),
    fc.record({ act: fc.constantFrom("remove" as const, "fail" as const), i: fc.nat(24), health: fc.constant<HealthNumber>(1) }),
    fc.record({ act: fc.constant("wait" as const), i: fc.nat(60), health: fc.constant<HealthNumber>(1) }),
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 120 }), (steps) => {
      const chooser = chooserOf([], { policy: SELECT_POLICY.ROUND_ROBIN });
      const held = new Map<string, HealthNumber>();
      let nowMs = 0;
      for (const { act, i, health } of steps) {
        const key = `e${i}`;
        if (act === "put") held.set(chooser.put(candidate(key, { health })).key, health);
        else if (act === "fail") failTimes(chooser, chooser.find(key), 5, at(nowMs));
        else if (act === "wait") nowMs += i * 1000;
        else {
          chooser.remove(key);
          held.delete(key);
        }
        const tier = [1, 2].find((one) => [...held.values()].includes(one as HealthNumber));
        const level = [...held].filter(([, one]) => one === tier);
        const chosen = new Set(level.flatMap(() => chooser.choose(at(nowMs), () => 0)?.key ?? []));
        expect(level.length - chosen.size).toBeLessThanOrEqual(
          Math.max(0, Math.min(level.length - 1, Math.max(1, Math.floor(level.length / 10)))),
        );
        for (const one of chosen) expect(held.get(one)).toBe(tier);
      }
    }),
  );
});

test("an ejected endpoint counts as lost capacity: traffic spills to the next level", () => {
  const chooser = chooserOf([...many(2, "near", ZONES.near), ...many(2, "region", ZONES.region)], { policy: SELECT_POLICY.ROUND_ROBIN });
  expect(keys(chooser, 2)).toBe("near000 near001");
  failTimes(chooser, chooser.find("near000"), 5);
  expect(Object.fromEntries(tally(chooser, 100))).toEqual({ near: 70, region: 30 });
});

test("a choice avoids what was tried, as long as there is another that can be chosen", () => {
  for (const policy of Object.values(SELECT_POLICY)) {
    const all = [
      ...many(2, "near", ZONES.near),
      ...many(1, "far", ZONES.far),
      candidate("sick", { ...ZONES.far, health: CRITICAL }),
      candidate("off", { ...ZONES.far, health: MAINTENANCE }),
    ];
    const chooser = chooserOf(all, { policy });
    const rng = new Rng(policy);
    const avoid = new Set<Endpoint>();
    const order: string[] = [];
    for (;;) {
      const chosen = chooser.choose(START, () => rng.next(), { hashKey: "k", avoid });
      if (chosen === undefined) break;
      avoid.add(chosen);
      order.push(chosen.key.replace(/\d+$/, ""));
    }
    if (policy === SELECT_POLICY.HASH) expect([order.slice(0, 3).toSorted(), order.slice(3)]).toEqual([["far", "near", "near"], ["sick"]]);
    else expect(order).toEqual(["near", "near", "far", "sick"]);
  }
});

test("HASH: an endpoint that goes moves only its own keys, one that comes takes keys only for itself, and keys are spread evenly", () => {
  const chooser = chooserOf(many(10, "e"), { policy: SELECT_POLICY.HASH });
  const find = () =>
    Array.from({ length: 5000 }, (_, i) => chooser.choose(START, () => 0, { hashKey: `user-${i}`, avoid: undefined })?.key);
  const before = find();
  for (let i = 0; i < 10; i++) expect(before.filter((key) => key === `e00${i}`).length).toBeGreaterThan(400);
  chooser.remove("e003");
  const after = find();
  for (const [i, key] of before.entries()) expect(after[i] === key).toBe(key !== "e003");
  chooser.put(candidate("e003"));
  expect(find()).toEqual(before);
});

test("the target is of the lowest priority, by weight", () => {
  const chooser = chooserOf([
    {
      ...candidate("a"),
      view: {
        ...candidate("a").view,
        targets: [
          { priority: 5, weight: 9 },
          { priority: 1, weight: 1 },
          { priority: 1, weight: 3 },
        ],
      },
    },
  ]);
  const endpoint = chooser.choose(START, () => 0);
  expect([0, 0.24, 0.26, 0.99].map((drawn) => endpoint?.target(drawn)?.weight)).toEqual([1, 1, 3, 3]);
});

test("a new report of load counts from then on, for an entry that told its load before and for one that did not", () => {
  for (const before of [load(0.9), undefined]) {
    const chooser = chooserOf([candidate("a", { load: before }), candidate("b", { load: before && load(0.1) })]);
    chooser.put(candidate("a", { load: load(0.1) }));
    chooser.put(candidate("b", { load: load(0.9) }));
    const counts = tally(chooser, 1000);
    expect(counts.get("a")).toBeGreaterThan(600);
  }
});

test("entries that went take no traffic with them: a zone that shrank and is well keeps all of it", () => {
  const chooser = chooserOf([...many(20, "near", ZONES.near), ...many(4, "far", ZONES.far)]);
  for (let i = 4; i < 20; i++) chooser.remove(`near${String(i).padStart(3, "0")}`);
  expect(tally(chooser, 1000)).toEqual(new Map([["near", 1000]]));
});

test("when an ejection is over, its level has its whole share again", () => {
  const chooser = chooserOf([...many(2, "near", ZONES.near), ...many(2, "far", ZONES.far)]);
  failTimes(chooser, chooser.find("near000"), 5);
  expect(tally(chooser, 1000).get("far")).toBeGreaterThan(200);
  expect(tally(chooser, 1000, at(30_000))).toEqual(new Map([["near", 1000]]));
});

test("an entry that changes its weight while it is ejected stays ejected", () => {
  const chooser = chooserOf(many(3, "e"));
  failTimes(chooser, chooser.find("e000"), 5);
  chooser.put(candidate("e000", { weight: 5 }));
  expect(keys(chooser, 4)).not.toContain("e000");
  const rng = new Rng(5);
  const chosen = Array.from({ length: 200 }, () => chooser.choose(at(30_000), () => rng.next())?.key);
  expect(chosen).toContain("e000");
});

test("what a program saw of its calls counts as well after it has run for a day", () => {
  const day = at(86_400_000);
  const chooser = chooserOf([candidate("quick"), candidate("slow")]);
  for (const [key, latencyMs] of [
    ["quick", 10],
    ["slow", 1000],
  ] as const) {
    const endpoint = chooser.find(key);
    if (endpoint === undefined) continue;
    chooser.started(endpoint);
    chooser.succeeded(endpoint, latencyMs, day);
  }
  expect(tally(chooser, 1000, day).get("quick")).toBeGreaterThan(600);
});
