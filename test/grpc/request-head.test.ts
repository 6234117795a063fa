/** What headers of requests say, and which are no gRPC. */
import { expect, test } from "vitest";
import { firstOf, isGrpcType, readHead } from "../../src/grpc/server/request-head.ts";

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
