/** The properties of protocols. */
import { expect, test } from "vitest";
import { protocolOf, protocolWord, serverPort } from "../../src/lib/protocols.ts";

test.each([
  { word: "", means: { transport: "tcp", grpc: "possible" } },
  { word: "TCP", means: { transport: "tcp", grpc: "possible" } },
  { word: "udp", means: { transport: "udp", grpc: "no" } },
  { word: "h2c", means: { transport: "tcp", port: 80, isTls: false, grpc: "possible" } },
  { word: "http2", means: { transport: "tcp", port: 80, isTls: false, grpc: "possible" } },
  { word: "grpcs", means: { transport: "tcp", alpn: "h2", port: 443, isTls: true, grpc: "yes" } },
  { word: "constructor", means: { transport: "tcp", grpc: "no" } },
  { word: "x-own", means: { transport: "tcp", grpc: "no" } },
])("the protocol '$word' means $means", ({ word, means }) => {
  expect(protocolOf(word)).toEqual(means);
});

test("an absent protocol is tcp, and letter case does not count", () => {
  expect(["", "tcp", "TCP", "X-Own"].map(protocolWord)).toEqual(["tcp", "tcp", "tcp", "x-own"]);
});

test("a URL of a server without a port has the default port of its scheme", () => {
  expect(["grpc", "GRPCS", "http", "https", "ws", ""].map(serverPort)).toEqual([17_420, 443, 80, 443, undefined, undefined]);
});
