import { BlockList, isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { addressLabel, parseAddressLabel } from "../../../src/dns/names/names.ts";
import { parseAddress } from "../../../src/lib/addresses.ts";
import { runs } from "../../fakes/effort.ts";

test.each([
  { text: "10.0.0.1", want: "10-0-0-1" },
  { text: "255.255.255.255", want: "255-255-255-255" },
  { text: "2001:DB8::1", want: "2001-db8-0-0-0-0-0-1" },
  { text: "::", want: "0-0-0-0-0-0-0-0" },
  { text: "::1", want: "0-0-0-0-0-0-0-1" },
  { text: "1::", want: "1-0-0-0-0-0-0-0" },
  { text: "::ffff:10.0.0.1", want: "0-0-0-0-0-ffff-a00-1" },
  { text: "1:0:0:2:0:0:0:3", want: "1-0-0-2-0-0-0-3" },
  { text: "1:0:2:3:4:5:6:7", want: "1-0-2-3-4-5-6-7" },
  { text: "10.0.0.256", want: undefined },
  { text: "10.0.0.01", want: undefined },
  { text: "10.0.0", want: undefined },
  { text: "fe80::1%eth0", want: undefined },
  { text: "1::2::3", want: undefined },
  { text: "1:2:3:4:5:6:7::8", want: undefined },
  { text: "10.0.0.1::", want: undefined },
  { text: "db.example.com", want: undefined },
  { text: "", want: undefined },
])("the address $text has the label $want", ({ text, want }) => {
  const address = parseAddress(text);
  expect(address === undefined ? undefined : addressLabel(address)).toBe(want);
});

/** Whether the platform takes a text and the groups or numbers of a label for one address. */
function isSame(text: string, label: string): boolean {
  const family = isIPv4(text) ? "ipv4" : "ipv6";
  const list = new BlockList();
  list.addAddress(text, family);
  return list.check(label.replaceAll("-", family === "ipv4" ? "." : ":"), family);
}

test("a text is an address exactly when the platform says so, and the same one", () => {
  const text = fc.oneof(fc.ipV4(), fc.ipV6(), fc.stringMatching(/^[0-9abf:.]{0,24}$/));
  fc.assert(
    fc.property(text, (candidate) => {
      const address = parseAddress(candidate);
      const wantBytes = isIPv4(candidate) ? 4 : isIPv6(candidate) ? 16 : undefined;
      expect(address?.length).toBe(wantBytes);
      if (address !== undefined) expect(isSame(candidate, addressLabel(address))).toBe(true);
    }),
    { numRuns: runs(2_000) },
  );
});

test("every address has one label, and no other label is read as it", () => {
  const bytes = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }));
  fc.assert(
    fc.property(bytes, (address) => {
      const label = addressLabel(address);
      expect(label).toMatch(/^[0-9a-f-]{7,39}$/);
      expect(parseAddressLabel(label)).toEqual(address);
    }),
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[0129af-]{0,20}$/), (label) => {
      const address = parseAddressLabel(label);
      if (address !== undefined) expect(addressLabel(address)).toBe(label);
    }),
  );
});
