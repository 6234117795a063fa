/** Whose policy is taken, and where ours goes. */
import { expect, test } from "vitest";
import { POLICY_FROM, PolicySources } from "../../src/fabric/policy-sources.ts";
import { greetingOf } from "../fakes/fabric-world.ts";

function hello(clusterId: string, policyFrom: readonly string[] | undefined) {
  return greetingOf(`${clusterId}-n`, { clusterId, ...(policyFrom !== undefined && { policyFrom, capabilities: [POLICY_FROM] }) });
}

test("the own cluster's and accepted ones' policy is taken, of others none; with an open fabric nobody's", () => {
  const own = { clusterId: "a", acceptFrom: ["b", "a"], isOpen: false };
  const sources = new PolicySources(own);
  expect(["a", "b", "c"].map((id) => sources.of(id))).toEqual(["accepted", "accepted", "foreign"]);
  expect(sources.told).toEqual(["b"]);
  const open = new PolicySources({ ...own, isOpen: true });
  expect(["a", "b"].map((id) => open.of(id))).toEqual(["open", "open"]);
});

test("a policy reaches who accepts us, who accepts those, and nodes of the first version, who take any", () => {
  const sources = new PolicySources({ clusterId: "a", acceptFrom: [], isOpen: false });
  const hellos = [hello("d", ["c"]), hello("c", ["b"]), hello("b", ["a"]), hello("x", ["y"]), hello("y", []), hello("old", undefined)];
  const reached = ["a", "b", "c", "d", "old", "x", "y", "unknown"].filter((id) => sources.reaches(id, hellos));
  expect(reached).toEqual(["a", "b", "c", "d", "old"]);
});

test("members of other regions are none that a newcomer waits for, and of accepted clusters none once it has a policy", () => {
  const sources = new PolicySources({ clusterId: "c1", acceptFrom: ["c2"], isOpen: false });
  const members = [
    { clusterId: "c1", region: "r1" },
    { clusterId: "c1", region: "r2" },
    { clusterId: "c2", region: "r1" },
    { clusterId: "c2", region: "r2" },
    { clusterId: "c3", region: "r1" },
  ];
  const here = { clusterId: "c1", region: "r1" };
  // Our own cluster is accepted, too.
  expect(sources.others(members, here, false)).toEqual({ clusterId: "c1", ownCount: 1, acceptedCount: 2 });
  expect(sources.others(members, here, true)).toEqual({ clusterId: "c1", ownCount: 1, acceptedCount: 0 });
});
