import { expect, test } from "vitest";
import type { FabricEvent } from "../../../src/fabric/io-types.ts";
import { OwnClock } from "../../../src/node/core/write-eligibility.ts";

const WALL = 1_760_000_000_000;
const UNHEARD = { knownCount: 1, offCount: 1, isOff: false, aheadMs: 0, isUnheard: true };
const RIGHT = { knownCount: 2, offCount: 0, isOff: false, aheadMs: 0, isUnheard: false };
const OFF = { knownCount: 2, offCount: 2, isOff: true, aheadMs: 86_400_000, isUnheard: false };

/** A node's own clock at its start, and what its members say of it. */
function bench(hasSeeds: boolean) {
  const state = { isReady: false };
  const events: FabricEvent[] = [];
  const own = new OwnClock(hasSeeds);
  let askedCount = 0;
  const look = (clock: typeof RIGHT, monoMs: number, hasJoined = true) => {
    const membership = { clock: () => clock, askClocks: () => (askedCount += 1), hasJoined };
    const told = own.look(membership, state.isReady, { monoMs, wallMs: WALL + monoMs });
    if (told !== undefined) events.push(told.event);
    return { takesWrites: own.fault === "", isComparing: own.isComparing };
  };
  return { own, state, events, look, asked: () => askedCount };
}
const WAITS = { takesWrites: false, isComparing: true };
const GOES_ON = { takesWrites: true, isComparing: false };

test("a start takes no writes until two others have said what their clocks are, and asks them for it", () => {
  const { own, look, asked, events } = bench(true);
  // Before the first look, too: nobody has been met yet.
  expect(() => own.check()).toThrow("not_ready");
  expect(look(RIGHT, 0, false)).toEqual(WAITS);
  expect(asked()).toBe(0);
  expect(look(UNHEARD, 100)).toEqual(WAITS);
  expect(asked()).toBe(1);
  expect(look(RIGHT, 200)).toEqual(GOES_ON);
  // Waiting is no fault of the clock.
  expect(events).toEqual([]);
});

test("a start whose clock is off goes from waiting to refusing, with nothing taken in between", () => {
  const { look, events } = bench(true);
  expect(look(UNHEARD, 0)).toEqual(WAITS);
  expect(look(OFF, 100)).toEqual({ takesWrites: false, isComparing: false });
  expect(events.map(({ name }) => name)).toEqual(["own_clock_off"]);
  expect(look(RIGHT, 1200)).toEqual(GOES_ON);
  expect(events.map(({ name }) => name)).toEqual(["own_clock_off", "own_clock_right"]);
});

test("others that do not say what their clocks are hold a start up for 3 s, and one that was ready never", () => {
  const slow = bench(true);
  for (let monoMs = 0; monoMs < 3000; monoMs += 100) expect(slow.look(UNHEARD, monoMs)).toEqual(WAITS);
  expect(slow.look(UNHEARD, 3000)).toEqual(GOES_ON);
  expect(slow.look(UNHEARD, 4000)).toEqual(GOES_ON);

  const grown = bench(false);
  expect(grown.look(RIGHT, 0, false)).toEqual(GOES_ON);
  grown.state.isReady = true;
  expect(grown.look(UNHEARD, 1000)).toEqual(GOES_ON);
  expect(grown.asked()).toBe(0);
});
