import * as fc from "fast-check";
import { expect, test } from "vitest";
import { newFunctionDetail } from "../../gen/waymark/catalog/v1/entry_codec.ts";
import { HEALTH, KIND, keyText } from "../../src/catalog/record/record.ts";
import { healthOrder } from "../../src/consumer/health-tiers.ts";
import { explainVersion, versionTest } from "../../src/discovery/candidates.ts";
import { entryView } from "../fakes/dns-catalog.ts";

test("a sample of a crowded name considers an orphan before an entry in MAINTENANCE, which DNS never shows", () => {
  const { HEALTHY, DEGRADED, CRITICAL, ORPHANED, MAINTENANCE } = HEALTH;
  expect([HEALTHY, DEGRADED, CRITICAL, ORPHANED, MAINTENANCE].map(healthOrder)).toEqual([0, 1, 2, 3, 4]);
});

function ofVersion(version: string) {
  const key = { kind: KIND.FUNCTION, namespace: "svc", name: "web", instanceId: "a", clusterId: "c1" };
  return { key: keyText(key), view: entryView({ ...key, detail: { case: "function", value: { ...newFunctionDetail(), version } } }) };
}

test.each([
  { range: "", fit: ["1.2.0", "1.9.4", "2.0.0", ""] },
  { range: "^1.2.0", fit: ["1.2.0", "1.9.4"] },
  { range: ">=1.2.0 <1.3", fit: ["1.2.0"] },
  { range: "*", fit: ["1.2.0", "1.9.4", "2.0.0"] },
  { range: "^3", fit: [] },
])("version range '$range' fits $fit", ({ range, fit }) => {
  const isFit = versionTest(KIND.FUNCTION, range) ?? (() => true);
  expect(["1.2.0", "1.9.4", "2.0.0", ""].filter(isFit)).toEqual(fit);
});

test("a version that is not in the range is named", () => {
  const told = [ofVersion("2.0.0"), ofVersion("")].map((one) => explainVersion(one, "^1"));
  expect(told.every(({ kept, reason }) => !kept && reason === "version_range")).toBe(true);
  expect(told.map(({ detail }) => detail)).toEqual(["version 2.0.0 is not in ^1", "version (none) is not in ^1"]);
});

function refusal(range: string): string {
  try {
    versionTest(KIND.FUNCTION, range)?.("1.0.0");
    return "none";
  } catch (error) {
    return String(error);
  }
}

test("a range that is none, or for another kind, is refused by name", () => {
  expect(() => versionTest(KIND.FUNCTION, "latest!")).toThrow('invalid_argument: version_range: "latest!" is not a range');
  expect(() => versionTest(KIND.SERVICE, "^1")).toThrow("invalid_argument: version_range: must be empty");
  fc.assert(
    fc.property(fc.string({ maxLength: 128 }), (range) => {
      expect(refusal(range)).toMatch(/^(none|WaymarkError: invalid_argument: version_range)/);
    }),
  );
});
