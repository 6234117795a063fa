/** What a request's body is on its way to Connect, which joins it in a time that grows with the square of its chunks. */
import { expect, test } from "vitest";
import { UnreadAnswers } from "../../../src/grpc/server/unread-answers.ts";
import { framed } from "../../../src/grpc/wire/message-reader.ts";
import { type EdgeArrival, EdgeCall } from "../../../src/server/edge/call.ts";
import { prepareRequest } from "../../../src/server/edge/rpc.ts";
import { jsonFault } from "../../../src/server/request-shape/json.ts";
import { protobufFault } from "../../../src/server/request-shape/plan.ts";

const NO_FIELDS = { byNumber: [], byName: new Map(), singleCount: 0, typeName: "None", isWellKnown: false };
const requestFault = (bytes: Uint8Array, encoding: "json" | "proto") =>
  encoding === "proto" ? protobufFault(NO_FIELDS, bytes) : jsonFault(NO_FIELDS, bytes);

function call(budget = { maxBytes: 10_000_000, usedBytes: 0 }, contentType?: string) {
  const arrival: EdgeArrival = {
    transport: "http1",
    encoding: contentType?.endsWith("proto") === true ? "proto" : "json",
    address: "",
    certificate: undefined,
    header: (name) => (name === "content-type" ? contentType : undefined),
    requestId: "r",
    budget,
    meter: undefined,
    unread: new UnreadAnswers({ maxUnreadBytes: 0, progressTimeoutMs: 0 }, { nowMs: () => 0, onCut: () => {} }),
    arriving: undefined,
    owner: {},
    timeoutMs: undefined,
    onDeadline: () => () => {},
  };
  return new EdgeCall(arrival, { judgeHeaders: () => undefined, requestFault });
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
  expect(await sizes(call().tapped(chunksOf(...tiny), true))).toEqual([1024, 1024, 1024, 1024, 904]);
  expect(await sizes(call().tapped(chunksOf(65_536, 10, 20_000, 3), true))).toEqual([65_536, 20_010, 3]);
  expect(await sizes(call().tapped(chunksOf(), true))).toEqual([]);
});

test("of a message of a stream that comes in many small chunks most are joined, and it goes on when it is whole", async () => {
  const message = framed(new Uint8Array(5_000));
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let round = 0; round < 2; round++)
      for (let at = 0; at < message.length; at++) yield await Promise.resolve(message.subarray(at, at + 1));
  }
  const pieces: Uint8Array[] = [];
  for await (const piece of call().tapped(chunks(), false)) pieces.push(piece);
  const perMessage = [...Array.from({ length: 64 }, () => 1), 1024, 1024, 1024, 1024, 845];
  expect(pieces.map(({ length }) => length)).toEqual([...perMessage, ...perMessage]);
  expect(Buffer.concat(pieces)).toEqual(Buffer.concat([message, message]));
});

test("a piece of a body does not keep the read of the socket that it came with", async () => {
  const read = new Uint8Array(65_536);
  async function* parts(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(read.subarray(0, 20_000));
    yield await Promise.resolve(read.subarray(20_000, 20_010));
  }
  const kept: number[] = [];
  for await (const piece of call().tapped(parts(), true)) kept.push(piece.buffer.byteLength);
  expect(kept).toEqual([20_000, 10]);
});

test("what a stream says is handed on as it comes", async () => {
  expect(await sizes(call().tapped(chunksOf(1, 2, 3), false))).toEqual([1, 2, 3]);
});

/** What is said of a body that comes in such pieces, and how many bytes of it Connect was given. */
async function handedOn(type: string, bytes: Uint8Array, pieceBytes: number): Promise<{ readonly said: string; readonly bytes: number }> {
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield await Promise.resolve(bytes.subarray(at, at + pieceBytes));
  }
  let count = 0;
  try {
    for await (const piece of call(undefined, type).tapped(body(), false)) count += piece.length;
    return { said: "", bytes: count };
  } catch (thrown) {
    return { said: String(thrown), bytes: count };
  }
}

const enveloped = (bytes: Uint8Array, flag = 0): Uint8Array => {
  const frame = framed(bytes);
  frame[0] = flag;
  return frame;
};

test.each([1, 7, 10_000])(
  "each text of a stream is judged by itself, and compressed ones are passed over, in pieces of %d bytes",
  async (pieceBytes) => {
    const deep = enveloped(Buffer.from("[".repeat(60)));
    const before = Buffer.concat([deep, enveloped(new Uint8Array()), deep]);
    const judged = async (last: string, flag: number) => {
      const stream = Buffer.concat([before, enveloped(Buffer.from(last), flag), deep]);
      const { said, bytes } = await handedOn("application/connect+json", stream, pieceBytes);
      // The piece in which the faulty message ends, and all after it, stay here.
      expect(said === "" ? bytes === stream.length : bytes < before.length + 5 + last.length).toBe(true);
      return said;
    };
    expect(await judged("[".repeat(100), 0)).toBe("");
    expect(await judged("[".repeat(101), 0)).toContain("nested deeper than 100");
    expect(await judged("[".repeat(101), 1)).toBe("");
  },
);

test.each([
  { type: "application/json", bytes: Buffer.from("[".repeat(101)), says: "nested deeper than 100" },
  {
    type: "application/proto",
    bytes: new Uint8Array(24_000).map((_, at) => (at % 2 === 0 ? 8 : 0)),
    says: "more than 10000 unknown or repeated fields",
  },
  {
    type: "application/grpc-web+proto",
    bytes: enveloped(new Uint8Array(24_000).map((_, at) => (at % 2 === 0 ? 8 : 0))),
    says: "more than 10000 unknown or repeated fields",
  },
])("a message of $type is looked at as a whole, in whatever pieces it comes: $says", async ({ type, bytes, says }) => {
  for (const pieceBytes of [1, 777, 100_000]) {
    const { said } = await handedOn(type, bytes, pieceBytes);
    expect(said).toContain(says);
  }
});

test.each([
  { named: "100", isLeft: false },
  { named: "101", isLeft: true },
  { named: undefined, isLeft: false },
])("of a body that names the length $named, where 100 bytes may come, Connect hears the length: $isLeft", ({ named, isLeft }) => {
  const header = new Headers(named === undefined ? {} : { "content-length": named });
  const request = { httpVersion: "1.1", url: "", method: "POST", header, body: chunksOf(1), signal: new AbortController().signal };
  const prepared = prepareRequest(request, call(), { isUnary: true, maxMessageBytes: 100 });
  expect(prepared.header.has("content-length")).toBe(isLeft);
});
