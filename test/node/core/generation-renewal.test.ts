import { expect, test } from "vitest";
import { NEVER } from "../../../src/lib/machine.ts";
import { GenerationRenewal } from "../../../src/node/core/generation-renewal.ts";
import { at, Registry } from "../../fakes/registry.ts";

const WHY = { peerNodeId: "b", seq: 7 };

function renewing(make: () => number) {
  const { replica } = new Registry();
  return { replica, generations: new GenerationRenewal(replica, make) };
}

test.each([
  { what: "drawn from the time", drawn: 50, above: undefined, want: 50 },
  { what: "drawn by a clock that went back", drawn: 0, above: undefined, want: 2 },
  { what: "known to others already", drawn: 50, above: 80, want: 81 },
])("a new generation that is $what is $want", ({ drawn, above, want }) => {
  const { replica, generations } = renewing(() => drawn);
  const generation = generations.lost({ ...WHY, ...(above !== undefined && { above }) }, at(0));
  expect([generation, replica.self.generation]).toEqual([want, 1]);
  generations.written(want);
  expect(replica.self.generation).toBe(want);
});

test("one renewal at a time, and what the journal refused is tried again a second later", () => {
  let drawn = 10;
  const { generations } = renewing(() => (drawn += 1));
  expect([generations.lost(WHY, at(0)), generations.lost(WHY, at(1))]).toEqual([11, undefined]);
  generations.refused(at(5));
  expect(generations.nextDeadlineMs()).toBe(at(1005).monoMs);
  expect([generations.tick(at(1004)), generations.lost(WHY, at(1004)), generations.tick(at(1005))]).toEqual([undefined, undefined, 12]);
  generations.written(12);
  expect([generations.nextDeadlineMs(), generations.tick(at(9000)), generations.lost(WHY, at(9000))]).toEqual([NEVER, undefined, 13]);
});
