/** The table of kinds, held against the contract. */
import semver from "semver";
import { expect, test } from "vitest";
import { EntryKindSchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import type { DetailFields } from "../../../src/catalog/entry/fields.ts";
import { findKind, KINDS, kindOfDetail } from "../../../src/catalog/entry/kinds.ts";
import { Problems } from "../../../src/catalog/entry/problems.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { BOUNDS } from "../../fakes/options.ts";

test("every kind of the contract has a row with its name and its detail, and there are no others", () => {
  const ofContract = EntryKindSchema.values.filter((value) => value.number !== 0);
  expect(Object.keys(KINDS).map(Number)).toEqual(ofContract.map((value) => value.number));
  const details = EntrySchema.oneofs.find((oneof) => oneof.name === "detail")?.fields ?? [];
  for (const { number, name } of ofContract) {
    const kind = findKind(number);
    expect(kind).toBe(number);
    const row = KINDS[kind!];
    expect(`ENTRY_KIND_${row.text.toUpperCase()}`).toBe(name);
    expect(kindOfDetail(row.detail)).toBe(kind);
    expect(details.map((field) => field.localName)).toContain(row.detail);
  }
  expect(details).toHaveLength(ofContract.length);
});

test.each([0, 7, -1, 1.5, Number.NaN])("number %s is no kind", (wire) => {
  expect(findKind(wire)).toBeUndefined();
});

function problemsOf(detail: DetailFields): string {
  const problems = new Problems(BOUNDS);
  KINDS[kindOfDetail(detail.case)].check(detail, "detail.", problems);
  try {
    problems.throwIfAny();
  } catch (error) {
    return error instanceof Error ? error.message : "";
  }
  return "none";
}

test.each([
  ["", true],
  ["1.4.0", true],
  ["0.0.0-rc.1+build.5", true],
  [`1.0.0-${"a".repeat(122)}`, true],
  [`1.0.0-${"a".repeat(123)}`, false],
  ["1.4", false],
  ["v1.4.0", false],
  [" 1.4.0", false],
  ["1.4.0 ", false],
  ["1.04.0", false],
  ["1.0.0-01", false],
  ["latest", false],
])("FUNCTION: version '%s' is accepted: %s", (version, ok) => {
  const found = problemsOf({ case: "function", value: { functionId: "", version, specDigest: "", resources: [] } });
  if (ok) expect(found).toBe("none");
  else expect(found).toContain("detail.version");
  if (ok && version !== "") expect(semver.valid(version)).not.toBeUndefined();
});

test("only the kinds with names in DNS have a label there", () => {
  const labels = Object.fromEntries(Object.values(KINDS).map((row) => [row.text, row.dnsLabel]));
  expect(labels).toEqual({ service: "_svc", function: "_rpc", topic: undefined, queue: "_queue", cache: undefined, node: undefined });
  expect(KINDS[KIND.QUEUE].dnsLabel).toBe("_queue");
});
