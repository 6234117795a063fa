import * as fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { EntryIndex } from "../../../src/catalog/query/entry-index.ts";
import { ANY, type EntryFilter, matches } from "../../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { pageLimit, type QueryOptions, type QueryPage, queryPage } from "../../../src/catalog/query/query.ts";
import { type CatalogRecord, HEALTH, KIND, type Kind } from "../../../src/catalog/record/record.ts";
import { VersionRange } from "../../../src/lib/versions.ts";
import { runs } from "../../fakes/effort.ts";
import { byKey, testRecord } from "../../fakes/records.ts";

const SELF = { nodeId: "n1", clusterId: "c1", region: "r1" };
const OPTIONS: QueryOptions = { limit: 100, afterKey: "", self: SELF, allowed: () => true, explain: false };
const NAMESPACES = ["a", "a-b", "a-b.c", "a.b", "a.b.c", "a0", "b"];
const TERMS = ["t1", "t2", "t3"];
const KINDS: readonly Kind[] = Object.values(KIND);
const SCOPES: readonly Scope[] = Object.values(SCOPE);

/** All pages joined; `between` runs after each page. */
function readAll(
  lookup: EntryIndex,
  filter: EntryFilter,
  options: QueryOptions,
  between: (page: QueryPage) => void = () => {},
): QueryPage[] {
  const pages: QueryPage[] = [];
  let afterKey = "";
  for (;;) {
    const page = queryPage(lookup, filter, { ...options, afterKey });
    pages.push(page);
    if (page.nextKey === undefined) return pages;
    if (page.nextKey <= afterKey) throw new Error("a page does not move on");
    afterKey = page.nextKey;
    between(page);
  }
}

function recordsOf(pages: readonly QueryPage[]): CatalogRecord[] {
  return pages.flatMap((page) => page.records);
}

const anyRecord = fc
  .record({
    namespace: fc.constantFrom(...NAMESPACES),
    name: fc.constantFrom("x", "x-y", "y", "z"),
    kind: fc.constantFrom(...KINDS),
    instanceId: fc.constantFrom("1", "2", "3", "4"),
    clusterId: fc.constantFrom("c1", "c2"),
    nodeId: fc.constantFrom("n1", "n2"),
    region: fc.constantFrom("r1", "r2"),
    life: fc.constantFrom("live" as const, "orphaned" as const),
    health: fc.constantFrom(HEALTH.HEALTHY, HEALTH.CRITICAL),
    scope: fc.constantFrom(...SCOPES),
    tags: fc.subarray(TERMS),
    capabilities: fc.subarray(TERMS),
    resources: fc.subarray(TERMS),
    version: fc.constantFrom("", "1.0.0", "2.0.0"),
  })
  .map(testRecord);

function mostly<T>(usual: T, other: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ weight: 3, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: other });
}

const anyFilter: fc.Arbitrary<EntryFilter> = fc.record({
  namespace: mostly("", fc.constantFrom(...NAMESPACES, "none")),
  prefix: fc.oneof(fc.constant(""), fc.constantFrom("a", "a.b", "b", "zz")),
  names: mostly<readonly string[]>(
    [],
    fc.subarray(["w", "x", "x-y", "y", "z"]).map((names) => names.toSorted()),
  ),
  kindMask: mostly(0, fc.nat(127)),
  scope: mostly<Scope>(SCOPE.UNSET, fc.constantFrom(...SCOPES)),
  capabilities: mostly<readonly string[]>([], fc.subarray(TERMS)),
  tags: mostly<readonly string[]>([], fc.subarray([...TERMS, "none"])),
  resources: mostly<readonly string[]>([], fc.subarray(TERMS)),
  clusterId: mostly("", fc.constantFrom("c1", "c2")),
  region: mostly("", fc.constantFrom("r1", "r2")),
  healthMask: mostly(0, fc.nat(63)),
  versions: mostly(undefined, fc.constantFrom(new VersionRange("^1"), new VersionRange("2"))),
  resolved: mostly<NamespacePrefixes | undefined>(
    undefined,
    fc.subarray(["", "a", "a.b", "b", "none", ...NAMESPACES]).map((prefixes) => new NamespacePrefixes(prefixes)),
  ),
  summaries: mostly<EntryFilter["summaries"]>(
    undefined,
    fc.record({ channel: fc.constantFrom(...SCOPES), regions: fc.subarray(["r1", "r2"]) }),
  ),
});

const anyCase = fc.record({
  records: fc.array(anyRecord, { maxLength: 120 }),
  filter: anyFilter,
  hidden: fc.subarray(NAMESPACES),
  limit: fc.constantFrom(1, 2, 3, 7, 1000),
  scanBudget: fc.constantFrom(1, 5, 10_000),
  explain: fc.boolean(),
});

test("P2: pages joined are the visible matches in key order, for every page size, filter and scan budget", () => {
  fc.assert(
    fc.property(anyCase, ({ records, filter, hidden, limit, scanBudget, explain }) => {
      const lookup = new EntryIndex();
      for (const record of records) lookup.put(record);
      const allowed = (namespace: string) => !hidden.includes(namespace);
      const shown = new Map(records.map((record) => [record.key, record]));
      const want = [...shown.values()].filter((record) => allowed(record.namespace) && matches(filter, record, SELF)).toSorted(byKey);

      const pages = readAll(lookup, filter, { ...OPTIONS, limit, scanBudget, explain, allowed });
      expect(recordsOf(pages)).toEqual(want);
      expect(pages.every((page) => page.records.length <= limit)).toBe(true);
      // Nothing names a hidden namespace, neither a token nor an explanation.
      const named = pages.flatMap((page) => [page.nextKey ?? "", ...(page.considered ?? []).map((one) => one.key)]);
      expect(hidden.filter((namespace) => named.some((key) => key.startsWith(`${namespace}\0`)))).toEqual([]);
      const kept = pages.flatMap((page) => page.considered ?? []).filter((one) => one.kept);
      expect(kept.map((one) => one.key)).toEqual(explain ? want.map((record) => record.key) : []);
      expect(pages.some((page) => (page.considered !== undefined) !== explain)).toBe(false);
    }),
    { numRuns: runs(500) },
  );
});

test("P2: an entry alive throughout is on exactly one page while others come and go, and no entry is on two", () => {
  const churn = fc.array(fc.record({ record: anyRecord, stays: fc.boolean() }), { minLength: 20, maxLength: 100 });
  fc.assert(
    fc.property(churn, anyFilter, fc.integer({ min: 1, max: 5 }), fc.infiniteStream(fc.nat()), (all, filter, limit, picks) => {
      const lookup = new EntryIndex();
      const staying = new Map(all.filter((one) => one.stays).map(({ record }) => [record.key, record]));
      const others = all.map(({ record }) => record).filter((record) => !staying.has(record.key));
      for (const record of staying.values()) lookup.put(record);
      for (const record of others.slice(others.length / 2)) lookup.put(record);
      const pages = readAll(lookup, filter, { ...OPTIONS, limit, scanBudget: 7 }, () => {
        for (let i = 0; i < 5 && others.length > 0; i += 1) {
          const other = others[(picks.next().value ?? 0) % others.length] ?? testRecord();
          if (lookup.find(other.key) === undefined) lookup.put(other);
          else lookup.remove(lookup.find(other.key) ?? other);
        }
      });
      const keys = recordsOf(pages).map((record) => record.key);
      expect(new Set(keys).size).toBe(keys.length);
      expect(keys).toEqual(keys.toSorted());
      const want = [...staying.values()].filter((record) => matches(filter, record, SELF)).toSorted(byKey);
      expect(keys.filter((key) => staying.has(key))).toEqual(want.map((record) => record.key));
    }),
    { numRuns: runs(200) },
  );
});

test("a record whose test cost much counts as many in the scan budget: the page ends short, and pages joined hold all", () => {
  const lookup = new EntryIndex();
  for (let i = 0; i < 100; i += 1) lookup.put(testRecord({ name: `n${i}` }));
  const pages = readAll(lookup, ANY, { ...OPTIONS, limit: 1000, scanBudget: 100, test: () => ({ cost: 9 }) });
  expect(pages.map(({ records }) => records.length)).toEqual(Array.from({ length: 10 }, () => 10).concat(0));
  expect(new Set(recordsOf(pages).map(({ key }) => key)).size).toBe(100);
});

/** 20 namespaces × 100 services × 10 instances, a rare tag, a rare kind. */
function bigCatalog(): EntryIndex {
  const lookup = new EntryIndex();
  for (let i = 0; i < 20_000; i += 1) {
    lookup.put(
      testRecord({
        namespace: `ns${i % 20}`,
        name: `svc${Math.floor(i / 20) % 100}`,
        instanceId: `i${Math.floor(i / 2000)}`,
        tags: i % 4000 === 0 ? ["all", "rare"] : ["all"],
        capabilities: i % 2 === 0 ? ["half"] : [],
        resources: i % 4000 === 1 ? ["gpu"] : [],
        kind: i % 5000 === 2 ? KIND.CACHE : KIND.SERVICE,
      }),
    );
  }
  return lookup;
}

test.each<{ filter: Partial<EntryFilter>; atMost: number; matches: number }>([
  { filter: { namespace: "ns3", names: ["svc5"] }, atMost: 10, matches: 10 },
  { filter: { namespace: "ns3", names: ["svc5", "svc6"] }, atMost: 20, matches: 20 },
  { filter: { names: ["svc5"], tags: ["all"] }, atMost: 200, matches: 200 },
  { filter: { tags: ["all", "rare"] }, atMost: 5, matches: 5 },
  { filter: { namespace: "ns3", tags: ["all"] }, atMost: 1000, matches: 1000 },
  { filter: { prefix: "ns3", tags: ["all"], capabilities: ["half"] }, atMost: 1000, matches: 0 },
  { filter: { capabilities: ["half"], resources: ["gpu"] }, atMost: 5, matches: 0 },
  { filter: { kindMask: 1 << KIND.CACHE }, atMost: 4, matches: 4 },
  { filter: { kindMask: 1 << KIND.QUEUE }, atMost: 0, matches: 0 },
  { filter: { tags: ["none"] }, atMost: 0, matches: 0 },
  { filter: { namespace: "none" }, atMost: 0, matches: 0 },
])("a query examines no more than its smallest matching list: $filter, at most $atMost", ({ filter, atMost, matches: matchCount }) => {
  // A budget of exactly that many records is enough for all of them; one page more may be needed to see the end.
  const full = { ...ANY, ...filter };
  const options = { ...OPTIONS, limit: 1000, scanBudget: Math.max(1, atMost) };
  const page = queryPage(BIG, full, options);
  expect(page.records.length).toBe(matchCount);
  const last = page.nextKey === undefined ? undefined : queryPage(BIG, full, { ...options, afterKey: page.nextKey });
  expect(last?.records ?? []).toEqual([]);
  expect(last?.nextKey).toBeUndefined();
});

const BIG = bigCatalog();

test("a page that finds little ends after the scan budget, with a key to go on from", () => {
  const page = queryPage(BIG, { ...ANY, clusterId: "elsewhere" }, { ...OPTIONS, scanBudget: 500 });
  expect(page.records).toEqual([]);
  expect(page.nextKey).toBeDefined();
  expect(readAll(BIG, { ...ANY, clusterId: "elsewhere" }, { ...OPTIONS, scanBudget: 500 }).length).toBe(41);
});

test("a reader is asked for once a run of a namespace, and hidden namespaces are passed without reading them", () => {
  const asked: string[] = [];
  const allowed = (namespace: string) => {
    asked.push(namespace);
    return namespace === "ns9";
  };
  const page = queryPage(BIG, ANY, { ...OPTIONS, limit: 1000, allowed, scanBudget: 1001 });
  expect(page.records.length).toBe(1000);
  expect(page.nextKey).toBeUndefined();
  // ns9 is asked for when it is looked for and again when its run begins.
  expect(asked.length).toBeLessThanOrEqual(21);
});

test("an explanation says what dropped a record, and that the page was full", () => {
  const lookup = new EntryIndex();
  lookup.put(testRecord({ instanceId: "1", tags: ["t"] }));
  lookup.put(testRecord({ instanceId: "2" }));
  lookup.put(testRecord({ instanceId: "3", tags: ["t"] }));
  const filter = { ...ANY, namespace: "svc.market", tags: ["t"] };
  const page = queryPage(lookup, filter, { ...OPTIONS, limit: 1, explain: true });
  expect(page.considered?.map(({ kept, reason, detail }) => ({ kept, reason, detail }))).toEqual([
    { kept: true, reason: "kept", detail: "" },
    { kept: false, reason: "tags", detail: "lacks t" },
    { kept: false, reason: "after_page", detail: "the page is full" },
  ]);
});

test("explanations are bounded", () => {
  expect(queryPage(BIG, ANY, { ...OPTIONS, limit: 1, explain: true }).considered?.length).toBe(2);
  const page = queryPage(BIG, { ...ANY, clusterId: "elsewhere" }, { ...OPTIONS, explain: true });
  expect(page.considered?.length).toBe(1000);
});

test("a limit of 0 is 100, above 1000 is 1000, below 0 is refused", () => {
  expect([0, 1, 1000, 1001].map(pageLimit)).toEqual([100, 1, 1000, 1000]);
});
