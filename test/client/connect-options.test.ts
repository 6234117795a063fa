import { expect, test } from "vitest";
import { type ConnectOptions, checkedServers, parseServer } from "../../src/client/connect-options.ts";

const PEM = new Uint8Array(3);
const servers = ["a:1"];

test.each([
  { options: undefined, says: 'connect: servers is undefined, not a list of host:port: connect({ servers: ["127.0.0.1:17420"] })' },
  {
    options: { servers, tokn: "SECRET" },
    says: "connect: tokn is not an option; the options are servers, token, tls, timeoutMs, findServers, refreshMs, lookupTtlMs, region, zone, autoSummaryRedirect, clusters",
  },
  { options: {}, says: "connect: servers is undefined, not a list" },
  { options: { servers: "localhost:17420" }, says: 'connect: servers is "localhost:17420", not a list' },
  { options: { servers: [] }, says: "connect: servers is empty" },
  { options: { servers: ["a:1", "http://b"] }, says: 'connect: servers[1] "http://b" is not host:port' },
  { options: { servers: [17420] }, says: "connect: servers[0] 17420 is not host:port" },
  { options: { servers, token: "SECRET words" }, says: "connect: not a token" },
  { options: { servers, token: 7 }, says: "connect: not a token" },
  { options: { servers, timeoutMs: 0 }, says: "connect: timeoutMs is 0, not a number of milliseconds" },
  { options: { servers, timeoutMs: "10s" }, says: 'connect: timeoutMs is "10s"' },
  { options: { servers, refreshMs: 10 }, says: "connect: refreshMs is 10, not a number of milliseconds from 1000 to 1073741823" },
  { options: { servers, lookupTtlMs: -1 }, says: "connect: lookupTtlMs is -1, not a number of milliseconds from 0 to 3600000" },
  { options: { servers, findServers: "no" }, says: 'connect: findServers is "no", not true or false' },
  { options: { servers, region: 7 }, says: "connect: region is 7, not a text" },
  { options: { servers, tls: true }, says: "connect: tls is a value of type boolean" },
  { options: { servers, tls: { ca: "-----BEGIN" } }, says: "connect: tls.ca is not bytes" },
  { options: { servers, tls: PEM }, says: "connect: tls is a value of type object, not { ca, cert, key } with bytes of PEM files" },
  { options: { servers, tls: [] }, says: "connect: tls is a value of type array, not { ca, cert, key }" },
  {
    options: { servers, tls: { caFile: "ca.pem" } },
    says: "connect: tls.caFile is not an option; the options are tls.ca, tls.cert, tls.key",
  },
  { options: { servers, tls: { cert: PEM } }, says: "connect: tls.cert and tls.key go together" },
  { options: { servers, autoSummaryRedirect: 1 }, says: "connect: autoSummaryRedirect is 1, not true or false" },
  { options: { servers, clusters: [] }, says: "connect: clusters is a value of type array, not an object" },
  { options: { servers, clusters: { us1: 7 } }, says: "connect: clusters.us1: the options are 7, not an object" },
  { options: { servers, clusters: { us1: { token: "SECRET" } } }, says: "connect: clusters.us1.tls is missing: other clusters are shown" },
  { options: { servers, clusters: { us1: { tls: {}, token: "SECRET words" } } }, says: "connect: clusters.us1.token: not a token" },
  {
    options: { servers, clusters: { us1: { tls: {}, name: "x" } } },
    says: "connect: clusters.us1: name is not an option; the options are tls",
  },
  { options: { servers, clusters: { us1: { tls: {}, serverName: "" } } }, says: "connect: clusters.us1.serverName is empty" },
  { options: { servers, clusters: { us1: { tls: { ca: "x" } } } }, says: "connect: clusters.us1.tls.ca is not bytes" },
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
