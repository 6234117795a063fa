/** Statuses in trailers: what is written can be read, whatever it is, and what others write never loses the code. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  codeOfHttpStatus,
  codeOfReset,
  decodeStatusMessage,
  encodeStatusMessage,
  StatusError,
  statusFields,
  statusIn,
  statusOfThrown,
} from "../../src/grpc/wire/status.ts";
import { CODES, codeName, WaymarkError } from "../../src/lib/errors.ts";

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
  const status = { code: CODES.NOT_FOUND, message: "no ü", details: Uint8Array.of(1, 2, 250) };
  expect(statusIn(statusFields(status))).toEqual(status);
  expect(statusFields({ code: CODES.OK, message: "" })).toEqual({ "grpc-status": "0" });
});

test.each([
  ["17", CODES.UNKNOWN],
  ["-1", CODES.UNKNOWN],
  ["x", CODES.UNKNOWN],
  ["", CODES.UNKNOWN],
  ["005", CODES.UNKNOWN],
  ["16", CODES.UNAUTHENTICATED],
  ["05", CODES.NOT_FOUND],
])("a code written %j is %i", (text, code) => {
  expect(statusIn({ "grpc-status": text })?.code).toBe(code);
});

test("fields without a code have no status, and details that are no base64 are left out", () => {
  expect(statusIn({ "grpc-message": "x" })).toBeUndefined();
  expect(statusIn({ "grpc-status": ["3", "0"], "grpc-status-details-bin": "***" })).toEqual({ code: 3, message: "", details: undefined });
});

test.each([
  [200, CODES.UNKNOWN],
  [400, CODES.INTERNAL],
  [401, CODES.UNAUTHENTICATED],
  [403, CODES.PERMISSION_DENIED],
  [404, CODES.UNIMPLEMENTED],
  [429, CODES.UNAVAILABLE],
  [500, CODES.UNKNOWN],
  [502, CODES.UNAVAILABLE],
  [503, CODES.UNAVAILABLE],
  [504, CODES.UNAVAILABLE],
])("HTTP status %i without a gRPC status is %i", (http, code) => {
  expect(codeOfHttpStatus(http)).toBe(code);
});

test.each([
  [0, CODES.INTERNAL],
  [1, CODES.INTERNAL],
  [2, CODES.INTERNAL],
  [3, CODES.INTERNAL],
  [7, CODES.UNAVAILABLE],
  [8, CODES.CANCELLED],
  [11, CODES.RESOURCE_EXHAUSTED],
  [12, CODES.PERMISSION_DENIED],
  [13, CODES.INTERNAL],
])("a stream reset with HTTP/2 error %i ends with %i", (http2, code) => {
  expect(codeOfReset(http2)).toBe(code);
});

test("whatever is thrown has a status: a bug's words are not in it", () => {
  const status = { code: CODES.ABORTED, message: "later" } as const;
  expect(statusOfThrown(new StatusError(status))).toBe(status);
  expect(statusOfThrown(new WaymarkError("quota_exceeded", "full"))).toEqual({
    code: CODES.RESOURCE_EXHAUSTED,
    message: "quota_exceeded: full",
  });
  expect(statusOfThrown(new TypeError("secret"))).toEqual({ code: CODES.INTERNAL, message: "the server failed to process this request" });
  expect([new StatusError(status).message, codeName(5)]).toEqual(["ABORTED: later", "NOT_FOUND"]);
});
