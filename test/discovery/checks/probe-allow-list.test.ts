/** Which addresses checks may connect to. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ProbeAllowList } from "../../../src/discovery/checks/probe-allow-list.ts";
import { addressOf, parseBlock, uncallableReason } from "../../../src/lib/addresses.ts";
import { UNCALLABLE_HOSTS } from "../../fakes/uncallable-hosts.ts";

const EVERYTHING = ["0.0.0.0/0", "::/0"];

test.each([
  { allowed: [], address: "10.0.0.1", allows: false },
  { allowed: ["10.0.0.0/8"], address: "10.0.0.1", allows: true },
  { allowed: ["10.0.0.0/8"], address: "11.0.0.1", allows: false },
  { allowed: ["10.0.0.7"], address: "10.0.0.7", allows: true },
  { allowed: ["fd12::/16"], address: "fd12::7", allows: true },
  { allowed: ["no block", "10.0.0.1/8"], address: "10.0.0.1", allows: false },
  { allowed: EVERYTHING, address: "web.local", allows: false },
  { allowed: EVERYTHING, address: "fe80::1%eth0", allows: false },
  { allowed: EVERYTHING, address: "010.0.0.1", allows: false },
  { allowed: EVERYTHING, address: "2001:db8::1", allows: true },
])("with $allowed allowed, $address is reached: $allows", ({ allowed, address, allows }) => {
  expect(new ProbeAllowList(allowed).allows(address)).toBe(allows);
});

/** An address of special meaning, a block within its own, and the widest block that still does not hold it. */
test.each([
  ["loopback", "127.0.0.1", "127.0.0.0/8", "126.0.0.0/7"],
  ["loopback of IPv6", "::1", "::1/128", "::/127"],
  ["link-local, with the metadata of most clouds", "169.254.169.254", "169.254.169.254/32", "169.252.0.0/14"],
  ["metadata of AWS in IPv6", "fd00:ec2::254", "fd00:ec2::254/128", "fd00::/8"],
  ["metadata of Alibaba", "100.100.100.200", "100.100.100.200/32", "100.64.0.0/10"],
  ["metadata of Azure", "168.63.129.16", "168.63.129.16/32", "168.63.0.0/16"],
  ["metadata of Google in IPv6", "fd20:ce::254", "fd20:ce::254/128", "fd20::/16"],
  ["protocol assignments of IETF", "192.0.0.1", "192.0.0.0/24", "192.0.0.0/16"],
  ["site-local of IPv6", "fec0::1", "fec0::/10", "fe00::/8"],
  ["translated", "::ffff:0:a00:1", "::ffff:0:0:0/96", "::ffff:0:0:0/95"],
  ["local NAT64", "64:ff9b:1::1", "64:ff9b:1::/48", "64:ff9b::/32"],
  ["mapped", "::ffff:10.0.0.1", "::ffff:0:0/96", "::/0"],
  ["loopback, mapped", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104", "::ffff:0:0/96"],
  ["metadata, mapped", "::ffff:169.254.169.254", "::ffff:169.254.169.254/128", "::ffff:0:0/96"],
  ["NAT64", "64:ff9b::a00:1", "64:ff9b::/96", "64::/16"],
  ["metadata behind NAT64", "64:ff9b::a9fe:a9fe", "64:ff9b::a9fe:0/112", "64:ff9b::/96"],
  ["6to4", "2002:a00:1::1", "2002::/16", "2000::/3"],
  ["metadata behind 6to4", "2002:a9fe:a9fe::1", "2002:a9fe::/32", "2002::/16"],
  ["Teredo", "2001::1", "2001::/32", "2000::/3"],
])("an address of the sort %s needs a block of its own", (_sort, address, own, wide) => {
  expect(new ProbeAllowList([own]).allows(address)).toBe(true);
  expect(new ProbeAllowList([wide, ...EVERYTHING]).allows(address)).toBe(false);
});

test("no block that is wider than a special block reaches into it, wherever the special address lies", () => {
  const inside = (first: number, bits: number) =>
    fc.integer({ min: 0, max: 2 ** (32 - bits) - 1 }).map((low) => {
      const all = (first * 2 ** 24 + low) >>> 0;
      return [all >>> 24, (all >>> 16) & 255, (all >>> 8) & 255, all & 255].join(".");
    });
  const special = fc.oneof(inside(0, 8), inside(127, 8), inside(224, 4), inside(240, 4));
  fc.assert(
    fc.property(special, fc.integer({ min: 0, max: 3 }), (address, prefixBits) => {
      const first = Number(address.split(".")[0]);
      const kept = prefixBits === 0 ? 0 : first & (0xff << (8 - prefixBits));
      expect(new ProbeAllowList([`${kept}.0.0.0/${prefixBits}`]).allows(address)).toBe(false);
    }),
  );
});

test.each(UNCALLABLE_HOSTS)("no block reaches $host, $reason", ({ host }) => {
  expect(new ProbeAllowList([host, ...EVERYTHING]).allows(host)).toBe(false);
});

test("an address that is its own block is reached, unless no client can connect to it", () => {
  const group = fc.integer({ min: 0, max: 0xffff });
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const text = groups.map((each) => each.toString(16)).join(":");
      expect(parseBlock(text)?.bytes).toEqual(addressOf(groups));
      expect(new ProbeAllowList([text]).allows(text)).toBe(uncallableReason(text) === undefined);
    }),
  );
});
