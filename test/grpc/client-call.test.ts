/** The client's half of a call, over arrays: which status it ends with for whatever a server says, and what is ordered of its stream. */
import { expect, test } from "vitest";
import { ClientCall, type StreamClose } from "../../src/grpc/client/client-call.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import type { HeaderBlock } from "../../src/grpc/wire/metadata.ts";
import { CODES, codeName } from "../../src/lib/errors.ts";
import { FakePort } from "../fakes/grpc-port.ts";
import { LateInflater } from "../fakes/late-gzip.ts";

interface Given {
  readonly isSingleResponse?: boolean;
  readonly timeoutMs?: number;
  readonly inflater?: LateInflater;
}

function made(given: Given = {}) {
  const port = new FakePort();
  const heard: string[] = [];
  const bounds = { maxMessageBytes: 100, maxBufferedBytes: 1_000, bufferedBytes: 0 };
  const call = new ClientCall({
    isSingleResponse: given.isSingleResponse ?? true,
    port,
    bounds,
    maxSendBytes: 100,
    inflater: given.inflater,
    timeoutMs: given.timeoutMs,
    owner: {},
    nowMs: () => port.nowMs,
    listener: {
      metadata: (metadata) => heard.push(`metadata ${[...metadata].map(([name, value]) => `${name}=${String(value)}`).join(" ")}`.trim()),
      message: (bytes) => heard.push(Buffer.from(bytes).toString()),
      closed: ({ status, trailers, isFromServer, isUnprocessed, isMalformed }) => {
        const more = [...trailers].map(([name, value]) => ` ${name}=${String(value)}`).join("");
        const from = `${isFromServer ? " from the server" : ""}${isUnprocessed ? " unprocessed" : ""}${isMalformed ? " malformed" : ""}`;
        heard.push(`${codeName(status.code)}${from}${more}`);
      },
    },
  });
  return { call, port, heard, bounds, orders: port.orders };
}

const OK = { ":status": "200", "content-type": "application/grpc" };
const fieldsOf = (block: HeaderBlock) => Object.entries(block).flatMap(([name, value]) => [name, String(value)]);
const LOST: StreamClose = { http2Code: 8, connectionLost: "gone", isUnprocessed: false };

/** Plays a whole answer. */
function answered(
  {
    headers = OK,
    isTrailersOnly = false,
    chunks = [],
    trailers,
  }: { headers?: HeaderBlock; isTrailersOnly?: boolean; chunks?: Uint8Array[]; trailers?: HeaderBlock },
  given: Given = {},
) {
  const all = made(given);
  all.call.halfClose(Buffer.from("q"));
  all.call.response(headers, fieldsOf(headers), isTrailersOnly);
  for (const chunk of chunks) all.call.data(chunk);
  if (trailers !== undefined) all.call.trailersCame(trailers, fieldsOf(trailers));
  all.call.responseEnded();
  all.call.closed({ http2Code: 0, connectionLost: undefined, isUnprocessed: false });
  return all;
}

const frame = (text: string) => framed(Buffer.from(text));

test("a unary call: metadata, then the answer when its status is known, and trailers", () => {
  const { heard, orders } = answered({
    headers: { ...OK, "x-a": "1" },
    chunks: [frame("yes")],
    trailers: { "grpc-status": "0", "x-b": "2" },
  });
  expect(heard).toEqual(["metadata x-a=1", "yes", "OK from the server x-b=2"]);
  expect(orders).toEqual(["end 6"]);
});

test.each<{ name: string; answer: Parameters<typeof answered>[0]; end: string }>([
  { name: "an error in trailers", answer: { trailers: { "grpc-status": "5" } }, end: "NOT_FOUND from the server" },
  { name: "an error after an answer", answer: { chunks: [frame("x")], trailers: { "grpc-status": "10" } }, end: "ABORTED from the server" },
  {
    name: "an error in headers alone",
    answer: { headers: { ...OK, "grpc-status": "7", "x-a": "1" }, isTrailersOnly: true },
    end: "PERMISSION_DENIED from the server x-a=1",
  },
  {
    name: "headers with a status, then an empty end",
    answer: { headers: { ...OK, "grpc-status": "7" } },
    end: "PERMISSION_DENIED from the server",
  },
  {
    name: "headers with a status, then data",
    answer: { headers: { ...OK, "grpc-status": "7" }, chunks: [frame("x")] },
    end: "INTERNAL from the server",
  },
  {
    name: "headers with a status, then trailers with another",
    answer: { headers: { ...OK, "grpc-status": "7" }, trailers: { "grpc-status": "9" } },
    end: "FAILED_PRECONDITION from the server",
  },
  { name: "no answer", answer: { trailers: { "grpc-status": "0" } }, end: "UNIMPLEMENTED" },
  { name: "two answers", answer: { chunks: [frame("a"), frame("b")], trailers: { "grpc-status": "0" } }, end: "UNIMPLEMENTED" },
  { name: "no trailers", answer: { chunks: [frame("a")] }, end: "INTERNAL from the server" },
  { name: "trailers without a status", answer: { trailers: { "grpc-message": "x" } }, end: "UNKNOWN from the server" },
  {
    name: "half a message",
    answer: { chunks: [frame("abc").subarray(0, 6)], trailers: { "grpc-status": "0" } },
    end: "INTERNAL malformed",
  },
  { name: "a reserved flag", answer: { chunks: [Uint8Array.of(2, 0, 0, 0, 0)] }, end: "INTERNAL malformed" },
  { name: "a compressed message without an encoding", answer: { chunks: [framed(Uint8Array.of(1), true)] }, end: "INTERNAL malformed" },
  { name: "a message over the bound", answer: { chunks: [Uint8Array.of(0, 255, 0, 0, 0)] }, end: "RESOURCE_EXHAUSTED malformed" },
  { name: "another content type", answer: { headers: { ":status": "200", "content-type": "text/html" } }, end: "UNKNOWN malformed" },
  {
    name: "messages in JSON",
    answer: { headers: { ":status": "200", "content-type": "application/grpc+json" } },
    end: "INTERNAL malformed",
  },
  { name: "an encoding that was not asked for", answer: { headers: { ...OK, "grpc-encoding": "gzip" } }, end: "INTERNAL malformed" },
  { name: "an unknown encoding", answer: { headers: { ...OK, "grpc-encoding": "br" } }, end: "INTERNAL malformed" },
  { name: "an HTTP error", answer: { headers: { ":status": "503" } }, end: "UNAVAILABLE" },
  {
    name: "an HTTP error with a status",
    answer: { headers: { ":status": "503", "grpc-status": "8" }, isTrailersOnly: true },
    end: "RESOURCE_EXHAUSTED from the server",
  },
  { name: "metadata in bytes that are no base64", answer: { headers: { ...OK, "x-a-bin": "*" } }, end: "INTERNAL malformed" },
])("$name ends with $end", ({ answer, end }) => {
  const { heard, bounds } = answered(answer);
  expect([heard.at(-1), heard.filter((line) => /^[A-Z_]+/.test(line)).length, bounds.bufferedBytes]).toEqual([end, 1, 0]);
});

test.each<{ name: string; why: StreamClose; end: string }>([
  { name: "cancelled by the server", why: { http2Code: 8, connectionLost: undefined, isUnprocessed: false }, end: "CANCELLED" },
  { name: "refused", why: { http2Code: 7, connectionLost: undefined, isUnprocessed: false }, end: "UNAVAILABLE unprocessed" },
  { name: "reset by an error", why: { http2Code: 2, connectionLost: undefined, isUnprocessed: false }, end: "INTERNAL" },
  { name: "lost with its connection", why: LOST, end: "UNAVAILABLE" },
  { name: "behind a GOAWAY", why: { http2Code: 0, connectionLost: "goaway", isUnprocessed: true }, end: "UNAVAILABLE unprocessed" },
])("a stream that is $name ends with $end", ({ why, end }) => {
  const { call, heard } = made();
  call.closed(why);
  call.closed(why);
  expect(heard).toEqual([end]);
});

test("a status that came right before the stream was reset counts, but OK does not, as messages may be lost", () => {
  for (const [code, end] of [
    ["9", "FAILED_PRECONDITION from the server"],
    ["0", "UNAVAILABLE"],
  ]) {
    const { call, heard } = made();
    call.response(OK, fieldsOf(OK), false);
    call.trailersCame({ "grpc-status": code }, []);
    call.closed(LOST);
    expect(heard.at(-1)).toBe(end);
  }
});

test("a deadline ends a call and resets its stream; an answer in time leaves no timer", () => {
  const { call, port, heard, orders } = made({ timeoutMs: 50 });
  port.pass(50);
  call.response(OK, [], false);
  call.data(frame("late"));
  call.closed(LOST);
  expect([heard, orders]).toEqual([["DEADLINE_EXCEEDED"], ["reset 8"]]);
  expect(answered({ chunks: [frame("x")], trailers: { "grpc-status": "0" } }, { timeoutMs: 50 }).port.timerCount).toBe(0);
});

test("a stream that the server cancels when the deadline has passed ends as the deadline would end it, before our own timer", () => {
  for (const [nowMs, end] of [
    [49, "CANCELLED"],
    [50, "DEADLINE_EXCEEDED"],
  ] as const) {
    const { call, port, heard } = made({ timeoutMs: 50 });
    port.nowMs = nowMs;
    call.closed({ http2Code: 8, connectionLost: undefined, isUnprocessed: false });
    expect(heard).toEqual([end]);
  }
});

test("messages of a stream are given as they come, unless it is paused; the end comes after them", () => {
  const { call, port, heard } = made({ isSingleResponse: false });
  call.response(OK, fieldsOf(OK), false);
  call.pause();
  call.data(Buffer.concat([frame("a"), frame("b")]));
  call.trailersCame({ "grpc-status": "0" }, ["grpc-status", "0"]);
  call.responseEnded();
  call.closed({ http2Code: 0, connectionLost: undefined, isUnprocessed: false });
  expect([heard, port.isPaused]).toEqual([["metadata"], true]);
  call.resume();
  expect(heard).toEqual(["metadata", "a", "b", "OK from the server"]);
});

test("a server that ends first has the rest of what it is sent taken back; nothing is sent after", () => {
  const { call, heard, orders } = made({ isSingleResponse: false });
  call.write(Buffer.from("a"));
  call.response(OK, [], false);
  call.trailersCame({ "grpc-status": "0" }, []);
  call.responseEnded();
  expect([heard.at(-1), orders, call.isOver]).toEqual(["OK from the server", ["write 6", "reset 0"], true]);
  expect(call.write(Buffer.from("b"))).toBe(true);
  call.writeFrame(frame("c"));
  call.halfClose();
  call.cancel();
  expect(orders).toHaveLength(2);
});

test("a cancelled call is over at once, and its stream is reset", () => {
  const { call, heard, orders } = made();
  call.cancel();
  call.cancel();
  expect([heard, orders]).toEqual([["CANCELLED"], ["reset 8"]]);
});

test("a call that was never sent is unprocessed", () => {
  const { call, heard } = made();
  call.refuse({ code: CODES.UNAVAILABLE, message: "closed" });
  expect(heard).toEqual(["UNAVAILABLE unprocessed"]);
});

test("what comes is inflated; a full stream says when it takes more", () => {
  const inflater = new LateInflater();
  const { call, port, heard, orders } = made({ inflater, isSingleResponse: false });
  let roomyCount = 0;
  expect(call.write(Buffer.from("abc"))).toBe(true);
  port.isWritable = false;
  expect(call.writeFrame(frame("x"))).toBe(false);
  call.onceWritable(() => (roomyCount += 1));
  port.drained();
  expect([orders, roomyCount]).toEqual([["write 8", "write 6"], 1]);
  call.response({ ...OK, "grpc-encoding": "gzip" }, [], false);
  call.data(Buffer.concat([framed(Buffer.from("1big"), true), frame("small")]));
  expect(heard).toEqual(["metadata"]);
  inflater.settle();
  expect(heard).toEqual(["metadata", "big", "small"]);
  expect(() => call.write(new Uint8Array(101))).toThrow(/quota_exceeded/);
});
