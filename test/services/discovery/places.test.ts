/** The place of an answer (semantics.md, Watch 3). */
import { expect, test } from "vitest";
import { parseCursor } from "../../../src/catalog/watch/cursor.ts";
import { AnswerPositions } from "../../../src/services/discovery/answer-age.ts";

test("a cursor is made once a revision and reader, and anew when the policy changed, though nothing else did", () => {
  const seen = { replica: { revision: 7 }, node: { boot: "b" }, policyRevision: 0 };
  const places = new AnswerPositions(seen);
  const [first, other] = [places.now("mine"), places.now("yours")];
  expect([places.now("mine").cursor, parseCursor(first.cursor)]).toEqual([
    first.cursor,
    expect.objectContaining({ kind: "short", revision: 7 }),
  ]);
  expect(other.cursor).not.toBe(first.cursor);
  Object.assign(seen, { policyRevision: 1, node: { boot: "b-1" } });
  // With the one of before its watch would begin with a snapshot.
  expect(places.now("mine").cursor).not.toBe(first.cursor);
  const { cursor } = places.now("mine");
  seen.replica.revision = 8;
  expect([places.now("mine").revision, places.now("mine").cursor === cursor]).toEqual([8, false]);
});
