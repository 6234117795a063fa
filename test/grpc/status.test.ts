/** Statuses in trailers: what is written can be read, whatever it is, and what others write never loses the code. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  codeOfHttpStatus,
  codeOfReset,
  decodeStatusMessage,
  encodeStatusMessage,
  STATUS,
  StatusError,
  statusFields,
  statusIn,
  statusName,
  statusOfThrown,
} from "../../src/grpc/wire/status.ts";
import { WaymarkError } from "../../src/lib/errors.ts";

test("a message comes back as it was, but for halves of surrogate pairs, and is printable ASCII on its way", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (message) => {
      const encoded = encodeStatusMessage(message);
      expect(encoded).toMatch(/^[\x20-\x7e]*$/);
      expect(decodeStatusMessage(encoded)).toBe(message.toWellFormed());
    }),
  );
});

test.each([
  ["plain words", "plain words"],
  ["100 %", "100 %25"],
  ["Tür", "T%C3%BCr"],
  ["a\nb", "a%0Ab"],
  ["🎉", "%F0%9F%8E%89"],
])("%j is written %s", (message, encoded) => {
  expect(encodeStatusMessage(message)).toBe(encoded);
});

test.each([
  ["50 % off", "50 % off"],
  ["%zz%4", "%zz%4"],
  ["%c3%bc", "ü"],
  ["%ff", "\ufffd"],
  ["%", "%"],
])("a message written %s reads %j: a status is never lost for its message", (encoded, message) => {
  expect(decodeStatusMessage(encoded)).toBe(message);
});

test("a status comes back from its fields", () => {
  const status = { code: STATUS.NOT_FOUND, message: "no ü", details: Uint8Array.of(1, 2, 250) };
  expect(statusIn(statusFields(status))).toEqual(status);
  expect(statusFields({ code: STATUS.OK, message: "" })).toEqual({ "grpc-status": "0" });
});

test.each([
  ["17", STATUS.UNKNOWN],
  ["-1", STATUS.UNKNOWN],
  ["x", STATUS.UNKNOWN],
  ["", STATUS.UNKNOWN],
  ["005", STATUS.UNKNOWN],
  ["16", STATUS.UNAUTHENTICATED],
  ["05", STATUS.NOT_FOUND],
])("a code written %j is %i", (text, code) => {
  expect(statusIn({ "grpc-status": text })?.code).toBe(code);
});

test("fields without a code have no status, and details that are no base64 are left out", () => {
  expect(statusIn({ "grpc-message": "x" })).toBeUndefined();
  expect(statusIn({ "grpc-status": ["3", "0"], "grpc-status-details-bin": "***" })).toEqual({ code: 3, message: "", details: undefined });
});

test.each([
  [200, STATUS.UNKNOWN],
  [400, STATUS.INTERNAL],
  [401, STATUS.UNAUTHENTICATED],
  [403, STATUS.PERMISSION_DENIED],
  [404, STATUS.UNIMPLEMENTED],
  [429, STATUS.UNAVAILABLE],
  [500, STATUS.UNKNOWN],
  [502, STATUS.UNAVAILABLE],
  [503, STATUS.UNAVAILABLE],
  [504, STATUS.UNAVAILABLE],
])("HTTP status %i without a gRPC status is %i", (http, code) => {
  expect(codeOfHttpStatus(http)).toBe(code);
});

test.each([
  [0, STATUS.INTERNAL],
  [1, STATUS.INTERNAL],
  [2, STATUS.INTERNAL],
  [3, STATUS.INTERNAL],
  [7, STATUS.UNAVAILABLE],
  [8, STATUS.CANCELLED],
  [11, STATUS.RESOURCE_EXHAUSTED],
  [12, STATUS.PERMISSION_DENIED],
  [13, STATUS.INTERNAL],
])("a stream reset with HTTP/2 error %i ends with %i", (http2, code) => {
  expect(codeOfReset(http2)).toBe(code);
});

test("whatever is thrown has a status: a bug's words are not in it", () => {
  const status = { code: STATUS.ABORTED, message: "later" } as const;
  expect(statusOfThrown(new StatusError(status))).toBe(status);
  expect(statusOfThrown(new WaymarkError("quota_exceeded", "full"))).toEqual({
    code: STATUS.RESOURCE_EXHAUSTED,
    message: "quota_exceeded: full",
  });
  expect(statusOfThrown(new TypeError("secret"))).toEqual({ code: STATUS.INTERNAL, message: "the server failed on this request" });
  expect([new StatusError(status).message, statusName(5)]).toEqual(["ABORTED: later", "NOT_FOUND"]);
});
