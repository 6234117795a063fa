import { expect, test } from "vitest";
import { readAlternativeNames } from "../../../src/lib/certificates/spiffe.ts";

test.each([
  { text: "", uris: [], dnsNames: [] },
  { text: 'URI:a, DNS:b, URI:"c\\"d, URI:x", IP Address:::1, URI:e', uris: ["a", '"c\\"d, URI:x"', "e"], dnsNames: ["b"] },
  { text: 'othername:<unsupported>, DirName:"CN=a, DNS:b", DNS:c', uris: [], dnsNames: ["c"] },
])("the names in $text are parsed in Node's format", ({ text, uris, dnsNames }) => {
  expect(readAlternativeNames(text)).toEqual({ uris, dnsNames });
});

test.each(['URI:a, DNS:"b', "URI:a,DNS:b", "URI"])("text that is not in Node's format is rejected completely: %s", (text) => {
  expect(readAlternativeNames(text)).toBeUndefined();
});
