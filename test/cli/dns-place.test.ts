import { expect, test } from "vitest";
import { placeOf } from "../../src/cli/verbs/dns-ask.ts";

test.each([
  { text: "127.0.0.1", want: { host: "127.0.0.1", port: 53 } },
  { text: "ns.example:5353", want: { host: "ns.example", port: 5353 } },
  { text: "::1", want: { host: "::1", port: 53 } },
  { text: "2001:db8::1", want: { host: "2001:db8::1", port: 53 } },
  { text: "[2001:db8::1]", want: { host: "2001:db8::1", port: 53 } },
  { text: "[::1]:65535", want: { host: "::1", port: 65_535 } },
  { text: "ns.example:0", want: undefined },
  { text: "ns.example:65536", want: undefined },
  { text: "[::1", want: undefined },
  { text: "", want: undefined },
])("a server $text is at $want", ({ text, want }) => {
  expect(placeOf(text)).toEqual(want);
});
