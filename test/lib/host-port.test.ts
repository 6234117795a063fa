import { expect, test } from "vitest";
import { hostPort, withoutMapping } from "../../src/lib/host-port.ts";

test.each([
  { host: "10.0.0.1", port: 80, want: "10.0.0.1:80" },
  { host: "node.example", port: 17_420, want: "node.example:17420" },
  { host: "::1", port: 53, want: "[::1]:53" },
])("$host and $port are written $want", ({ host, port, want }) => {
  expect(hostPort(host, port)).toBe(want);
});

test.each([
  { host: "::ffff:192.0.2.1", want: "192.0.2.1" },
  { host: "192.0.2.1", want: "192.0.2.1" },
  { host: "fd00::1", want: "fd00::1" },
  { host: "::ffff:1", want: "::ffff:1" },
])("a peer at $host is $want", ({ host, want }) => {
  expect(withoutMapping(host)).toBe(want);
});
