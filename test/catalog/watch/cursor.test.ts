/** Cursor text (semantics.md, Watch 3). */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  isSamePlace,
  parseCursor,
  portableCursorText,
  resolverPlace,
  ShortCursorTexts,
  shortCursorText,
  shortHolder,
} from "../../../src/catalog/watch/cursor.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { runs } from "../../fakes/effort.ts";

const id = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,64}$/);
const origin = fc.record({
  nodeId: id,
  generation: fc.nat(Number.MAX_SAFE_INTEGER),
  seq: fc.nat(Number.MAX_SAFE_INTEGER),
  life: fc.constantFrom("live" as const, "orphaned" as const, "hidden" as const),
});
const portable = fc.record({
  clusterId: id,
  readerHash: fc.stringMatching(/^[0-9a-f]{16}$/),
  policyEpoch: fc.string({ maxLength: 40 }).filter((text) => text.isWellFormed()),
  origins: fc.array(origin, { maxLength: 20 }),
});

function isRefused(text: string): boolean {
  try {
    parseCursor(text);
    return false;
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    expect([error.reason, error.details.violations?.[0]?.field]).toEqual(["invalid_argument", "cursor"]);
    return true;
  }
}

test("short cursors come back as they were given", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/), fc.nat(Number.MAX_SAFE_INTEGER), fc.nat(), (holder, revision, below) => {
      const settled = Math.max(0, revision - below);
      expect(parseCursor(shortCursorText(holder, revision, settled))).toEqual({ kind: "short", holder, revision, settled });
    }),
  );
});

test("the cursors of a process for a reader are those of the reader's holder", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9_-]{1,40}$/), fc.stringMatching(/^[0-9a-f]{16}$/), fc.nat(), (boot, hash, revision) => {
      expect(new ShortCursorTexts(boot).at(revision, revision, hash)).toBe(shortCursorText(shortHolder(boot, hash), revision));
    }),
  );
});

test("portable cursors come back as they were given", () => {
  fc.assert(
    fc.property(portable, fc.option(id, { nil: undefined }), (bare, local) => {
      const cursor = local === undefined ? bare : { ...bare, local };
      expect(parseCursor(portableCursorText(cursor))).toEqual({ kind: "portable", ...cursor });
    }),
  );
});

test("a cursor that was cut, or changed in any one place, is refused", () => {
  const change = fc.record({
    at: fc.nat(500),
    to: fc.constantFrom("A", "Z", "a", "z", "0", "9", "-", "_", ".", "=", "~", " ", "\u00e9"),
    isCut: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.oneof(
        portable.map(portableCursorText),
        fc.nat().map((n) => shortCursorText("boot", n)),
      ),
      change,
      (text, { at, to, isCut }) => {
        const place = at % text.length;
        const forged = isCut ? text.slice(0, place) : text.slice(0, place) + to + text.slice(place + 1);
        if (forged !== text) expect(isRefused(forged)).toBe(true);
      },
    ),
    { numRuns: runs(500) },
  );
});

test.each([
  "",
  "s1",
  "s1.",
  "s2.",
  "s3.boot.1.aa",
  "p1.",
  "p1.AAAA",
  "p2.AAAAAAAAAA",

  "s2.boot.zz.0",
  "s1.boot.1.mcx",
  "s2.boot.-1.aa",
  "s2.bo ot.1.aa",
  "0",
  "42",
  "null",
  " s2.boot.1.aa",
  "p1.====",
  `p1.${"A".repeat(100_000)}`,
  `s2.${"b".repeat(65)}.1.aa`,
])("%j is refused with invalid_argument", (text) => {
  expect(isRefused(text.slice(0, 200_000))).toBe(true);
});

test("whatever text comes, it is a cursor or refused, and nothing else happens", () => {
  fc.assert(
    fc.property(
      fc.constantFrom("", "s1.", "s2.", "p1."),
      fc.oneof(
        fc.string({ maxLength: 200 }),
        fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes).toString("base64url")),
      ),
      (head, text) => {
        expect(isRefused(head + text)).toBe(true);
      },
    ),
    { numRuns: runs(200) },
  );
});

test.each([
  ["one without LOCAL entries is as any other without", resolverPlace("a/1", false), resolverPlace("b/1", false), true],
  ["the same one, with another list", resolverPlace("a/1", false), resolverPlace("a/1", true), true],
  ["a reader's, which names no place", undefined, resolverPlace("a/1", false), true],
  ["one that hides what another shows", resolverPlace("a/1", true), resolverPlace("b/1", false), false],
  ["two that each hide something", resolverPlace("a/1", true), resolverPlace("b/1", true), false],
  ["a later life of the same node", resolverPlace("a/1", true), resolverPlace("a/2", true), false],
  ["a viewer's, who has the LOCAL entries", "a/1", resolverPlace("a/1", true), false],
  ["a viewer's elsewhere", "a/1", undefined, false],
])("places of readers: %s", (_, one, other, isSame) => {
  expect([isSamePlace(one, other), isSamePlace(other, one)]).toEqual([isSame, isSame]);
});
