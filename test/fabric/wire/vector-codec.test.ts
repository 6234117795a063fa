/** Vectors on the wire: short entries cost a few bytes, and what is no list of them is refused before anything is built. */
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { LinkRequestSchema, VectorFrameSchema } from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { decodeLinkFrame, encodeLinkFrame } from "../../../src/fabric/wire/codec.ts";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";

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

test("an origin of which the speaker refused records is told with how far it has heard; a number beyond all others' passes over it", () => {
  const lacking = (lackingThrough: number) => ({ nodeId: "n1", generation: 1, seq: 0, floor: 0, isLacking: true, lackingThrough });
  const frame: LinkFrame = { ...NOTHING, entries: [lacking(9)] };
  expect(decodeLinkFrame(encodeLinkFrame(frame))).toEqual(frame);
  const ofOther: LinkFrame = { ...NOTHING, entries: [{ ...lacking(9), isOfOtherCluster: true }] };
  expect(decodeLinkFrame(encodeLinkFrame(ofOther))).toEqual(ofOther);
  expect(decodeLinkFrame(encodeLinkFrame({ ...NOTHING, entries: [lacking(Number.MAX_SAFE_INTEGER)] }))).toEqual(NOTHING);
});

test("a heartbeat costs its hash and its age in tenths of a second", () => {
  const heartbeats = Array.from({ length: 100 }, (_, i) => ({ hash: 0xffffffff - i, ageMs: 100 * i }));
  const frame: LinkFrame = { ...NOTHING, heartbeats };
  const bytes = encodeLinkFrame(frame);
  expect(bytes.length - encodeLinkFrame(NOTHING).length).toBeLessThanOrEqual(100 * 5 + 10);
  expect(decodeLinkFrame(bytes)).toEqual(frame);
  // The oldest that can be said, and more.
  const oldest = decodeLinkFrame(encodeLinkFrame({ ...NOTHING, heartbeats: [{ hash: 1, ageMs: Number.MAX_SAFE_INTEGER }] }));
  expect(oldest).toEqual({ ...NOTHING, heartbeats: [{ hash: 1, ageMs: 2 ** 31 * 100 }] });
});

test("heartbeats without ages, ages without heartbeats and too many of both are refused", () => {
  const frame = (heartbeatHashes: readonly number[], heartbeatTenths: readonly number[]) => {
    const vector = create(VectorFrameSchema, {
      partial: true,
      heartbeatHashes: [...heartbeatHashes],
      heartbeatTenths: [...heartbeatTenths],
    });
    return toBinary(LinkRequestSchema, create(LinkRequestSchema, { frame: { frame: { case: "vector", value: vector } } }));
  };
  expect(decodeLinkFrame(frame([1], [2]))).toMatchObject({ heartbeats: [{ hash: 1, ageMs: 200 }] });
  expect(() => decodeLinkFrame(frame([1, 2], [2]))).toThrow("vector.heartbeat_tenths");
  expect(() => decodeLinkFrame(frame([], [2]))).toThrow("vector.heartbeat_tenths");
  const many = Array.from({ length: 10_001 }, () => 1);
  expect(() => decodeLinkFrame(frame(many, many))).toThrow("VectorFrame.heartbeat_hashes");
});

test("heartbeats travel with their numbers, or without any; a list of another length is refused", () => {
  for (const heartbeats of [
    [
      { hash: 7, ageMs: 100, seq: 12 },
      { hash: 8, ageMs: 200 },
    ],
    [{ hash: 7, ageMs: 100 }],
  ])
    expect(decodeLinkFrame(encodeLinkFrame({ ...NOTHING, heartbeats }))).toEqual({ ...NOTHING, heartbeats });
  const uneven = { heartbeatHashes: [1, 2], heartbeatTenths: [1, 1], heartbeatSeqs: [5n] };
  const bytes = toBinary(LinkRequestSchema, create(LinkRequestSchema, { frame: { frame: { case: "vector", value: uneven } } }));
  expect(() => decodeLinkFrame(bytes)).toThrow("1 for 2 hashes");
});
