/** What a request's body is on its way to Connect, which joins it in a time that grows with the square of its chunks. */
import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { type EdgeArrival, EdgeCall } from "../../../src/server/edge/call.ts";
import { prepareRequest } from "../../../src/server/edge/rpc.ts";

const UNARY = { isUnary: true, judgeHeaders: () => undefined };

function call(budget = { maxBytes: 10_000_000, usedBytes: 0 }) {
  const arrival: EdgeArrival = {
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
    timeoutMs: undefined,
    onDeadline: () => () => {},
  };
  return new EdgeCall(arrival, { byNumber: [], byName: new Map(), singleCount: 0 });
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
  expect(await sizes(call().tapped(chunksOf(...tiny), UNARY))).toEqual([1024, 1024, 1024, 1024, 904]);
  expect(await sizes(call().tapped(chunksOf(65_536, 10, 20_000, 3), UNARY))).toEqual([65_536, 20_010, 3]);
  expect(await sizes(call().tapped(chunksOf(), UNARY))).toEqual([]);
});

test("a piece of a body does not keep the read of the socket that it came with", async () => {
  const read = new Uint8Array(65_536);
  async function* parts(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(read.subarray(0, 20_000));
    yield await Promise.resolve(read.subarray(20_000, 20_010));
  }
  const kept: number[] = [];
  for await (const piece of call().tapped(parts(), UNARY)) kept.push(piece.buffer.byteLength);
  expect(kept).toEqual([20_000, 10]);
});

test("the body of a caller who may not call takes no room of others, however long it goes on to come", async () => {
  const budget = { maxBytes: 100, usedBytes: 0 };
  const refusal = new WaymarkError("unauthenticated", "who are you");
  const used: number[] = [];
  async function* body(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunksOf(60, 60, 60)) {
      yield chunk;
      used.push(budget.usedBytes);
    }
  }
  const read = sizes(call(budget).tapped(body(), { isUnary: true, judgeHeaders: () => refusal }));
  await expect(read).rejects.toMatchObject({ cause: refusal });
  expect(used).toEqual([60, 0, 0]);
});

test("what a stream says is handed on as it comes", async () => {
  expect(await sizes(call().tapped(chunksOf(1, 2, 3), { ...UNARY, isUnary: false }))).toEqual([1, 2, 3]);
});

test.each([
  { named: "100", isLeft: false },
  { named: "101", isLeft: true },
  { named: undefined, isLeft: false },
])("of a body that names the length $named, where 100 bytes may come, Connect hears the length: $isLeft", ({ named, isLeft }) => {
  const header = new Headers(named === undefined ? {} : { "content-length": named });
  const request = { httpVersion: "1.1", url: "", method: "POST", header, body: chunksOf(1), signal: new AbortController().signal };
  const prepared = prepareRequest(request, call(), { ...UNARY, maxMessageBytes: 100 });
  expect(prepared.header.has("content-length")).toBe(isLeft);
});
