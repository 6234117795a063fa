/** Vectors on the wire: short entries cost a few bytes, and what is no list of them is refused before anything is built. */
import { expect, test } from "vitest";
import { decodeLinkFrame, encodeLinkFrame } from "../../src/fabric/codec.ts";
import type { LinkFrame } from "../../src/fabric/messages.ts";

const NOTHING: LinkFrame = { kind: "vector", entries: [], digest: 0n, isPartial: true, isWanted: false };

test("a short entry costs its hash and its number, whatever the origin is called", () => {
  const short = Array.from({ length: 100 }, (_, i) => ({ hash: 0xffffffff - i, seq: 1000 + i }));
  const offer: LinkFrame = { ...NOTHING, short, isOffer: true };
  const bytes = encodeLinkFrame(offer);
  // Four bytes and two, and the lists' tags and lengths.
  expect(bytes.length - encodeLinkFrame(NOTHING).length).toBeLessThanOrEqual(100 * 6 + 10);
  expect(decodeLinkFrame(bytes)).toEqual(offer);
});

test("a number that nobody can count on from is passed over, the rest of the frame counts", () => {
  const frame: LinkFrame = {
    ...NOTHING,
    short: [
      { hash: 1, seq: Number.MAX_SAFE_INTEGER },
      { hash: 2, seq: 7 },
    ],
  };
  expect(decodeLinkFrame(encodeLinkFrame(frame))).toEqual({ ...NOTHING, short: [{ hash: 2, seq: 7 }] });
});

test("a frame of before short entries is read as it was", () => {
  const entries = [{ nodeId: "n1", generation: 1, seq: 7, floor: 0 }];
  const frame: LinkFrame = { kind: "vector", entries, digest: 5n, isPartial: false, isWanted: false };
  expect(decodeLinkFrame(encodeLinkFrame(frame))).toEqual(frame);
});
