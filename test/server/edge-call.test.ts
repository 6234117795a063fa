/** What a request's body is on its way to Connect, which joins it in a time that grows with the square of its chunks. */
import { expect, test } from "vitest";
import { EdgeCall } from "../../src/server/edge-call.ts";

function call() {
  const budget = { maxBytes: 10_000_000, usedBytes: 0 };
  return new EdgeCall({
    transport: "http1",
    encoding: "json",
    address: "",
    certificate: undefined,
    header: () => undefined,
    requestId: "r",
    budget,
    meter: undefined,
    arriving: undefined,
    owner: {},
  });
}

async function* chunksOf(...lengths: readonly number[]): AsyncGenerator<Uint8Array> {
  for (const length of lengths) yield await Promise.resolve(new Uint8Array(length));
}

async function sizes(pieces: AsyncIterable<Uint8Array>): Promise<readonly number[]> {
  const seen: number[] = [];
  for await (const { length } of pieces) seen.push(length);
  return seen;
}

test("many small chunks of a unary call become few pieces, and large ones stay as they are", async () => {
  const tiny = Array.from({ length: 5_000 }, () => 1);
  expect(await sizes(call().tapped(chunksOf(...tiny), { isUnary: true }))).toEqual([1024, 1024, 1024, 1024, 904]);
  expect(await sizes(call().tapped(chunksOf(65_536, 10, 20_000, 3), { isUnary: true }))).toEqual([65_536, 20_010, 3]);
  expect(await sizes(call().tapped(chunksOf(), { isUnary: true }))).toEqual([]);
});

test("what a stream says is handed on as it comes", async () => {
  expect(await sizes(call().tapped(chunksOf(1, 2, 3), { isUnary: false }))).toEqual([1, 2, 3]);
});
