/** Connections and calls at the gRPC listener that come to nothing: they end, and those that are used stay. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from "node:http2";
import { afterEach, expect, test } from "vitest";
import { type GrpcLimits, type GrpcListener, startGrpcListener } from "../../src/server/grpc-listener.io.ts";
import { listServices } from "../../src/services/service-table.ts";
import { demoChain, demoService } from "../fakes/demo-service.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";
import { until } from "../fakes/until.ts";
import { call, frame, QUERY, RawConnection, settings, TYPE, WATCH } from "./h2-frames.ts";

/** Soon for a test, and more than an honest request takes on a busy machine; nobody is ended for PINGs without an answer. */
const FAST: Partial<GrpcLimits> = { idleTimeoutMs: 600, requestTimeoutMs: 600, keepaliveTimeMs: 600_000 };
const PING = frame(TYPE.PING, { payload: Buffer.alloc(8) });
const KEEP_ALIVE = "/waymark.discovery.v1.DiscoveryService/KeepAlive";

let listener: GrpcListener | undefined;
const sessions: ClientHttp2Session[] = [];

afterEach(async () => {
  for (const each of sessions.splice(0)) each.destroy();
  await listener?.stop(100);
});

async function started(): Promise<GrpcListener> {
  const served = listServices([demoService().service]);
  const log = { info: () => {}, warn: () => {} };
  listener = await startGrpcListener({
    host: "127.0.0.1",
    port: 0,
    ...served,
    chain: demoChain().chain,
    limits: { ...GRPC_LIMITS, ...FAST },
    log,
  });
  listener.setServing(true);
  return listener;
}

function session({ acceptor: { address } }: GrpcListener): ClientHttp2Session {
  const client = connect(`http://${address}`);
  client.on("error", () => {});
  sessions.push(client);
  return client;
}

function opened(client: ClientHttp2Session, path: string): ClientHttp2Stream {
  const stream = client.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
  stream.on("error", () => {});
  return stream.resume();
}

test.each([
  { what: "nothing", bytes: Buffer.alloc(0) },
  { what: "PINGs", bytes: PING },
  { what: "SETTINGS", bytes: settings() },
])("a connection that sends $what is closed when it had no stream for the idle time", async ({ bytes }) => {
  const { port } = (await started()).acceptor;
  const idle = new RawConnection(port).greet();
  const timer = setInterval(() => idle.send(bytes), 100);
  await until("it is closed", () => idle.isClosed).finally(() => clearInterval(timer));
  await expect.poll(() => listener?.acceptor.sockets.size).toBe(0);
});

test("a connection whose calls are over is closed when it had none for the idle time", async () => {
  const client = session(await started());
  const [query, watch] = [opened(client, QUERY).end(Buffer.alloc(5)), opened(client, WATCH).end(Buffer.alloc(5))];
  await until("the query is answered", () => query.closed);
  watch.close();
  await until("it is closed", () => client.closed);
  await expect.poll(() => listener?.acceptor.sockets.size).toBe(0);
});

test("a connection with an open watch stays, however quiet", async () => {
  const { port } = (await started()).acceptor;
  const watching = new RawConnection(port).greet();
  watching.send(call(1, WATCH));
  const idle = new RawConnection(port).greet();
  await until("the idle one is closed", () => idle.isClosed);
  expect(watching.isClosed).toBe(false);
  watching.destroy();
});

test.each([QUERY, WATCH, KEEP_ALIVE, "/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"])(
  "%s: a call whose request never comes ends, and its connection goes on",
  async (path) => {
    const client = session(await started());
    const half = opened(client, path);
    half.write(Uint8Array.of(0, 0, 0));
    await until("it has ended", () => half.closed);
    const next = opened(client, QUERY);
    let status: unknown;
    next.on("trailers", (trailers: IncomingHttpHeaders) => {
      status = trailers["grpc-status"];
    });
    next.end(Buffer.alloc(5));
    await until("the next one is answered", () => status === "0");
    expect(client.closed).toBe(false);
  },
);

test("KeepAlive that has said something stays, however long it is silent then", async () => {
  const client = session(await started());
  const half = opened(client, QUERY);
  const quiet = opened(client, KEEP_ALIVE);
  quiet.write(Buffer.alloc(5));
  await until("the half call has ended", () => half.closed);
  const later = opened(client, QUERY);
  await until("and one after it", () => later.closed);
  expect(quiet.closed).toBe(false);
});
