/** What a probe understands of an answer. */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { HealthCheckRequestSchema, HealthCheckResponseSchema } from "../../../gen/grpc/health/v1/health_pb.js";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import {
  healthOutcome,
  healthRequest,
  httpRequest,
  MAX_ANSWER_BYTES,
  StatusReader,
} from "../../../src/discovery/checks/probe-protocols.ts";
import { failed, PASSED } from "../../../src/discovery/checks/threshold.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");

test("a request says whom it is for, and nothing of this node", () => {
  expect(httpRequest({ host: "::1", port: 80, path: "/a?b=c" })).toBe(
    "GET /a?b=c HTTP/1.1\r\nhost: [::1]:80\r\nuser-agent: waymark-check\r\naccept: */*\r\nconnection: close\r\n\r\n",
  );
});

test.each([
  ["HTTP/1.1 200 OK\r\nx: y\r\n\r\nbody", 200],
  ["HTTP/1.0 404 Not Found\r\n", 404],
  ["HTTP/1.1 204\r\n", 204],
  ["HTTP/1.1 503 \n", 503],
  ["HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n\r\n", 302],
  ["HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 x\r\n", 500],
  ["HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n", undefined],
  ["", undefined],
  ["HTT", undefined],
  ["HTTP/1.1 20", undefined],
  ["SSH-2.0-OpenSSH\r\n", "malformed"],
  ["HTTP/2 200\r\n", "malformed"],
  ["HTTP/1.1 2000 x\r\n", "malformed"],
  ["HTTP/1.1 099 x\r\n", "malformed"],
  ["HTTP/1.1 OK\r\n", "malformed"],
  ["\0\0\0\0", "malformed"],
  [`HTTP/1.1 200 ${"x".repeat(MAX_ANSWER_BYTES)}`, "malformed"],
  [`HTTP/1.1 103 x\r\n${"a: b\r\n".repeat(MAX_ANSWER_BYTES)}\r\nHTTP/1.1 200 OK\r\n`, "malformed"],
])("of %j the status is %s", (text, status) => {
  expect(new StatusReader().push(bytes(text))).toBe(status);
});

test("an answer in pieces is the answer in one, and never more than 4 KiB of it are looked at", () => {
  const text = fc.oneof(
    fc.constantFrom("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 404 x\r\n", "HTTP/1.1 103 x\r\na: b\r\n", "garbage"),
    fc.string({ unit: "binary-ascii", maxLength: 50 }),
  );
  fc.assert(
    fc.property(text, fc.integer({ min: 1, max: 9 }), (said, size) => {
      const whole = new StatusReader().push(bytes(said));
      const reader = new StatusReader();
      let found: ReturnType<StatusReader["push"]>;
      for (let at = 0; at < said.length && found === undefined; at += size) found = reader.push(bytes(said.slice(at, at + size)));
      expect(found).toBe(whole);
    }),
  );
  const late = new StatusReader();
  expect(late.push(bytes(`HTTP/1.1 103 x\r\n${"a".repeat(MAX_ANSWER_BYTES - 30)}`))).toBeUndefined();
  expect(late.push(bytes("\r\n\r\nHTTP/1.1 200 OK\r\n"))).toBe("malformed");
});

test("a health request is that of the contract", () => {
  for (const service of ["", "waymark.v1.Health", "x".repeat(128)])
    expect(fromBinary(HealthCheckRequestSchema, healthRequest(service))).toMatchObject({ service });
});

const answer = (status: number) => toBinary(HealthCheckResponseSchema, create(HealthCheckResponseSchema, { status }));
const OK = { status: { code: 0 }, isFromServer: true, isMalformed: false, message: answer(1) };

test.each([
  ["SERVING", OK, PASSED],
  ["NOT_SERVING", { ...OK, message: answer(2) }, failed(FAILURE.NOT_SERVING)],
  ["a status of a later version", { ...OK, message: answer(9) }, failed(FAILURE.NOT_SERVING)],
  ["nothing", { ...OK, message: new Uint8Array() }, failed(FAILURE.NOT_SERVING)],
  ["no message", { ...OK, message: undefined }, failed(FAILURE.NOT_SERVING)],
  ["garbage", { ...OK, message: Buffer.from([255, 255]) }, failed(FAILURE.MALFORMED)],
  ["that it does not know the service", { ...OK, status: { code: 5 }, message: undefined }, failed(FAILURE.NOT_SERVING)],
  ["that it has no health", { ...OK, status: { code: 12 }, message: undefined }, failed(FAILURE.MALFORMED)],
  ["an answer that is no gRPC", { ...OK, isMalformed: true, isFromServer: false }, failed(FAILURE.MALFORMED)],
  ["nothing in time", { ...OK, status: { code: 4 }, isFromServer: false }, failed(FAILURE.TIMEOUT)],
  ["that it goes away", { ...OK, status: { code: 14 }, isFromServer: false }, failed(FAILURE.REFUSED)],
])("a server of gRPC that says %s", (_what, said, outcome) => {
  expect(healthOutcome(said, true)).toEqual(outcome);
});

test("a server that never greets in HTTP/2 is one of something else", () => {
  expect(healthOutcome({ ...OK, status: { code: 14 }, isFromServer: false }, false)).toEqual(failed(FAILURE.MALFORMED));
});
