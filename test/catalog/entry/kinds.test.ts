/** The table of kinds, held against the contract, and what it asks of a detail beside the contract's rules. */
import { create } from "@bufbuild/protobuf";
import semver from "semver";
import { expect, test } from "vitest";
import { KIND_OF_DETAIL, KIND_WORDS, WORD_OF_KIND } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { EntryKindSchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { findKind, KINDS, LAST_KIND } from "../../../src/catalog/entry/kinds.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { BOUNDS } from "../../fakes/options.ts";

test("every kind of the contract has a number, a word and a row, and every detail is of a kind; there are no others", () => {
  const ofContract = EntryKindSchema.values.filter((value) => value.number !== 0);
  expect(Object.values(KIND)).toEqual(ofContract.map((value) => value.number));
  expect(Object.keys(KINDS).map(Number)).toEqual(Object.values(KIND));
  expect(KIND_WORDS.map((word) => `ENTRY_KIND_${word.toUpperCase()}`)).toEqual(ofContract.map((value) => value.name));
  for (const kind of Object.values(KIND)) {
    expect(findKind(kind)).toBe(kind);
  }
  const details = EntrySchema.oneofs.find((oneof) => oneof.name === "detail")?.fields ?? [];
  expect(Object.keys(KIND_OF_DETAIL)).toEqual(details.map((field) => field.localName));
  for (const [detail, kind] of Object.entries(KIND_OF_DETAIL)) expect(detail).toBe(WORD_OF_KIND[kind]);
});

test.each([0, LAST_KIND + 1, -1, 1.5, Number.NaN])("number %s is no kind", (wire) => {
  expect(findKind(wire)).toBeUndefined();
});

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
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(8) });
  const key = { kind: KIND.FUNCTION, namespace: "fn", name: "price", instanceId: "1" };
  const entry = create(EntrySchema, { key, detail: { case: "function", value: { version } } });
  const write = () =>
    stamper.entryOf(entry, 0, { nodeId: "n1", clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 0 });
  if (ok) expect(write().traits.version).toBe(version);
  else expect(write).toThrow("function.version");
  if (ok && version !== "") expect(semver.valid(version)).not.toBeUndefined();
});

test("no two kinds have one label in DNS, and those that have names there are these", () => {
  const labels = Object.values(KINDS).flatMap((row) => row.dnsLabels);
  expect(new Set(labels).size).toBe(labels.length);
  expect(labels).toEqual(expect.arrayContaining(["_svc", "_rpc", "_mpreg", "_queue"]));
  expect(KINDS[KIND.TOPIC].dnsLabels).toEqual([]);
});
