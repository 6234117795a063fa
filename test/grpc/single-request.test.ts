/** The one request of a method: however it is cut, it is read whole, and any other number of requests is refused. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SingleRequest } from "../../src/grpc/server/single-request.ts";
import { framed } from "../../src/grpc/wire/framing.ts";
import { LateInflater } from "../fakes/late-gzip.ts";

function reading(encoding?: "gzip", inflater?: LateInflater) {
  const bounds = { maxMessageBytes: 1_000, maxBufferedBytes: 10_000, bufferedBytes: 0 };
  const later: unknown[] = [];
  const single = new SingleRequest({ bounds, encoding, inflater, owner: {} });
  const take = () => single.take({ request: (came) => later.push(came) });
  return { single, take, later, bounds };
}

test("a request is the same however it is cut, and another number of them is refused", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 3 }),
      fc.array(fc.nat({ max: 150 }), { maxLength: 5 }),
      (sent, cuts) => {
        const bytes = Buffer.concat(sent.map((each) => framed(each)));
        const { single, take, bounds } = reading();
        const places = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).toSorted((a, b) => a - b), bytes.length];
        for (const [index, at] of places.entries()) single.push(bytes.subarray(at, places[index + 1] ?? at));
        const request = take();
        if (sent.length === 1) expect(Buffer.from(request as Uint8Array)).toEqual(Buffer.from(sent[0] ?? []));
        else expect(request).toMatchObject({ reason: "unimplemented" });
        single.drop();
        expect(bounds.bufferedBytes).toBe(0);
      },
    ),
  );
});

test("half a request, a wrong flag and one that is too large are refused with their own reasons", () => {
  const half = reading();
  half.single.push(framed(new Uint8Array(10)).subarray(0, 8));
  expect(half.take()).toMatchObject({ reason: "invalid_argument" });
  expect(() => reading().single.push(Uint8Array.of(2, 0, 0, 0, 0))).toThrow(/invalid_argument/);
  expect(() => reading().single.push(framed(new Uint8Array(1_001)))).toThrow(/quota_exceeded/);
});

test("a compressed request comes later; one that was dropped does not come; without an inflater it is refused", () => {
  const inflater = new LateInflater();
  const compressed = framed(Uint8Array.of(1, 7), true);
  const { single, take, later } = reading("gzip", inflater);
  single.push(compressed);
  expect(take()).toBeUndefined();
  inflater.settle();
  expect(later).toEqual([Buffer.of(7)]);
  single.drop();
  const dropped = reading("gzip", inflater);
  dropped.single.push(compressed);
  dropped.take();
  dropped.single.drop();
  inflater.settle();
  expect([dropped.later, inflater.openCount]).toEqual([[], 0]);
  const without = reading("gzip");
  without.single.push(compressed);
  expect(without.take()).toMatchObject({ reason: "unimplemented" });
});
