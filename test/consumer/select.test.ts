import * as fc from "fast-check";
import { expect, test } from "vitest";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { SELECT_POLICY } from "../../src/consumer/locality-levels.ts";
import { NameRotation, RotationCache } from "../../src/consumer/rotation-cache.ts";
import { MAX_EXPLAINED, type SelectOptions, select } from "../../src/consumer/select.ts";
import { Rng } from "../../src/lib/rng.ts";

type Candidate = Parameters<typeof select>[0][number];
type Load = NonNullable<Candidate["view"]["load"]>;

const NOW_MS = 1_700_000_000_000;

function target(spec: { readonly port?: number; readonly priority?: number; readonly weight?: number } = {}) {
  return { port: 80, priority: 0, weight: 0, ...spec };
}

function load(spec: Partial<Load> = {}): Load {
  return { activeClients: 0, errorRate: 0, latencyMs: 0, utilization: 0, observedWallMs: NOW_MS, ...spec };
}

interface Made extends Candidate {
  readonly id: string;
  readonly view: Candidate["view"] & { readonly targets: readonly ReturnType<typeof target>[] };
}

function candidate(instanceId: string, spec: Partial<Made["view"]> = {}): Made {
  const view = { targets: [target()], region: "r1", zone: "z1", health: HEALTH.HEALTHY, load: undefined, ...spec };
  return { id: instanceId, key: `svc/web/${instanceId}`, view };
}

function options(spec: Partial<SelectOptions> = {}): SelectOptions {
  return {
    policy: SELECT_POLICY.LOAD_AWARE,
    region: "",
    zone: "",
    hashKey: "",
    turns: new NameRotation(0),
    random: () => 0.5,
    time: { monoMs: 0, wallMs: NOW_MS },
    limit: 100,
    counts: undefined,
    explain: false,
    ...spec,
  };
}

const ids = (ranked: readonly { readonly id: string }[]) => ranked.map((one) => one.id).join(" ");

test("the best tier comes first, critical and orphaned are one, and MAINTENANCE is not among the alternatives either", () => {
  const all = [
    candidate("orphaned", { health: HEALTH.ORPHANED }),
    candidate("maintenance", { health: HEALTH.MAINTENANCE }),
    candidate("critical", { health: HEALTH.CRITICAL }),
    candidate("degraded", { health: HEALTH.DEGRADED }),
    candidate("healthy"),
    candidate("unset", { health: HEALTH.UNSET }),
  ];
  const turns = new NameRotation(0);
  const next = () => ids(select(all, options({ turns })).ranked);
  expect([next(), next()]).toEqual(["healthy unset degraded critical orphaned", "unset healthy degraded critical orphaned"]);
  expect(ids(select(all.slice(0, 2), options()).ranked)).toBe("orphaned");
  expect(select(all.slice(1, 2), options({ explain: true }))).toEqual({
    ranked: [],
    target: undefined,
    explained: [{ key: "svc/web/maintenance", kept: false, reason: "maintenance", detail: "in maintenance, so it is never chosen" }],
  });
});

test.each([
  { region: "r1", zone: "z1", want: "near region far otherZone" },
  { region: "r1", zone: "", want: "near region far otherZone" },
  { region: "", zone: "z1", want: "near otherZone far region" },
  { region: "", zone: "", want: "far near otherZone region" },
  { region: "r2", zone: "", want: "far otherZone near region" },
])("nearness comes second: region '$region' zone '$zone' → $want", ({ region, zone, want }) => {
  const all = [
    candidate("near"),
    candidate("region", { zone: "z2" }),
    candidate("far", { region: "r2", zone: "z9" }),
    // A zone of the same name in another region is another zone, where a region is asked for.
    candidate("otherZone", { region: "r2", zone: "z1" }),
  ];
  expect(ids(select(all, options({ region, zone })).ranked)).toBe(want);
});

test("by load, the better of two drawn is chosen, and the alternatives are the least loaded by every metric, the unknown in the middle", () => {
  const all = [
    candidate("c-unknown"),
    candidate("b-unknown"),
    candidate("idle", { load: load() }),
    candidate("slow", { load: load({ latencyMs: 50 }) }),
    candidate("busy", { load: load({ utilization: 0.3, activeClients: 50 }) }),
    candidate("failing", { load: load({ utilization: 0.9, errorRate: 1, latencyMs: 900 }) }),
    candidate("full", { load: load({ utilization: 0.95 }) }),
  ];
  const drawing = (...drawn: readonly number[]) => {
    let i = 0;
    return ids(select(all, options({ random: () => drawn[i++] ?? 0 })).ranked);
  };
  // What fails is ejected, and the last has its place: b-unknown, busy, c-unknown, slow, full, idle.
  expect(drawing(0.9, 0)).toBe("idle slow busy b-unknown c-unknown full failing");
  expect(drawing(0.7, 0, 0.5)).toBe("b-unknown idle slow busy c-unknown full failing");
  expect(drawing(0.7, 0, 0)).toBe("full idle slow busy b-unknown c-unknown failing");
});

/** The load that an explanation tells. */
function told(reported: Load): number {
  const [one] = select([candidate("a", { load: reported })], options({ explain: true })).explained ?? [];
  return Number(/load ([\d.]+)/.exec(one?.detail ?? "")?.[1]);
}

test("a stale report counts less and less, and is never a reason to leave an entry out", () => {
  const score = (ageMs: number) => told(load({ observedWallMs: NOW_MS - ageMs }));
  expect([0, -5000, 60_000, 120_000, 1e9].map(score)).toEqual([0, 0, 0.25, 0.375, 0.5]);
});

test("absurd load reports stay within bounds", () => {
  expect(told(load({ utilization: 1e300, errorRate: 5, latencyMs: Number.MAX_VALUE, activeClients: 4e9 }))).toBe(1);
  expect(told(load({ utilization: -1, errorRate: -1, latencyMs: -1 }))).toBe(0);
});

test.each([SELECT_POLICY.ROUND_ROBIN, SELECT_POLICY.LOAD_AWARE])(
  "policy %i without loads: each of the best has its turn in key order, by weight",
  (policy) => {
    const all = [candidate("b"), candidate("a"), candidate("c"), candidate("sick", { health: HEALTH.CRITICAL })];
    const turns = new NameRotation(0);
    const next = (list: readonly Made[]) => ids(select(list, options({ policy, turns })).ranked);
    expect([0, 1, 2, 3].map(() => next(all))).toEqual(["a b c sick", "b c a sick", "c a b sick", "a b c sick"]);
    // The turn goes on after the last key, whatever came and went.
    expect([next([...all, candidate("aa")]), next(all.filter(({ id }) => id !== "b"))]).toEqual(["aa b c a sick", "c a sick"]);
    const weighed = [
      candidate("a", { targets: [target({ weight: 5 })] }),
      candidate("b"),
      candidate("c", { targets: [target({ weight: 1 })] }),
    ];
    const other = new NameRotation(0);
    const firsts = Array.from({ length: 14 }, () => ids(select(weighed, options({ policy, turns: other, limit: 1 })).ranked));
    expect(firsts.join(" ")).toBe("a a b a c a a a a b a c a a");
  },
);

test("a level takes 1.4 times its healthy share, and a sample's levels have the counts of all", () => {
  const near = ["n1", "n2"].map((id) => candidate(id));
  const far = ["f1", "f2"].map((id) => candidate(id, { zone: "z2" }));
  const off = candidate("off", { health: HEALTH.MAINTENANCE });
  const share = (list: readonly Made[], counts?: readonly number[]) => {
    const turns = new NameRotation(0);
    const chosen = Array.from(
      { length: 1000 },
      () => select(list, options({ region: "r1", zone: "z1", turns, counts })).ranked[0]?.id ?? "",
    );
    return chosen.filter((id) => id.startsWith("n")).length / 1000;
  };
  expect(share([...near, ...far])).toBe(1);
  expect(share([...near, ...far, off, { ...off, id: "off2", key: "off2" }])).toBeCloseTo(0.7);
  // Of 100 in the zone 40 are healthy and 60 are critical.
  expect(share([...near, ...far], [40, 100, 0, 0, 0, 0, 60])).toBeCloseTo(0.56);
  const sick = candidate("sick", { health: HEALTH.CRITICAL });
  expect(share([...near, ...far, sick], [40, 100, 0, 0, 0, 0, 60])).toBeCloseTo(0.56);
  // A level of which the sample has nothing takes nothing.
  expect(share(near, [40, 100, 0, 0, 0, 0, 60])).toBe(1);
});

test("a choice by load or by chance does not disturb the turns", () => {
  const turns = new NameRotation(0);
  const all = ["a", "b", "c"].map((id) => candidate(id));
  const loaded = all.map((one) => ({ ...one, view: { ...one.view, load: load({ utilization: 0.5 }) } }));
  const next = (list: readonly Made[], policy: SelectOptions["policy"]) => select(list, options({ turns, policy, limit: 1 })).ranked[0]?.id;
  const { LOAD_AWARE, RANDOM, ROUND_ROBIN } = SELECT_POLICY;
  expect(next(all, ROUND_ROBIN)).toBe("a");
  next(all, RANDOM);
  expect(next(all, ROUND_ROBIN)).toBe("b");
  next(loaded, LOAD_AWARE);
  expect(next(all, ROUND_ROBIN)).toBe("c");
});

test("turns are kept for the names asked for last, and a name that was forgotten does not begin with the first entry each time", () => {
  const book = new RotationCache(10);
  const all = ["a", "b", "c"].map((id) => candidate(id));
  const next = (name: string) => book.use(name, (turns) => ids(select(all, options({ turns, limit: 1 })).ranked));
  expect([next("one"), next("two"), next("one"), next("two"), next("one"), next("one")]).toEqual(["a", "a", "b", "b", "c", "a"]);
  const begun = Array.from({ length: 300 }, (_, i) => next(`name-${i}`));
  for (const id of ["a", "b", "c"]) expect(begun.filter((one) => one === id).length).toBeGreaterThan(90);
});

test("RANDOM draws in proportion to the weight of the targets that would be used", () => {
  const all = [
    candidate("light", { targets: [target({ weight: 1 }), target({ weight: 50, priority: 9 })] }),
    candidate("heavy", { targets: [target({ weight: 2 }), target({ weight: 1 })] }),
  ];
  const rng = new Rng(7);
  const count = { light: 0, heavy: 0 };
  for (let i = 0; i < 4000; i += 1) {
    const [best] = select(all, options({ policy: SELECT_POLICY.RANDOM, random: () => rng.next() })).ranked;
    if (best?.id === "light") count.light += 1;
    else count.heavy += 1;
  }
  expect(count.heavy / count.light).toBeGreaterThan(2.6);
  expect(count.heavy / count.light).toBeLessThan(3.4);
});

test("the same candidates and chances give the same choice, whatever order they come in", () => {
  const policies = fc.constantFrom(...Object.values(SELECT_POLICY));
  const shuffled = fc.shuffledSubarray(["a", "b", "c", "d", "e"], { minLength: 1 });
  fc.assert(
    fc.property(policies, shuffled, fc.nat(), fc.string(), (policy, order, turn, hashKey) => {
      const choose = (list: readonly string[]) => {
        const rng = new Rng(turn);
        const made = select(
          list.map((id) => candidate(id, { load: turn % 2 === 0 ? undefined : load({ utilization: id.charCodeAt(0) / 200 }) })),
          options({ policy, hashKey, random: () => rng.next() }),
        );
        return [ids(made.ranked), made.target];
      };
      expect(choose(order)).toEqual(choose(order.toSorted()));
    }),
  );
});

const instances = fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,6}$/), { minLength: 2, maxLength: 12 });

test("HASH: taking an entry away moves only its own keys, adding one moves keys only to it", () => {
  fc.assert(
    fc.property(instances, fc.array(fc.string(), { minLength: 1, maxLength: 30 }), (all, hashKeys) => {
      const [gone, ...rest] = all;
      for (const hashKey of hashKeys) {
        const find = (list: readonly string[]) =>
          select(
            list.map((id) => candidate(id)),
            options({ policy: SELECT_POLICY.HASH, hashKey }),
          ).ranked[0]?.id;
        const before = find(all);
        const expected = before === gone ? find(rest) : before;
        expect(find(rest)).toBe(expected);
      }
    }),
  );
});

test("HASH spreads keys evenly, and finds the same entry from any place while it is usable", () => {
  const all = ["a", "b", "c", "d"].map((id, i) => candidate(id, { zone: `z${i}`, health: i === 0 ? HEALTH.DEGRADED : HEALTH.HEALTHY }));
  const counts = new Map<string, number>();
  for (let i = 0; i < 4000; i += 1) {
    const hashKey = `user-${i}`;
    const here = select(all, options({ policy: SELECT_POLICY.HASH, hashKey, region: "r1", zone: "z1" })).ranked[0]?.id ?? "";
    const there = select(all, options({ policy: SELECT_POLICY.HASH, hashKey, region: "r2" })).ranked[0]?.id;
    counts.set(here, (counts.get(here) ?? 0) + Number(here === there));
  }
  expect(counts.size).toBe(4);
  expect(Math.min(...counts.values())).toBeGreaterThan(900);
});

test("a target has the lowest priority, and is drawn by weight", () => {
  const targets = [
    target({ port: 1, priority: 5, weight: 100 }),
    target({ port: 2, weight: 1 }),
    target({ port: 3, weight: 3 }),
    target({ port: 4 }),
  ];
  const at = (drawn: number) => select([candidate("a", { targets })], options({ random: () => drawn })).target?.port;
  expect([0, 0.24, 0.26, 0.99].map(at)).toEqual([2, 2, 3, 3]);
  const even = [target({ port: 1 }), target({ port: 2 })];
  const evenAt = (drawn: number) => select([candidate("a", { targets: even })], options({ random: () => drawn })).target?.port;
  expect([0, 0.49, 0.5, 0.99].map(evenAt)).toEqual([1, 1, 2, 2]);
  expect(select([candidate("a", { targets: [] })], options()).target).toBeUndefined();
});

test("HASH uses all targets of an entry, the same one for the same key", () => {
  const all = [candidate("a", { targets: [target({ port: 1 }), target({ port: 2 })] }), candidate("b")];
  const port = (i: number) => select(all, options({ policy: SELECT_POLICY.HASH, hashKey: `k${i}` })).target?.port;
  const ports = Array.from({ length: 200 }, (_, i) => port(i));
  expect(new Set(ports)).toEqual(new Set([1, 2, 80]));
  expect(Array.from({ length: 200 }, (_, i) => port(i))).toEqual(ports);
});

test("no candidate is no choice", () => {
  expect(select([], options({ policy: SELECT_POLICY.ROUND_ROBIN, explain: true }))).toEqual({
    ranked: [],
    target: undefined,
    explained: [],
  });
});

const details = (all: readonly Made[], spec: Partial<SelectOptions>) =>
  select(all, options({ region: "r1", zone: "z1", limit: 2, explain: true, ...spec })).explained?.map(({ kept, reason, detail }) => [
    kept,
    reason,
    detail,
  ]);

test("an explanation says where each candidate ranks and why", () => {
  const all = [
    candidate("a", { load: load({ utilization: 0.5 }) }),
    candidate("b", { zone: "z2" }),
    candidate("c", { health: HEALTH.ORPHANED, region: "r2" }),
    candidate("d", { zone: "z2", health: HEALTH.MAINTENANCE }),
  ];
  expect(details(all, {})).toEqual([
    [true, "kept", "rank 1: healthy, same zone, load 0.500, the less loaded of two random candidates"],
    [true, "kept", "rank 2: healthy, same region, load unknown"],
    [false, "rank", "rank 3: orphaned, elsewhere, load unknown"],
    [false, "maintenance", "in maintenance, so it is never chosen"],
  ]);
  const half = [candidate("a"), candidate("b", { health: HEALTH.CRITICAL }), candidate("c", { zone: "z2" })];
  expect(details(half, { limit: 3 })).toEqual([
    [true, "kept", "rank 1: healthy, same zone (level chosen 70 % of the time), load unknown, next in the rotation"],
    [true, "kept", "rank 2: healthy, same region (level chosen 30 % of the time), load unknown"],
    [true, "kept", "rank 3: critical, same zone, load unknown"],
  ]);
  const one = [candidate("a", { targets: [target({ weight: 3 })] })];
  expect(details(one, { policy: SELECT_POLICY.ROUND_ROBIN })).toEqual([
    [true, "kept", "rank 1: healthy, same zone, weight 3, next in the rotation"],
  ]);
  expect(details(one, { policy: SELECT_POLICY.RANDOM })).toEqual([
    [true, "kept", "rank 1: healthy, same zone, weight 3, chosen at random"],
  ]);
  expect(details(one, { policy: SELECT_POLICY.HASH, hashKey: "k" })).toEqual([
    [true, "kept", expect.stringMatching(/^rank 1: healthy, hash 0\.\d{6}, the lowest hash$/)],
  ]);
});

test("explanations are bounded", () => {
  const many = Array.from({ length: MAX_EXPLAINED + 5 }, (_, i) => candidate(`i${i}`));
  expect(select(many, options({ explain: true })).explained?.length).toBe(MAX_EXPLAINED);
});

test("a name that is asked for without end keeps its turns", () => {
  const book = new RotationCache(10);
  const all = ["a", "b", "c"].map((id) => candidate(id));
  const next = () => book.use("one", (turns) => ids(select(all, options({ turns, limit: 1 })).ranked));
  expect(Array.from({ length: 300 }, next).join("")).toBe("abc".repeat(100));
});
