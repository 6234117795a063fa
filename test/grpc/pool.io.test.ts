/** Pooled calls over real sockets: connections are shared, replaced when the server sends them away, and given up when it is silent. */
import { once } from "node:events";
import { connect as connectTcp, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { ClientConnection } from "../../src/grpc/client/connection.io.ts";
import { ConnectionPool, type Dial, type PooledAnswer } from "../../src/grpc/client/pool.io.ts";
import { CODES } from "../../src/lib/errors.ts";
import { methods } from "../fakes/grpc-methods.ts";
import { bytes, CLIENT_LIMITS, closeAll, serve, textOf } from "../fakes/grpc-room.ts";
import { until } from "../fakes/until.ts";

const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  closeAll();
});

function dial(address: string, _timeoutMs: number, onLeaving: () => void): Dial {
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
