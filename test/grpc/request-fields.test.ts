/** The headers that a client sends. */
import { expect, test } from "vitest";
import { requestFields } from "../../src/grpc/client/request-fields.ts";
import { encodingOf } from "../../src/grpc/wire/encoding.ts";
import { Metadata } from "../../src/grpc/wire/metadata.ts";

test("a request says what it needs, and its metadata after that", () => {
  const plain = { path: "/t/U", sendsGzip: false, acceptsCompressed: false };
  const usual = { ":method": "POST", ":path": "/t/U", te: "trailers", "content-type": "application/grpc+proto", "user-agent": "waymark" };
  expect(requestFields(plain)).toEqual(usual);
  const all = { ...plain, sendsGzip: true, acceptsCompressed: true, timeoutMs: 250, metadata: new Metadata().add("x-a", "1") };
  expect(requestFields(all)).toEqual({
    ...usual,
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
