import { expect, test } from "vitest";
import { type ConnectOptions, checkedServers, parseServer } from "../../src/client/connect-options.ts";

const PEM = new Uint8Array(3);
const servers = ["a:1"];

test.each([
  {
    options: undefined,
    says: 'connect: invalid servers undefined: expected a list of host:port strings, as in connect({ servers: ["127.0.0.1:17420"] })',
  },
  {
    options: { servers, tokn: "SECRET" },
    says: "connect: unknown option tokn; the options are servers, token, tls, timeoutMs, findServers, refreshMs, lookupTtlMs, region, zone, autoSummaryRedirect, clusters",
  },
  { options: {}, says: "connect: invalid servers undefined: expected a list" },
  { options: { servers: "localhost:17420" }, says: 'connect: invalid servers "localhost:17420": expected a list' },
  { options: { servers: [] }, says: "connect: servers is empty" },
  { options: { servers: ["a:1", "http://b"] }, says: 'connect: invalid servers[1] "http://b": expected host:port' },
  { options: { servers: [17420] }, says: "connect: invalid servers[0] 17420: expected host:port" },
  { options: { servers, token: "SECRET words" }, says: "connect: invalid token" },
  { options: { servers, token: 7 }, says: "connect: invalid token" },
  { options: { servers, timeoutMs: 0 }, says: "connect: invalid timeoutMs 0: expected a number of milliseconds" },
  { options: { servers, timeoutMs: "10s" }, says: 'connect: invalid timeoutMs "10s"' },
  { options: { servers, refreshMs: 10 }, says: "connect: invalid refreshMs 10: expected a number of milliseconds from 1000 to 1073741823" },
  { options: { servers, lookupTtlMs: -1 }, says: "connect: invalid lookupTtlMs -1: expected a number of milliseconds from 0 to 3600000" },
  { options: { servers, findServers: "no" }, says: 'connect: invalid findServers "no": expected true or false' },
  { options: { servers, region: 7 }, says: "connect: invalid region 7: expected a string" },
  { options: { servers, tls: true }, says: "connect: invalid tls of type boolean" },
  { options: { servers, tls: { ca: "-----BEGIN" } }, says: "connect: invalid tls.ca: expected the bytes of a PEM file" },
  { options: { servers, tls: PEM }, says: "connect: invalid tls of type object: expected { ca, cert, key } with the bytes of PEM files" },
  { options: { servers, tls: [] }, says: "connect: invalid tls of type array: expected { ca, cert, key }" },
  {
    options: { servers, tls: { caFile: "ca.pem" } },
    says: "connect: unknown option tls.caFile; the options are tls.ca, tls.cert, tls.key",
  },
  { options: { servers, tls: { cert: PEM } }, says: "connect: tls.cert and tls.key must be set together" },
  { options: { servers, autoSummaryRedirect: 1 }, says: "connect: invalid autoSummaryRedirect 1: expected true or false" },
  { options: { servers, clusters: [] }, says: "connect: invalid clusters of type array: expected an object" },
  { options: { servers, clusters: { us1: 7 } }, says: "connect: clusters.us1: invalid options 7: expected an object" },
  {
    options: { servers, clusters: { us1: { token: "SECRET" } } },
    says: "connect: clusters.us1.tls is missing: credentials for other clusters are sent only over TLS",
  },
  { options: { servers, clusters: { us1: { tls: {}, token: "SECRET words" } } }, says: "connect: invalid clusters.us1.token" },
  {
    options: { servers, clusters: { us1: { tls: {}, name: "x" } } },
    says: "connect: clusters.us1: unknown option name; the options are tls",
  },
  { options: { servers, clusters: { us1: { tls: {}, serverName: "" } } }, says: "connect: clusters.us1.serverName is empty" },
  {
    options: { servers, clusters: { us1: { tls: { ca: "x" } } } },
    says: "connect: invalid clusters.us1.tls.ca: expected the bytes of a PEM file",
  },
])("connect($options) says what is wrong", ({ options, says }) => {
  // Programs without types say such things.
  const act = () => checkedServers(options as unknown as ConnectOptions);
  expect(act).toThrow(says);
  expect(act).not.toThrow("SECRET");
});

test("what is right passes, a server without a port has ours", () => {
  expect(checkedServers({ servers: ["a", "[::1]:5"], token: "t", timeoutMs: 5, tls: { cert: PEM, key: PEM } })).toEqual([
    "a:17420",
    "[::1]:5",
  ]);
});

test.each([
  { text: "127.0.0.1:1", is: "127.0.0.1:1" },
  { text: "node-1.svc", is: "node-1.svc:17420" },
  { text: "[::1]:65535", is: "[::1]:65535" },
  { text: "", is: undefined },
  { text: "::1", is: undefined },
  { text: "host:0", is: undefined },
  { text: "host:65536", is: undefined },
  { text: "host:http", is: undefined },
  { text: "http://host:1", is: undefined },
  { text: "a b:1", is: undefined },
])("the server $text is $is", ({ text, is }) => {
  expect(parseServer(text)).toBe(is);
});
