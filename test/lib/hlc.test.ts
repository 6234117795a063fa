/** The hybrid logical clock. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Hlc, hlcWallMs, MAX_STAMP } from "../../src/lib/hlc.ts";

const WALL = 1_760_000_000_000;

test("stamps rise by one inside a millisecond and follow the wall between", () => {
  const clock = new Hlc();
  const first = clock.stamp(WALL);
  expect(clock.stamp(WALL)).toBe(first + 1);
  expect(clock.stamp(WALL + 5)).toBe((WALL + 5) * 2048);
  expect(hlcWallMs(clock.last())).toBe(WALL + 5);
});

test("stamps rise strictly, whatever the wall does", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: WALL * 2 }), { minLength: 2 }), (walls) => {
      const clock = new Hlc();
      const stamps = walls.map((wallMs) => clock.stamp(wallMs));
      return stamps.every((stamp, i) => Number.isSafeInteger(stamp) && (i === 0 || stamp > stamps[i - 1]!));
    }),
  );
});

test("a clock goes on after the last stamp of its earlier life, though the wall went back", () => {
  const clock = new Hlc(WALL * 2048 + 3);
  expect(clock.stamp(WALL - 60_000)).toBe(WALL * 2048 + 4);
});

test.each([
  { what: "older", remoteMs: WALL - 1000, want: "merged", next: WALL * 2048 },
  { what: "a little ahead", remoteMs: WALL + 1000, want: "merged", next: (WALL + 1000) * 2048 + 1 },
  { what: "at the bound", remoteMs: WALL + 60_000, want: "merged", next: (WALL + 60_000) * 2048 + 1 },
  { what: "beyond the bound", remoteMs: WALL + 60_001, want: "beyond_skew", next: WALL * 2048 },
])("Several origins for one key: a remote stamp $what is $want", ({ remoteMs, want, next }) => {
  const clock = new Hlc();
  expect(clock.merge(remoteMs * 2048, WALL, 60_000)).toBe(want);
  expect(clock.stamp(WALL)).toBe(next);
});

test("what is stamped after a merge is newer than what was merged", () => {
  const here = new Hlc();
  const there = new Hlc();
  const remote = there.stamp(WALL + 20_000);
  here.merge(remote, WALL, 60_000);
  expect(here.stamp(WALL)).toBeGreaterThan(remote);
});

test("an older remote stamp never takes the clock back", () => {
  const clock = new Hlc();
  const before = clock.stamp(WALL);
  clock.merge(before - 2048, WALL, 60_000);
  expect(clock.stamp(WALL)).toBeGreaterThan(before);
});

test("a write is stamped above what its writer saw, and a wrong clock elsewhere moves this one no further", () => {
  const clock = new Hlc();
  const ahead = (WALL + 86_400_000) * 2048;
  expect(clock.stampAbove(ahead, WALL)).toBe(ahead + 1);
  expect(clock.stampAbove(0, WALL)).toBe(WALL * 2048 + 1);
});

test("a write that no stamp can be above fails alone, and the clock goes on; what is not to fail gets the last stamp there is", () => {
  const clock = new Hlc();
  expect(() => clock.stampAbove(MAX_STAMP, WALL)).toThrow("clock_skew");
  expect(clock.stampAbove(MAX_STAMP - 1, WALL)).toBe(MAX_STAMP);
  expect(clock.stampEnd(MAX_STAMP, WALL)).toBe(MAX_STAMP);
  expect(clock.stampEnd(Number.MAX_SAFE_INTEGER, WALL)).toBe(MAX_STAMP);
  expect(hlcWallMs(clock.stamp(WALL))).toBe(WALL);
});

test("a wall past the year 2100 refuses writes, and what is not to fail gets the last stamp there is", () => {
  const clock = new Hlc();
  const wall = hlcWallMs(MAX_STAMP) + 1;
  expect(() => clock.stamp(wall)).toThrow("clock_skew");
  expect(clock.stampEnd(0, wall)).toBe(MAX_STAMP);
  expect(hlcWallMs(clock.stamp(WALL))).toBe(WALL);
});

test("what is no stamp is never learned", () => {
  const clock = new Hlc();
  for (const stamp of [MAX_STAMP + 1, Number.MAX_SAFE_INTEGER, Number.NaN, -1, 1.5])
    expect(clock.merge(stamp, hlcWallMs(MAX_STAMP), 60_000)).toBe("beyond_skew");
  expect(clock.last()).toBe(0);
});
