/** Pooled calls over real sockets: connections are shared, replaced when the server sends them away, and given up when it is silent. */
import { once } from "node:events";
import { constants, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { connect as connectTcp, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { ClientConnection } from "../../src/grpc/client/connection.io.ts";
import { ConnectionPool, type PendingConnection, type PooledAnswer } from "../../src/grpc/client/pool.io.ts";
import { parseTimeout } from "../../src/grpc/wire/request-head.ts";
import { CODES } from "../../src/lib/errors.ts";
import { methods } from "../fakes/grpc-methods.ts";
import { bytes, CLIENT_LIMITS, closeAll, serve, textOf } from "../fakes/grpc-room.ts";
import { until } from "../fakes/until.ts";

const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  closeAll();
});

function dial(address: string, _timeoutMs: number, onLeaving: () => void): PendingConnection {
  const [host = "", port = ""] = address.split(":");
  const socket = connectTcp({ host, port: Number(port) });
  sockets.push(socket);
  const open = async () => {
    await once(socket, "connect");
    const connection = new ClientConnection(socket, { authority: address, scheme: "http", limits: CLIENT_LIMITS, onLeaving });
    await connection.ready();
    return connection;
  };
  return { done: open(), cancel: () => socket.destroy(new Error("given up")) };
}

function pool(limits = {}) {
  let dialCount = 0;
  const made = new ConnectionPool({ maxConnections: 2, maxCalls: 10, idleMs: 1_000, ...limits }, (...parts) => {
    dialCount += 1;
    return dial(...parts);
  });
  const call = (address: string, path = "/t/Echo", timeoutMs = 5_000): Promise<PooledAnswer> =>
    new Promise((resolve) => made.call({ address, path, message: bytes("hi"), timeoutMs }, resolve));
  return { pool: made, call, dials: () => dialCount };
}

test("calls share a connection, which is dialled once", async () => {
  const { address } = await serve({ methods: methods().methods });
  const { pool: under, call, dials } = pool();
  const answers = await Promise.all([call(address), call(address), call(address, "/t/Later")]);
  expect(answers.map(({ message }) => textOf(message))).toEqual(["hi", "hi", "hi"]);
  expect([dials(), under.counts()]).toEqual([1, { connections: 1, calls: 0, refused: 0 }]);
  const failed = await call(address, "/t/Fail");
  expect([failed.status.code, failed.isFromServer, dials()]).toEqual([CODES.NOT_FOUND, true, 1]);
});

test("no call is lost while the server sends connection after connection away", async () => {
  const { address, server } = await serve({ methods: methods().methods, limits: { maxConnectionAgeMs: 250 } });
  const { call, dials } = pool();
  const codes = new Set<number>();
  await until("several connections were used", async () => {
    codes.add((await call(address)).status.code);
    return dials() >= 4;
  });
  expect([...codes]).toEqual([CODES.OK]);
  server.drain(10);
});

test("a server that closes its connection between two calls costs the second call nothing", async () => {
  const { address, sockets: accepted } = await serve({ methods: methods().methods });
  const { call, dials } = pool();
  await call(address);
  for (const socket of accepted) socket.destroy();
  await until("the next call has its answer", async () => (await call(address)).status.code === CODES.OK);
  expect(dials()).toBe(2);
});

test("a server that never answers costs a call its time, and the connection is given up", async () => {
  const silent = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const at = silent.address();
  const address = `127.0.0.1:${typeof at === "object" ? at?.port : 0}`;
  const { pool: under, call } = pool();
  const answer = await call(address, "/t/Echo", 100);
  expect([answer.status.code, answer.connection, under.counts().connections]).toEqual([CODES.DEADLINE_EXCEEDED, undefined, 0]);
  silent.close();
  const nobody = await call("127.0.0.1:1");
  expect([nobody.status.code, nobody.dialError instanceof Error]).toEqual([CODES.UNAVAILABLE, true]);
});

test("held calls fill the pool, an idle connection makes room for another server, and sweeping closes what is idle", async () => {
  const first = await serve({ methods: methods().methods });
  const second = await serve({ methods: methods().methods });
  const { pool: under, call } = pool({ maxConnections: 1, maxCalls: 2 });
  const held = [call(first.address, "/t/Hold", 300), call(first.address, "/t/Hold", 300)];
  expect((await call(first.address)).status.code).toBe(CODES.RESOURCE_EXHAUSTED);
  expect((await Promise.all(held)).map(({ status }) => status.code)).toEqual([CODES.DEADLINE_EXCEEDED, CODES.DEADLINE_EXCEEDED]);
  expect((await call(first.address)).status.code).toBe(CODES.OK);
  expect((await call(second.address)).status.code).toBe(CODES.OK);
  await until("the first server has no connection", () => first.server.counts().connections === 0);
  expect(under.counts().connections).toBe(1);
  under.sweep(Number.POSITIVE_INFINITY);
  await until("nor has the second", () => second.server.counts().connections === 0);
  await call(second.address);
  under.renew();
  await until("its new connection is closed too", () => second.server.counts().connections === 0);
});

test("a call that is made a second time has what is left of its time", async () => {
  const timeouts: number[] = [];
  const server = createHttp2Server();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    timeouts.push(Number(parseTimeout(String(headers["grpc-timeout"]))));
    if (timeouts.length === 1) setTimeout(() => stream.close(constants.NGHTTP2_REFUSED_STREAM), 60);
    else stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "8" }, { endStream: true });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const at = server.address();
  const { status } = await pool().call(`127.0.0.1:${typeof at === "object" ? at?.port : 0}`, "/t/Echo", 30_000);
  const [first = 0, second = 0] = timeouts;
  expect([status.code, timeouts.length]).toEqual([CODES.RESOURCE_EXHAUSTED, 2]);
  expect(first - second).toBeGreaterThanOrEqual(50);
  server.close();
});

/** The first connection loses its calls when two have come, and says before that it looked at the first of them alone. Later ones answer. */
async function goingAway() {
  const arrived: ServerHttp2Stream[] = [];
  const server = createHttp2Server();
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    const { session } = stream;
    const first = arrived.find((each) => each.session === session);
    arrived.push(stream);
    if (arrived.length > 2) {
      stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.alloc(5));
    } else if (first !== undefined && session !== undefined) {
      session.goaway(0, first.id);
      session.ping(() => session.destroy());
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const at = server.address();
  return { server, arrived, address: `127.0.0.1:${typeof at === "object" ? at?.port : 0}` };
}

test("a call that a GOAWAY counts among the begun is not made a second time, and one behind it is", async () => {
  const { server, arrived, address } = await goingAway();
  const { call, dials } = pool();
  const [begun, behind] = await Promise.all([call(address, "/t/Begun"), call(address, "/t/Behind")]);
  expect([begun.status.code, begun.isUnprocessed]).toEqual([CODES.UNAVAILABLE, false]);
  expect([behind.status.code, dials(), arrived.length]).toEqual([CODES.OK, 2, 3]);
  server.close();
});
