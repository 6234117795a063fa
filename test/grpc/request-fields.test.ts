/** The headers that a client sends. */
import { expect, test } from "vitest";
import { requestFields } from "../../src/grpc/client/request-fields.ts";
import { acceptsGzip, encodingOf } from "../../src/grpc/wire/encoding.ts";
import { Metadata } from "../../src/grpc/wire/metadata.ts";

test("a request says what it needs, and its metadata after that", () => {
  const plain = { path: "/t/U", isCompressed: false, acceptsCompressed: false, userAgent: "test" };
  const usual = { ":method": "POST", ":path": "/t/U", te: "trailers", "content-type": "application/grpc+proto", "user-agent": "test" };
  expect(requestFields(plain)).toEqual(usual);
  const all = { ...plain, isCompressed: true, acceptsCompressed: true, timeoutMs: 250, metadata: new Metadata().add("x-a", "1") };
  expect(requestFields(all)).toEqual({
    ...usual,
    "grpc-timeout": "250000u",
    "grpc-encoding": "gzip",
    "grpc-accept-encoding": "identity,deflate,gzip",
    "x-a": "1",
  });
});

test.each([
  [undefined, undefined, false],
  ["identity", undefined, false],
  ["gzip", "gzip", true],
  ["deflate", "deflate", false],
  ["deflate, gzip", "unknown", true],
  ["br", "unknown", false],
])("%s as an encoding is %s, and accepts gzip: %s", (header, encoding, accepts) => {
  expect([encodingOf(header), acceptsGzip(header)]).toEqual([encoding, accepts]);
});
