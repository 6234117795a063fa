/** The server's half of a call, over arrays: what is ordered of its stream for what comes and what its handler does. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { GrpcMethod, MethodCall, RequestReceiver } from "../../src/grpc/server/method.ts";
import { ServerCall } from "../../src/grpc/server/server-call.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../../src/grpc/wire/metadata.ts";
import { readHead } from "../../src/grpc/wire/request-head.ts";
import { StatusError, statusOfThrown } from "../../src/grpc/wire/status.ts";
import { CODES, invalid, WaymarkError } from "../../src/lib/errors.ts";
import { FakePort } from "../fakes/grpc-port.ts";
import { LateInflater } from "../fakes/late-gzip.ts";

interface Given {
  readonly headers?: Record<string, string>;
  readonly maxSendBytes?: number;
  readonly inflater?: LateInflater;
}

/** A started call of a method. */
function started(method: GrpcMethod, given: Given = {}) {
  const port = new FakePort();
  const headers = { ":method": "POST", ":path": method.path, "content-type": "application/grpc", ...given.headers };
  const head = readHead(headers);
  if (head.kind !== "call") throw new Error("not a call");
  const bounds = { maxMessageBytes: 1_000, maxBufferedBytes: 5_000, bufferedBytes: 0 };
  const call = new ServerCall(method, {
    head,
    headers,
    fields: Object.entries(headers).flat(),
    port,
    connection: {},
    environment: {
      bounds,
      maxSendBytes: given.maxSendBytes ?? 1_000,
      inflater: given.inflater,
      statusOf: statusOfThrown,
      nowMs: () => port.nowMs,
    },
  });
  port.trailers = () => call.trailers();
  call.start();
  return { call, port, orders: port.orders, bounds };
}

const unary = (handle: (request: Uint8Array, call: MethodCall) => void): GrpcMethod => ({ path: "/t/U", kind: "unary", handle });
const stream = (handle: (request: Uint8Array, call: MethodCall) => void): GrpcMethod => ({
  path: "/t/S",
  kind: "server_streaming",
  handle,
});
const bidi = (open: (call: MethodCall) => RequestReceiver): GrpcMethod => ({ path: "/t/B", kind: "bidi_streaming", open });
const echo = unary((request, call) => call.respond(request));
const frame = (text: string) => framed(Buffer.from(text));

test("a unary call is answered by headers and a message with trailers, without a timer", () => {
  const { call, port, orders } = started(echo, { headers: { "grpc-timeout": "1S" } });
  call.data(frame("hi"));
  expect(orders).toEqual([]);
  call.requestEnded();
  expect(orders).toEqual(["headers 200", "end 7 grpc-status=0"]);
  expect(port.timerCount).toBe(0);
});

test("a refusal is in headers alone, also after its handler thought for a while", () => {
  const { call, orders } = started(
    unary(() => {
      throw invalid("x", "is wrong");
    }),
  );
  call.data(frame(""));
  call.requestEnded();
  expect(orders).toEqual(["trailers-only 200 grpc-status=3 grpc-message=invalid_argument: x: is wrong"]);
  call.fail(new Error("again"));
  expect(orders).toHaveLength(1);
});

test("a refusal after the headers is in trailers, and with it what the handler adds", () => {
  const { call, orders } = started(
    stream((_request, made) => {
      made.sendMetadata(new GrpcMetadata().add("x-a", "1").add("x-a", "2"));
      made.write(Buffer.from("one"));
      made.finish({ code: CODES.ABORTED, message: "ü" }, new GrpcMetadata().add("x-b", "3"));
    }),
  );
  call.data(frame(""));
  call.requestEnded();
  expect(orders).toEqual(["headers 200 x-a=1,2", "write 8", "end grpc-status=10 grpc-message=%C3%BC x-b=3"]);
});

test("a handler that says more than its kind of method has is a bug of ours, and ends the call with INTERNAL", () => {
  const { call, orders } = started(
    unary((_request, made) => {
      made.write(Buffer.from("one"));
      made.write(Buffer.from("two"));
    }),
  );
  call.data(frame(""));
  call.requestEnded();
  expect(orders.at(-1)).toBe("end grpc-status=13 grpc-message=the server failed to process this request");
  const silent = started(unary((_request, made) => made.end()));
  silent.call.data(frame(""));
  silent.call.requestEnded();
  expect(silent.orders).toEqual(["trailers-only 200 grpc-status=13 grpc-message=the server failed to process this request"]);
});

test("a request in pieces is judged by its headers before its second piece, and one in a single piece is not", async () => {
  const judged: string[] = [];
  const refusal = new WaymarkError("unauthenticated", "who are you");
  const judging = (judge: () => WaymarkError | undefined | Promise<WaymarkError | undefined>): GrpcMethod => ({
    path: "/t/J",
    kind: "unary",
    handle: (request, call) => call.respond(request),
    judgeHeaders: () => {
      judged.push("judged");
      return judge();
    },
  });
  const whole = started(judging(() => refusal));
  whole.call.data(frame("hello"));
  whole.call.requestEnded();
  expect([judged, whole.orders]).toEqual([[], ["headers 200", "end 10 grpc-status=0"]]);

  const refused = started(judging(() => refusal));
  for (const part of [frame("hello").subarray(0, 6), frame("hello").subarray(6, 8)]) refused.call.data(part);
  expect(refused.orders).toEqual(["trailers-only 200 grpc-status=16 grpc-message=unauthenticated: who are you", "reset 0"]);
  expect([judged.length, refused.bounds.bufferedBytes]).toEqual([1, 0]);

  for (const outcome of [undefined, refusal]) {
    const later = started(judging(() => Promise.resolve(outcome)));
    later.call.data(frame("hello").subarray(0, 6));
    expect(later.port.isPaused).toBe(true);
    await Promise.resolve();
    await Promise.resolve();
    expect(later.port.isPaused).toBe(false);
    later.call.data(frame("hello").subarray(6));
    later.call.requestEnded();
    expect(later.orders.at(-1)).toBe(outcome === undefined ? "end 10 grpc-status=0" : "reset 0");
  }
});

test("a compressed request is decompressed only for a caller with access", async () => {
  const refusal = new WaymarkError("unauthenticated", "who are you");
  for (const outcome of [refusal, undefined, Promise.resolve(refusal), Promise.resolve(undefined)]) {
    const inflater = new LateInflater();
    const judging: GrpcMethod = {
      path: "/t/J",
      kind: "unary",
      handle: (request, call) => call.respond(request),
      judgeHeaders: () => outcome,
    };
    const { call, orders } = started(judging, { headers: { "grpc-encoding": "gzip" }, inflater });
    call.data(framed(Uint8Array.of(1, 65), true));
    if (outcome instanceof Promise) expect(inflater.openCount).toBe(0);
    const isRefused = (await outcome) !== undefined;
    await Promise.resolve();
    expect(inflater.openCount).toBe(isRefused ? 0 : 1);
    inflater.settle();
    call.requestEnded();
    expect(orders[isRefused ? 0 : 1]).toContain(isRefused ? "grpc-status=16" : "grpc-status=0");
  }
});

test.each<{ name: string; chunks: Uint8Array[]; status: number }>([
  { name: "no request", chunks: [], status: 12 },
  { name: "two requests", chunks: [frame("a"), frame("b")], status: 12 },
  { name: "half a request", chunks: [frame("abc").subarray(0, 6)], status: 3 },
  { name: "a reserved flag", chunks: [Uint8Array.of(4, 0, 0, 0, 0)], status: 3 },
  { name: "a compressed request without an encoding", chunks: [framed(Uint8Array.of(1), true)], status: 13 },
  { name: "a request over the bound", chunks: [framed(new Uint8Array(1_001))], status: 8 },
])("$name ends with $status, and holds nothing", ({ chunks, status }) => {
  const { call, orders, bounds } = started(echo);
  for (const chunk of chunks) call.data(chunk);
  call.requestEnded();
  expect(orders[0]).toContain(`trailers-only 200 grpc-status=${status} `);
  expect(bounds.bufferedBytes).toBe(0);
});

test("a request is the same however it is cut, and another number of them is refused", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 3 }),
      fc.array(fc.nat({ max: 150 }), { maxLength: 5 }),
      (sent, cuts) => {
        const bytes = Buffer.concat(sent.map((each) => framed(each)));
        const { call, port, orders, bounds } = started(echo);
        const places = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).toSorted((a, b) => a - b), bytes.length];
        for (const [index, at] of places.entries()) call.data(bytes.subarray(at, places[index + 1] ?? at));
        call.requestEnded();
        if (sent.length === 1) expect(port.written).toEqual([framed(sent[0] ?? new Uint8Array())]);
        else expect(orders[0]).toContain("trailers-only 200 grpc-status=12 ");
        expect(bounds.bufferedBytes).toBe(0);
      },
    ),
  );
});

test("a request whose end does not come soon does not keep the read of the socket that it came with", () => {
  const read = new Uint8Array(65_536);
  read.set(frame("a"), 10);
  const kept: number[] = [];
  const { call } = started(unary((request) => kept.push(request.buffer.byteLength)));
  call.data(read.subarray(10, 16));
  call.checkArrival();
  call.requestEnded();
  expect(kept).toEqual([1]);
});

test("half a request behind a whole one is another request", () => {
  const { call, orders } = started(echo);
  call.data(Buffer.concat([frame("a"), frame("bc").subarray(0, 6)]));
  call.requestEnded();
  expect(orders[0]).toContain("trailers-only 200 grpc-status=12 ");
});

test("a compressed request is refused where nothing inflates it", () => {
  const { call, orders } = started(echo, { headers: { "grpc-encoding": "gzip" } });
  call.data(framed(Uint8Array.of(1, 7), true));
  expect(orders[0]).toContain("trailers-only 200 grpc-status=12 ");
});

test("what is refused while it comes is told so at once, and its client need not send the rest", () => {
  const { call, orders } = started(echo);
  call.data(Uint8Array.of(0, 0, 0, 4, 0));
  expect(orders).toEqual([expect.stringContaining("trailers-only 200 grpc-status=8"), "reset 0"]);
  call.data(new Uint8Array(500));
  call.requestEnded();
  expect(orders).toHaveLength(2);
});

test("a method may take over refusals, and have its own bounds, which may refuse", () => {
  const refused: string[] = [];
  const method: GrpcMethod = {
    ...echo,
    refused: (error, call) => (refused.push(error.reason), call.fail(new StatusError({ code: 7, message: "no" }))),
  };
  const { call, orders } = started(method, { headers: { "grpc-timeout": "soon" } });
  call.requestEnded();
  expect([refused, orders]).toEqual([["invalid_argument"], ["trailers-only 200 grpc-status=7 grpc-message=no", "reset 0"]]);
  const own = started({ ...echo, boundsFor: () => ({ maxMessageBytes: 1, maxBufferedBytes: 10, bufferedBytes: 0 }) });
  own.call.data(frame("ab"));
  expect(own.orders[0]).toContain("grpc-status=8");
  const none = started({
    ...echo,
    boundsFor: () => {
      throw new WaymarkError("draining", "go");
    },
  });
  expect(none.orders).toEqual(["trailers-only 200 grpc-status=14 grpc-message=draining: go", "reset 0"]);
});

test("a deadline ends a call that its handler did not end, and tells the handler", () => {
  const told: string[] = [];
  const { call, port, orders } = started(
    unary((_request, made) => made.onCancelled((why) => told.push(why))),
    { headers: { "grpc-timeout": "50m" } },
  );
  port.pass(20);
  call.data(frame(""));
  call.requestEnded();
  expect(call.timeoutMs).toBe(30);
  port.pass(29);
  expect(orders).toEqual([]);
  port.pass(1);
  expect([orders[0], told]).toEqual([expect.stringContaining("trailers-only 200 grpc-status=4"), ["deadline"]]);
  call.respond(Buffer.from("late"));
  call.closed();
  expect([orders.length, told.length]).toEqual([1, 1]);
});

test("a stream of answers ends at its deadline, whatever it has said by then", () => {
  const { call, port, orders } = started(
    stream((_request, made) => void made.write(Buffer.from("one"))),
    { headers: { "grpc-timeout": "50m" } },
  );
  call.data(frame(""));
  call.requestEnded();
  expect(orders).toEqual(["headers 200", "write 8"]);
  port.pass(50);
  expect(orders.slice(2)).toEqual([expect.stringContaining("end grpc-status=4")]);
});

test("a request that came too late is not handled", () => {
  let handled = 0;
  const { call, port, orders } = started(
    unary(() => void (handled += 1)),
    { headers: { "grpc-timeout": "50m" } },
  );
  port.pass(60);
  call.data(frame(""));
  call.requestEnded();
  expect([orders[0], handled]).toEqual([expect.stringContaining("grpc-status=4"), 0]);
});

test("a client that goes away is told to the handler once; what it still says goes nowhere", () => {
  const told: string[] = [];
  const { call, port, orders } = started(stream((_request, made) => made.onCancelled((why) => told.push(why))));
  call.data(frame(""));
  call.requestEnded();
  port.isGone = true;
  call.closed();
  call.closed();
  expect([told, call.isOver, call.write(Buffer.from("x")), orders]).toEqual([["cancelled"], true, true, []]);
});

test("requests of a stream are given in order, and held back while the handler wants none", () => {
  const got: string[] = [];
  let made: MethodCall | undefined;
  const { call, port, orders } = started(
    bidi((opened) => {
      made = opened;
      return {
        message: (bytes) => {
          got.push(Buffer.from(bytes).toString());
          if (got.length === 2) opened.pause();
        },
        halfClosed: () => (got.push("end"), opened.end()),
      };
    }),
  );
  call.data(Buffer.concat([frame("a"), frame("b"), frame("c")]));
  call.requestEnded();
  expect([got, port.isPaused]).toEqual([["a", "b"], true]);
  made?.resume();
  expect([got, orders]).toEqual([["a", "b", "c", "end"], ["trailers-only 200 grpc-status=0"]]);
});

test("a stream that its handler ends before its client does is reset when its trailers are sent", () => {
  const { call, orders } = started(bidi((made) => ({ message: () => made.end(new GrpcMetadata().add("x-a", "1")), halfClosed: () => {} })));
  call.sendMetadata();
  call.data(frame("a"));
  expect(orders).toEqual(["headers 200", "end grpc-status=0 x-a=1"]);
  call.trailersSent();
  expect(orders.at(-1)).toBe("reset 0");
});

test("what the listener of a stream throws ends the call with it", () => {
  for (const broken of ["message", "halfClosed"] as const) {
    const throwing = () => {
      throw new StatusError({ code: CODES.DATA_LOSS, message: broken });
    };
    const { call, orders } = started(bidi(() => ({ message: () => {}, halfClosed: () => {}, [broken]: throwing })));
    call.data(frame("a"));
    call.requestEnded();
    expect(orders[0]).toBe(`trailers-only 200 grpc-status=15 grpc-message=${broken}`);
  }
});

test("a listener that wants to hear of requests that are none ends the call itself, and is given no more", () => {
  const got: string[] = [];
  const { call, port, orders } = started(
    bidi((made) => ({
      message: (bytes) => got.push(Buffer.from(bytes).toString()),
      halfClosed: () => got.push("end"),
      failed: ({ reason }) => {
        got.push(reason);
        made.write(Buffer.from("no"));
        made.end();
      },
    })),
  );
  call.data(Buffer.concat([frame("a"), Uint8Array.of(9, 0, 0, 0, 0)]));
  call.data(frame("b"));
  expect([got, port.written]).toEqual([["a", "invalid_argument"], [frame("no")]]);
  expect(orders).toEqual(["headers 200", "write 7", "end grpc-status=0"]);
  call.trailersSent();
  expect(orders.at(-1)).toBe("reset 0");
});

test("a compressed request runs when it is inflated, and its charge is let go with the answer, or with the call", () => {
  const inflater = new LateInflater();
  const { call, orders } = started(echo, { headers: { "grpc-encoding": "gzip" }, inflater });
  call.data(framed(Uint8Array.of(1, 7, 7), true));
  call.requestEnded();
  expect([orders, inflater.openCount]).toEqual([[], 1]);
  inflater.settle();
  expect([orders, inflater.openCount]).toEqual([["headers 200", "end 7 grpc-status=0"], 0]);
  const gone = started(echo, { headers: { "grpc-encoding": "gzip" }, inflater });
  gone.call.data(framed(Uint8Array.of(1, 7), true));
  gone.call.requestEnded();
  gone.call.closed();
  inflater.settle();
  expect([gone.orders, inflater.openCount]).toEqual([[], 0]);
});

test("an answer over the bound ends the call with RESOURCE_EXHAUSTED instead", () => {
  const { call, orders } = started(echo, { maxSendBytes: 2 });
  call.data(frame("abc"));
  call.requestEnded();
  expect(orders.at(-1)).toContain("end grpc-status=8");
});

test("a call can be reset, and headers and metadata be read", () => {
  const { call, orders } = started(
    bidi(() => ({ message: () => {}, halfClosed: () => {} })),
    { headers: { "x-a": "1" } },
  );
  expect([call.header("x-a"), call.header("x-b"), call.metadata.get("x-a"), call.timeoutMs]).toEqual(["1", undefined, "1", undefined]);
  call.reset(8);
  call.reset(8);
  expect(orders).toEqual(["reset 8"]);
});
