/** Client and server of src/grpc with each other over real sockets: all kinds of calls, metadata, deadlines, cancellation, bounds. */
import { connect as connectHttp2 } from "node:http2";
import { afterEach, expect, test } from "vitest";
import type { ClientCall } from "../../src/grpc/client/client-call.ts";
import type { GuardedConnection } from "../../src/grpc/server/connection-guard.io.ts";
import type { GrpcMethod } from "../../src/grpc/server/method.ts";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { CODES } from "../../src/lib/errors.ts";
import { callHeaders, FLAG, frame, RawConnection, TYPE, u32 } from "../e2e/h2-frames.ts";
import { methods } from "../fakes/grpc-methods.ts";
import { bytes, Conversation, closeAll, connected, gzipFrame, metadata, serve, textOf, unary } from "../fakes/grpc-room.ts";
import { until } from "../fakes/until.ts";

afterEach(closeAll);

async function both(server: Partial<Parameters<typeof serve>[0]> = {}, client: Parameters<typeof connected>[1] = {}) {
  const made = methods();
  const serving = await serve({ methods: made.methods, ...server });
  return { ...serving, seen: made.seen, connection: await connected(serving.port, client) };
}

test("a unary call is answered at once or by a promise, with any size of message", async () => {
  const { connection } = await both();
  for (const size of [0, 1, 1_400, 70_000, 1_000_000]) {
    const answer = await unary(connection, "/t/Echo", new Uint8Array(size).fill(7));
    expect([answer.status.code, answer.message?.length]).toEqual([CODES.OK, size]);
  }
  expect(textOf((await unary(connection, "/t/Later", bytes("soon"))).message)).toBe("soon");
  await until("no call is open", () => connection.callCount === 0);
});

test("what a handler throws is the status: words in any script and details come over, those of a bug do not", async () => {
  const { connection } = await both();
  const { status, message } = await unary(connection, "/t/Fail", bytes("Tür"));
  expect([status.code, status.message, textOf(status.details), message]).toEqual([
    CODES.NOT_FOUND,
    "keine „Tür“ 100 %",
    "detail",
    undefined,
  ]);
  expect((await unary(connection, "/t/LateFail")).status).toMatchObject({ code: CODES.ABORTED, message: "late" });
  expect((await unary(connection, "/t/Bug")).status).toMatchObject({
    code: CODES.INTERNAL,
    message: "the server failed to process this request",
  });
  expect((await unary(connection, "/t/Nothing")).status.code).toBe(CODES.UNIMPLEMENTED);
  expect((await unary(connection, "/nonsense")).status.code).toBe(CODES.UNIMPLEMENTED);
});

test("a call does not wait for a burst of calls with low priority", async () => {
  const order: string[] = [];
  const method = (name: string, isLowPriority: boolean): GrpcMethod => ({
    path: `/t/${name}`,
    kind: "unary",
    isLowPriority,
    handle: (request, call) => {
      order.push(name);
      call.respond(request);
    },
  });
  const { connection } = await both({ methods: [method("Write", true), method("Read", false)] });
  const writes = Array.from({ length: 100 }, () => unary(connection, "/t/Write"));
  const answers = await Promise.all([...writes, unary(connection, "/t/Read")]);
  expect(answers.map(({ status }) => status.code)).toEqual(answers.map(() => CODES.OK));
  expect(order).toHaveLength(101);
  expect(order.indexOf("Read")).toBeLessThan(50);
});

test("metadata comes over in both directions, repeated and in bytes, and protocol fields are not among it", async () => {
  const { connection } = await both();
  const sent = metadata(["x-a", "1"], ["x-a", "2"], ["x-b-bin", Uint8Array.of(1, 2, 254)]);
  const answer = await unary(connection, "/t/Meta", bytes("lead"), { metadata: sent });
  expect(JSON.parse(textOf(answer.message))).toEqual([
    ["user-agent", "waymark"],
    ["x-a", "1"],
    ["x-a", "2"],
    ["x-b-bin", "1,2,254"],
  ]);
  expect([...answer.metadata].filter(([name]) => name.startsWith("x-"))).toEqual([
    ["x-lead", "lead"],
    ["x-lead-bin", Uint8Array.of(0, 255)],
  ]);
  expect(answer.trailers.getAll("x-trail")).toEqual(["a", "b"]);
});

test("streams of both kinds keep the order of thousands of messages", async () => {
  const { connection } = await both();
  const counted = new Conversation(connection, { path: "/t/Count" });
  counted.call.halfClose(bytes("3000"));
  await until("all are counted", () => counted.result !== undefined);
  expect(counted.messages.map(Number)).toEqual(Array.from({ length: 3_000 }, (_, i) => i));

  const sum = new Conversation(connection, { path: "/t/Sum", isSingleResponse: true });
  for (let i = 1; i <= 3_000; i++) sum.call.write(bytes(String(i)));
  sum.call.halfClose();
  await until("the sum is there", () => sum.result !== undefined);
  expect([sum.result?.status.code, Number(sum.messages[0])]).toEqual([CODES.OK, 4_501_500]);
});

test("a bidirectional call answers while it is asked, and ends when both have ended", async () => {
  const { connection } = await both();
  const talk = new Conversation(connection, { path: "/t/Talk" });
  for (const word of ["one", "two", "three"]) {
    talk.call.write(bytes(word));
    await until(`${word} is answered`, () => talk.messages.at(-1)?.toString() === `${word}!`);
  }
  talk.call.halfClose();
  await until("it is over", () => talk.result !== undefined);
  expect([talk.messages.length, talk.result?.status.code]).toEqual([3, CODES.OK]);
});

test("a deadline ends a call on both ends", async () => {
  const { connection, seen } = await both();
  const answer = await unary(connection, "/t/Hold", bytes(""), { timeoutMs: 50 });
  expect(answer.status.code).toBe(CODES.DEADLINE_EXCEEDED);
  await until("the handler heard", () => seen.cancelled.length === 1);
  expect(seen.held[0]?.isOver).toBe(true);
});

test("a server keeps the deadline of a client that does not", async () => {
  const { connection, seen } = await both();
  const call = new Conversation(connection, { path: "/t/Hold", isSingleResponse: true });
  call.call.halfClose(bytes(""));
  await until("it is held", () => seen.held.length === 1);
  expect(seen.held[0]?.timeoutMs).toBeUndefined();
  const raw = await unary(connection, "/t/Echo", bytes(""), { timeoutMs: 1e-9 });
  expect(raw.status.code).toBe(CODES.DEADLINE_EXCEEDED);
});

test("a call that its client cancels is cancelled at the server, whose later answer goes nowhere", async () => {
  const { connection, seen } = await both();
  const call = new Conversation(connection, { path: "/t/Hold", isSingleResponse: true });
  call.call.halfClose(bytes(""));
  await until("it is held", () => seen.held.length === 1);
  call.call.cancel();
  expect(call.result?.status.code).toBe(CODES.CANCELLED);
  await until("the handler heard", () => seen.cancelled.length === 1);
  expect(seen.cancelled).toEqual(["cancelled"]);
  expect(() => seen.held[0]?.respond(bytes("late"))).not.toThrow();
});

/** A method that says what comes of a stream of requests, and answers each of them where it may. */
function toldMethod(kind: "client_streaming" | "bidi_streaming", told: string[]): GrpcMethod {
  return {
    path: "/t/Told",
    kind,
    open: (call) => {
      call.onCancelled((why) => told.push(why));
      return {
        message: (request) => {
          told.push(textOf(request));
          if (kind === "bidi_streaming") call.write(request);
        },
        halfClosed: () => {
          told.push("all of it");
          if (kind === "bidi_streaming") call.end();
          else call.respond(bytes("done"));
        },
      };
    },
  };
}

type GivesUp = (call: ClientCall, told: readonly string[]) => unknown;
const GIVING_UP: readonly { readonly when: string; readonly came: readonly string[]; readonly giveUp: GivesUp }[] = [
  { when: "before it sent anything", came: [], giveUp: (call) => call.cancel() },
  {
    when: "when a message has come",
    came: ["one"],
    giveUp: async (call, told) => {
      call.write(bytes("one"));
      await until("it came", () => told.length === 1);
      call.cancel();
    },
  },
  { when: "for a last message over its bound", came: [], giveUp: (call) => call.halfClose(new Uint8Array(2_000)) },
];

test.each((["client_streaming", "bidi_streaming"] as const).flatMap((kind) => GIVING_UP.map((row) => ({ kind, ...row }))))(
  "$kind: requests that their client gives up $when are cancelled at the server, and no whole request",
  async ({ kind, came, giveUp }) => {
    const told: string[] = [];
    const { connection, server } = await both({ methods: [toldMethod(kind, told)] }, { limits: { maxSendBytes: 1_000 } });
    const talk = new Conversation(connection, { path: "/t/Told", isSingleResponse: kind === "client_streaming" });
    await until("it has begun", () => server.counts().streams === 1);
    await giveUp(talk.call, told);
    await until("the server knows", () => server.counts().streams === 0);
    expect(told).toEqual([...came, "cancelled"]);
  },
);

test("a bidirectional call that is given up inside an answer is cancelled at the server", async () => {
  const told: string[] = [];
  const { connection, server } = await both({ methods: [toldMethod("bidi_streaming", told)] });
  const closed: number[] = [];
  const call = connection.start(
    { path: "/t/Told", isSingleResponse: false },
    { message: () => call.cancel(), closed: ({ status }) => void closed.push(status.code) },
  );
  call.write(bytes("one"));
  await until("the server knows", () => told.length === 2 && server.counts().streams === 0);
  expect([told, closed]).toEqual([["one", "cancelled"], [CODES.CANCELLED]]);
});

test("calls that are given up while they wait for a place at the server leave theirs to others", async () => {
  const { connection, seen } = await both({ limits: { maxStreamsPerConnection: 1 } });
  expect((await unary(connection, "/t/Echo")).status.code).toBe(CODES.OK); // The server's limit is known.
  const first = new Conversation(connection, { path: "/t/Hold", isSingleResponse: true });
  first.call.halfClose(bytes(""));
  await until("it is held", () => seen.held.length === 1);
  const waiting = Array.from(
    { length: 20 },
    (_, i) => new Conversation(connection, { path: i % 2 === 0 ? "/t/Hold" : "/t/Sum", isSingleResponse: true }),
  );
  for (const [i, { call }] of waiting.entries()) {
    if (i % 4 === 0) call.halfClose(bytes(""));
    call.cancel();
  }
  const last = unary(connection, "/t/Echo", bytes("x"));
  seen.held[0]?.respond(bytes(""));
  expect([(await last).status.code, seen.held.length]).toEqual([CODES.OK, 1]);
});

test.each([
  { how: "resets its stream", gone: (client: RawConnection) => client.send(frame(TYPE.RST_STREAM, { stream: 1, payload: u32(8) })) },
  { how: "loses its connection", gone: (client: RawConnection) => client.destroy() },
])("a call whose client $how before its request has ended is not run, nor waited for any longer", async ({ gone }) => {
  const { methods: offered, seen } = methods();
  const watched: GuardedConnection[] = [];
  const { server, port } = await serve({ methods: offered, onConnection: (each) => watched.push(each) > 0 });
  const client = new RawConnection(port).greet();
  const payload = framed(bytes("all of the message"));
  client.send(frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS, stream: 1, payload: callHeaders("/t/Hold") }));
  client.send(frame(TYPE.DATA, { stream: 1, payload }));
  await until("the message is here", () => watched[0]?.meter.usefulBytes === payload.length);
  gone(client);
  await until("the call is over", () => server.counts().streams === 0);
  await new Promise((resolve) => setImmediate(resolve));
  expect([seen.held, watched[0]?.arriving.size]).toEqual([[], 0]);
  client.destroy();
});

test("a server that sends a connection away serves the calls that are open, and says that it has taken them", async () => {
  const { address, connection, server, seen } = await both();
  const answer = unary(connection, "/t/Hold");
  await until("the call is there", () => seen.held.length === 1);
  const told: number[] = [];
  const other = connectHttp2(`http://${address}`).on("goaway", (_code: number, lastStreamId: number) => told.push(lastStreamId));
  const held = other.request({ ":method": "POST", ":path": "/t/Hold", "content-type": "application/grpc", te: "trailers" });
  held
    .on("error", () => {})
    .resume()
    .end(framed(bytes("")));
  await until("the other call is there", () => seen.held.length === 2);
  server.drain(30_000);
  await until("no new calls are made", () => !connection.isOpen);
  // RFC 9113, section 6.8: a client takes a call with a higher number for one that was not looked at, and makes it again.
  await until("the other client knows", () => told.length > 0);
  expect(told).toEqual([held.id]);
  for (const call of seen.held) call.respond(bytes("late"));
  const { status, message } = await answer;
  expect([status.code, textOf(message)]).toEqual([CODES.OK, "late"]);
  await until("the other connection is closed", () => other.destroyed);
});

test("a connection without open calls ends as soon as it is sent away, and a call that crosses the GOAWAY was not looked at", async () => {
  const { port, server } = await both();
  const waitedMs: number[] = [];
  for (let round = 0; round < 5; round++) {
    const connection = await connected(port);
    await unary(connection, "/t/Echo");
    const beganMs = performance.now();
    server.drain(30_000);
    expect(await unary(connection, "/t/Echo")).toMatchObject({ status: { code: CODES.UNAVAILABLE }, isUnprocessed: true });
    waitedMs.push(performance.now() - beganMs);
  }
  // Nothing is waited for, such as an answer to a PING. The fastest counts, since the machine may be busy.
  expect(Math.min(...waitedMs)).toBeLessThan(500);
});

test("calls end with UNAVAILABLE when their connection is lost, and with CANCELLED when the server resets their stream", async () => {
  const { connection, seen, sockets } = await both();
  const reset = new Conversation(connection, { path: "/t/Hold", isSingleResponse: true });
  const lost = new Conversation(connection, { path: "/t/Hold", isSingleResponse: true });
  for (const { call } of [reset, lost]) call.halfClose(bytes(""));
  await until("both are held", () => seen.held.length === 2);
  seen.held[0]?.reset(8);
  await until("the first is over", () => reset.result !== undefined);
  expect(reset.result?.status.code).toBe(CODES.CANCELLED);
  for (const socket of sockets) socket.destroy();
  await until("the second is over", () => lost.result !== undefined);
  expect(lost.result).toMatchObject({ status: { code: CODES.UNAVAILABLE }, isUnprocessed: false, isFromServer: false });
  expect((await unary(connection, "/t/Echo")).status.code).toBe(CODES.UNAVAILABLE);
});

test("a message over a bound is refused at either end, coming and going", async () => {
  const { connection, server } = await both(
    { limits: { maxReceiveBytes: 1_000, maxSendBytes: 2_000 } },
    { limits: { maxReceiveBytes: 1_500, maxSendBytes: 3_000 } },
  );
  expect((await unary(connection, "/t/Echo", new Uint8Array(1_000))).status.code).toBe(CODES.OK);
  expect((await unary(connection, "/t/Echo", new Uint8Array(1_001))).status.code).toBe(CODES.RESOURCE_EXHAUSTED);
  expect((await unary(connection, "/t/Large", bytes("1501"))).status).toMatchObject({ code: CODES.RESOURCE_EXHAUSTED });
  expect((await unary(connection, "/t/Large", bytes("2001"))).status.code).toBe(CODES.RESOURCE_EXHAUSTED);
  const call = new Conversation(connection, { path: "/t/Echo", isSingleResponse: true });
  expect((await unary(connection, "/t/Echo", new Uint8Array(3_001))).status).toMatchObject({ code: CODES.RESOURCE_EXHAUSTED });
  expect(() => call.call.write(new Uint8Array(3_001))).toThrow(/quota_exceeded: message too large to send: it has 3001 bytes/);
  call.call.cancel();
  await until("nothing is open", () => server.counts().streams === 0);
  expect(server.counts().bufferedBytes).toBe(0);
});

test("requests in gzip are read in order among plain ones", async () => {
  const { connection } = await both({ inflater: new SharedInflater() }, { sendsGzip: true });
  for (const size of [0, 9, 1_000, 100_000, 1_000_000]) {
    const echo = new Conversation(connection, { path: "/t/Echo", isSingleResponse: true });
    echo.call.writeFrame(gzipFrame(new Uint8Array(size).fill(65)));
    echo.call.halfClose();
    await until("it is over", () => echo.result !== undefined);
    expect([echo.result?.status.code, echo.messages[0]?.length]).toEqual([CODES.OK, size]);
  }
  const talk = new Conversation(connection, { path: "/t/Talk" });
  const words = [300_000, 1, 20_000, 0, 15].map((size) => "x".repeat(size));
  for (const [at, word] of words.entries())
    if (at % 2 === 0) talk.call.writeFrame(gzipFrame(bytes(word)));
    else talk.call.write(bytes(word));
  talk.call.halfClose();
  await until("it is over", () => talk.result !== undefined);
  expect(talk.messages.map((message) => message.length)).toEqual(words.map((word) => word.length + 1));
});

test("a server without an inflater refuses compressed requests", async () => {
  const { connection } = await both({}, { sendsGzip: true });
  const echo = new Conversation(connection, { path: "/t/Echo", isSingleResponse: true });
  echo.call.writeFrame(gzipFrame(bytes("x")));
  echo.call.halfClose();
  await until("it is over", () => echo.result !== undefined);
  expect(echo.result?.status.code).toBe(CODES.UNIMPLEMENTED);
});

test("a source is pulled as fast as its client reads, and no faster", async () => {
  const { connection, seen } = await both();
  const endless = new Conversation(connection, { path: "/t/Endless" });
  endless.call.pause();
  endless.call.halfClose(bytes(""));
  await until("it was pulled", () => seen.pulled > 1);
  const before = seen.pulled;
  await unary(connection, "/t/Later"); // A round trip: what could come has come.
  await unary(connection, "/t/Later");
  expect(seen.pulled - before).toBeLessThan(8);
  endless.call.resume();
  await until("it goes on", () => seen.pulled > before + 50);
  endless.call.cancel();
  await until("the source is closed", () => seen.cancelled.length === 1);
});

test("a writer waits for a reader that does not take: requests are not piled up", async () => {
  const made = methods();
  const paused: { readonly call: { resume(): void } }[] = [];
  let count = 0;
  const slow = {
    path: "/t/Slow",
    kind: "bidi_streaming" as const,
    open: (call: { pause(): void; resume(): void; end(): void }) => {
      call.pause();
      paused.push({ call });
      return { message: () => void (count += 1), halfClosed: () => call.end() };
    },
  };
  const serving = await serve({ methods: [...made.methods, slow] });
  const connection = await connected(serving.port);
  const talk = new Conversation(connection, { path: "/t/Slow" });
  let written = 0;
  const chunk = new Uint8Array(16_384);
  const write = () => {
    while (written < 1_000) {
      written += 1;
      if (!talk.call.write(chunk)) {
        talk.call.onceWritable(write);
        return;
      }
    }
    talk.call.halfClose();
  };
  write();
  await until("it is opened", () => paused.length === 1);
  await unary(connection, "/t/Later");
  expect([count, written < 40]).toEqual([0, true]);
  paused[0]?.call.resume();
  await until("all came", () => talk.result !== undefined);
  expect([count, talk.result?.status.code]).toEqual([1_000, CODES.OK]);
});
