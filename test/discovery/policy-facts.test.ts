import { expect, test } from "vitest";
import { NODES_NAMESPACE } from "../../src/catalog/entry/names.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND, keyText } from "../../src/catalog/record/record.ts";
import { catalogFactsForPlan, regionsOf } from "../../src/discovery/policy-facts.ts";
import { isAdmitted } from "../../src/discovery/policy-switch-queue.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
import { channels, rule, set } from "../fakes/policies.ts";
import { at, Registry, stamped } from "../fakes/registry.ts";

const HIDING = new Policy(set([rule("svc", { owners: ["c9"] })], { defaultAllow: true }), 1);

test("a dry run counts what is to be seen, and finds each entry that is held, also what owner rules hide", () => {
  const r = new Registry();
  const names = Array.from({ length: 1003 }, (_, i) => `web${i}`);
  r.register(
    "ann",
    names.map((name) => stamped(name, { scope: SCOPE.REGION })),
    at(0),
    { isStatic: true },
  );
  const viewers = [{ clusterId: "c1", tenant: "blue" }];
  const facts = catalogFactsForPlan(r.replica, { node: { clusterId: "c1", region: "r1", nodeId: "a", boot: "b" } }, { viewers, channels });
  expect([facts.namespaces(), facts.count("svc"), facts.count("other")]).toEqual([["svc"], 1003, 0]);
  expect(facts.examples("svc", 2)).toMatchObject([
    { namespace: "svc", name: "web0" },
    { namespace: "svc", name: "web1" },
  ]);
  expect(facts.viewers()).toBe(viewers);
  r.replica.setAdmission((stored) => isAdmitted(HIDING, stored, "c1"));
  const held = [...facts.entries()];
  expect(new Set(held.map(({ key }) => keyText(key())))).toHaveLength(1003);
  expect(held[0]).toMatchObject({ namespace: "svc", scope: SCOPE.REGION, from: { clusterId: "c1", region: "r1" } });
});

test("the clusters that are known are those with a node here", () => {
  const r = new Registry();
  expect(regionsOf(r.replica)).toEqual(new Map());
  r.register("ann", [{ ...stamped("n1"), namespace: NODES_NAMESPACE, kind: KIND.NODE }], at(0), { isStatic: true });
  expect(regionsOf(r.replica)).toEqual(new Map([["c1", "r1"]]));
});
