/** The gRPC listener over real sockets, with the client library most of our callers in Node use. */
import { connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { compressionAlgorithms, Metadata } from "@grpc/grpc-js";
import { afterEach, expect, onTestFinished, test } from "vitest";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
} from "../../gen/grpc/health/v1/health_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogWatchRequestSchema,
  KeepAliveRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { type GrpcListener, type GrpcListenerOptions, startGrpcListener } from "../../src/server/grpc-listener.io.ts";
import { listServices } from "../../src/services/service-table.ts";
import { demoChain, demoService, queryAnswer } from "../fakes/demo-service.ts";
import { collected, RawClient } from "../fakes/grpc-client.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";
import { until } from "../fakes/until.ts";

const opened: { readonly listeners: GrpcListener[]; readonly clients: RawClient[] } = { listeners: [], clients: [] };

afterEach(async () => {
  for (const client of opened.clients.splice(0)) client.close();
  await Promise.all(opened.listeners.splice(0).map((listener) => listener.stop(200)));
});

async function started(options: Partial<GrpcListenerOptions> = {}) {
  const demo = demoService();
  const { chain, observed, faults } = demoChain();
  const listener = await startGrpcListener({
    host: "127.0.0.1",
    port: 0,
    ...listServices([demo.service]),
    chain,
    log: { info: () => {}, warn: () => {} },
    limits: GRPC_LIMITS,
    ...options,
  });
  listener.setServing(true);
  opened.listeners.push(listener);
  const connect = (at: ConstructorParameters<typeof RawClient>[1] = {}) => {
    const client = new RawClient(listener.acceptor.address, at);
    opened.clients.push(client);
    return client;
  };
  return { ...demo, listener, chain, observed, faults, client: connect(), connect };
}

const query = (namespace: string) => toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, { namespace }));
const watch = (namespace: string) => toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, { namespace }));
const renewal = (...leaseIds: string[]) => Buffer.from(toBinary(KeepAliveRequestSchema, create(KeepAliveRequestSchema, { leaseIds })));

test("a unary call answers bytes, messages and promises alike", async () => {
  const { client, observed } = await started();
  const answers = await Promise.all(["", "eu", "late"].map((namespace) => client.unary("CatalogQuery", query(namespace))));
  expect(answers.map((answer) => answer.code)).toEqual([0, 0, 0]);
  expect(answers[0]?.messages[0]).toEqual(Buffer.from(queryAnswer(1_400)));
  await until("three calls observed", () => observed.length === 3);
  expect(observed[0]).toMatchObject({ method: "CatalogQuery", code: "OK", transport: "grpc", encoding: "proto" });
});

test.each([
  { namespace: "refuse", code: 3, reason: "INVALID_ARGUMENT" },
  { namespace: "reject", code: 3, reason: "INVALID_ARGUMENT" },
  { namespace: "bug", code: 13, reason: "INTERNAL" },
])("a refusal ($namespace) has code, details and a request id", async ({ namespace, code, reason }) => {
  const { client } = await started();
  const answer = await client.unary("CatalogQuery", query(namespace));
  expect(answer).toMatchObject({ code, reason, domain: "waymark", messages: [] });
  expect(answer.requestId).toMatch(/^demo-/);
  expect(answer.message).not.toContain("secret");
});

test("a request id that was sent is echoed, with the answer as with a refusal", async () => {
  const { client } = await started();
  const metadata = new Metadata();
  metadata.set("x-request-id", "trace-7");
  for (const namespace of ["eu", "refuse"]) {
    expect((await client.unary("CatalogQuery", query(namespace), { metadata })).requestId).toBe("trace-7");
  }
});

test.each([
  { name: "a truncated message", bytes: Uint8Array.of(0x0a, 0x50, 0x41) },
  { name: "a field of the wrong wire type", bytes: Uint8Array.of(0x0f, 1) },
  { name: "groups nested a million deep", bytes: new Uint8Array(1_000_000).fill(0x0b) },
  { name: "random bytes", bytes: Uint8Array.from({ length: 200 }, (_, i) => (i * 151 + 7) % 256) },
])("$name is bad input, not a fault of ours", async ({ bytes }) => {
  const { client, faults } = await started();
  expect(await client.unary("CatalogQuery", bytes)).toMatchObject({ code: 3, reason: "INVALID_ARGUMENT" });
  expect(faults).toEqual([]);
});

test("a 5 MiB message is refused with the bound in its details, and the connection goes on", async () => {
  const { client } = await started();
  const answer = await client.unary("Register", new Uint8Array(5 * 1_024 * 1_024));
  expect(answer).toMatchObject({ code: 8, reason: "QUOTA_EXCEEDED" });
  expect(answer.message).toContain(String(4 * 1_024 * 1_024));
  expect((await client.unary("CatalogQuery", query(""))).code).toBe(0);
});

test("a message just under the bound is taken", async () => {
  const { client } = await started();
  const padded = Buffer.concat([Buffer.from([0x9a, 0x3f, 0xf0, 0xff, 0xff, 0x01]), Buffer.alloc(4_194_288)]); // An unknown field.
  expect((await client.unary("CatalogQuery", padded)).code).toBe(0);
});

test("a method without behaviour is unimplemented, with details, whatever its kind; so is one that does not exist", async () => {
  const { client, connect } = await started();
  expect(await client.unary("SummaryQuery", new Uint8Array())).toMatchObject({ code: 12, reason: "UNIMPLEMENTED" });
  expect(await collected(client.serverStream("SummaryWatch", new Uint8Array()))).toMatchObject({ code: 12, reason: "UNIMPLEMENTED" });
  expect(await client.unary("NoSuchRpc", new Uint8Array())).toMatchObject({ code: 12, reason: "UNIMPLEMENTED" });
  const dns = connect({ service: "waymark.dns.v1.DnsService" });
  expect(await dns.unary("ListNames", new Uint8Array())).toMatchObject({ code: 12, reason: "UNIMPLEMENTED" });
});

test("a compressed request is served", async () => {
  const { connect } = await started();
  const client = connect({ channel: { "grpc.default_compression_algorithm": compressionAlgorithms.gzip } });
  expect((await client.unary("CatalogQuery", query("eu"))).code).toBe(0);
  expect(await client.unary("CatalogQuery", query("refuse"))).toMatchObject({ code: 3, reason: "INVALID_ARGUMENT" });
  const echo = client.bidi("KeepAlive");
  echo.write(renewal("a"));
  echo.end();
  expect(await collected(echo)).toMatchObject({ code: 0, messages: [renewal("a")] });
});

/** A deadline that only the server keeps: a client that has one too may cancel before it. */
function serversDeadline(afterMs: number): Metadata {
  const metadata = new Metadata();
  metadata.set("grpc-timeout", `${afterMs}m`);
  return metadata;
}

test("a handler that outlives the deadline is answered deadline_exceeded by the server", async () => {
  const { client, observed } = await started();
  const answer = await client.unary("CatalogQuery", query("never"), { metadata: serversDeadline(200) });
  expect(answer.code).toBe(4);
  await until("the server saw it too", () => observed.some((call) => call.code === "DEADLINE_EXCEEDED"));
});

test.each(["cancels", "disconnects"])("a handler that waits learns that its client is gone: the client %s", async (end) => {
  const { contexts, listener } = await started();
  const session = connectHttp2(`http://${listener.acceptor.address}`);
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  const path = "/waymark.discovery.v1.DiscoveryService/CatalogQuery";
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
  stream.on("error", () => {});
  stream.end(framed(query("never")));
  await until("the call came", () => contexts.length === 1);
  let overCount = 0;
  for (const context of contexts) context.onOver = () => void overCount++;
  if (end === "cancels") stream.close(constants.NGHTTP2_CANCEL);
  else session.destroy();
  await until("the handler learnt it", () => overCount > 0);
  expect(overCount).toBe(1);
});

test("a server stream sends what there is, wakes for more and ends with its error", async () => {
  const { client, sources } = await started();
  const stream = client.serverStream("CatalogWatch", watch("eu"));
  const outcome = collected(stream);
  await until("the source is open", () => sources.length === 1);
  const [source] = sources;
  source?.queue.push(Uint8Array.of(1), Uint8Array.of(2));
  source?.wake();
  await until("both pulled", () => source?.queue.length === 0);
  source?.end(new WaymarkError("draining", "move on"));
  expect(await outcome).toMatchObject({ code: 14, reason: "DRAINING", messages: [Buffer.of(1), Buffer.of(2)] });
  expect(source?.closeCount).toBe(1);
});

test("a server stream that ends well ends OK; one that is refused has details", async () => {
  const { client, sources } = await started();
  const outcome = collected(client.serverStream("CatalogWatch", watch("eu")));
  await until("the source is open", () => sources.length === 1);
  sources[0]?.end(undefined);
  expect((await outcome).code).toBe(0);
  expect(await collected(client.serverStream("CatalogWatch", watch("refuse")))).toMatchObject({ code: 3, reason: "INVALID_ARGUMENT" });
});

test("a cancelled stream closes its source once", async () => {
  const { client, sources, observed } = await started();
  const stream = client.serverStream("CatalogWatch", watch("eu"));
  const outcome = collected(stream);
  await until("the source is open", () => sources.length === 1);
  stream.cancel();
  expect((await outcome).code).toBe(1);
  await until("the source is closed", () => sources[0]?.closeCount === 1);
  await until("the cancel is observed", () => observed.some((call) => call.code === "CANCELLED"));
  sources[0]?.wake();
  expect(sources[0]?.closeCount).toBe(1);
});

test("a stream's deadline ends it on the server", async () => {
  const { client, sources } = await started();
  const outcome = collected(client.serverStream("CatalogWatch", watch("eu"), { metadata: serversDeadline(200) }));
  expect((await outcome).code).toBe(4);
  await until("the source is closed", () => sources[0]?.closeCount === 1);
});

test("a client that does not read costs its window and one message, not a queue", async () => {
  const { listener, sources } = await started();
  const session = connectHttp2(`http://${listener.acceptor.address}`);
  const stream = session.request({
    ":method": "POST",
    ":path": "/waymark.discovery.v1.DiscoveryService/CatalogWatch",
    "content-type": "application/grpc",
  });
  stream.pause(); // Node's client takes nothing before it is read; grpc-js's reads ahead.
  stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, watch("endless").length]), watch("endless")]));
  await until("the source is open", () => sources.length === 1);
  const [source] = sources;
  let before = -1;
  await until("pulling stops", () => {
    const isStill = before === source?.pullCount;
    before = source?.pullCount ?? 0;
    return isStill;
  });
  expect(source?.pullCount).toBeLessThanOrEqual(65_536 / 1_400 + 2);
  session.destroy();
  await until("the source is closed", () => source?.closeCount === 1);
});

test("an echo stream answers in order, late answers included", async () => {
  const { client } = await started();
  const stream = client.bidi("KeepAlive");
  const outcome = collected(stream);
  const asked = Array.from({ length: 200 }, (_, index) => renewal(index % 50 === 7 ? "late" : `lease-${index}`, `${index}`));
  for (const request of asked) stream.write(request);
  stream.end();
  expect(await outcome).toMatchObject({ code: 0, messages: asked });
});

test("an echo stream ends at the request it refuses, with what came before answered", async () => {
  const { client } = await started();
  const stream = client.bidi("KeepAlive");
  const outcome = collected(stream);
  for (const id of ["a", "late", "refuse", "b"]) stream.write(renewal(id));
  expect(await outcome).toMatchObject({ code: 3, reason: "INVALID_ARGUMENT", messages: [renewal("a"), renewal("late")] });
});

test("an echo stream whose client does not read stops being read", async () => {
  const { client, contexts } = await started();
  expect(contexts).toEqual([]);
  const stream = client.bidi("KeepAlive");
  stream.on("error", () => {});
  stream.pause();
  const big = renewal("x".repeat(30_000));
  let writtenCount = 0;
  const fill = () => {
    while (writtenCount < 2_000 && stream.write(big)) writtenCount += 1;
  };
  stream.on("drain", fill);
  fill();
  let before = -1;
  await until("writing stops", () => {
    const isStill = before === writtenCount;
    before = writtenCount;
    return isStill;
  });
  expect(writtenCount).toBeLessThan(200);
  stream.cancel();
});

test("health speaks for the whole and each service, and says NOT_SERVING first on drain", async () => {
  const { listener, connect } = await started();
  const health = connect({ service: "grpc.health.v1.Health" });
  const check = (service: string) =>
    health.call("Check", { input: HealthCheckRequestSchema, output: HealthCheckResponseSchema }, { service });
  const { SERVING, NOT_SERVING } = HealthCheckResponse_ServingStatus;
  for (const service of ["", "waymark.discovery.v1.DiscoveryService"]) {
    expect((await check(service)).response?.status).toBe(SERVING);
  }
  // Each of their methods answers UNIMPLEMENTED.
  for (const service of ["waymark.resolver.v1.ResolverService", "waymark.dns.v1.DnsService"]) {
    expect((await check(service)).response?.status).toBe(NOT_SERVING);
  }
  expect((await check("no.such.Service")).code).toBe(5);
  listener.drain();
  expect((await check("")).response?.status).toBe(NOT_SERVING);
  listener.setServing(true);
  expect((await check("")).response?.status).toBe(NOT_SERVING);
});

test("a draining listener refuses new calls, lets echo streams leave after their answer, and keeps open watches", async () => {
  const { listener, client, sources } = await started();
  const watching = collected(client.serverStream("CatalogWatch", watch("eu")));
  const echo = client.bidi("KeepAlive");
  const renewing = collected(echo);
  echo.write(renewal("late"));
  await until("the watch is open", () => sources.length === 1);
  expect((await client.unary("CatalogQuery", query(""))).code).toBe(0);
  listener.drain();
  expect(await client.unary("CatalogQuery", query(""))).toMatchObject({ code: 14, reason: "DRAINING" });
  expect(await renewing).toMatchObject({ code: 14, reason: "DRAINING", messages: [renewal("late")] });
  expect(sources[0]?.closeCount).toBe(0);
  sources[0]?.queue.push(Uint8Array.of(9));
  sources[0]?.wake();
  sources[0]?.end(undefined);
  expect(await watching).toMatchObject({ code: 0, messages: [Buffer.of(9)] });
});

test("stop waits for open calls up to its deadline, cuts the rest, and can be called twice", async () => {
  const { listener, client } = await started();
  const late = client.unary("CatalogQuery", query("late"));
  const never = client.unary("CatalogQuery", query("never"));
  await until("connected", () => listener.acceptor.sockets.size === 1);
  await client.unary("CatalogQuery", query(""));
  const began = performance.now();
  await Promise.all([listener.stop(3_000), listener.stop(3_000)]);
  expect(performance.now() - began).toBeLessThan(30_000);
  expect((await late).code).toBe(0);
  expect([1, 14]).toContain((await never).code);
  expect(listener.acceptor.sockets.size).toBe(0);
});

test("stop does not wait for watches of health: they hear that the listener drains, and end", async () => {
  const { listener, connect } = await started();
  const service = toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, {}));
  const health = connect({ service: "grpc.health.v1.Health" }).serverStream("Watch", service);
  const watching = collected(health);
  await new Promise((resolve) => health.once("data", resolve));
  const stopped = listener.stop(30_000);
  const { NOT_SERVING } = HealthCheckResponse_ServingStatus;
  const last = toBinary(HealthCheckResponseSchema, create(HealthCheckResponseSchema, { status: NOT_SERVING }));
  expect(await watching).toMatchObject({ code: 14, reason: "DRAINING" });
  expect((await watching).messages.at(-1)).toEqual(Buffer.from(last));
  await stopped;
}, 20_000);

test("stop does not wait for a connection that has said nothing and does not close its end", async () => {
  const { listener } = await started();
  const silent = connectTcp({ host: "127.0.0.1", port: listener.acceptor.port, allowHalfOpen: true });
  silent.on("error", () => {});
  await until("it is there", () => listener.acceptor.sockets.size === 1);
  await listener.stop(30_000);
  expect(listener.acceptor.sockets.size).toBe(0);
  silent.destroy();
}, 20_000);

test("a taken port is named with the flag that changes it", async () => {
  const { listener } = await started();
  await expect(started({ port: listener.acceptor.port })).rejects.toThrow(
    `address already in use: 127.0.0.1:${listener.acceptor.port}; pass --grpc-port`,
  );
});

test("an address that is not ours is named", async () => {
  await expect(started({ host: "192.0.2.1" })).rejects.toThrow(/192\.0\.2\.1 is not an address of this machine/);
});

test("connections over the listener's bound are refused, and those inside go on", async () => {
  const { client, connect, listener } = await started({ limits: { ...GRPC_LIMITS, maxConnections: 1 } });
  expect((await client.unary("CatalogQuery", query(""))).code).toBe(0);
  expect((await connect().unary("CatalogQuery", query(""), { call: { deadline: Date.now() + 1_000 } })).code).not.toBe(0);
  expect((await client.unary("CatalogQuery", query(""))).code).toBe(0);
  expect(listener.acceptor.sockets.size).toBe(1);
});

test("streams over the listener's bound are refused, and taken again when others end", async () => {
  const { client, sources, listener } = await started({ limits: { ...GRPC_LIMITS, maxStreams: 2 } });
  const first = client.serverStream("CatalogWatch", watch("a"));
  first.on("error", () => {});
  client.serverStream("CatalogWatch", watch("b")).on("error", () => {});
  await until("two open", () => sources.length === 2);
  expect(await client.unary("CatalogQuery", query(""))).toMatchObject({ code: 8, reason: "QUOTA_EXCEEDED" });
  first.cancel();
  await until("one closed", () => sources.some((source) => source.closeCount === 1));
  expect((await client.unary("CatalogQuery", query(""))).code).toBe(0);
  expect(listener.acceptor.sockets.size).toBe(1);
});
