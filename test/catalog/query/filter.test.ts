import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import {
  ANY,
  coversNamespace,
  dropDetail,
  type EntryFilter,
  filterHash,
  isNamespaceOnly,
  matches,
  whyNot,
} from "../../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { HEALTH, KIND, viewHealth } from "../../../src/catalog/record/record.ts";
import { VersionRange } from "../../../src/lib/versions.ts";
import { type RecordSpec, testRecord } from "../../fakes/records.ts";

const V1 = new VersionRange("^1.2.0");
const SELF = { nodeId: "n1", clusterId: "c1", region: "r1" };

test.each([
  { namespace: "svc.market", prefix: "svc.market", below: true },
  { namespace: "svc.market.eu", prefix: "svc.market", below: true },
  { namespace: "svc.marketing", prefix: "svc.market", below: false },
  { namespace: "svc.market-x", prefix: "svc.market", below: false },
  { namespace: "svc", prefix: "svc.market", below: false },
])("a prefix matches on label boundaries: $prefix covers $namespace: $below", ({ namespace, prefix, below }) => {
  expect(coversNamespace({ ...ANY, prefix }, namespace)).toBe(below);
});

const ROWS: readonly { filter: Partial<EntryFilter>; record: RecordSpec; want: string | undefined; says?: string }[] = [
  { filter: {}, record: { scope: SCOPE.LOCAL }, want: undefined },
  { filter: { namespace: "svc.market" }, record: {}, want: undefined },
  { filter: { namespace: "svc" }, record: {}, want: "namespace", says: "namespace svc.market is not svc" },
  { filter: { prefix: "svc" }, record: {}, want: undefined },
  { filter: { prefix: "sv" }, record: {}, want: "namespace", says: "namespace svc.market is not sv or below it" },
  { filter: { namespace: "svc.market", prefix: "other" }, record: {}, want: "namespace" },
  { filter: { names: ["api", "web"] }, record: {}, want: undefined },
  { filter: { names: ["api", "zoo"] }, record: {}, want: "names", says: "name web is not among the 2 requested names" },
  { filter: { kindMask: 1 << KIND.QUEUE }, record: {}, want: "kinds", says: "kind SERVICE was not requested" },
  { filter: { kindMask: (1 << KIND.QUEUE) | (1 << KIND.SERVICE) }, record: {}, want: undefined },
  // A minimum reach …
  { filter: { scope: SCOPE.ZONE }, record: { scope: SCOPE.LOCAL }, want: "scope", says: "scope local is narrower than zone" },
  { filter: { scope: SCOPE.LOCAL }, record: { scope: SCOPE.GLOBAL }, want: undefined },
  { filter: { scope: SCOPE.GLOBAL }, record: { scope: SCOPE.REGION }, want: "scope" },
  { filter: { scope: SCOPE.GLOBAL }, record: { scope: SCOPE.GLOBAL, clusterId: "c9", region: "r9" }, want: undefined },
  // … and a bound of locality.
  { filter: { scope: SCOPE.LOCAL }, record: { nodeId: "n2" }, want: "locality" },
  { filter: { scope: SCOPE.ZONE }, record: { nodeId: "n2" }, want: undefined },
  {
    filter: { scope: SCOPE.ZONE },
    record: { scope: SCOPE.REGION, clusterId: "c2" },
    want: "locality",
    says: "registered on node n1 of cluster c2 in region r1, outside this cluster",
  },
  { filter: { scope: SCOPE.REGION }, record: { scope: SCOPE.REGION, clusterId: "c2" }, want: undefined },
  { filter: { scope: SCOPE.REGION }, record: { scope: SCOPE.REGION, region: "r2" }, want: "locality" },
  { filter: { scope: SCOPE.UNSET }, record: { scope: SCOPE.REGION, region: "r2" }, want: undefined },
  { filter: { scope: SCOPE.ZONE, clusterId: "c2" }, record: {}, want: "cluster_id", says: "cluster c1 is not c2" },
  { filter: { clusterId: "c1", region: "r1" }, record: {}, want: undefined },
  { filter: { region: "r2" }, record: {}, want: "region", says: "region r1 is not r2" },
  // What readers see, not what was registered.
  { filter: { healthMask: 1 << HEALTH.HEALTHY }, record: { life: "orphaned" }, want: "health", says: "health ORPHANED was not requested" },
  { filter: { healthMask: 1 << HEALTH.ORPHANED }, record: { life: "orphaned" }, want: undefined },
  { filter: { healthMask: (1 << HEALTH.HEALTHY) | (1 << HEALTH.DEGRADED) }, record: { health: HEALTH.DEGRADED }, want: undefined },
  // All of.
  { filter: { tags: ["a", "b"] }, record: { tags: ["a", "b", "c"] }, want: undefined },
  { filter: { tags: ["a", "b", "d"] }, record: { tags: ["a", "c"] }, want: "tags", says: "lacks b, d" },
  { filter: { capabilities: ["a"] }, record: { tags: ["a"] }, want: "capabilities", says: "lacks a" },
  { filter: { resources: ["a"] }, record: {}, want: "resources", says: "lacks a" },
  { filter: { versions: V1 }, record: { version: "1.4.0" }, want: undefined },
  { filter: { versions: V1 }, record: { version: "2.0.0" }, want: "version_range", says: "version 2.0.0 is not in ^1.2.0" },
  { filter: { versions: V1 }, record: {}, want: "version_range", says: "version (none) is not in ^1.2.0" },
  { filter: { resolved: new NamespacePrefixes([""]) }, record: { scope: SCOPE.ZONE }, want: undefined },
  {
    filter: { resolved: new NamespacePrefixes([""]) },
    record: { scope: SCOPE.LOCAL },
    want: "scope",
    says: "scope local is narrower than zone",
  },
  { filter: { resolved: new NamespacePrefixes(["other", "svc"]) }, record: { namespace: "svc.market" }, want: undefined },
  { filter: { resolved: new NamespacePrefixes(["svc"]) }, record: { namespace: "svcs" }, want: "namespace" },
  // Of summaries: at least this channel, from wherever, and any of the regions.
  { filter: { summaries: { channel: SCOPE.REGION, regions: [] } }, record: { scope: SCOPE.REGION, region: "r2" }, want: undefined },
  {
    filter: { summaries: { channel: SCOPE.GLOBAL, regions: [] } },
    record: { scope: SCOPE.REGION },
    want: "scope",
    says: "scope region is narrower than global",
  },
  { filter: { summaries: { channel: SCOPE.UNSET, regions: ["r1", "r2"] } }, record: { region: "r2" }, want: undefined },
  {
    filter: { summaries: { channel: SCOPE.UNSET, regions: ["r1", "r2"] } },
    record: { region: "r3" },
    want: "region",
    says: "region r3 is not among the 2 requested regions",
  },
  // Only where nothing else leaves it out.
  { filter: { versions: V1, resources: ["a"] }, record: { version: "2.0.0" }, want: "resources" },
];

test.each(ROWS)("filter $filter, record $record → $want", ({ filter, record, want, says }) => {
  const full = { ...ANY, ...filter };
  const held = testRecord(record);
  const reason = whyNot(full, held, SELF, viewHealth(held));
  expect(reason).toBe(want);
  expect(matches(full, held, SELF)).toBe(want === undefined);
  const detail = reason === undefined ? undefined : dropDetail(full, held, reason);
  expect(detail ?? "").toContain(says ?? "");
});

/** For each field of a filter, values that say different things. */
const VALUES: { readonly [F in keyof EntryFilter]: readonly EntryFilter[F][] } = {
  namespace: ["a"],
  prefix: ["a"],
  names: [["a"], ["a", "b"]],
  capabilities: [["a"]],
  tags: [["a"]],
  resources: [["a"]],
  clusterId: ["a"],
  region: ["a"],
  kindMask: [2],
  healthMask: [2],
  scope: [SCOPE.ZONE],
  versions: [V1, new VersionRange("^2")],
  resolved: [new NamespacePrefixes([""]), new NamespacePrefixes(["a"]), new NamespacePrefixes(["a", "b"])],
  summaries: [
    { channel: SCOPE.UNSET, regions: ["a"] },
    { channel: SCOPE.GLOBAL, regions: [] },
    { channel: SCOPE.GLOBAL, regions: ["a", "b"] },
  ],
};

test("any other filter has another hash", () => {
  const others = Object.entries(VALUES).flatMap(([field, values]) => values.map((value) => ({ ...ANY, [field]: value })));
  const hashes = [filterHash(ANY), filterHash(ANY, "peers"), ...others.map((other) => filterHash(other))];
  expect(new Set(hashes).size).toBe(others.length + 2);
});

test("a filter looks at nothing but namespaces when no other field says anything", () => {
  expect(isNamespaceOnly(ANY)).toBe(true);
  for (const [field, [value]] of Object.entries(VALUES))
    expect([field, isNamespaceOnly({ ...ANY, namespace: "n", [field]: value })]).toEqual([
      field,
      ["namespace", "prefix", "resolved"].includes(field),
    ]);
});
