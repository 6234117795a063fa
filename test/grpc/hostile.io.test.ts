/** Peers that misbehave, on either end: what they make the room hold is bounded, and each of their calls and connections ends. */
import { once } from "node:events";
import { connect as connectHttp2, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { gzipSync } from "node:zlib";
import { afterEach, expect, test } from "vitest";
import { GrpcServer } from "../../src/grpc/server/server.io.ts";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import { CODES } from "../../src/lib/errors.ts";
import { PREFACE, call as rawCall, settings } from "../e2e/h2-frames.ts";
import { newAuthority } from "../fakes/certificate.ts";
import { methods } from "../fakes/grpc-methods.ts";
import { bytes, Conversation, closeAll, connected, serve, unary } from "../fakes/grpc-room.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";
import { until } from "../fakes/until.ts";

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
  closeAll();
});

const GRPC = { ":method": "POST", "content-type": "application/grpc", te: "trailers" };

function http2(port: number, options: object = {}) {
  const session = connectHttp2(`http://127.0.0.1:${port}`, options);
  session.on("error", () => {});
  ends.push(() => session.destroy());
  return session;
}

test("readers that take nothing cost a message or two each, whatever there is to send", async () => {
  const { methods: list, seen } = methods();
  const { port } = await serve({ methods: list });
  const session = http2(port);
  const streams = Array.from({ length: 100 }, () => session.request({ ...GRPC, ":path": "/t/Endless" }));
  for (const stream of streams) {
    stream.on("error", () => {});
    stream.end(Buffer.alloc(5));
  }
  await Promise.all(streams.map((stream) => once(stream, "response")));
  await unary(await connected(port), "/t/Later"); // What can be pulled was.
  await unary(await connected(port), "/t/Later");
  expect(seen.pulled).toBeLessThan(300);
  session.destroy();
  await until("all sources are closed", () => seen.cancelled.length === 100);
});

test("a request that does not arrive, and a stream of requests that says nothing, are given up in time", async () => {
  const { port, server } = await serve({ methods: methods().methods, limits: { requestTimeoutMs: 300 } });
  const session = http2(port);
  for (const path of ["/t/Echo", "/t/Talk"]) {
    const stream = session.request({ ...GRPC, ":path": path });
    stream.on("error", () => {});
    stream.write(Buffer.of(0, 0, 0));
    await until(`${path} is reset`, () => stream.closed);
    expect(stream.rstCode).toBe(8);
  }
  expect(server.counts()).toMatchObject({ streams: 0, bufferedBytes: 0 });
});

test("a request that does not arrive before its own deadline is answered so, long before it would be given up", async () => {
  const { port } = await serve({ methods: methods().methods });
  const stream = http2(port).request({ ...GRPC, ":path": "/t/Echo", "grpc-timeout": "100m" });
  stream.on("error", () => {});
  stream.write(Buffer.of(0, 0, 0));
  const [headers] = (await once(stream, "response")) as [Record<string, string>];
  expect(headers["grpc-status"]).toBe(String(CODES.DEADLINE_EXCEEDED));
});

test("half-sent messages of all connections together stay within their bound, and messages that come whole are read all the same", async () => {
  const { port, server } = await serve({ methods: methods().methods, limits: { maxBufferedBytes: 98_304, maxReceiveBytes: 60_000 } });
  const sessions = [http2(port), http2(port)];
  const half = Buffer.alloc(30_000);
  half.writeUInt32BE(60_000, 1);
  const streams = sessions.flatMap((session) => Array.from({ length: 4 }, () => session.request({ ...GRPC, ":path": "/t/Echo" })));
  const codes: string[] = [];
  for (const stream of streams) {
    stream.on("error", () => {});
    stream.on("response", (headers) => codes.push(String(headers["grpc-status"])));
    stream.write(half);
  }
  await until("those beyond the bound are refused", () => codes.length === 5);
  expect([new Set(codes), server.counts().bufferedBytes]).toEqual([new Set(["8"]), 98_304]); // Three of them, each in memory that doubled once.
  const connection = await connected(port);
  expect((await unary(connection, "/t/Echo", bytes("x"))).status.code).toBe(CODES.OK);
  for (const session of sessions) session.destroy();
  await until("nothing is held", () => server.counts().bufferedBytes === 0);
});

test("streams beyond the bound of all connections are refused, and those of a refused connection are not read", async () => {
  const { methods: list, seen } = methods();
  const { port } = await serve({ methods: list, limits: { maxStreams: 2 } });
  const connection = await connected(port);
  const held = [unary(connection, "/t/Hold"), unary(connection, "/t/Hold")];
  await until("two are held", () => seen.held.length === 2);
  expect((await unary(connection, "/t/Echo")).status.code).toBe(CODES.RESOURCE_EXHAUSTED);
  for (const call of seen.held) call.respond(bytes(""));
  await Promise.all(held);
  const closed = await serve({ methods: methods().methods, onConnection: () => false });
  expect((await unary(await connected(closed.port), "/t/Echo")).status.code).toBe(CODES.UNAVAILABLE);
});

test("of a connection that is refused no call is looked at, though it comes in one read with the end of the handshake", async () => {
  const { cert, key } = newAuthority().issue("localhost");
  const seen = { refused: 0, answered: 0 };
  const server = new GrpcServer({
    methods: [],
    limits: GRPC_LIMITS,
    onConnection: () => {
      seen.refused += 1;
      return false;
    },
    statusOf: () => {
      seen.answered += 1;
      return { code: CODES.INTERNAL, message: "" };
    },
  });
  const listener = createTlsServer({ key, cert, ALPNProtocols: ["h2"] }, (socket) => server.accept(socket)).listen(0, "127.0.0.1");
  ends.push(() => (server.stop(), listener.close()));
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  for (let i = 0; i < 8; i++) {
    const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    socket.on("error", () => {});
    // Before the handshake: it leaves together with its last part.
    socket.write(Buffer.concat([PREFACE, settings(), rawCall(1, "/t/Echo"), rawCall(3, "/t/Echo")]));
    await once(socket.resume(), "close");
  }
  expect(seen).toEqual({ refused: 8, answered: 0 });
});

test("a client that has died without a word is found by pings, and its calls are cancelled", async () => {
  const { methods: list, seen } = methods();
  const cut: string[] = [];
  const { port, server } = await serve({
    methods: list,
    limits: { keepaliveTimeMs: 200, keepaliveTimeoutMs: 200 },
    onCut: (reason) => cut.push(reason),
  });
  const socket = connectTcp({ host: "127.0.0.1", port });
  ends.push(() => socket.destroy());
  const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => socket });
  session.on("error", () => {});
  const stream = session.request({ ...GRPC, ":path": "/t/Hold" });
  stream.on("error", () => {});
  stream.end(Buffer.alloc(5));
  await until("it is held", () => seen.held.length === 1);
  const client = await connected(port, { limits: { keepaliveTimeMs: 1e9 } });
  const held = unary(client, "/t/Hold");
  await until("both are held", () => seen.held.length === 2);
  expect(cut).toEqual([]);
  session.destroy();
  socket.destroy();
  await until("the first is cancelled", () => seen.cancelled.length === 1);
  seen.held[1]?.respond(bytes(""));
  await held;
  const frozen = await serve({
    methods: list,
    limits: { keepaliveTimeMs: 200, keepaliveTimeoutMs: 200 },
    onCut: (reason) => cut.push(reason),
  });
  const raw = connectTcp({ host: "127.0.0.1", port: frozen.port });
  ends.push(() => raw.destroy());
  raw.write(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]));
  await until("the frozen client is cut", () => cut.includes("lifetime"));
  await until("nothing is open", () => frozen.server.counts().connections === 0 && server.counts().streams === 0);
});

test("a connection that is told to go away and stays is cut when its time is over", async () => {
  const { methods: list, seen } = methods();
  const cut: string[] = [];
  const { port, server } = await serve({ methods: list, onCut: (reason) => cut.push(reason) });
  const connection = await connected(port);
  const held = unary(connection, "/t/Hold");
  await until("it is held", () => seen.held.length === 1);
  server.drain(500);
  expect((await held).status.code).toBe(CODES.UNAVAILABLE);
  expect([cut, seen.cancelled]).toEqual([["lifetime"], ["cancelled"]]);
});

/** An HTTP/2 server that does what it likes with each stream. */
async function badServer(onStream: (stream: ServerHttp2Stream) => void, options: object = {}): Promise<number> {
  const server = createHttp2Server(options);
  const sessions = new Set<{ destroy(): void }>();
  server.on("session", (session) => {
    session.on("error", () => {});
    sessions.add(session);
  });
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    onStream(stream);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  return (server.address() as AddressInfo).port;
}

const HEADERS = { ":status": 200, "content-type": "application/grpc" };

test.each<{ name: string; does: (stream: ServerHttp2Stream) => void; code: number }>([
  {
    name: "announces 4 GiB",
    does: (stream) => {
      stream.respond(HEADERS);
      stream.write(Buffer.of(0, 255, 255, 255, 255));
    },
    code: CODES.RESOURCE_EXHAUSTED,
  },
  {
    name: "sends a gzip bomb",
    does: (stream) => {
      stream.respond({ ...HEADERS, "grpc-encoding": "gzip" });
      const bomb = gzipSync(Buffer.alloc(50_000_000));
      const prefix = Buffer.of(1, 0, 0, 0, 0);
      prefix.writeUInt32BE(bomb.length, 1);
      stream.end(Buffer.concat([prefix, bomb]));
    },
    code: CODES.RESOURCE_EXHAUSTED,
  },
  {
    name: "sends a thousand headers",
    does: (stream) => stream.respond({ ...HEADERS, ...Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`x-${i}`, "a"])) }),
    code: CODES.RESOURCE_EXHAUSTED,
  },
  {
    name: "ends inside a message",
    does: (stream) => {
      stream.respond(HEADERS);
      stream.end(Buffer.of(0, 0, 0, 1, 0, 7));
    },
    code: CODES.INTERNAL,
  },
  { name: "resets the stream", does: (stream) => stream.close(2), code: CODES.INTERNAL },
  { name: "resets it as not processed", does: (stream) => stream.close(7), code: CODES.UNAVAILABLE },
  { name: "goes away with an error", does: (stream) => stream.session?.destroy(undefined, 11), code: CODES.UNAVAILABLE },
  { name: "says nothing", does: () => {}, code: CODES.DEADLINE_EXCEEDED },
  {
    name: "answers in HTML",
    does: (stream) => (stream.respond({ ":status": 404, "content-type": "text/html" }), stream.end("<p>no")),
    code: CODES.UNIMPLEMENTED,
  },
])("a server that $name ends the call with $code, and nothing is left open", async ({ does, code }) => {
  const port = await badServer(does);
  const connection = await connected(port, { inflater: new SharedInflater() });
  expect((await unary(connection, "/t/Echo", bytes("x"), { timeoutMs: 2_000 })).status.code).toBe(code);
  await until("no call is open", () => connection.callCount === 0);
});

test("a server that sends for ever to a client that does not take fills a window, and no more", async () => {
  let sent = 0;
  const port = await badServer((stream) => {
    stream.respond(HEADERS);
    const message = Buffer.concat([Buffer.of(0, 0, 0, 64, 0), Buffer.alloc(16_384)]);
    const go = () => {
      do sent += message.length;
      while (stream.write(message));
      stream.once("drain", go);
    };
    go();
  });
  const connection = await connected(port);
  const endless = new Conversation(connection, { path: "/t/Endless" });
  endless.call.pause();
  await until("the window is full", () => sent > 60_000);
  const before = sent;
  await unary(connection, "/t/Other", bytes(""), { timeoutMs: 100 });
  expect([sent - before < 300_000, endless.messages.length]).toEqual([true, 0]);
  endless.call.cancel();
});

test("a server that dies without a word is found by pings while a call is open", async () => {
  const accepted: Socket[] = [];
  const silent = createServer((socket) => accepted.push(socket)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  ends.push(() => {
    silent.close();
    for (const socket of accepted) socket.destroy();
  });
  let isLeft = false;
  const connection = await connected((silent.address() as AddressInfo).port, {
    limits: { keepaliveTimeMs: 200, keepaliveTimeoutMs: 200 },
    onLeaving: () => {
      isLeft = true;
    },
  });
  const { status } = await unary(connection, "/t/Echo");
  expect([status.code, status.message, isLeft, connection.isReady]).toEqual([
    CODES.UNAVAILABLE,
    "the server did not answer keepalive pings",
    true,
    false,
  ]);
});

test("no more calls than may are open on a connection", async () => {
  const { methods: list, seen } = methods();
  const { port } = await serve({ methods: list });
  const connection = await connected(port, { limits: { maxCalls: 1 } });
  const held = unary(connection, "/t/Hold");
  expect((await unary(connection, "/t/Echo")).status).toMatchObject({ code: CODES.RESOURCE_EXHAUSTED });
  await until("it is held", () => seen.held.length === 1);
  seen.held[0]?.respond(bytes(""));
  expect((await held).status.code).toBe(CODES.OK);
});
