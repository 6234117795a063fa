import fc from "fast-check";
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import {
  type DnsName,
  decodeLabel,
  encodeLabel,
  formatName,
  nodeName,
  parseHostName,
  parseName,
  parseZone,
  splitZone,
} from "../../../src/dns/names/names.ts";
import { runs } from "../../fakes/effort.ts";

const NAME = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,128}$/);
const PLAIN = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/);
const NAMESPACE = fc.array(PLAIN, { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));

test.each([
  { text: "web", label: "web" },
  { text: "web-2", label: "web-2" },
  { text: "Node:7", label: "b32-jzxwizj2g4" },
  { text: "Web", label: "b32-k5swe" },
  { text: "v1.web", label: "b32-oyys453fmi" },
  { text: "b32-web", label: "b32-miztellxmvra" },
  { text: "a".repeat(63), label: "a".repeat(63) },
  // A label holds 63 octets: what needs more is not reachable over DNS.
  { text: "a".repeat(64), label: undefined },
  { text: "A".repeat(36), label: "b32-ifaucqkbifaucqkbifaucqkbifaucqkbifaucqkbifaucqkbifaucqkbie" },
  { text: "A".repeat(37), label: undefined },
  { text: "", label: undefined },
  { text: "ä", label: undefined },
  { text: "a b", label: undefined },
])("the label of $text is $label", ({ text, label }) => {
  expect(encodeLabel(text)).toBe(label);
});

test.each([
  { label: "WEB", text: "web" },
  { label: "B32-JZXWIZJ2G4", text: "Node:7" },
  { label: "b32-", text: undefined },
  { label: "b32-o5swe", text: undefined }, // "web", which needs no base32
  { label: "b32-jzxwizj2g5", text: undefined }, // stray bits at the end
  { label: "b32-jzxwizj2g4a", text: undefined },
  { label: "b32-jzxwizj2g4======", text: undefined },
  { label: "b32-018", text: undefined },
  { label: "_svc", text: undefined },
  { label: "a\\046b", text: undefined },
  { label: "", text: undefined },
])("the label $label stands for $text", ({ label, text }) => {
  expect(decodeLabel(label)).toBe(text);
});

test("a name that has a label comes back from it, in any case of the label", () => {
  fc.assert(
    fc.property(NAME, (text) => {
      const label = encodeLabel(text);
      if (label === undefined) return expect(text.length).toBeGreaterThan(36);
      expect(label.length).toBeLessThanOrEqual(63);
      expect(decodeLabel(label)).toBe(text);
      expect(decodeLabel(label.toUpperCase())).toBe(text);
    }),
  );
});

test("a label that was not made by encoding is refused", () => {
  const label = fc.oneof(
    fc.string({ maxLength: 70 }),
    fc.stringMatching(/^b32-[a-z0-9]{0,60}$/),
    fc.stringMatching(/^[a-zA-Z0-9_-]{1,63}$/),
  );
  fc.assert(
    fc.property(label, (candidate) => {
      const text = decodeLabel(candidate);
      if (text !== undefined) expect(encodeLabel(text)).toBe(candidate.toLowerCase());
    }),
    { numRuns: runs(2_000) },
  );
});

test.each<{ relative: string; want: DnsName }>([
  { relative: "", want: { form: "apex" } },
  {
    relative: "_svc._tcp.web.svc.market",
    want: { form: "located", kind: KIND.SERVICE, transport: "tcp", name: "web", namespace: "svc.market" },
  },
  { relative: "_svc._udp.web.market", want: { form: "located", kind: KIND.SERVICE, transport: "udp", name: "web", namespace: "market" } },
  { relative: "_queue._tcp.q.market", want: { form: "located", kind: KIND.QUEUE, transport: "tcp", name: "q", namespace: "market" } },
  { relative: "_rpc._tcp.f.market", want: { form: "located", kind: KIND.FUNCTION, transport: "tcp", name: "f", namespace: "market" } },
  { relative: "_mpreg._tcp.f.market", want: { form: "located", kind: KIND.FUNCTION, transport: "tcp", name: "f", namespace: "market" } },
  { relative: "_tcp.web.market", want: { form: "transport", transport: "tcp", name: "web", namespace: "market" } },
  { relative: "web.market", want: { form: "direct", name: "web", namespace: "market" } },
  { relative: "b32-jzxwizj2g4.market", want: { form: "direct", name: "Node:7", namespace: "market" } },
  { relative: "n1.node", want: { form: "node", nodeId: "n1" } },
  { relative: "node", want: { form: "fixed" } },
  { relative: "10-0-0-1.addr.node", want: { form: "address", address: Uint8Array.of(10, 0, 0, 1) } },
  { relative: "web.addr.node", want: { form: "other" } },
  { relative: "web.eu.node", want: { form: "direct", name: "web", namespace: "eu.node" } },
  { relative: "_svc._tcp.web.node", want: { form: "other" } },
  { relative: "_svc._tcp.web", want: { form: "other" } },
  { relative: "_svc._sctp.web.market", want: { form: "located", kind: KIND.SERVICE, transport: "sctp", name: "web", namespace: "market" } },
  {
    relative: "_http._tcp.web.market",
    want: { form: "located", kind: KIND.SERVICE, transport: "tcp", port: "http", name: "web", namespace: "market" },
  },
  {
    relative: "_tcp._tcp.web.market",
    want: { form: "located", kind: KIND.SERVICE, transport: "tcp", port: "tcp", name: "web", namespace: "market" },
  },
  {
    relative: "_b32-jzxwizj2g4._udp.web.market",
    want: { form: "located", kind: KIND.SERVICE, transport: "udp", port: "Node:7", name: "web", namespace: "market" },
  },
  { relative: "_http._icmp.web.market", want: { form: "other" } },
  { relative: "_http.web.market", want: { form: "other" } },
  { relative: "__._tcp.web.market", want: { form: "other" } },
  { relative: "_svc.web.market", want: { form: "other" } },
  { relative: "_tcp.web", want: { form: "other" } },
  { relative: "web", want: { form: "other" } },
  { relative: "we_b.market", want: { form: "other" } },
  // A namespace label is DNS-safe; what decodes to more was never registered.
  { relative: "web.b32-jzxwizj2g4", want: { form: "other" } },
])("the name $relative is read as its form", ({ relative, want }) => {
  expect(parseName(relative)).toEqual(want);
});

test("a name that can be written is read back as what it was", () => {
  const place = { name: NAME, namespace: NAMESPACE };
  const name = fc.oneof(
    fc.record({
      form: fc.constant("located" as const),
      kind: fc.constantFrom(KIND.SERVICE, KIND.QUEUE, KIND.FUNCTION),
      transport: fc.constantFrom("tcp" as const, "udp" as const),
      ...place,
    }),
    fc.record({
      form: fc.constant("located" as const),
      kind: fc.constant(KIND.SERVICE),
      transport: fc.constantFrom("tcp" as const, "udp" as const, "sctp" as const),
      // Names of ports that are labels of kinds mean the kind.
      port: NAME.filter((text) => !["svc", "rpc", "mpreg", "queue"].includes(text)),
      ...place,
    }),
    fc.record({ form: fc.constant("direct" as const), ...place }),
    fc.record({ form: fc.constant("transport" as const), transport: fc.constantFrom("tcp" as const, "udp" as const), ...place }),
    fc.record({ form: fc.constant("node" as const), nodeId: NAME }),
    fc.record({ form: fc.constant("address" as const), address: fc.uint8Array({ minLength: 4, maxLength: 4 }) }),
  );
  fc.assert(
    fc.property(name, (given) => {
      const text = formatName(given, "waymark");
      if (text === undefined) return;
      expect(text.length).toBeLessThanOrEqual(253);
      const split = splitZone(text, ["waymark"]);
      expect(parseName(split?.relative ?? "?")).toEqual(given);
    }),
  );
});

test.each<{ why: string; name: DnsName }>([
  { why: "a label over 63", name: { form: "direct", name: "A".repeat(40), namespace: "market" } },
  {
    why: "a name over 253",
    name: { form: "direct", name: "a".repeat(60), namespace: Array.from({ length: 4 }, () => "b".repeat(49)).join(".") },
  },
  { why: "the reserved namespace", name: { form: "direct", name: "web", namespace: "node" } },
  { why: "the namespace of addresses", name: { form: "direct", name: "web", namespace: "addr.node" } },
  { why: "a kind without names", name: { form: "located", kind: KIND.TOPIC, transport: "tcp", name: "t", namespace: "market" } },
  { why: "no form", name: { form: "other" } },
])("$why cannot be written", ({ name }) => {
  expect(formatName(name, "waymark")).toBeUndefined();
});

test("a node has its name below node", () => {
  expect(nodeName("n1", "waymark")).toBe("n1.node.waymark");
  expect(nodeName("N_1", "mesh.eu")).toBe("b32-jzptc.node.mesh.eu");
  expect(nodeName("x".repeat(64), "waymark")).toBeUndefined();
});

test("a zone is read without its final dot and case, and refused with the setting's name", () => {
  expect(parseZone("Waymark.")).toBe("waymark");
  expect(parseZone("eu.mesh")).toBe("eu.mesh");
  for (const text of ["", ".", "a..b", "_x", "a b", "a".repeat(64), `${"a.".repeat(100)}a`]) {
    expect(() => parseZone(text)).toThrow(/^invalid_argument: dns\.zones: /);
  }
});

test("the longest zone that a name ends in is its zone, on label borders only", () => {
  const zones = ["mesh", "eu.mesh", "waymark"];
  expect(splitZone("web.market.eu.mesh", zones)).toEqual({ zone: "eu.mesh", relative: "web.market" });
  expect(splitZone("web.market.mesh", zones)).toEqual({ zone: "mesh", relative: "web.market" });
  expect(splitZone("waymark", zones)).toEqual({ zone: "waymark", relative: "" });
  expect(splitZone("notwaymark", zones)).toBeUndefined();
  expect(splitZone("", zones)).toBeUndefined();
});

test("a host name is kept as it is, without its final dot, unless DNS cannot write it", () => {
  expect(parseHostName("Db-1.Example.com.")).toBe("Db-1.Example.com");
  expect(parseHostName("_dmarc.example.com")).toBe("_dmarc.example.com");
  for (const host of ["", ".", "a..b", "a b", `${"a".repeat(64)}.com`, "a.".repeat(130), "[::1]"])
    expect(parseHostName(host)).toBeUndefined();
});
