import { expect, test } from "vitest";
import { clusterNameFault, ingressIn } from "../../../src/client/clusters/ingress-urls.ts";

const FAR = { from: "eu.example:17420", isTls: true };

test.each([
  { url: "grpc://a.example", is: "a.example:17420" },
  { url: "GRPCS://a.example.:7/", is: "a.example:7" },
  { url: "https://[2001:db8::1]/path?query", is: "[2001:db8::1]:443" },
  { url: "http://10.0.0.1", is: "10.0.0.1:80" },
  { url: "a.example:1", is: "scheme is not grpc or http" },
  { url: "javascript://a.example", is: "scheme is not grpc or http" },
  { url: "constructor://a.example", is: "scheme is not grpc or http" },
  { url: "unix:///tmp/socket", is: "scheme is not grpc or http" },
  { url: "grpc://me:secret@a.example", is: "contains credentials" },
  { url: "grpc://a.example%40b", is: "no valid host and port" },
  { url: "grpc://:1", is: "no valid host and port" },
  { url: "grpc://a.example:0", is: "no valid host and port" },
  { url: "grpc://a.example:65536", is: "no valid host and port" },
  { url: "grpc://a b", is: "no valid host and port" },
  { url: "grpc://[fe80::1%eth0]:1", is: "no valid host and port" },
  // The system would take these for addresses.
  { url: "grpc://0x7f.1:1", is: "no valid host and port" },
  { url: "grpc://2130706433:1", is: "no valid host and port" },
  { url: "grpc://127.1:1", is: "no valid host and port" },
  { url: "grpc://0177.0.0.1:1", is: "no valid host and port" },
  { url: `grpc://${"a".repeat(506)}`, is: "longer than 512 characters" },
  { url: "grpc://127.0.0.1:1", is: "at loopback" },
  { url: "grpc://[::1]:1", is: "at loopback" },
  { url: "grpc://[::ffff:127.0.0.1]:1", is: "at loopback" },
  { url: "grpc://0.0.0.0:1", is: "an unspecified address" },
  { url: "grpc://[::]:1", is: "an unspecified address" },
  { url: "grpc://LocalHost.:1", is: "at loopback" },
  { url: "grpc://a.localhost:1", is: "at loopback" },
  { url: "grpc://ip6-localhost:1", is: "at loopback" },
  { url: "grpc://localhost...:1", is: "no valid host and port" },
  { url: "grpc://[::ffff:7f00:1]:1", is: "at loopback" },
  { url: "grpc://[::127.0.0.1]:1", is: "at loopback" },
  { url: "grpc://224.0.0.251:1", is: "a multicast address" },
  { url: "grpc://[ff02::fb]:1", is: "a multicast address" },
  { url: "grpc://255.255.255.255:1", is: "the broadcast address" },
  { url: "http://169.254.169.254/latest", is: "link-local" },
  { url: "grpc://[fe80::1]:1", is: "a link-local address without a zone" },
])("of $url a client makes $is", ({ url, is }) => {
  const { servers, faults } = ingressIn([url], FAR);
  expect([...servers, ...faults]).toEqual([is]);
});

test("servers on this machine may name others there, and those of a link others of the link", () => {
  const near = ["grpc://127.0.0.1:1", "grpc://169.254.0.1:1"];
  expect(ingressIn(near, { ...FAR, from: "[::1]:1" })).toEqual({ servers: ["127.0.0.1:1"], faults: ["link-local"] });
  expect(ingressIn(near, { ...FAR, from: "[fe80::2%eth0]:1" })).toEqual({ servers: ["169.254.0.1:1"], faults: ["at loopback"] });
});

test("those of gRPC come first, each once, at most 16 are read, and what is for TLS needs it", () => {
  const urls = ["http://a:1", "grpc://b:1", "grpc://b:1", "grpcs://c:1"];
  expect(ingressIn(urls, { ...FAR, isTls: false })).toEqual({ servers: ["b:1", "a:1"], faults: ["requires TLS"] });
  const many = Array.from({ length: 18 }, (_, i) => `grpc://h${i}.example:1`);
  expect(ingressIn(many, FAR)).toMatchObject({ servers: { length: 16 }, faults: ["more than 16 URLs", "more than 16 URLs"] });
});

const US1 = "URI:spiffe://prod.example/waymark/cluster/us1/node/a";
test.each([
  { names: US1, says: undefined },
  { names: `DNS:us1.example, ${US1}, IP Address:10.0.0.1, URI:https://us1.example/`, says: undefined },
  { names: "", says: "it does not identify a cluster" },
  { names: "DNS:us1", says: "it does not identify a cluster" },
  { names: US1.replace("us1", "us2"), says: "it identifies a node of us2" },
  { names: US1.replace("us1", "us1/node/b/../x"), says: "it does not identify a cluster" },
  { names: `${US1}, ${US1.replace("us1", "us2")}`, says: "it does not identify a cluster" },
  { names: `DNS:"a, ${US1}"`, says: "it does not identify a cluster" },
  { names: `DNS:"a, ${US1}, b"`, says: "it does not identify a cluster" },
  { names: US1.replace("/a", "/.."), says: "it does not identify a cluster" },
  { names: `email:${US1}`, says: "it does not identify a cluster" },
])("the names $names are those of us1, or else: $says", ({ names, says }) => {
  const fault = clusterNameFault(names, "us1");
  expect(fault).toBe(says === undefined ? undefined : `the certificate does not belong to a node of us1: ${says}`);
});
