import * as fc from "fast-check";
import { expect, test } from "vitest";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { Rng } from "../../src/lib/rng.ts";
import {
  type Candidate,
  type Load,
  loadScore,
  MAX_EXPLAINED,
  SELECT_POLICY,
  type SelectOptions,
  select,
} from "../../src/reading/select.ts";

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
    turn: 0,
    hashKey: "",
    random: () => 0.5,
    nowWallMs: NOW_MS,
    limit: 100,
    explain: false,
    ...spec,
  };
}

const ids = (ranked: readonly { readonly id: string }[]) => ranked.map((one) => one.id).join(" ");

test("health comes first, and an orphan is served last", () => {
  const all = [
    candidate("orphaned", { health: HEALTH.ORPHANED }),
    candidate("maintenance", { health: HEALTH.MAINTENANCE }),
    candidate("critical", { health: HEALTH.CRITICAL }),
    candidate("degraded", { health: HEALTH.DEGRADED, load: load() }),
    candidate("healthy", { load: load({ utilization: 1 }) }),
    candidate("unset", { health: HEALTH.UNSET }),
  ];
  expect(ids(select(all, options()).ranked)).toBe("unset healthy degraded critical maintenance orphaned");
  expect(ids(select(all.slice(0, 1), options()).ranked)).toBe("orphaned");
});

test.each([
  { region: "r1", zone: "z1", want: "near region far otherZone" },
  { region: "r1", zone: "", want: "near region far otherZone" },
  { region: "", zone: "z1", want: "near otherZone region far" },
  { region: "", zone: "", want: "near region far otherZone" },
  { region: "r2", zone: "", want: "far otherZone near region" },
])("nearness comes second: region '$region' zone '$zone' → $want", ({ region, zone, want }) => {
  const busy = load({ utilization: 0.1 });
  const all = [
    candidate("near", { load: busy }),
    candidate("region", { zone: "z2", load: load({ utilization: 0.2 }) }),
    candidate("far", { region: "r2", zone: "z9", load: load({ utilization: 0.3 }) }),
    // A zone of the same name in another region is another zone, where a region is asked for.
    candidate("otherZone", { region: "r2", zone: "z1", load: load({ utilization: 0.4 }) }),
  ];
  expect(ids(select(all, options({ region, zone })).ranked)).toBe(want);
});

test("LOAD_AWARE prefers the least loaded by every metric, the unknown in the middle, equals by key", () => {
  const all = [
    candidate("c-unknown"),
    candidate("b-unknown"),
    candidate("idle", { load: load() }),
    candidate("slow", { load: load({ latencyMs: 50 }) }),
    candidate("busy", { load: load({ utilization: 0.3, activeClients: 50 }) }),
    candidate("failing", { load: load({ utilization: 0.9, errorRate: 1, latencyMs: 900 }) }),
  ];
  expect(ids(select(all, options()).ranked)).toBe("idle slow busy b-unknown c-unknown failing");
});

test("a stale report counts less and less, and is never a reason to leave an entry out", () => {
  const score = (ageMs: number) => loadScore(load({ observedWallMs: NOW_MS - ageMs }), NOW_MS);
  expect(score(0)).toBe(0);
  expect(score(-5000)).toBe(0);
  expect(score(60_000)).toBe(0.25);
  expect(score(1e9)).toBeCloseTo(0.5);
  expect(loadScore(undefined, NOW_MS)).toBe(0.5);
});

test("absurd load reports stay within bounds", () => {
  const worst = load({ utilization: 1e300, errorRate: 5, latencyMs: Number.MAX_VALUE, activeClients: 4e9 });
  expect(loadScore(worst, NOW_MS)).toBeLessThanOrEqual(1);
  const best = load({ utilization: -1, errorRate: -1, latencyMs: -1 });
  expect(loadScore(best, NOW_MS)).toBe(0);
});

test("ROUND_ROBIN gives each of the best its turn, and the worse stay behind", () => {
  const all = [candidate("b"), candidate("a"), candidate("c"), candidate("sick", { health: HEALTH.CRITICAL })];
  const orders = [0, 1, 2, 3].map((turn) => ids(select(all, options({ policy: SELECT_POLICY.ROUND_ROBIN, turn })).ranked));
  expect(orders).toEqual(["a b c sick", "b c a sick", "c a b sick", "a b c sick"]);
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
          list.map((id) => candidate(id)),
          options({ policy, turn, hashKey, random: () => rng.next() }),
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

test("an explanation says where each candidate ranks and why", () => {
  const all = [
    candidate("a", { load: load({ utilization: 0.5 }) }),
    candidate("b", { zone: "z2" }),
    candidate("c", { health: HEALTH.ORPHANED, region: "r2" }),
  ];
  const made = select(all, options({ region: "r1", zone: "z1", limit: 2, explain: true }));
  expect(ids(made.ranked)).toBe("a b");
  expect(made.explained?.map(({ kept, reason, detail }) => ({ kept, reason, detail }))).toEqual([
    { kept: true, reason: "kept", detail: "rank 1: healthy, same zone, load 0.500" },
    { kept: true, reason: "kept", detail: "rank 2: healthy, same region, load unknown" },
    { kept: false, reason: "rank", detail: "rank 3: orphaned, elsewhere, load unknown" },
  ]);
});

test("explanations are bounded", () => {
  const many = Array.from({ length: MAX_EXPLAINED + 5 }, (_, i) => candidate(`i${i}`));
  expect(select(many, options({ explain: true })).explained?.length).toBe(MAX_EXPLAINED);
});
