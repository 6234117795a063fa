import { expect, test } from "vitest";
import { mayHold, type OriginRelation, SCOPE, SCOPE_NAMES } from "../../../src/catalog/entry/scope.ts";

// semantics.md, Scopes: who holds the entry itself.
test.each<{ scope: keyof typeof SCOPE; holders: readonly OriginRelation[] }>([
  { scope: "LOCAL", holders: ["self"] },
  { scope: "ZONE", holders: ["self", "cluster"] },
  { scope: "REGION", holders: ["self", "cluster", "region"] },
  { scope: "GLOBAL", holders: ["self", "cluster", "region"] },
])("P1: an entry of scope $scope is held by $holders and nobody else", ({ scope, holders }) => {
  const relations: readonly OriginRelation[] = ["self", "cluster", "region", "remote"];
  expect(relations.filter((relation) => mayHold(SCOPE[scope], relation))).toEqual(holders);
});

test("scopes are ordered by how far an entry travels, and named by their number", () => {
  expect(SCOPE_NAMES[SCOPE.LOCAL]).toBe("local");
  expect(SCOPE_NAMES[SCOPE.GLOBAL]).toBe("global");
  expect([SCOPE.UNSET, SCOPE.LOCAL, SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL]).toEqual([0, 1, 2, 3, 4]);
});
