/** The stamps by which `link-clock.test.ts` knows when a peer said something: their arithmetic, and their bytes. */
import { expect, test } from "vitest";
import { LinkClock } from "../../../src/fabric/replication/sender.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../../src/fabric/wire/codec.ts";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";

const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

test("what is so as of a stamp of ours was so after it, by as much as the peer had it; what names none, after we greeted", () => {
  // This node's clock is 9,000 s ahead of the peer's.
  const [me, peer] = [new LinkClock(at(9_000_100), 9_000_000), new LinkClock(at(50), 0)];
  const stamp = (by: LinkClock, monoMs: number) => by.stamp(monoMs, at(monoMs));
  expect(me.dateReport(stamp(peer, 60), at(9_004_000))).toBe(9_000_000);
  const mine = stamp(me, 9_005_000.9);
  expect(mine).toEqual({ atMs: 4901, asOfMs: 11 + 1000 });
  peer.dateReport(mine, at(5055));
  const said = stamp(peer, 5755.5);
  // On its way for 20 s, and then another for no time: both count from when they were said.
  expect(me.dateReport(said, at(9_025_000))).toBe(9_005_700);
  expect(me.dateReport(stamp(peer, 25_055), at(9_025_010))).toBe(9_025_000);
  // What was so some time before it is said counts from then.
  expect(me.dateReport(peer.stamp(25_005, at(25_060)), at(9_025_020))).toBe(9_024_950);
  expect(peer.stamp(100, at(25_070))).toEqual({ atMs: 25_021 });
});

test("a peer that claims to have said it later than it came is taken at its coming", () => {
  const me = new LinkClock(at(0), 0);
  expect(me.dateReport({ atMs: 1, asOfMs: Number.MAX_SAFE_INTEGER }, at(500))).toBe(500);
  expect(me.dateReport({ atMs: Number.MAX_SAFE_INTEGER - 200 }, at(600))).toBe(0);
  expect(me.stamp(700, at(700)).asOfMs).toBe(Number.MAX_SAFE_INTEGER - 100);
});

test("stamps travel in a few bytes, and a frame without them is read as it was", () => {
  const nothing: LinkFrame = { kind: "vector", entries: [], digest: 0n, isPartial: true, isWanted: false };
  for (const said of [{ atMs: 1 }, { atMs: 86_400_000, asOfMs: 86_400_000 }]) {
    const bytes = encodeLinkFrame({ ...nothing, times: said });
    expect(bytes.length - encodeLinkFrame(nothing).length).toBeLessThanOrEqual(12);
    expect(decodeLinkFrame(bytes)).toEqual({ ...nothing, times: said });
  }
  expect(decodeLinkFrame(encodeLinkFrame(nothing))).toEqual(nothing);
});
