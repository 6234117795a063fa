/** The age and the place of an answer (semantics.md, Watch 3). */
import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { parseCursor } from "../../../src/catalog/watch/cursor.ts";
import { AnswerPositions, checkAge, SOURCE } from "../../../src/services/discovery/answer-age.ts";

test("a cursor depends on the revision, the reader and the policy", () => {
  const seen = { replica: { revision: 7 }, node: { boot: "b" } };
  const places = new AnswerPositions(seen);
  const [first, other] = [places.now("mine"), places.now("yours")];
  expect([places.now("mine").cursor, parseCursor(first.cursor)]).toEqual([
    first.cursor,
    expect.objectContaining({ kind: "short", revision: 7 }),
  ]);
  expect(other.cursor).not.toBe(first.cursor);
  seen.node.boot = "b-1";
  // With the one of before its watch would begin with a snapshot.
  expect(places.now("mine").cursor).not.toBe(first.cursor);
  const { cursor } = places.now("mine");
  seen.replica.revision = 8;
  expect([places.now("mine").revision, places.now("mine").cursor === cursor]).toEqual([8, false]);
});

const UNKNOWN_AGE_MS = Date.UTC(2026, 0);

test.each([
  { source: SOURCE.REPLICA, ageMs: 7, maxMs: 0, says: "7 ms old, but max_staleness is 0 ms: retry, or use another server" },
  {
    source: SOURCE.REPLICA,
    ageMs: UNKNOWN_AGE_MS,
    maxMs: 5,
    says: "not known yet, but max_staleness is 5 ms: retry, or use another server",
  },
  { source: SOURCE.FOLLOWED, ageMs: 7, maxMs: 5, says: "7 ms old, but max_staleness is 5 ms: retry, or use another server" },
  { source: SOURCE.FETCHED, ageMs: 7, maxMs: 0, says: "raise max_staleness to a few hundred milliseconds, or send the call to a node" },
])("data from source $source with an age of $ageMs ms is too old for $maxMs ms: $says", ({ source, ageMs, maxMs, says }) => {
  const maxStaleness = create(DurationSchema, { nanos: maxMs * 1_000_000 });
  expect(() => checkAge({ ageMs, source }, { maxStaleness, maxStalenessStrict: false })).toThrow(says);
});
