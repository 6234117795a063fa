/** What another policy changes for a viewer, over many namespaces at once. */
import { expect, test } from "vitest";
import { PolicyDiff } from "../../src/discovery/policy-diff.ts";
import { NO_POLICY, Policy } from "../../src/policy/verdict.ts";
import { rule, set } from "../fakes/policies.ts";

const RED = { clusterId: "c1", tenant: "red" };
const BLUE = { clusterId: "c1", tenant: "blue" };
const forTenant = (tenant: string) => new Policy(set([rule("svc", { visibilityTenants: [tenant] })], { defaultAllow: true }), 1);

function diffOf(before: Policy, after: Policy): PolicyDiff {
  const diff = new PolicyDiff(before, after);
  for (const [namespace, isHeld] of [
    ["svc", true],
    ["svc.eu", false],
    ["web", true],
    ["discovery.nodes", true],
  ] as const)
    diff.add(namespace, isHeld);
  return diff;
}

test("what is gained is told whether anything was held of it or not, what is lost only where something was", () => {
  const diff = diffOf(forTenant("red"), forTenant("blue"));
  expect(diff.of(RED)).toEqual({ gained: [], lost: ["svc"] });
  expect(diff.of(BLUE)).toEqual({ gained: ["svc", "svc.eu"], lost: [] });
  expect(diff.of(BLUE)).toBe(diff.of({ ...BLUE }));
});

test("the control plane's namespaces never change, and one that was not added is judged as well", () => {
  const diff = diffOf(NO_POLICY, new Policy(set([]), 1));
  expect(diff.of(RED)).toEqual({ gained: [], lost: ["svc", "web"] });
  expect(["elsewhere", "discovery.nodes"].map((namespace) => diff.changeOf(namespace, RED))).toEqual(["lost", "same"]);
  expect(diffOf(new Policy(set([]), 1), NO_POLICY).changeOf("svc", RED)).toBe("gained");
});
