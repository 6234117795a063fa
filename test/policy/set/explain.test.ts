import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { explain } from "../../../src/policy/set/explain.ts";
import { ACTIONS, Policy } from "../../../src/policy/set/verdict.ts";
import { CLUSTERS, someNamespace, someSet, TENANTS } from "../../fakes/policies.ts";

test("P11: it says of every action what the verdict of that action says", () => {
  const scope = fc.constantFrom<Scope>(SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL);
  fc.assert(
    fc.property(
      someSet,
      someNamespace,
      fc.constantFrom(...CLUSTERS),
      fc.constantFrom("", ...TENANTS),
      scope,
      (set, namespace, clusterId, tenant, of) => {
        const policy = new Policy(set, 1);
        const source = { clusterId, region: "eu" };
        const question = { namespace, clusterId, tenant, region: "eu", scope: of, wallMs: 0 };
        const viewed = policy.viewer(namespace, { clusterId, tenant });
        const owned = policy.source(namespace, source);
        const exported = policy.exportSummary(namespace, source, { scope: of, wallMs: 0 });
        const want = { register: owned, ingest: owned, query: viewed, watch: viewed, "export-summary": exported, admin: owned };
        for (const action of ACTIONS) expect(explain(policy, { ...question, action })).toEqual(want[action]);
      },
    ),
  );
});
