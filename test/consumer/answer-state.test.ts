/** The state of an answer that is kept, by its age. */
import { expect, test } from "vitest";
import { answerState } from "../../src/consumer/answer-state.ts";

test.each([
  { keptMs: 0, state: "fresh" },
  { keptMs: 4999, state: "fresh" },
  { keptMs: 5000, state: "stale" },
  { keptMs: 14_999, state: "stale" },
  { keptMs: 15_000, state: "miss" },
])("with a ttl of 5 s an answer of $keptMs ms is $state", ({ keptMs, state }) => {
  expect(answerState(keptMs, 5000)).toBe(state);
});
