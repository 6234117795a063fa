import fc from "fast-check";
import { expect, test } from "vitest";
import { isFacts, isSet } from "../../../src/policy/versions/shape.ts";
import { rule, set, someSet, span } from "../../fakes/policies.ts";

const FACTS = {
  number: 1,
  hlc: 0,
  nodeId: "n1",
  version: "v",
  defaultAllow: true,
  ruleCount: 0,
  appliedWallMs: 1,
  principal: "",
  reason: "",
  changeTicket: "",
  checksum: "",
  lineage: [{ number: 1, checksum: "" }],
  stage: undefined,
  changes: [{ pattern: "a", change: "changed", fields: [{ field: "owners", removed: ["x"], added: [] }] }],
  changesLeftOut: 0,
};

test("every set that is kept has the shape of one, as JSON brings it back", () => {
  fc.assert(
    fc.property(someSet, (one) => {
      expect(isSet(JSON.parse(JSON.stringify(one)))).toBe(true);
    }),
  );
});

test("a set with any field missing, or of another type, is none", () => {
  const whole = set([rule("a", { cutoverWindows: [span(1, 2)] })]);
  expect(Object.keys(whole).filter((field) => isSet({ ...whole, [field]: 7 }))).toEqual([]);
  const [one] = whole.rules;
  expect(Object.keys(one ?? {}).filter((field) => isSet({ ...whole, rules: [{ ...one, [field]: new Map() }] }))).toEqual([]);
  for (const nothing of [undefined, 1, "x", [], {}]) expect(isSet(nothing)).toBe(false);
});

test("facts with any field missing, or of another type, are none", () => {
  expect(isFacts(FACTS)).toBe(true);
  for (const stage of [
    { by: "percent", percent: 5 },
    { by: "clusters", clusterIds: ["a"] },
  ])
    expect(isFacts({ ...FACTS, stage })).toBe(true);
  expect(Object.keys(FACTS).filter((field) => isFacts({ ...FACTS, [field]: Symbol("x") }))).toEqual([]);
  for (const stage of [{}, { by: "moon" }, { by: "percent" }, { by: "clusters", clusterIds: [1] }, 5])
    expect(isFacts({ ...FACTS, stage })).toBe(false);
  // What no answer about the policy could say.
  for (const percent of [0, 0.5, 101, -1]) expect(isFacts({ ...FACTS, stage: { by: "percent", percent } })).toBe(false);
  for (const appliedWallMs of [-62_135_596_800_000, -1, 253_402_300_799_999]) expect(isFacts({ ...FACTS, appliedWallMs })).toBe(true);
  for (const appliedWallMs of [0.1, 1e308, 253_402_300_800_000, -62_135_596_800_001])
    expect(isFacts({ ...FACTS, appliedWallMs })).toBe(false);
  for (const percent of [1, 100]) expect(isFacts({ ...FACTS, stage: { by: "percent", percent } })).toBe(true);
  expect(isFacts({ ...FACTS, ruleCount: 2 ** 32 - 1 })).toBe(true);
  for (const ruleCount of [-1, 2 ** 32]) expect(isFacts({ ...FACTS, ruleCount })).toBe(false);
  for (const number of [-1, 0.5, Number.MAX_SAFE_INTEGER + 1]) expect(isFacts({ ...FACTS, number })).toBe(false);
});
