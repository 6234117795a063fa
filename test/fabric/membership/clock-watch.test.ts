import { expect, test } from "vitest";
import { ClockWatch } from "../../../src/fabric/membership/clock-watch.ts";

const MAX_MS = 60_000;
const WALL = 1_760_000_000_000;
const at = (monoMs: number, aheadMs = 0) => ({ monoMs, wallMs: WALL + monoMs + aheadMs });

/** A watch that heard of clocks so far ahead of the truth, each answer 100 ms on its way. */
function heard(clocks: Readonly<Record<string, number>>): { readonly watch: ClockWatch; readonly listed: ReadonlySet<string> } {
  const watch = new ClockWatch(MAX_MS);
  for (const [id, aheadMs] of Object.entries(clocks)) watch.note(id, { wallMs: WALL + 1050 + aheadMs, sentMonoMs: 1000 }, at(1100));
  return { watch, listed: new Set(Object.keys(clocks)) };
}

test.each([
  { what: "nobody is known", clocks: {}, own: 86_400_000, isOff: false },
  { what: "one alone proves nothing", clocks: { a: 0 }, own: 86_400_000, isOff: false },
  { what: "both others differ", clocks: { a: 0, b: 10 }, own: 86_400_000, isOff: true },
  { what: "behind is as bad", clocks: { a: 0, b: 10 }, own: -86_400_000, isOff: true },
  { what: "one of two is the other's fault", clocks: { a: 86_400_000, b: 0 }, own: 0, isOff: false },
  { what: "half of four", clocks: { a: 86_400_000, b: 86_400_000, c: 0, d: 0 }, own: 0, isOff: false },
  { what: "three of four", clocks: { a: 0, b: 0, c: 0, d: 86_400_000 }, own: 86_400_000, isOff: true },
  { what: "within the bound, as far as the way there and back tells", clocks: { a: 0, b: 0 }, own: MAX_MS + 50, isOff: false },
  { what: "just beyond it", clocks: { a: 0, b: 0 }, own: MAX_MS + 51, isOff: true },
])("a node's clock is off when it differs from more than half of at least two others: $what", ({ clocks, own, isOff }) => {
  const { watch, listed } = heard(clocks);
  expect(watch.read(listed, at(2000, own)).isOff).toBe(isOff);
});

test("set right, it is right at once, and those that are no members any more have no say", () => {
  const { watch, listed } = heard({ a: 0, b: 0, c: 0 });
  expect(watch.read(listed, at(5000, 3_600_000))).toEqual({
    knownCount: 3,
    offCount: 3,
    isOff: true,
    aheadMs: 3_600_000,
    isUnheard: false,
  });
  expect(watch.read(listed, at(6000))).toEqual({ knownCount: 3, offCount: 0, isOff: false, aheadMs: 0, isUnheard: false });
  expect(watch.read(new Set(["a"]), at(7000, 3_600_000))).toMatchObject({ knownCount: 1, isOff: false });
});

test("it is ahead by what the middle one of those that differ says, in whatever order they were heard", () => {
  const { watch, listed } = heard({ a: 0, b: -7_200_000, c: 1_800_000 });
  expect(watch.read(listed, at(2000, 3_600_000))).toMatchObject({ offCount: 3, aheadMs: 3_600_000 });
});

test("while there are two others or more, and not two of them were heard, nobody can say whether this clock is right", () => {
  const { watch } = heard({ a: 0 });
  expect(watch.read(new Set(["a"]), at(2000)).isUnheard).toBe(false);
  expect(watch.read(new Set(["a", "b"]), at(2000)).isUnheard).toBe(true);
  expect([watch.has("a"), watch.has("b")]).toEqual([true, false]);
  watch.note("b", { wallMs: WALL + 2050, sentMonoMs: 2000 }, at(2100));
  expect(watch.read(new Set(["a", "b", "c"]), at(2200)).isUnheard).toBe(false);
});
