/** Shared traits. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { HEALTH, type Traits } from "../../../src/catalog/record/record.ts";
import { sameFilter, TraitsPool } from "../../../src/catalog/record/traits.ts";
import { runs } from "../../fakes/effort.ts";

const BASE: Traits = {
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

function intern(pool: TraitsPool, traits: Traits): Traits {
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

test.each([
  "tags",
  "capabilities",
  "resources",
  "ports",
  "clusterId",
  "region",
  "zone",
  "nodeId",
  "tenantId",
  "registeredByAdmin",
  "version",
] as const)("traits that differ in %s alone are told apart even where they share a slot", (field) => {
  const pool = new TraitsPool(1);
  intern(pool, BASE);
  const before = BASE[field];
  const other = { ...BASE, [field]: typeof before === "boolean" ? !before : typeof before === "string" ? "other" : ["other"] };
  expect(intern(pool, other)).toEqual(other);
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
  { what: "nothing", change: {}, same: true },
  { what: "another node, zone and tenant", change: { traits: { ...BASE, nodeId: "m", zone: "y", tenantId: "t" } }, same: true },
  { what: "the same in other objects", change: { traits: structuredClone(BASE) }, same: true },
  { what: "a tag", change: { traits: { ...BASE, tags: ["a", "x"] } }, same: false },
  { what: "a capability less", change: { traits: { ...BASE, capabilities: [] } }, same: false },
  { what: "a resource more", change: { traits: { ...BASE, resources: ["gpu"] } }, same: false },
  { what: "the cluster", change: { traits: { ...BASE, clusterId: "c2" } }, same: false },
  { what: "the region", change: { traits: { ...BASE, region: "us" } }, same: false },
  { what: "the version", change: { traits: { ...BASE, version: "1.0.1" } }, same: false },
  { what: "the scope", change: { scope: SCOPE.GLOBAL }, same: false },
  { what: "the health", change: { health: HEALTH.CRITICAL }, same: false },
])("Watch 2: filterable fields are the same when $what differs: $same", ({ change, same }) => {
  const before = { scope: SCOPE.ZONE, health: HEALTH.HEALTHY, traits: BASE };
  expect(sameFilter(before, { ...before, ...change })).toBe(same);
});
