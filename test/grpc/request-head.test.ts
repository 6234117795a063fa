/** What the headers of a request say, which requests are no gRPC, and what a client writes: a timeout is read as at least as long as it was. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { GrpcMetadata } from "../../src/grpc/wire/metadata.ts";
import { encodingOf, firstOf, formatTimeout, isGrpcType, parseTimeout, readHead, requestFields } from "../../src/grpc/wire/request-head.ts";

const usual = { ":method": "POST", ":path": "/t/Echo", "content-type": "application/grpc" };

test("a call's headers are read", () => {
  expect(readHead({ ...usual, "grpc-timeout": "2S", "grpc-encoding": "gzip", "grpc-accept-encoding": "identity,gzip" })).toEqual({
    kind: "call",
    path: "/t/Echo",
    timeoutMs: 2_000,
    encoding: "gzip",
  });
  expect(readHead({ ...usual, "grpc-encoding": "identity" })).toMatchObject({
    timeoutMs: undefined,
    encoding: undefined,
  });
});

test("what is no gRPC has an HTTP status, an unknown encoding a refusal, and a wrong timeout one that its method gives", () => {
  expect(readHead({ ...usual, ":method": "GET" })).toMatchObject({ kind: "http", headers: { ":status": "405", allow: "POST" } });
  expect(readHead({ ...usual, "content-type": "text/html" })).toMatchObject({ kind: "http", headers: { ":status": "415" } });
  expect(readHead({ ...usual, "grpc-encoding": "br" })).toMatchObject({ kind: "refused", error: { reason: "unimplemented" } });
  expect(readHead({ ...usual, "grpc-timeout": "x" })).toMatchObject({ kind: "call", timeoutMs: { reason: "invalid_argument" } });
});

test.each([
  ["application/grpc", true],
  ["application/grpc+proto", true],
  ["Application/GRPC", true],
  ["application/grpc;charset=utf-8", true],
  ["application/grpc ; x", true],
  ["application/grpc+json", false],
  ["application/grpc-web", false],
  ["application/grpcx", false],
  [undefined, false],
])("%s is gRPC's: %s", (type, isIt) => {
  expect(isGrpcType(type)).toBe(isIt);
});

test("the first of several values counts", () => {
  expect([firstOf(["a", "b"]), firstOf("c"), firstOf(undefined)]).toEqual(["a", "c", undefined]);
});

test("a request says what it needs, and its metadata after that", () => {
  const plain = { path: "/t/U", sendsGzip: false, acceptsCompressed: false };
  const least = { ":method": "POST", ":path": "/t/U", te: "trailers", "content-type": "application/grpc+proto", "user-agent": "waymark" };
  expect(requestFields(plain)).toEqual(least);
  const all = { ...plain, sendsGzip: true, acceptsCompressed: true, timeoutMs: 250, metadata: new GrpcMetadata().add("x-a", "1") };
  expect(requestFields(all)).toEqual({
    ...least,
    "grpc-timeout": "250000u",
    "grpc-encoding": "gzip",
    "grpc-accept-encoding": "identity,deflate,gzip",
    "x-a": "1",
  });
});

test.each([
  [undefined, undefined],
  ["identity", undefined],
  ["gzip", "gzip"],
  ["deflate", "deflate"],
  ["deflate, gzip", "unknown"],
  ["br", "unknown"],
])("%s as an encoding is %s", (header, encoding) => {
  expect(encodingOf(header)).toBe(encoding);
});

test.each([
  ["1n", 1e-6],
  ["5u", 5e-3],
  ["100m", 100],
  ["2S", 2_000],
  ["3M", 180_000],
  ["4H", 14_400_000],
  ["0S", 0],
  ["87600H", 87_600 * 3_600_000],
  ["87601H", undefined],
  ["99999999H", undefined],
  [undefined, undefined],
])("%s is %s ms", (text, ms) => {
  expect(parseTimeout(text)).toBe(ms);
});

test.each(["", "1", "S", "-1S", "1.5S", "123456789S", "1s", " 1S", "1S, 2S", "1 S", "1SS", "NaNm"])("%j is refused", (text) => {
  expect(parseTimeout(text)).toMatchObject({
    reason: "invalid_argument",
    message: expect.stringMatching(/grpc-timeout: invalid timeout ".*": expected 1 to 8 digits/) as string,
  });
});

test("a timeout that is written is read as no shorter, and at most a thousandth longer beyond 100 ms", () => {
  fc.assert(
    fc.property(fc.double({ min: 1e-6, max: 3e11, noNaN: true }), (ms) => {
      const text = formatTimeout(ms);
      expect(text).toMatch(/^\d{1,8}[HMSmun]$/);
      const read = Number(parseTimeout(text) ?? ms);
      expect(read).toBeGreaterThanOrEqual(ms * (1 - 1e-9));
      if (ms > 100) expect(read).toBeLessThanOrEqual(ms * 1.001);
    }),
  );
  expect([formatTimeout(0), formatTimeout(-5), formatTimeout(1e15)]).toEqual(["1n", "1n", "99999999H"]);
});
