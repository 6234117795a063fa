/** Shared traits. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { HEALTH, type SharedTraits } from "../../../src/catalog/record/record.ts";
import { sameFilter, TraitsPool } from "../../../src/catalog/record/traits.ts";
import { runs } from "../../fakes/effort.ts";

const BASE: SharedTraits = {
  tags: ["a", "b"],
  capabilities: ["c"],
  resources: [],
  ports: ["tcp"],
  clusterId: "c1",
  region: "eu",
  zone: "z",
  nodeId: "n",
  tenantId: "",
  registeredByAdmin: false,
  version: "1.0.0",
};

function intern(pool: TraitsPool, traits: SharedTraits): SharedTraits {
  return pool.intern(traits, traits.version, traits.ports);
}

test("equal traits are one object, different ones are not", () => {
  const word = fc.constantFrom("", "a", "b", "ab");
  const list = fc.array(fc.constantFrom("a", "b", "ab"), { maxLength: 3 });
  const traits = fc.record({
    tags: list,
    capabilities: list,
    resources: list,
    ports: list,
    clusterId: word,
    region: word,
    zone: word,
    nodeId: word,
    tenantId: word,
    registeredByAdmin: fc.boolean(),
    version: word,
  });
  const pool = new TraitsPool();
  fc.assert(
    fc.property(traits, traits, (a, b) => {
      const [one, other] = [intern(pool, a), intern(pool, structuredClone(b))];
      expect(one).toEqual(a);
      expect(other).toEqual(b);
      if (JSON.stringify(a) === JSON.stringify(b)) expect(intern(pool, a)).toBe(other);
      else expect(one).not.toBe(other);
    }),
    { numRuns: runs(500) },
  );
});

/** For each trait another value than that of BASE, and whether filters look at it. */
const CHANGES: { readonly [T in keyof SharedTraits]: { readonly other: SharedTraits[T]; readonly isFiltered: boolean } } = {
  tags: { other: ["other"], isFiltered: true },
  capabilities: { other: ["other"], isFiltered: true },
  resources: { other: ["other"], isFiltered: true },
  ports: { other: ["other"], isFiltered: false },
  clusterId: { other: "other", isFiltered: true },
  region: { other: "other", isFiltered: true },
  zone: { other: "other", isFiltered: false },
  nodeId: { other: "other", isFiltered: false },
  tenantId: { other: "other", isFiltered: false },
  registeredByAdmin: { other: true, isFiltered: false },
  version: { other: "other", isFiltered: true },
};

test.each(Object.entries(CHANGES))("traits that differ in %s alone are told apart even where they share a slot", (trait, { other }) => {
  const pool = new TraitsPool(1);
  intern(pool, BASE);
  const changed = { ...BASE, [trait]: other };
  expect(intern(pool, changed)).toEqual(changed);
});

test("functions of many versions share what each of them has", () => {
  const pool = new TraitsPool();
  const versions = Array.from({ length: 100 }, (_, i) => `1.${i}.0`);
  const first = versions.map((version) => pool.intern(BASE, version, BASE.ports));
  expect(versions.every((version, i) => pool.intern(structuredClone(BASE), version, [...BASE.ports]) === first[i])).toBe(true);
});

test("lists given are not kept: changing them later changes nothing", () => {
  const tags = ["a"];
  const traits = intern(new TraitsPool(), { ...BASE, tags });
  tags.push("b");
  expect(traits.tags).toEqual(["a"]);
});

test("a pool that is full forgets, and goes on sharing", () => {
  const pool = new TraitsPool(16);
  for (let i = 0; i < 10_000; i++) intern(pool, { ...BASE, tags: [`t${i}`] });
  const first = intern(pool, { ...BASE });
  expect(intern(pool, { ...BASE, tags: ["a", "b"] })).toBe(first);
  expect(pool.size()).toBeLessThanOrEqual(32);
});

test("a pool's size is a power of two", () => {
  expect(() => new TraitsPool(1000)).toThrow("power of two");
});

test.each([
  ...Object.entries(CHANGES).map(([what, { other, isFiltered }]) => ({
    what,
    change: { traits: { ...BASE, [what]: other } },
    same: !isFiltered,
  })),
  { what: "nothing", change: {}, same: true },
  { what: "the same in other objects", change: { traits: structuredClone(BASE) }, same: true },
  { what: "a tag of two", change: { traits: { ...BASE, tags: ["a", "x"] } }, same: false },
  { what: "a capability less", change: { traits: { ...BASE, capabilities: [] } }, same: false },
  { what: "a resource more", change: { traits: { ...BASE, resources: ["gpu"] } }, same: false },
  { what: "the scope", change: { scope: SCOPE.GLOBAL }, same: false },
  { what: "the health", change: { health: HEALTH.CRITICAL }, same: false },
])("Watch 2: filterable fields are the same when $what differs: $same", ({ change, same }) => {
  const before = { scope: SCOPE.ZONE, health: HEALTH.HEALTHY, traits: BASE };
  expect(sameFilter(before, { ...before, ...change })).toBe(same);
});
