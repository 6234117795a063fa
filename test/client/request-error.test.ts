import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema, anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { decodeFailure, transportWords } from "../../src/client/failure.ts";

const INFO_URL = "type.googleapis.com/google.rpc.ErrorInfo";
const failed = { code: 5, message: "not_found: no such entry", isReachable: true, server: "s:1" };

test("reason, violations, retry and facts come from the details", () => {
  const details = [
    anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: "LEASE_NOT_FOUND", domain: "waymark", metadata: { lease: "l" } })),
    anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [{ field: "f", description: "d" }] })),
    anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(1500) })),
  ];
  const { facts, message } = decodeFailure({ ...failed, details: toBinary(StatusSchema, create(StatusSchema, { code: 5, details })) });
  expect(message).toBe("not_found: no such entry");
  expect(facts).toMatchObject({
    code: "NOT_FOUND",
    reason: "LEASE_NOT_FOUND",
    violations: [{ field: "f", description: "d" }],
    retryMs: 1500,
    metadata: { lease: "l" },
  });
});

test.each([
  { name: "none", details: undefined },
  { name: "bytes that are no status", details: new Uint8Array([255, 255, 255]) },
  {
    name: "another product's",
    details: toBinary(
      StatusSchema,
      create(StatusSchema, { details: [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: "X", domain: "other" }))] }),
    ),
  },
  {
    name: "one whose own bytes do not decode",
    details: toBinary(
      StatusSchema,
      create(StatusSchema, { details: [create(AnySchema, { typeUrl: INFO_URL, value: new Uint8Array([0x0a, 0x7f, 1]) })] }),
    ),
  },
])("details: $name leave the code to tell the failure", ({ details }) => {
  expect(decodeFailure({ ...failed, details }).facts).toMatchObject({
    code: "NOT_FOUND",
    reason: undefined,
    violations: [],
    retryMs: undefined,
  });
});

test("a Waymark reason proves that the server was reached", () => {
  const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: "DRAINING", domain: "waymark" }))];
  const bytes = toBinary(StatusSchema, create(StatusSchema, { details }));
  expect(decodeFailure({ ...failed, code: 14, isReachable: false, details: bytes }).facts.isReachable).toBe(true);
  expect(decodeFailure({ ...failed, code: 14, isReachable: false, details: undefined }).facts.isReachable).toBe(false);
});

test.each([
  { said: "getaddrinfo ENOTFOUND nosuch.invalid", words: "no address is known for nosuch.invalid:17420" },
  { said: "connect ECONNREFUSED 127.0.0.1:1", words: "connect ECONNREFUSED 127.0.0.1:1" },
  { said: "write EPROTO 80:error:0A00010B:SSL routines:wrong version number:record.c:1:", words: "the server does not speak TLS" },
  {
    said: "write EPROTO 80:error:0A000119:SSL routines:bad:record.c:1:",
    words: "write EPROTO 80:error:0A000119:SSL routines:bad:record.c:1:",
  },
  {
    said: "unable to verify the first certificate; if the root CA is installed locally, try running Node.js with --use-system-ca",
    words: "unable to verify the first certificate",
  },
  { said: "the connection was lost: Protocol error", words: "the server does not speak gRPC" },
  {
    said: "the server returned HTTP status 404 instead of a gRPC response",
    words: "the server does not speak gRPC: it answered with HTTP 404",
  },
  { said: "the connection was lost", words: "no connection could be made" },
  { said: "the connection was closed during the HTTP/2 handshake; the server may require TLS", words: "no connection could be made" },
  { said: "not_ready: the catalog is loading", words: "not_ready: the catalog is loading" },
])("of a connection the system's own words are told: $words", ({ said, words }) => {
  expect(transportWords(said, "nosuch.invalid:17420")).toBe(words);
});
