/** What another policy changes for a viewer, over many namespaces at once. */
import { expect, test } from "vitest";
import { ANY } from "../../src/catalog/query/filter.ts";
import { coveredIn, PolicyDiff } from "../../src/discovery/policy-diff.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
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

test("very many namespaces and rules are judged some at a time, and each once", () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${String(i).padStart(2, "0")}`);
  const after = new Policy(
    set(
      names.slice(0, 10).map((name) => rule(name, { visibilityTenants: ["blue"] })),
      { defaultAllow: true },
    ),
    1,
  );
  let judged = 0;
  const ask = after.viewer.bind(after);
  after.viewer = (namespace, viewer) => {
    judged += 1;
    return ask(namespace, viewer);
  };
  const diff = new PolicyDiff(NO_POLICY, after);
  for (const name of names) diff.add(name, true);
  let steps = 0;
  for (let before = 0; !diff.judge(RED, 4); before = judged) {
    steps += 1;
    expect(judged - before).toBeLessThanOrEqual(4);
  }
  // Eleven groups, then twenty namespaces.
  expect([steps, judged]).toEqual([7, 11]);
  expect([diff.of(RED), judged]).toEqual([{ gained: [], lost: names.slice(0, 10) }, 11]);
  expect([diff.of(BLUE), diff.judge(BLUE, 1)]).toEqual([{ gained: [], lost: [] }, true]);
});

test("of a sorted list a watch is told what its filter covers, and of very many no more than shows that there are too many", () => {
  const sorted = ["p", "p-x", "p.y", "p.z", "px", "q"];
  const of = (filter: Partial<typeof ANY>) => coveredIn(sorted, { ...ANY, ...filter });
  expect([of({ prefix: "p" }), of({ prefix: "p.y" }), of({ prefix: "o" })]).toEqual([["p", "p.y", "p.z"], ["p.y"], []]);
  expect([of({ namespace: "px" }), of({ namespace: "pa" }), of({}).length]).toEqual([["px"], [], 6]);
  const many = Array.from({ length: 100_000 }, (_, i) => `n${String(i).padStart(6, "0")}`);
  const found = coveredIn(many, ANY);
  expect([found.length < 1000, found.join("").length > 4096]).toEqual([true, true]);
  // 512 of these have 4096 letters, which is not too many.
  expect(
    coveredIn(
      many.map((name) => `${name}x`),
      ANY,
    ),
  ).toHaveLength(513);
});

test("who is asked for while somebody else is half judged is judged for itself, and so is the other one after that", () => {
  const diff = diffOf(forTenant("red"), forTenant("blue"));
  expect(diff.judge(RED, 4)).toBe(false);
  expect(diff.of(BLUE)).toEqual({ gained: ["svc", "svc.eu"], lost: [] });
  expect(diff.of(RED)).toEqual({ gained: [], lost: ["svc"] });
});
