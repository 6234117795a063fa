/** Calls that no client library would make, and what a server of src/grpc answers them: the codes of gRPC's statuscodes.md and compression.md. */
import { type ClientHttp2Session, connect, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { deflateSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import { methods } from "../fakes/grpc-methods.ts";
import { closeAll, type Serving, serve } from "../fakes/grpc-room.ts";
import { until } from "../fakes/until.ts";

let serving: Serving;
let session: ClientHttp2Session;

beforeAll(async () => {
  serving = await serve({ methods: methods().methods, inflater: new SharedInflater(), limits: { maxReceiveBytes: 4_000_000 } });
  session = connect(`http://${serving.address}`);
});

afterAll(() => {
  session.destroy();
  closeAll();
});

interface Answer {
  readonly http: number | undefined;
  /** Of `grpc-status`, from headers or trailers. */
  readonly code: string | undefined;
  readonly headers: IncomingHttpHeaders;
}

/** One call with these headers over the usual ones and these DATA chunks. */
function raw(headers: OutgoingHttpHeaders, chunks: readonly Uint8Array[] = [Buffer.alloc(5)]): Promise<Answer> {
  return new Promise((resolve) => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/t/Echo",
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    let all: IncomingHttpHeaders & { ":status"?: number | undefined } = {};
    const came = (got: IncomingHttpHeaders) => {
      all = { ...all, ...got };
    };
    stream.on("response", came);
    stream.on("trailers", came);
    stream.on("data", () => {});
    stream.on("error", () => {});
    stream.on("close", () => resolve({ http: all[":status"], code: all["grpc-status"]?.toString(), headers: all }));
    for (const chunk of chunks) stream.write(chunk);
    stream.end();
  });
}

const framed = (message: Uint8Array, flag = 0) => {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
};
const message = Buffer.from("message");

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

test.each<{ name: string; path?: string; chunks: Uint8Array[]; code: string }>([
  { name: "no message", chunks: [], code: "12" },
  { name: "no message for a server stream", path: "/t/Count", chunks: [], code: "12" },
  { name: "half a prefix", chunks: [Buffer.of(0, 0)], code: "3" },
  { name: "half a message", chunks: [framed(message).subarray(0, 7)], code: "3" },
  { name: "half a message of a stream", path: "/t/Talk", chunks: [framed(message), framed(message).subarray(0, 7)], code: "3" },
  { name: "two messages", chunks: [framed(message), framed(message)], code: "12" },
  { name: "two messages in one frame", chunks: [Buffer.concat([framed(message), framed(message)])], code: "12" },
  { name: "a message that says it is compressed", chunks: [framed(message, 1)], code: "13" },
  { name: "one of a stream that says so", path: "/t/Sum", chunks: [framed(message, 1)], code: "13" },
  { name: "a message with a reserved flag", chunks: [framed(message, 2)], code: "3" },
  { name: "a prefix of 4 GiB", chunks: [Buffer.of(0, 255, 255, 255, 255)], code: "8" },
  { name: "a prefix of 4 GiB in a stream", path: "/t/Talk", chunks: [Buffer.of(0, 255, 255, 255, 255)], code: "8" },
  { name: "a message byte by byte", chunks: [...framed(message)].map((byte) => Buffer.of(byte)), code: "0" },
])("$name answers $code", async ({ path = "/t/Echo", chunks, code }) => {
  expect((await raw({ ":path": path }, chunks)).code).toBe(code);
  await until("nothing is held", () => serving.server.counts().bufferedBytes === 0);
});

test.each<{ name: string; encoding: string; chunks: Uint8Array[]; code: string }>([
  { name: "gzip", encoding: "gzip", chunks: [framed(gzipSync(message), 1)], code: "0" },
  { name: "deflate", encoding: "deflate", chunks: [framed(deflateSync(message), 1)], code: "0" },
  { name: "a plain message where gzip was agreed", encoding: "gzip", chunks: [framed(message)], code: "0" },
  { name: "gzip byte by byte", encoding: "gzip", chunks: [...framed(gzipSync(message), 1)].map((byte) => Buffer.of(byte)), code: "0" },
  { name: "bytes that are not gzip", encoding: "gzip", chunks: [framed(Buffer.alloc(40), 1)], code: "3" },
  { name: "a gzip bomb", encoding: "gzip", chunks: [framed(gzipSync(Buffer.alloc(50_000_000)), 1)], code: "8" },
  { name: "a deflate bomb", encoding: "deflate", chunks: [framed(deflateSync(Buffer.alloc(50_000_000)), 1)], code: "8" },
])("$name answers $code", async ({ encoding, chunks, code }) => {
  expect((await raw({ "grpc-encoding": encoding }, chunks)).code).toBe(code);
});

test("an unknown encoding is refused with those that are known", async () => {
  const { code, headers } = await raw({ "grpc-encoding": "br" }, [framed(message, 1)]);
  expect([code, headers["grpc-accept-encoding"]]).toEqual(["12", "identity,deflate,gzip"]);
});

test.each<{ name: string; headers: OutgoingHttpHeaders; http: number; code?: string }>([
  { name: "another verb", headers: { ":method": "PUT" }, http: 405 },
  { name: "another content type", headers: { "content-type": "application/json" }, http: 415 },
  { name: "gRPC-Web", headers: { "content-type": "application/grpc-web" }, http: 415 },
  { name: "messages in JSON", headers: { "content-type": "application/grpc+json" }, http: 415 },
  { name: "a content type with parameters", headers: { "content-type": "application/grpc; charset=utf-8" }, http: 200, code: "0" },
  { name: "an unknown service", headers: { ":path": "/no.Such/Method" }, http: 200, code: "12" },
  { name: "an unknown method", headers: { ":path": "/t/Nothing" }, http: 200, code: "12" },
  { name: "a path without a method", headers: { ":path": "/" }, http: 200, code: "12" },
  { name: "metadata in bytes that are not base64", headers: { ":path": "/t/Meta", "x-a-bin": "*" }, http: 200, code: "3" },
  { name: "no te header", headers: { te: undefined }, http: 200, code: "0" },
])("$name answers HTTP $http and $code", async ({ headers, http, code }) => {
  const answer = await raw(headers);
  expect([answer.http, answer.code]).toEqual([http, code]);
});

test("a refusal that needs no more of the request ends the stream, and the connection goes on", async () => {
  const stream = session.request({ ":method": "POST", ":path": "/t/Talk", "content-type": "application/grpc", te: "trailers" });
  stream.on("error", () => {});
  stream.on("data", () => {});
  stream.write(Buffer.of(9, 0, 0, 0, 0));
  await until("it is over", () => stream.closed);
  expect((await raw({})).code).toBe("0");
});
