import { expect, test } from "vitest";
import { hostPort } from "../../src/lib/host-port.ts";

test.each([
  { host: "10.0.0.1", port: 80, want: "10.0.0.1:80" },
  { host: "node.example", port: 17_420, want: "node.example:17420" },
  { host: "::1", port: 53, want: "[::1]:53" },
])("$host and $port are written $want", ({ host, port, want }) => {
  expect(hostPort(host, port)).toBe(want);
});
