/** What may stand in a target's host. */
import { expect, test } from "vitest";
import { findHostForm } from "../../../src/catalog/entry/names.ts";

test.each([
  { host: "10.0.0.1", form: "ipv4" },
  { host: "255.255.255.255", form: "ipv4" },
  { host: "256.0.0.1", form: undefined },
  { host: "10.0.0", form: undefined },
  { host: "10.0.0.01", form: undefined },
  { host: "1.2.3.4.5", form: undefined },
  { host: "::", form: "ipv6" },
  { host: "::1", form: "ipv6" },
  { host: "2001:db8::8:800:200c:417a", form: "ipv6" },
  { host: "::ffff:10.0.0.1", form: "ipv6" },
  { host: "1:2:3:4:5:6:7:8", form: "ipv6" },
  { host: "1:2:3:4:5:6:7", form: undefined },
  { host: "1::2::3", form: undefined },
  { host: ":::", form: undefined },
  { host: "10.0.0.1:8080", form: undefined },
  { host: "[::1]", form: undefined },
  { host: "fe80::1%eth0", form: undefined },
  { host: "localhost", form: "name" },
  { host: "web.svc.cluster.local", form: "name" },
  { host: "web.svc.cluster.local.", form: "name" },
  { host: "_grpc._tcp.example.com", form: "name" },
  { host: "3com.com", form: "name" },
  { host: "web.123", form: undefined },
  { host: "web:80", form: undefined },
  { host: "a..b", form: undefined },
  { host: ".a", form: undefined },
  { host: ".", form: undefined },
  { host: "a..", form: undefined },
  { host: "", form: undefined },
  { host: "a b", form: undefined },
  { host: `${"a".repeat(63)}.example`, form: "name" },
  { host: `${"a".repeat(64)}.example`, form: undefined },
  { host: "a.".repeat(126) + "a", form: "name" },
  { host: "a.".repeat(127), form: undefined },
])("host '$host' → $form", ({ host, form }) => {
  expect(findHostForm(host, 253)).toBe(form);
});
