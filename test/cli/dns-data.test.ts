/** Data of DNS records as zone files write it. */
import { expect, test } from "vitest";
import { bytesText } from "../../src/cli/dns-data.ts";

// The vectors of RFC 9460, appendix D, without those of ech.
test.each([
  { hex: "0000 03666f6f 076578616d706c65 03636f6d 00", text: "0 foo.example.com." },
  { hex: "0001 00", text: "1 ." },
  { hex: "0010 03666f6f 076578616d706c65 03636f6d 00 0003 0002 0035", text: "16 foo.example.com. port=53" },
  { hex: "0001 03666f6f 076578616d706c65 03636f6d 00 029b 0005 68656c6c6f", text: '1 foo.example.com. key667="hello"' },
  { hex: "0001 03666f6f 076578616d706c65 03636f6d 00 029b 0009 68656c6c6fd2716f6f", text: '1 foo.example.com. key667="hello\\210qoo"' },
  {
    hex: "0001 03666f6f 076578616d706c65 03636f6d 00 0006 0020 20010db8000000000000000000000001 20010db8000000000000000000530001",
    text: "1 foo.example.com. ipv6hint=2001:db8::1,2001:db8::53:1",
  },
  {
    hex: "0010 03666f6f 076578616d706c65 036f7267 00 0000 0004 0001 0004 0001 0009 026832 0568332d3139 0004 0004 c0000201",
    text: '16 foo.example.org. mandatory=alpn,ipv4hint alpn="h2,h3-19" ipv4hint=192.0.2.1',
  },
  { hex: "0001 04612e6220 00 0002 0000", text: "1 a\\046b\\032. no-default-alpn" },
])("SVCB and HTTPS: $text", ({ hex, text }) => {
  const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
  expect(bytesText("UNKNOWN_64", bytes)).toBe(text);
  expect(bytesText("UNKNOWN_65", bytes)).toBe(text);
});

test("keys of a zone and their digests", () => {
  expect(bytesText("CDS", Buffer.from("3b590d02abcd", "hex"))).toBe("15193 13 2 abcd");
  expect(bytesText("CDNSKEY", Buffer.from("0101030d0102ff", "hex"))).toBe("257 3 13 AQL/");
});

test("bytes that are cut at any place, and those of other types, are written by RFC 3597", () => {
  const whole = Buffer.from("00100161000001000302683200030002003500040004c0000201", "hex");
  expect(bytesText("UNKNOWN_65", whole)).toBe('16 a. alpn="h2" port=53 ipv4hint=192.0.2.1');
  const ends = new Set([5, 12, 18, whole.length]);
  for (let end = 0; end < whole.length; end++) {
    const bytes = whole.subarray(0, end);
    if (!ends.has(end)) expect(bytesText("UNKNOWN_65", bytes)).toBe(`\\# ${end} ${bytes.toString("hex")}`.trimEnd());
  }
  expect(bytesText("UNKNOWN_65", Buffer.from("0001000004000361626300010003036832", "hex"))).toMatch(/^\\# 17 /);
  expect(bytesText("UNKNOWN_99", whole)).toMatch(/^\\# 26 0010/);
  expect(bytesText("UNKNOWN_10", Buffer.alloc(0))).toBe("\\# 0");
});
