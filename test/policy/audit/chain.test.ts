import fc from "fast-check";
import { expect, test } from "vitest";
import { type AuditRecord, CHAIN_START, NO_HASH } from "../../../src/policy/audit/record.ts";
import { chain, verifyChain } from "../audit-fixture.ts";

const FIVE = chain(5);
const last = (records: readonly AuditRecord[]) => records.at(-1) ?? { number: 0, hash: NO_HASH };
const without = (at: number) => FIVE.toSpliced(at, 1);

function swapped(i: number, j: number): readonly AuditRecord[] {
  const [a, b] = [FIVE[i], FIVE[j]];
  return a === undefined || b === undefined ? FIVE : FIVE.with(i, b).with(j, a);
}

test("a chain as it was written has no problem, from its start, from an anchor, and to its head", () => {
  expect(verifyChain(FIVE, CHAIN_START, last(FIVE))).toBeUndefined();
  expect(verifyChain(FIVE.slice(2), FIVE[1], last(FIVE))).toBeUndefined();
  expect(verifyChain([])).toBeUndefined();
  expect(verifyChain([], last(FIVE), last(FIVE))).toBeUndefined();
});

test.each([
  { what: "a changed text", records: FIVE.map((r) => (r.number === 3 ? { ...r, principal: "other" } : r)), found: ["altered", 3] },
  { what: "a changed time", records: FIVE.map((r) => (r.number === 1 ? { ...r, atWallMs: 1 } : r)), found: ["altered", 1] },
  { what: "a changed hash", records: FIVE.map((r) => (r.number === 3 ? { ...r, hash: NO_HASH } : r)), found: ["altered", 3] },
  { what: "another hash before", records: FIVE.map((r) => (r.number === 3 ? { ...r, previousHash: NO_HASH } : r)), found: ["altered", 3] },
  { what: "a removed record", records: without(2), found: ["missing", 3] },
  { what: "two neighbours swapped", records: swapped(1, 2), found: ["reordered", 2] },
  { what: "two records swapped", records: swapped(1, 4), found: ["reordered", 2] },
  { what: "a record twice", records: FIVE.toSpliced(3, 0, ...FIVE.slice(1, 2)), found: ["reordered", 4] },
  { what: "the first removed", records: FIVE.slice(1), found: ["truncated_head", 1] },
  { what: "the last removed", records: FIVE.slice(0, -1), found: ["truncated_tail", 5] },
  { what: "all removed", records: [], found: ["truncated_tail", 1] },
  { what: "a record more", records: chain(6), found: ["altered", 6] },
])("$what is found", ({ records, found }) => {
  const problem = verifyChain(records, CHAIN_START, last(FIVE));
  expect([problem?.kind, problem?.number]).toEqual(found);
});

test("a head with another hash is found even when every link holds", () => {
  expect(verifyChain(FIVE, CHAIN_START, { number: 5, hash: NO_HASH })).toMatchObject({ kind: "altered", number: 5 });
});

test("whatever is changed, removed or moved, the chain has a problem at or before that place", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 12 }), fc.nat(), fc.nat(), fc.constantFrom("remove", "swap", "change"), (count, a, b, how) => {
      const records = chain(count);
      const [i, j] = [a % count, b % count];
      const [first, second] = [records[i], records[j]];
      if (first === undefined || second === undefined || (how === "swap" && i === j)) return;
      const harmed =
        how === "remove"
          ? records.toSpliced(i, 1)
          : how === "swap"
            ? records.with(i, second).with(j, first)
            : records.with(i, { ...first, detail: `${first.detail}!` });
      const problem = verifyChain(harmed, CHAIN_START, last(records));
      expect(problem).toBeDefined();
      expect(problem?.number).toBeLessThanOrEqual(Math.max(i, j) + 1);
    }),
  );
});
