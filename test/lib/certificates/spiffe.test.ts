import { expect, test } from "vitest";
import { identityOfSpiffeId, nodeOfSpiffeId, readAlternativeNames, spiffeIdOf } from "../../../src/lib/certificates/spiffe.ts";

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

const EU = "spiffe://waymark.example/waymark/cluster/eu";

test.each([
  { uri: `${EU}/node/eu-1`, role: "node", name: "eu-1" },
  { uri: `${EU}/resolver/r.1_a`, role: "resolver", name: "r.1_a" },
  { uri: `${EU}/client/${"b".repeat(64)}`, role: "client", name: "b".repeat(64) },
] as const)("$uri is the identity of a $role", ({ uri, role, name }) => {
  const identity = { trustDomain: "waymark.example", clusterId: "eu", role, name };
  expect(identityOfSpiffeId(uri)).toEqual(identity);
  expect(spiffeIdOf(identity)).toBe(uri);
  const node = { trustDomain: "waymark.example", clusterId: "eu", nodeId: name };
  expect(nodeOfSpiffeId(uri)).toEqual(role === "node" ? node : undefined);
});

test.each([
  "",
  `${EU}/node`,
  `${EU}/node/`,
  `${EU}/node/..`,
  `${EU}/node/a/b`,
  `${EU}/node/a `,
  `${EU}/node/a%20b`,
  `${EU}/node/${"b".repeat(65)}`,
  `${EU}/admin/a`,
  `${EU}/Node/a`,
  ` ${EU}/node/a`,
  `${EU}/node/a\n`,
  "spiffe://waymark.example/waymark/cluster//node/a",
  "spiffe://waymark.example/waymark/cluster/../node/a",
  "spiffe://Waymark.example/waymark/cluster/eu/node/a",
  "spiffe://waymark.example/ns/waymark/cluster/eu/node/a",
  "https://waymark.example/waymark/cluster/eu/node/a",
])("%j names no identity", (uri) => {
  expect(identityOfSpiffeId(uri)).toBeUndefined();
  expect(nodeOfSpiffeId(uri)).toBeUndefined();
});
