/** Calls no client library would make: raw HTTP/2 against the gRPC listener, and what it answers. */

import { type ClientHttp2Session, connect, type IncomingHttpHeaders, type OutgoingHttpHeaders, type Settings } from "node:http2";
import { deflateSync, gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { CatalogQueryRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type GrpcListener, startGrpcListener } from "../../src/server/grpc-listener.io.ts";
import { listServices } from "../../src/services/service-table.ts";
import { demoChain, demoService, queryAnswer } from "../fakes/demo-service.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";
import { slowGzip } from "../fakes/slow-gzip.ts";
import { until } from "../fakes/until.ts";
import { QUERY, WATCH } from "./h2-frames.ts";

let listener: GrpcListener;
let session: ClientHttp2Session;
const { chain, observed } = demoChain();
const { service: discovery, held } = demoService();

beforeAll(async () => {
  const served = listServices([discovery]);
  listener = await startGrpcListener({
    host: "127.0.0.1",
    port: 0,
    ...served,
    chain,
    limits: GRPC_LIMITS,
    log: { info: () => {}, warn: () => {} },
  });
  session = connect(`http://${listener.acceptor.address}`);
});

afterAll(async () => {
  session.destroy();
  await listener.stop(100);
});

interface Answer {
  readonly http: number | undefined;
  /** Of `grpc-status`, from headers or trailers. */
  readonly code: string | undefined;
  readonly reason: string | undefined;
}

/** One call with these headers over the usual ones and these DATA chunks. */
function raw(headers: OutgoingHttpHeaders, chunks: readonly Uint8Array[] = [Buffer.alloc(5)]): Promise<Answer> {
  return new Promise((resolve) => {
    const stream = session.request({ ":method": "POST", ":path": QUERY, "content-type": "application/grpc", te: "trailers", ...headers });
    let first: IncomingHttpHeaders & { ":status"?: number | undefined } = {};
    let last: IncomingHttpHeaders = {};
    stream.on("response", (got) => {
      first = got;
    });
    stream.on("trailers", (got: IncomingHttpHeaders) => {
      last = got;
    });
    stream.on("data", () => {});
    stream.on("error", () => {});
    stream.on("close", () => {
      const all = { ...first, ...last };
      const details = all["grpc-status-details-bin"];
      resolve({
        http: first[":status"],
        code: all["grpc-status"]?.toString(),
        reason: details === undefined ? undefined : reasonIn(String(details)),
      });
    });
    for (const chunk of chunks) stream.write(chunk);
    stream.end();
  });
}

function reasonIn(base64: string): string | undefined {
  const status = fromBinary(StatusSchema, Buffer.from(base64, "base64"));
  return status.details.map((any) => anyUnpack(any, ErrorInfoSchema)).find((info) => info !== undefined)?.reason;
}

const framed = (message: Uint8Array, flag = 0) => {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
};
const query = (namespace: string) => toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, { namespace }));
const HEALTH = "/grpc.health.v1.Health/Check";
/** A field of a later version, with a million bytes: 1000, whose length follows its tag. */
const UNKNOWN_MEGABYTE = Buffer.concat([Buffer.of(0xc2, 0x3e, 0xc0, 0x84, 0x3d), Buffer.alloc(1e6)]);

test.each([
  { timeout: "1S", code: "0" },
  { timeout: "99999999H", code: "0" },
  { timeout: "-1S", code: "3" },
  { timeout: "1.5S", code: "3" },
  { timeout: "forever", code: "3" },
  { timeout: "123456789S", code: "3" },
  { timeout: "0n", code: "4" },
  { timeout: "1n", code: "4" },
])("grpc-timeout $timeout answers $code", async ({ timeout, code }) => {
  expect((await raw({ "grpc-timeout": timeout })).code).toBe(code);
});

test.each([
  { timeout: "99999999H", code: "0" },
  { timeout: "-1S", code: "3" },
])("grpc-timeout $timeout of a health check answers $code: grpc-js alone would wrap around or fail", async ({ timeout, code }) => {
  listener.setServing(true);
  expect((await raw({ ":path": HEALTH, "grpc-timeout": timeout })).code).toBe(code);
});

test.each([
  { path: HEALTH, sizeBytes: 16_384, code: "5" },
  { path: HEALTH, sizeBytes: 16_385, code: "8" },
  { path: QUERY, sizeBytes: 16_385, code: "3" },
])(
  "a request of $sizeBytes bytes to $path answers $code: only the name of a service is never longer, and a namespace is read and refused",
  async ({ path, sizeBytes, code }) => {
    const name = "x".repeat(sizeBytes - 4); // Behind a tag of one byte and a length of three.
    const request = Buffer.concat([
      Buffer.of(0x0a, (name.length & 127) | 128, (name.length >> 7) | 128, name.length >> 14),
      Buffer.from(name),
    ]);
    expect((await raw({ ":path": path }, [framed(request)])).code).toBe(code);
  },
);

test.each<{ name: string; chunks: Uint8Array[]; code: string }>([
  { name: "no message", chunks: [], code: "12" },
  { name: "half a prefix", chunks: [Buffer.of(0, 0)], code: "3" },
  { name: "half a message", chunks: [framed(query("eu")).subarray(0, 7)], code: "3" },
  { name: "two messages", chunks: [framed(query("eu")), framed(query("us"))], code: "12" },
  { name: "two messages in one frame", chunks: [Buffer.concat([framed(query("eu")), framed(query("us"))])], code: "12" },
  { name: "a message that says it is compressed", chunks: [framed(query("eu"), 1)], code: "13" },
  { name: "a message with a reserved flag", chunks: [framed(query("eu"), 2)], code: "3" },
  { name: "a prefix of 4 GiB", chunks: [Buffer.of(0, 255, 255, 255, 255)], code: "8" },
  { name: "a message byte by byte", chunks: [...framed(query("eu"))].map((byte) => Buffer.of(byte)), code: "0" },
])("$name answers $code", async ({ chunks, code }) => {
  expect((await raw({}, chunks)).code).toBe(code);
});

test.each<{ name: string; encoding: string; chunks: Uint8Array[]; code: string }>([
  { name: "gzip", encoding: "gzip", chunks: [framed(gzipSync(query("eu")), 1)], code: "0" },
  { name: "deflate", encoding: "deflate", chunks: [framed(deflateSync(query("eu")), 1)], code: "0" },
  { name: "a plain message where gzip was agreed", encoding: "gzip", chunks: [framed(query("eu"))], code: "0" },
  { name: "gzip byte by byte", encoding: "gzip", chunks: [...framed(gzipSync(query("eu")), 1)].map((byte) => Buffer.of(byte)), code: "0" },
  { name: "an empty compressed message", encoding: "gzip", chunks: [framed(new Uint8Array(), 1)], code: "0" },
  {
    name: "a megabyte of gzip",
    encoding: "gzip",
    chunks: [framed(gzipSync(Buffer.concat([query("eu"), UNKNOWN_MEGABYTE])), 1)],
    code: "0",
  },
  { name: "gzip that is none", encoding: "gzip", chunks: [framed(Buffer.alloc(40), 1)], code: "3" },
  {
    name: "gzip cut short, so that its last bytes say a length that so few never have",
    encoding: "gzip",
    chunks: [framed(gzipSync(query("a".repeat(99))).subarray(0, 20), 1)],
    code: "3",
  },
  {
    name: "gzip that says it is shorter than it is",
    encoding: "gzip",
    chunks: [framed(lying(gzipSync(Buffer.alloc(1e6)), 10), 1)],
    code: "3",
  },
  { name: "gzip that says it is longer than it is", encoding: "gzip", chunks: [framed(lying(gzipSync(query("eu")), 1e6), 1)], code: "3" },
  { name: "much gzip that becomes nothing", encoding: "gzip", chunks: [framed(slowGzip(100_000, 0), 1)], code: "3" },
  { name: "gzip of more than a message may be", encoding: "gzip", chunks: [framed(gzipSync(Buffer.alloc(5e6)), 1)], code: "8" },
  { name: "deflate of more than a message may be", encoding: "deflate", chunks: [framed(deflateSync(Buffer.alloc(5e6)), 1)], code: "8" },
  { name: "an encoding that is not read here", encoding: "br", chunks: [framed(query("eu"), 1)], code: "12" },
])("$name answers $code", async ({ encoding, chunks, code }) => {
  expect((await raw({ "grpc-encoding": encoding }, chunks)).code).toBe(code);
});

/** Another length at the end of gzip. */
function lying(bytes: Buffer, size: number): Buffer {
  bytes.writeUInt32LE(size, bytes.length - 4);
  return bytes;
}

test.each<{ name: string; headers: OutgoingHttpHeaders; http: number }>([
  { name: "a JSON body", headers: { "content-type": "application/json" }, http: 415 },
  { name: "no content type", headers: { "content-type": undefined }, http: 415 },
  { name: "messages in another codec", headers: { "content-type": "application/grpc+json" }, http: 415 },
  { name: "a type that only begins like gRPC's", headers: { "content-type": "application/grpc-web" }, http: 415 },
  { name: "a type with a parameter", headers: { "content-type": "application/grpc+proto; charset=utf-8" }, http: 200 },
  { name: "a GET", headers: { ":method": "GET" }, http: 405 },
  { name: "a DELETE", headers: { ":method": "DELETE" }, http: 405 },
])("$name is answered $http", async ({ headers, http }) => {
  expect((await raw(headers)).http).toBe(http);
});

test("a content type that is not gRPC's is named in the answer 415, with the one that is wanted", async () => {
  const stream = session.request({ ":method": "POST", ":path": QUERY, "content-type": "application/json" });
  stream.setEncoding("utf8").end("{}");
  const said: string[] = [];
  for await (const text of stream) said.push(String(text));
  expect(said.join("")).toBe(
    'content-type is "application/json"; this port accepts only gRPC: application/grpc or application/grpc+proto\n',
  );
});

test.each([
  "/",
  "/x",
  "/waymark.discovery.v1.DiscoveryService/",
  "/waymark.discovery.v1.DiscoveryService/NoSuch",
  `/${"x".repeat(5_000)}`,
  "/%00/%ff",
])("path %s is unimplemented, with details", async (path) => {
  expect(await raw({ ":path": path })).toMatchObject({ http: 200, code: "12", reason: "UNIMPLEMENTED" });
});

test("an encoding nobody knows is unimplemented", async () => {
  expect((await raw({ "grpc-encoding": "lzma" }, [framed(query("eu"), 1)])).code).toBe("12");
});

test("a call that is cancelled while its handler runs is not answered, and is counted when it settles", async () => {
  const countBefore = observed.length;
  const stream = session.request({ ":method": "POST", ":path": QUERY, "content-type": "application/grpc" });
  stream.on("error", () => {});
  stream.end(framed(query("held")));
  await until("its handler runs", () => held.length === 1);
  stream.close(8);
  // On the same connection, so that the listener knows of the cancel once this is answered.
  expect((await raw({})).code).toBe("0");
  expect(observed).toHaveLength(countBefore + 1);
  held[0]?.(queryAnswer(5_000_000));
  // The answer to a stream that is gone would be a fault of the handler's call, or of the process.
  await until("it is counted", () => observed.length === countBefore + 2);
  expect(observed.at(-1)).toMatchObject({ method: "CatalogQuery", code: "OK" });
  // Were it charged to its connection, the next call would wait until it is taken.
  let next: string | undefined;
  void raw({}).then(({ code }) => (next = code));
  await until("the next call is answered", () => next === "0");
});

test("the setting limits the long-lived streams of one connection", async () => {
  const many = connect(`http://${listener.acceptor.address}`);
  const limits: (number | undefined)[] = [];
  many.on("remoteSettings", (settings: Settings) => limits.push(settings.maxConcurrentStreams));
  let openCount = 0;
  for (let i = 0; i < 900; i++) {
    const stream = many.request({ ":method": "POST", ":path": WATCH, "content-type": "application/grpc", te: "trailers" });
    stream.on("response", () => (openCount += 1));
    stream.on("error", () => {});
    stream.end(Buffer.alloc(5));
  }
  await until("all are open", () => openCount === 900);
  expect(limits).toEqual([1_000]);
  many.destroy();
  // The other connection's calls go on meanwhile.
  expect((await raw({}, [framed(query("eu"))])).code).toBe("0");
});
