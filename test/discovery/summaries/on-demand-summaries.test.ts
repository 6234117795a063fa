/** Summaries that a node computes from its catalog: their contents, their pages, and that hidden services stay hidden. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { ANY, type EntryFilter } from "../../../src/catalog/query/filter.ts";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { OnDemandSummaries } from "../../../src/discovery/summaries/on-demand-summaries.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import type { SummaryFacts } from "../../../src/summary/summary.ts";
import { rule, set, span } from "../../fakes/policies.ts";
import { at, draftAt, Registry, WALL } from "../../fakes/registry.ts";
import { ANYONE } from "../../fakes/summary-readers.ts";

const FACTS = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b" };

function world() {
  const r = new Registry();
  const denied: string[] = [];
  const onDenied = (_caller: unknown, { namespace }: { readonly namespace: string }) => void denied.push(namespace);
  const reads = new CatalogReads(r.replica, FACTS, { policies: r.policies, onDenied });
  const counted = new OnDemandSummaries(reads, r.policies);
  const register = (namespace: string, name: string, count: number, init: Parameters<typeof draftAt>[1] = {}) =>
    r.register(
      "ann",
      Array.from({ length: count }, (_, i) =>
        draftAt({ namespace, name, instanceId: `${init.scope ?? ""}${i}` }, { scope: SCOPE.REGION, ...init }),
      ),
      at(0),
    );
  const page = (filter: Partial<EntryFilter> = {}, limit = 1000, token = "") => {
    const counting = counted.page(ANYONE, { filter: { ...ANY, ...filter }, token, limit }, WALL);
    let slices = 1;
    let step = counting.next();
    for (; step.done !== true; step = counting.next()) slices += 1;
    return { ...step.value, slices };
  };
  const follow = (policy: Policy) => {
    r.policies.policy = policy;
    reads.notePolicy();
    reads.show(policy);
    reads.settle(policy);
  };
  return { register, page, denied, follow };
}

const nameOf = ({ namespace, serviceId, channel, endpointCount }: SummaryFacts) => `${namespace}/${serviceId} ${channel} ${endpointCount}`;

test("each service has a summary for ZONE and one for REGION, of the entries that are visible there", () => {
  const { register, page } = world();
  register("svc.a", "web", 2);
  register("svc.a", "web", 3, { scope: SCOPE.ZONE });
  register("svc.a", "web", 4, { scope: SCOPE.LOCAL });
  register("svc.b", "db", 5, { scope: SCOPE.GLOBAL, health: HEALTH.CRITICAL });
  register("svc.c", "near", 1, { scope: SCOPE.LOCAL });
  const { items, nextToken } = page();
  expect(items.map(nameOf)).toEqual(["svc.a/web 2 5", "svc.a/web 3 2", "svc.b/db 2 5", "svc.b/db 3 5"]);
  expect(nextToken).toBe("");
  expect(items[2]).toMatchObject({ source: "c1", kind: KIND.SERVICE, regions: ["r1"], band: 3, withdrawn: false });
});

test.each<{ readonly filter: Partial<EntryFilter>; readonly names: readonly string[] }>([
  { filter: { namespace: "svc.a" }, names: ["svc.a/db 2 1", "svc.a/db 3 1", "svc.a/web 2 1", "svc.a/web 3 1"] },
  { filter: { namespace: "svc.nothing" }, names: [] },
  {
    filter: { prefix: "svc.a" },
    names: ["svc.a/db 2 1", "svc.a/db 3 1", "svc.a/web 2 1", "svc.a/web 3 1", "svc.a.b/web 2 1", "svc.a.b/web 3 1"],
  },
  { filter: { names: ["db"] }, names: ["svc.a/db 2 1", "svc.a/db 3 1"] },
  { filter: { kindMask: 1 << KIND.QUEUE }, names: [] },
  { filter: { summaries: { channel: SCOPE.REGION, regions: [] }, names: ["db"] }, names: ["svc.a/db 3 1"] },
  { filter: { summaries: { channel: SCOPE.UNSET, regions: ["r2"] } }, names: [] },
])("the filter $filter finds $names", ({ filter, names }) => {
  const { register, page } = world();
  for (const [namespace, name] of [
    ["svc.a", "web"],
    ["svc.a", "db"],
    ["svc.a-b", "web"],
    ["svc.a.b", "web"],
    ["svc.b", "web"],
  ] as const)
    register(namespace, name, 1);
  expect(page(filter).items.map(nameOf)).toEqual(names);
});

test.each([1, 2, 3, 7])("pages of %i items have the same items in total as one large page", (limit) => {
  const { register, page } = world();
  for (let i = 0; i < 5; i += 1) register("svc", `s${i}`, i + 1, i === 2 ? { scope: SCOPE.ZONE } : {});
  const found: SummaryFacts[] = [];
  for (let token: string | undefined; token !== ""; ) {
    const { items, nextToken } = page({}, limit, token);
    expect(items.length).toBeLessThanOrEqual(limit);
    found.push(...items);
    token = nextToken;
  }
  expect(found.map(nameOf)).toEqual(page().items.map(nameOf));
  expect(found).toHaveLength(9);
});

test("a service that is hidden from the caller, or that its rule does not summarise, is absent", () => {
  const { register, page, denied, follow } = world();
  for (const namespace of ["svc.hidden", "svc.shown", "svc.quiet", "svc.zone", "svc.closed"]) register(namespace, "web", 1);
  const open = { allowSummaries: true };
  const rules = [
    rule("svc.hidden", { ...open, visibility: ["c9"] }),
    rule("svc.shown", open),
    rule("svc.quiet"),
    rule("svc.zone", { ...open, exportScopes: [SCOPE.ZONE, SCOPE.GLOBAL] }),
    rule("svc.closed", { ...open, cutoverWindows: [span(WALL + 1000)] }),
  ];
  follow(new Policy(set(rules), 7));
  const { items } = page();
  expect(items.map(nameOf)).toEqual(["svc.shown/web 2 1", "svc.shown/web 3 1", "svc.zone/web 2 1"]);
  expect(items[0]).toMatchObject({ policyNumber: 7, policyRule: "svc.shown", policyVersion: "v1" });
  expect(denied).toEqual(["svc.hidden"]);
  expect(page({ namespace: "svc.hidden" })).toMatchObject({ items: [], nextToken: "" });
  const first = page({}, 1);
  expect(Buffer.from(first.nextToken, "base64url").toString("latin1")).not.toContain("hidden");
});

test("a large service is counted in slices, and a page over many services ends early", () => {
  const { register, page } = world();
  register("svc", "large", 5000);
  expect(page()).toMatchObject({ items: [{ endpointCount: 5000 }, { endpointCount: 5000 }], nextToken: "", slices: 3 });
  for (let i = 0; i < 3000; i += 1) register("svc", `s${i}`, 1);
  const first = page({}, 10_000);
  expect(first.slices).toBeLessThanOrEqual(33);
  expect(first.items.length).toBeGreaterThan(1000);
  expect(first.nextToken).not.toBe("");
});
