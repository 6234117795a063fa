/** What people are told of a call to another node that came to nothing. */
import { expect, test } from "vitest";
import { callFailure, DialError } from "../../../src/fabric/transport/call-failure.ts";
import { Metadata } from "../../../src/grpc/wire/metadata.ts";
import { STATUS } from "../../../src/grpc/wire/status.ts";

const ANSWER = {
  message: undefined,
  metadata: new Metadata(),
  trailers: new Metadata(),
  isUnprocessed: false,
  isMalformed: false,
  isFromServer: true,
  dialError: undefined,
};
const said = (code: (typeof STATUS)[keyof typeof STATUS], message = "") => ({ ...ANSWER, status: { code, message } });

test.each([
  { name: "no fabric listener", answer: said(STATUS.UNIMPLEMENTED), why: /^what answers there is no fabric listener/ },
  { name: "a door that wants credentials", answer: said(STATUS.UNAUTHENTICATED), why: /^what answers there is no fabric listener/ },
  {
    name: "what is no gRPC",
    answer: { ...said(STATUS.UNKNOWN), isFromServer: false, isMalformed: true },
    why: /^what answers there is no/,
  },
  {
    name: "a refusal of an older node",
    answer: said(STATUS.PERMISSION_DENIED, "refused"),
    why: /^it refuses our calls: another cluster token/,
  },
  {
    name: "a refusal with its reason",
    answer: said(STATUS.INVALID_ARGUMENT, "wrong\ncluster"),
    why: /^it refuses our calls: wrong.cluster$/,
  },
  {
    name: "a certificate that is not taken",
    answer: { ...said(STATUS.UNAVAILABLE), dialError: new DialError("a:1: no", { isRefused: true }) },
    why: /^a:1: no$/,
  },
])("$name turned us away", ({ answer, why }) => {
  expect(callFailure(answer)).toMatchObject({ isRefused: true });
  expect(callFailure(answer)?.why).toMatch(why);
});

test("a node that is busy, stops, or is not reached turned nobody away", () => {
  for (const code of [STATUS.RESOURCE_EXHAUSTED, STATUS.UNAVAILABLE, STATUS.DEADLINE_EXCEEDED])
    expect(callFailure(said(code))).toBeUndefined();
  expect(callFailure({ ...said(STATUS.PERMISSION_DENIED), isFromServer: false })).toBeUndefined();
  const unreached = { ...said(STATUS.UNAVAILABLE), dialError: new DialError("a:1: ECONNREFUSED", { isRefused: false }) };
  expect(callFailure(unreached)).toEqual({ why: "a:1: ECONNREFUSED", isRefused: false });
});
