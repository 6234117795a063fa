/** The rules of strategies: shares by weight, few moves, and places. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { STRATEGIES } from "../../../src/control/shards/records.ts";
import { type ScoredOwner, scorer } from "../../../src/control/shards/strategies.ts";
import { sized } from "../../fakes/effort.ts";

type Strategy = (typeof STRATEGIES)[number];

function owner(instance: string, weight = 1, place = "eu/eu-1"): ScoredOwner {
  const [region = "", zone = ""] = place.split("/");
  return { instance, weight, region, zone };
}

/** The best owner of each shard. */
function bestOwners(strategy: Strategy, owners: readonly ScoredOwner[], { namespace = "orders", count = 1000, hint = "" } = {}) {
  const score = scorer(strategy, namespace, owners);
  return Array.from({ length: count }, (_, id) => {
    const scores = owners.map((_owner, i) => score(id, hint, i));
    return owners[scores.indexOf(Math.min(...scores))]?.instance ?? "";
  });
}

test.each([
  { strategy: "rendezvous", best: "bbababbbbbbbbbbbbbabbabbababbaba" },
  { strategy: "ring", best: "bbbbbbbbbbbbbbbaaaabbaaaabbbbbba" },
  { strategy: "locality", best: "bbababbbbbbbbbbbbbabbabbababbaba" },
] as const)("$strategy: the scores are those of earlier versions", ({ strategy, best }) => {
  expect(bestOwners(strategy, [owner("a"), owner("b", 2)], { count: 32 }).join("")).toBe(best);
});

// A ring with 128 points gives an owner its share with a standard deviation of about 9 %, rendezvous with that of a draw.
test.each([
  { strategy: "rendezvous", tolerance: 0.01 },
  { strategy: "ring", tolerance: 0.015 },
  { strategy: "locality", tolerance: 0.01 },
] as const)("$strategy: over many namespaces, owners are best for their share by weight", ({ strategy, tolerance }) => {
  const owners = [owner("a", 1), owner("b", 4), owner("c", 0.5), owner("d", 2.5)];
  const namespaces = sized(1000, 100);
  const found = Array.from({ length: namespaces }, (_, i) => bestOwners(strategy, owners, { namespace: `ns-${i}`, count: 200 })).flat();
  for (const { instance, weight } of owners) {
    const share = found.filter((best) => best === instance).length / found.length;
    expect(Math.abs(share - weight / 8), `${instance} is best for ${share}`).toBeLessThan(tolerance);
  }
});

test("rendezvous: of 20 owners, the numbers of shards vary as random draws do", () => {
  const owners = Array.from({ length: 20 }, (_, i) => owner(`orders-${i}`));
  const namespaces = sized(400, 100);
  const deviations = Array.from({ length: namespaces }, (_, i) => {
    const best = bestOwners("rendezvous", owners, { namespace: `ns-${i}` });
    return owners.reduce((sum, { instance }) => sum + (best.filter((name) => name === instance).length - 50) ** 2 / 50, 0);
  });
  // Pearson's chi-squared has 19 degrees of freedom, so the mean of 100 has a standard deviation of 0.62.
  const mean = deviations.reduce((a, b) => a + b) / namespaces;
  expect(mean).toBeGreaterThan(17);
  expect(mean).toBeLessThan(21);
});

test.each(STRATEGIES)("%s: a new owner is best only for shards that it gets, and the others keep their owners", (strategy) => {
  const owners = fc.uniqueArray(
    fc.record({ instance: fc.string(), weight: fc.constantFrom(0.5, 1, 4), zone: fc.constantFrom("a", "b"), region: fc.constant("eu") }),
    { minLength: 2, maxLength: 6, selector: ({ instance }) => instance },
  );
  fc.assert(
    fc.property(owners, fc.constantFrom("", "eu/a", "eu"), ([added, ...others], hint) => {
      if (added === undefined) return;
      const [before, after] = [others, [added, ...others]].map((set) => bestOwners(strategy, set, { count: 40, hint }));
      expect(after?.map((best, id) => (best === added.instance ? before?.[id] : best))).toEqual(before);
    }),
  );
});

test("ring: the owner with the next point clockwise is the best one, and after the last point comes the first", () => {
  const score = scorer("ring", "orders", [owner("a", 0.001), owner("b", 0.001)]);
  for (let id = 0; id < 100; id++) {
    const [a, b] = [score(id, "", 0), score(id, "", 1)];
    expect(a >= 0 && a < 1 && b >= 0 && b < 1 && a !== b).toBe(true);
    // The two owners have one point each, so the difference of the distances is always the same on a ring.
    expect((a - b + 1) % 1).toBeCloseTo((score(0, "", 0) - score(0, "", 1) + 1) % 1, 9);
  }
});

test.each([
  { hint: "eu/eu-1", best: ["eu1"] },
  { hint: "eu/eu-9", best: ["eu1", "eu2"] },
  { hint: "eu", best: ["eu1", "eu2"] },
  { hint: "us/us-1", best: ["us1"] },
  { hint: "eu2/eu-1", best: ["eu1", "eu2", "us1"] },
  { hint: "e", best: ["eu1", "eu2", "us1"] },
  { hint: "", best: ["eu1", "eu2", "us1"] },
])("locality: with the hint '$hint', the owners of its zone are best, else those of its region, else all", ({ hint, best }) => {
  const owners = [owner("eu1", 1, "eu/eu-1"), owner("eu2", 1, "eu/eu-2"), owner("us1", 9, "us/us-1")];
  const found = bestOwners("locality", owners, { hint, count: 200 });
  expect([...new Set(found)].toSorted()).toEqual(best);
});

test("locality: a hint does not change the order of owners that are equally near", () => {
  const owners = [owner("eu1"), owner("eu2"), owner("us1", 1, "us/us-1")];
  const among = bestOwners("rendezvous", owners.slice(0, 2));
  expect(bestOwners("locality", owners, { hint: "eu/eu-1" })).toEqual(among);
});
