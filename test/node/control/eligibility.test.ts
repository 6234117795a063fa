import { expect, test } from "vitest";
import { eligibilityFault, foreignStores } from "../../../src/node/control/eligibility.ts";

const LONE = { isServing: true, isPrivate: true, hasOthers: false, foreign: new Map<string, string>() };
const FOREIGN = new Map([["b", "split brain: b"]]);

test.each([
  { what: "a lone node may lead with its own store", facts: LONE, says: "" },
  { what: "a private store with peers elects no leader", facts: { ...LONE, hasOthers: true }, says: "private" },
  { what: "nodes that share a store may lead", facts: { ...LONE, isPrivate: false, hasOthers: true }, says: "" },
  { what: "a node that is not ready is no candidate", facts: { ...LONE, isServing: false }, says: "the node is not ready" },
  {
    what: "a node that sees another store in its cluster is no candidate",
    facts: { ...LONE, isPrivate: false, foreign: FOREIGN },
    says: "split brain: b",
  },
])("$what", ({ facts, says }) => {
  const fault = eligibilityFault(facts);
  expect(fault === "").toBe(says === "");
  expect(fault).toContain(says);
});

test("only members of the own cluster that have announced another store count as a split brain", () => {
  const own = { clusterId: "c1", id: "s1" };
  const members = [
    { nodeId: "same", clusterId: "c1", controlStore: "s1" },
    { nodeId: "silent", clusterId: "c1" },
    { nodeId: "elsewhere", clusterId: "c2", controlStore: "s2" },
    { nodeId: "other", clusterId: "c1", controlStore: "s3" },
  ];
  const found = foreignStores(members, own);
  expect([...found.keys()]).toEqual(["other"]);
  expect(found.get("other")).toContain("other uses the control store s3, and this node uses s1");
  // This node has not read its own store yet.
  expect(foreignStores(members, { ...own, id: "" }).size).toBe(0);
});
