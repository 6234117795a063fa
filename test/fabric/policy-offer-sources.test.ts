/** Whose policy is taken, and where ours goes. */
import { expect, test } from "vitest";
import { PolicyOfferSources } from "../../src/fabric/policy-offer-sources.ts";
import { greetingOf } from "../fakes/fabric-world.ts";

function hello(clusterId: string, policyFrom: readonly string[]) {
  return greetingOf(`${clusterId}-n`, { clusterId, policyFrom });
}

test("the own cluster's and accepted ones' policy is taken, of others none; with an open fabric nobody's", () => {
  const own = { clusterId: "a", acceptFrom: ["b", "a"], isOpen: false };
  const sources = new PolicyOfferSources(own);
  expect(["a", "b", "c"].map((id) => sources.of(id))).toEqual(["accepted", "accepted", "foreign"]);
  expect(sources.told).toEqual(["b"]);
  const open = new PolicyOfferSources({ ...own, isOpen: true });
  expect(["a", "b"].map((id) => open.of(id))).toEqual(["open", "open"]);
});

test("a policy reaches the clusters that accept ours, and the clusters that accept those", () => {
  const sources = new PolicyOfferSources({ clusterId: "a", acceptFrom: [], isOpen: false });
  const hellos = [hello("d", ["c"]), hello("c", ["b"]), hello("b", ["a"]), hello("x", ["y"]), hello("y", [])];
  const reached = ["a", "b", "c", "d", "x", "y", "unknown"].filter((id) => sources.reaches(id, hellos));
  expect(reached).toEqual(["a", "b", "c", "d"]);
});

test("members of other regions are none that a newcomer waits for, and of accepted clusters none once it has a policy", () => {
  const sources = new PolicyOfferSources({ clusterId: "c1", acceptFrom: ["c2"], isOpen: false });
  const peers = ["c1", "c2", "c3"].map((clusterId) => greetingOf("b", { clusterId }));
  const counted = (hasPolicy: boolean, ...listed: readonly (readonly [string, string])[]) => {
    const members = { listed: listed.map(([clusterId, region]) => ({ clusterId, region })), region: "r1" };
    return sources.caughtUp(peers, members, { hasPolicy, maxLinks: 20 }).count;
  };
  const [ours, ourFar, accepted, acceptedFar, foreign] = [
    ["c1", "r1"],
    ["c1", "r2"],
    ["c2", "r1"],
    ["c2", "r2"],
    ["c3", "r1"],
  ] as const;
  expect(counted(false, ours, ourFar, accepted, acceptedFar, foreign)).toBe(1);
  expect(counted(false, ourFar, accepted, acceptedFar, foreign)).toBe(2);
  expect(counted(true, ourFar, accepted, acceptedFar, foreign)).toBe(3);
  expect(counted(false, ourFar, acceptedFar, foreign)).toBe(3);
});
