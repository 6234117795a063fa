import fc from "fast-check";
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import { encodeLabel } from "../../../src/dns/names/labels.ts";
import {
  type DnsName,
  formatName,
  nameInDns,
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
  {
    relative: "i1._svc._tcp.web.market",
    want: { form: "instance", transport: "tcp", instanceId: "i1", name: "web", namespace: "market" },
  },
  { relative: "i1._svc._tcp.web", want: { form: "other" } },
  { relative: "i1._svc.web.market", want: { form: "other" } },
  { relative: "_i1._svc._tcp.web.market", want: { form: "other" } },
  { relative: "i1._queue._tcp.web.market", want: { form: "other" } },
  { relative: "_services._dns-sd._udp.web.market", want: { form: "types", domain: "web.market" } },
  { relative: "_services._dns-sd._tcp.web.market", want: { form: "other" } },
  // A port may have the name of a part of it.
  {
    relative: "_dns-sd._udp.web.market",
    want: { form: "located", kind: KIND.SERVICE, transport: "udp", port: "dns-sd", name: "web", namespace: "market" },
  },
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
  {
    relative: `b32x-${"ifaucqkb".repeat(7)}if.b32-aucqkbie.market`,
    want: { form: "direct", name: "A".repeat(41), namespace: "market" },
  },
  { relative: `b32x-${"ifaucqkb".repeat(7)}if.market`, want: { form: "other" } },
  { relative: `b32x-${"ifaucqkb".repeat(7)}if.b32-aucqkbie.node`, want: { form: "node", nodeId: "A".repeat(41) } },
  // The label of a port has one character less.
  {
    relative: `_b32x-${"ifaucqkb".repeat(7)}i.b32-faucqkbie._tcp.web.market`,
    want: { form: "located", kind: KIND.SERVICE, transport: "tcp", port: "A".repeat(41), name: "web", namespace: "market" },
  },
  { relative: `_b32x-${"ifaucqkb".repeat(7)}if.b32-aucqkbie._tcp.web.market`, want: { form: "other" } },
  { relative: "_b32x-i._tcp.web.market", want: { form: "other" } },
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
    fc.record({
      form: fc.constant("instance" as const),
      transport: fc.constantFrom("tcp" as const, "udp" as const),
      instanceId: NAME,
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

test.each<{ why: string; name: DnsName; want: object }>([
  {
    why: "a name over 253",
    name: { form: "direct", name: "a".repeat(60), namespace: Array.from({ length: 4 }, () => "b".repeat(49)).join(".") },
    want: { unreachable: "too_long", why: "its DNS name would have 268 characters (max 253)" },
  },
  {
    why: "a text that no name holds",
    name: { form: "direct", name: "a".repeat(1000), namespace: "market" },
    want: { unreachable: "too_long", why: "its DNS name would have more than 253 characters (max 253)" },
  },
  { why: "the reserved namespace", name: { form: "direct", name: "web", namespace: "node" }, want: { unreachable: "reserved" } },
  { why: "the namespace of addresses", name: { form: "direct", name: "web", namespace: "addr.node" }, want: { unreachable: "reserved" } },
  {
    why: "a kind without names",
    name: { form: "located", kind: KIND.TOPIC, transport: "tcp", name: "t", namespace: "market" },
    want: { unreachable: "no_name" },
  },
  { why: "no form", name: { form: "other" }, want: { unreachable: "no_name" } },
])("$why cannot be written, and is told why", ({ name, want }) => {
  expect(nameInDns(name, "waymark")).toMatchObject(want);
  expect(formatName(name, "waymark")).toBeUndefined();
});

test("no two names are written alike, whatever their texts", () => {
  const text = fc.oneof(
    NAME,
    fc.stringMatching(/^b32x?-[a-z2-7.-]{0,70}$/),
    fc.string({ unit: fc.constantFrom("a", "A", "-"), minLength: 30, maxLength: 128 }),
  );
  const namespace = fc.array(fc.oneof(PLAIN, fc.stringMatching(/^b32x?-[a-z2-7]{1,58}$/)), { minLength: 1, maxLength: 3 });
  const place = fc
    .record({ name: text, namespace: namespace.map((labels) => labels.join(".")) })
    .map((parts) => ({ form: "direct" as const, ...parts }));
  fc.assert(
    fc.property(place, (given) => {
      const written = formatName(given, "z");
      if (written !== undefined) expect(parseName(written.slice(0, -2))).toEqual(given);
    }),
    { numRuns: runs(2_000) },
  );
});

test("whatever is read as a name is written as it was", () => {
  const label = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        "web",
        "market",
        "_tcp",
        "_svc",
        "node",
        "addr",
        "_http",
        "b32-k5swe",
        "10-0-0-1",
        "_services",
        "_dns-sd",
        "_udp",
      ),
    },
    { weight: 2, arbitrary: NAME.map((text) => encodeLabel(text) ?? "x") },
    fc.stringMatching(/^_?b32x?-[a-z2-7]{0,59}$/),
    fc.stringMatching(/^_?b32x-[a-z2-7]{57,58}$/),
  );
  fc.assert(
    fc.property(fc.array(label, { minLength: 1, maxLength: 5 }), (labels) => {
      const relative = labels.join(".");
      const name = parseName(relative);
      if (name.form === "other" || name.form === "fixed") return;
      const text = formatName(name, "z");
      // `_mpreg` is another word for `_rpc`.
      if (text !== undefined) expect(text).toBe(`${relative.replace(/^_mpreg\./, "_rpc.")}.z`);
      else expect(relative.length).toBeGreaterThan(251);
    }),
    { numRuns: runs(2_000) },
  );
});

test("a node has its name below node", () => {
  expect(nodeName("n1", "waymark")).toBe("n1.node.waymark");
  expect(nodeName("N_1", "mesh.eu")).toBe("b32-jzptc.node.mesh.eu");
  expect(nodeName("x".repeat(64), "waymark")).toBe(`${encodeLabel("x".repeat(64))}.node.waymark`);
  expect(nodeName("x".repeat(140), "waymark")).toBeUndefined();
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
