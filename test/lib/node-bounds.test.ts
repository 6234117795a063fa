import { expect, test } from "vitest";
import { factsBytes, NODE_HOST } from "../../src/lib/node-bounds.ts";

test.each([
  { host: "a.example", isHost: true },
  { host: "10.0.0.1", isHost: true },
  { host: "::1", isHost: true },
  { host: "fe80::1%eth0", isHost: true },
  { host: "a%eth0", isHost: false },
  { host: "a b", isHost: false },
  { host: "", isHost: false },
  { host: "a".repeat(254), isHost: false },
])("$host is a host that peers take: $isHost", ({ host, isHost }) => {
  expect(NODE_HOST.test(host)).toBe(isHost);
});

test("roles and labels are measured in bytes of UTF-8", () => {
  expect(factsBytes(["ab"], { rack: "é" })).toBe(2 + 4 + 2);
});
