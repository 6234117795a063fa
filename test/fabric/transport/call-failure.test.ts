/** What people are told of a call to another node that came to nothing. */
import { expect, test } from "vitest";
import { DialError, isRefusal, outcomeOf } from "../../../src/fabric/transport/call-failure.ts";
import { encodeCallResponse } from "../../../src/fabric/wire/call-codec.ts";
import { GrpcMetadata } from "../../../src/grpc/wire/metadata.ts";
import { CODES } from "../../../src/lib/errors.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";

const ANSWER = {
  message: undefined,
  metadata: new GrpcMetadata(),
  trailers: new GrpcMetadata(),
  isUnprocessed: false,
  isMalformed: false,
  isFromServer: true,
  dialError: undefined,
};
const said = (code: (typeof CODES)[keyof typeof CODES], message = "") => ({ ...ANSWER, status: { code, message } });

test.each([
  { name: "no fabric listener", answer: said(CODES.UNIMPLEMENTED), why: /^the server is not a fabric listener/ },
  { name: "a door that wants credentials", answer: said(CODES.UNAUTHENTICATED), why: /^the server is not a fabric listener/ },
  {
    name: "what is no gRPC",
    answer: { ...said(CODES.UNKNOWN), isFromServer: false, isMalformed: true },
    why: /^the server is not a fabric listener/,
  },
  {
    name: "a refusal without a reason",
    answer: said(CODES.PERMISSION_DENIED, "refused"),
    why: /^the node rejects calls from this node: different cluster token/,
  },
  {
    name: "a refusal with its reason",
    answer: said(CODES.INVALID_ARGUMENT, "wrong\ncluster"),
    why: /^the node rejects calls from this node: wrong.cluster$/,
  },
  {
    name: "a certificate that is not taken",
    answer: { ...said(CODES.UNAVAILABLE), dialError: new DialError("a:1: no", { isRefused: true, hasEnded: false }) },
    why: /^a:1: no$/,
  },
])("$name turned us away", ({ answer, why }) => {
  const { refusal, failure, response } = outcomeOf("pushPull", answer, undefined);
  expect([failure, response]).toEqual([{ why: refusal, isRefused: true }, undefined]);
  expect(refusal).toMatch(why);
  expect(outcomeOf("probe", answer, undefined)).toEqual({ refusal });
});

test("a node that is busy, stops, or is not reached turned nobody away", () => {
  for (const code of [CODES.RESOURCE_EXHAUSTED, CODES.UNAVAILABLE, CODES.DEADLINE_EXCEEDED])
    expect(outcomeOf("pushPull", said(code), undefined)).toEqual({});
  expect(outcomeOf("pushPull", { ...said(CODES.PERMISSION_DENIED), isFromServer: false }, undefined)).toEqual({});
  const unreached = { ...said(CODES.UNAVAILABLE), dialError: new DialError("a:1: ECONNREFUSED", { isRefused: false, hasEnded: false }) };
  expect(outcomeOf("pushPull", unreached, undefined)).toEqual({ failure: { why: "a:1: ECONNREFUSED", isRefused: false } });
});

const PROVES = { address: "b:1", isLoopback: false, clusterToken: "" };
const message = encodeCallResponse({ kind: "probe", from: nodeRef("b"), updates: [] });
const answered = (more: object = {}) => ({ ...said(CODES.OK), message, ...more });

test("an answer is that of the node whose certificate its connection has, and of that node's cluster", () => {
  const response = { kind: "probe", from: nodeRef("b"), updates: [] };
  expect(outcomeOf("probe", answered(), { ...PROVES, certificate: undefined })).toEqual({ response });
  expect(outcomeOf("probe", answered(), { ...PROVES, certificate: { nodeId: "b", clusterId: "c1" } })).toEqual({ response });
  const other = { ...PROVES, certificate: { nodeId: "c", clusterId: "c1" } };
  for (const [certificate, of] of [
    [other.certificate, "node c of cluster c1"],
    [{ nodeId: "b", clusterId: "c7" }, "node b of cluster c7"],
  ] as const)
    expect(outcomeOf("probe", answered(), { ...PROVES, certificate })).toEqual({
      refusal: `node b of cluster c1 answered with the certificate of ${of}`,
      isStranger: true,
    });
  expect(outcomeOf("probe", answered({ message: Uint8Array.of(255) }), other)).toMatchObject({ isStranger: true });
});

test.each([
  { code: "ERR_SSL_WRONG_VERSION_NUMBER", isUnauthorised: false, want: true },
  { code: "EPROTO", isUnauthorised: false, want: true },
  { code: "ERR_HTTP2_ERROR", isUnauthorised: false, want: true },
  { code: "ECONNRESET", isUnauthorised: true, want: true },
  { code: "ECONNRESET", isUnauthorised: false, want: false },
  { code: "", isUnauthorised: false, want: false },
])("a socket that fails with $code, unauthorised $isUnauthorised, was refused: $want", ({ code, isUnauthorised, want }) => {
  expect(isRefusal(code, isUnauthorised)).toBe(want);
});
