import { isIP } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  hostPort,
  isIpv4,
  isLoopbackHost,
  isWithin,
  parseAddress,
  parseBlock,
  uncallableReason,
  withoutMapping,
} from "../../src/lib/addresses.ts";
import { runs } from "../fakes/effort.ts";

function within(block: string, address: string): boolean {
  const parsed = parseBlock(block);
  if (parsed === undefined) throw new Error(`${block} is no block`);
  return isWithin([parsed], address);
}

test.each([
  { block: "10.0.0.0/8", address: "10.255.1.2", want: true },
  { block: "10.0.0.0/8", address: "11.0.0.1", want: false },
  { block: "192.0.2.7", address: "192.0.2.7", want: true },
  { block: "192.0.2.7", address: "192.0.2.8", want: false },
  { block: "192.0.2.0/31", address: "192.0.2.1", want: true },
  { block: "192.0.2.0/31", address: "192.0.2.2", want: false },
  { block: "0.0.0.0/0", address: "203.0.113.9", want: true },
  { block: "0.0.0.0/0", address: "2001:db8::1", want: false },
  { block: "::/0", address: "2001:db8::1", want: true },
  { block: "fd00::/8", address: "fdff:1::9", want: true },
  { block: "fd00::/8", address: "fc00::1", want: false },
  { block: "10.0.0.0/8", address: "::ffff:10.1.2.3", want: true },
  { block: "10.0.0.0/8", address: "::ffff:a01:203", want: true },
  { block: "::/0", address: "::ffff:10.1.2.3", want: false },
  { block: "10.0.0.0/8", address: "", want: false },
  { block: "10.0.0.0/8", address: "10.0.0.1.evil.example", want: false },
  { block: "10.0.0.0/8", address: "010.0.0.1", want: false },
])("$address within $block: $want", ({ block, address, want }) => {
  expect(within(block, address)).toBe(want);
});

test.each([
  "",
  "10.0.0.0/33",
  "10.0.0.1/8",
  "10.0.0/8",
  "::/129",
  "1::2::3",
  "fd00::1/8",
  "localhost",
  "10.0.0.0/",
  "10.0.0.256",
  ":::",
  "1:2:3:4:5:6:7:8:9",
  "::1.2.3",
])("%j is no block", (text) => {
  expect(parseBlock(text)).toBeUndefined();
});

test("an address is within the block of its own text exactly when node knows it as an address", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ maxLength: 20 })), (text) => {
      const block = parseBlock(text);
      expect(block !== undefined).toBe(isIP(text) !== 0);
      // An IPv4 address written in IPv6 is the IPv4 address, so no IPv6 block holds it.
      if (block !== undefined && !/^::ffff:/i.test(text)) expect(isWithin([block], text) || text.toLowerCase().includes("ffff")).toBe(true);
    }),
  );
});

test("addresses are what Node's net says they are, zones apart", () => {
  const near = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc
      .array(fc.constantFrom("0", "1", "12", "255", "256", "fffff", "ab", ":", "::", "."), { maxLength: 12 })
      .map((parts) => parts.join("")),
    fc.array(fc.constantFrom("0", "1", "ab", "1.2.3.4"), { maxLength: 9 }).map((parts) => parts.join(":")),
  );
  fc.assert(
    fc.property(near, (text) => {
      expect(isIpv4(text)).toBe(isIP(text) === 4);
      expect(parseAddress(text)?.length).toBe({ 0: undefined, 4: 4, 6: 16 }[isIP(text)]);
    }),
    { numRuns: runs(3000) },
  );
});

test.each([
  { host: "127.0.0.1", want: true },
  { host: "127.8.8.8", want: true },
  { host: "::1", want: true },
  { host: "localhost", want: true },
  { host: "0.0.0.0", want: false },
  { host: "::", want: false },
  { host: "10.0.0.1", want: false },
  { host: "localhost.example", want: false },
])("$host is only reachable from its machine: $want", ({ host, want }) => {
  expect(isLoopbackHost(host)).toBe(want);
});

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

test.each([
  "::1",
  "127.0.0.1",
  "::ffff:127.0.0.1",
  "::10.0.0.1",
  "64:ff9b::10.0.0.1",
  "2002:a00:1::",
  "fd00::",
  "10.in-addr.arpa",
  "0x1f.example",
  "web.0xyz",
  "1e3",
])("a client may be able to connect to %s", (host) => {
  expect(uncallableReason(host)).toBeUndefined();
});
