/** Which of the orders that records carry count (semantics.md, Maintenance). */
import { expect, test } from "vitest";
import { decodeRecord, encodeRecord } from "../../../src/catalog/record/codec.ts";
import {
  hasNewerOverride,
  lastingOverride,
  type MaintenanceOverride,
  type MaintenanceOverrides,
  newerOverrides,
  overridesOf,
} from "../../../src/catalog/record/maintenance.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { BOUNDS } from "../../fakes/options.ts";

function order(hlc: number, said: Partial<MaintenanceOverride> = {}): MaintenanceOverride {
  return { hlc, isOn: true, reason: "", untilMs: 0, giver: "ann", ...said };
}

test("of two records the newest order of operators counts, and the newest of owners, from whichever record each is", () => {
  const a: MaintenanceOverrides = { operators: order(5), owners: order(2) };
  const b: MaintenanceOverrides = { operators: order(4), owners: order(3) };
  const both = { operators: a.operators, owners: b.owners };
  expect([newerOverrides(a, b), newerOverrides(b, a)]).toEqual([both, both]);
  expect([hasNewerOverride(a, b), hasNewerOverride(b, a)]).toEqual([true, true]);
  // What adds nothing changes nothing, also not the object: the record that has it is not written again.
  const older: MaintenanceOverrides = { operators: order(4) };
  expect([
    newerOverrides(a, older) === a,
    newerOverrides(older, a) === a,
    newerOverrides(undefined, a) === a,
    newerOverrides(a, undefined) === a,
  ]).toEqual([true, true, true, true]);
  expect([hasNewerOverride(older, a), hasNewerOverride(a, older), hasNewerOverride(undefined, a)]).toEqual([false, true, false]);
});

test.each([
  { what: "its end", said: { isOn: false } },
  { what: "a later time", said: { untilMs: 9 } },
  { what: "another reason", said: { reason: "x" } },
  { what: "another giver", said: { giver: "bob" } },
])("of two orders with one stamp that differ in $what one counts, the same for who hears them in either order", ({ said }) => {
  const [a, b]: readonly MaintenanceOverrides[] = [{ owners: order(5) }, { owners: order(5, said) }];
  expect(newerOverrides(a, b)).toBe(newerOverrides(b, a));
  expect([hasNewerOverride(a, b), hasNewerOverride(b, a)]).toContain(true);
  if (said.isOn === false) expect(newerOverrides(a, b)).toBe(b);
});

test("two givers and reasons that read the same one after the other are told apart", () => {
  const [a, b] = [order(5, { giver: "an", reason: "nx" }), order(5, { giver: "ann", reason: "x" })];
  expect(newerOverrides({ owners: a }, { owners: b })).toEqual(newerOverrides({ owners: b }, { owners: a }));
});

test("an entry that was registered after another owner's order ends it; one with its very stamp, or an older one, does not", () => {
  const orders = { owners: order(50), operators: order(60) };
  const left = [49, 50, 51].map((hlc) => overridesOf({ principal: "bob", hlc }, orders)?.owners?.isOn);
  expect(left).toEqual([true, true, false]);
  expect(overridesOf({ principal: "bob", hlc: 51 }, orders)?.operators).toBe(orders.operators);
  expect(overridesOf({ principal: "ann", hlc: 51 }, orders)).toBe(orders);
  expect(overridesOf({ principal: "bob", hlc: 51 }, undefined)).toBeUndefined();
});

test("an owner's order is for its own entries, while it lasts; an operator's is said first", () => {
  const orders = { owners: order(1, { untilMs: 100 }), operators: order(2, { untilMs: 50, giver: "op" }) };
  const said = [
    { principal: "ann", wallMs: 49 },
    { principal: "bob", wallMs: 49 },
    { principal: "ann", wallMs: 50 },
    { principal: "bob", wallMs: 50 },
    { principal: "ann", wallMs: 100 },
  ].map(({ principal, wallMs }) => lastingOverride(orders, principal, wallMs)?.giver);
  expect(said).toEqual(["op", "op", "ann", undefined, undefined]);
});

test("the longest givers and reasons have room in a record, in letters of any width", () => {
  const longest = order(1, { giver: "漢".repeat(512), reason: "漢".repeat(85) });
  const head = { seq: 1, hlc: 1, reach: 2, filterSeq: 1, firstSeq: 1, principal: "", unregisteredHlc: undefined } as const;
  const orders = { operators: longest, owners: longest };
  const bytes = encodeRecord({ ...head, orders }, { body: BODY.ENTRY, entry: Uint8Array.of(10, 0) });
  expect(decodeRecord(bytes, BOUNDS)).toMatchObject({ orders });
});
