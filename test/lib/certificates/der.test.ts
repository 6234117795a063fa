import { expect, test } from "vitest";
import { bitString, element, integer, objectId, octetString, sequence, set, time, utf8String } from "../../../src/lib/certificates/der.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const zeros = (count: number) => new Uint8Array(count);

test.each([
  { what: "an empty sequence", bytes: sequence(), want: "3000" },
  { what: "a set of two texts", bytes: set(utf8String("a"), utf8String("é")), want: "31070c01610c02c3a9" },
  { what: "bytes", bytes: octetString(Uint8Array.of(1, 2)), want: "04020102" },
  { what: "a bit string with unused bits", bytes: bitString(Uint8Array.of(0x80), 7), want: "03020780" },
  { what: "a bit string without unused bits", bytes: bitString(Uint8Array.of(0x80)), want: "03020080" },
  { what: "an element with several parts", bytes: element(0xa3, Uint8Array.of(1), Uint8Array.of(2, 3)), want: "a303010203" },
])("$what is written with its tag and its length", ({ bytes, want }) => {
  expect(hex(bytes)).toBe(want);
});

test.each([
  { count: 0, head: "0400" },
  { count: 127, head: "047f" },
  { count: 128, head: "048180" },
  { count: 255, head: "0481ff" },
  { count: 256, head: "04820100" },
  { count: 4096, head: "04821000" },
  { count: 65_535, head: "0482ffff" },
])("a length of $count is written in as few bytes as possible", ({ count, head }) => {
  const bytes = octetString(zeros(count));
  expect(hex(bytes.subarray(0, bytes.length - count))).toBe(head);
});

test.each([
  { bytes: [0], want: "020100" },
  { bytes: [], want: "020100" },
  { bytes: [0, 0, 0], want: "020100" },
  { bytes: [0x7f], want: "02017f" },
  { bytes: [0x80], want: "02020080" },
  { bytes: [0, 0x80, 0], want: "0203008000" },
  { bytes: [0, 0, 1, 0xff], want: "020201ff" },
  { bytes: Array.from({ length: 16 }, () => 0xff), want: `021100${"ff".repeat(16)}` },
])("the bytes $bytes are a positive integer without needless zeros", ({ bytes, want }) => {
  expect(hex(integer(Uint8Array.from(bytes)))).toBe(want);
});

test.each([
  { dotted: "2.5.29.15", want: "0603551d0f" },
  { dotted: "1.2.840.10045.4.3.2", want: "06082a8648ce3d040302" },
  { dotted: "1.3.6.1.5.5.7.3.1", want: "06082b06010505070301" },
  { dotted: "1.2.127.128.16383.16384", want: "06092a7f8100ff7f818000" },
])("the object identifier $dotted is written in base 128", ({ dotted, want }) => {
  expect(hex(objectId(dotted))).toBe(want);
});

test.each([
  { at: "2026-12-01T03:04:05.678Z", tag: 0x17, text: "261201030405Z" },
  { at: "2049-12-31T23:59:59.999Z", tag: 0x17, text: "491231235959Z" },
  { at: "2050-01-01T00:00:00.000Z", tag: 0x18, text: "20500101000000Z" },
  { at: "2062-02-28T12:00:00.000Z", tag: 0x18, text: "20620228120000Z" },
])("the time $at is written as $text", ({ at, tag, text }) => {
  const bytes = time(Date.parse(at));
  expect([bytes[0], Buffer.from(bytes.subarray(2)).toString()]).toEqual([tag, text]);
});
