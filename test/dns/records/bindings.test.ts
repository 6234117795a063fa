import { expect, test } from "vitest";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { type AskedType, ask, newResponder } from "../asking.ts";

type Spec = Omit<Parameters<typeof entryView>[0], "name">;
type Settings = NonNullable<NonNullable<Parameters<typeof newResponder>[0]>["settings"]>;
const EU = { region: "eu", zone: "eu-1a" };
const S = "_svc._tcp.web.market";

interface Asked {
  readonly name?: string;
  readonly settings?: Settings;
  readonly locality?: typeof EU;
}

/** The data of the records of `web`, in order of text, with the names of addresses cut to the address. */
function dataOf(type: AskedType, specs: readonly Spec[], { name = "web.market", settings = {}, locality }: Asked = {}) {
  const entries = specs.map((spec, i) => entryView({ name: "web", instanceId: `i${i}`, ...spec }));
  const { rcode, answers } = ask(newResponder({ settings }), new FakeDnsCatalog(entries, { locality }), type, `${name}.waymark`);
  expect(rcode).toBe("NOERROR");
  return answers.map((line) => line.split(" ").slice(3).join(" ").replace(".addr.node.waymark.", "")).toSorted();
}

const at = (host: string, protocol = "https", port = 443, priority = 0) => ({ host, protocol, port, priority });

test.each([
  { why: "no target", targets: [], want: [] },
  { why: "a protocol in upper case", targets: [at("10.0.0.1", "HTTPS")], want: ['1 . alpn="http/1.1"'] },
  { why: "HTTP/3", targets: [at("10.0.0.1", "h3", 8443)], want: ['1 . alpn="h3" no-default-alpn port=8443'] },
  { why: "a protocol without TLS", targets: [at("10.0.0.1", "http", 80)], want: [] },
  { why: "a protocol that is no HTTP", targets: [at("10.0.0.1", "postgres", 5432), at("10.0.0.1", "constructor", 1)], want: [] },
  { why: "gRPC alone", targets: [at("10.0.0.1", "grpc", 50_051)], want: ['1 . alpn="h2" no-default-alpn port=50051'] },
  { why: "gRPC beside plain HTTP, which may be plain too", targets: [at("10.0.0.1", "grpc"), at("10.0.0.1", "http", 80)], want: [] },
  {
    why: "an address beside, at which nobody speaks TLS",
    targets: [at("10.0.0.1"), at("10.0.0.9", "tcp", 1)],
    want: ['1 10-0-0-1 alpn="http/1.1" ipv4hint=10.0.0.1'],
  },
  {
    why: "ports that differ",
    targets: [at("10.0.0.1"), at("10.0.0.2", "https", 444)],
    want: ['1 10-0-0-1 alpn="http/1.1" ipv4hint=10.0.0.1', '1 10-0-0-2 alpn="http/1.1" port=444 ipv4hint=10.0.0.2'],
  },
  {
    why: "a host name beside an address",
    targets: [at("10.0.0.1"), at("b.example.com")],
    want: ['1 10-0-0-1 alpn="http/1.1" ipv4hint=10.0.0.1', '1 b.example.com. alpn="http/1.1"'],
  },
  { why: "a host that DNS cannot write", targets: [at("10.0.0.1"), at("a..b")], want: ['1 . alpn="http/1.1"'] },
  {
    why: "priorities that differ",
    targets: [at("10.0.0.1", "https", 443, 5), at("10.0.0.2", "https", 443, 2_000)],
    want: ['1000 10-0-0-2 alpn="http/1.1" ipv4hint=10.0.0.2', '6 10-0-0-1 alpn="http/1.1" ipv4hint=10.0.0.1'],
  },
])("HTTPS of $why", ({ targets, want }) => {
  expect(dataOf("HTTPS", [{ targets }])).toEqual(want);
});

test.each([
  { health: HEALTH.HEALTHY, want: ['1 10-0-0-2 alpn="http/1.1" ipv4hint=10.0.0.2'] },
  { health: HEALTH.DEGRADED, want: [] },
  { health: HEALTH.CRITICAL, want: [] },
])("HTTPS shows the tier that A shows: beside a healthy target without TLS one of health $health is $want", ({ health, want }) => {
  expect(dataOf("HTTPS", [{ targets: [at("10.0.0.1", "http", 80)] }, { targets: [at("10.0.0.2")], health }])).toEqual(want);
});

test("HTTPS and SVCB show the best tier only, the nearest first, and nothing in MAINTENANCE", () => {
  const specs = [
    { health: HEALTH.MAINTENANCE, targets: [at("10.0.0.1")], ...EU },
    { health: HEALTH.ORPHANED, targets: [at("10.0.0.2")], region: "us" },
    { health: HEALTH.CRITICAL, targets: [at("10.0.0.3", "https", 443, 5)], ...EU },
    { health: HEALTH.CRITICAL, targets: [at("10.0.0.4")], region: "eu", zone: "b" },
  ];
  const rest = (i: number) => `10-0-0-${i} alpn="http/1.1" ipv4hint=10.0.0.${i}`;
  expect(dataOf("HTTPS", specs, { locality: EU })).toEqual([`1001 ${rest(4)}`, `2001 ${rest(2)}`, `6 ${rest(3)}`]);
  const target = { srvPriority: "target" } as const;
  expect(dataOf("HTTPS", specs, { locality: EU, settings: target })).toEqual([`1 ${rest(2)}`, `1 ${rest(4)}`, `6 ${rest(3)}`]);
  expect(dataOf("SVCB", specs, { name: S, locality: EU }).map((data) => data.split(" ")[0])).toEqual(["1001", "2001", "6"]);
  expect(dataOf("SVCB", [{ targets: [at("10.0.0.1", "https", 443, 65_535)] }], { name: S, settings: target })[0]).toMatch(/^65535 /);
  for (const [type, name] of [
    ["HTTPS", "web.market"],
    ["SVCB", S],
  ] as const)
    expect(dataOf(type, specs.slice(0, 1), { name })).toEqual([]);
});

test.each([
  { why: "a host at the port of its protocol", specs: [{ targets: [at("a.example.com")] }], want: ["0 a.example.com."] },
  { why: "one host twice", specs: [{ targets: [at("a.example.com"), at("A.example.com", "http", 80)] }], want: ["0 a.example.com."] },
  { why: "a host without a port", specs: [{ targets: [at("a.example.com", "tcp", 0)] }], want: ["0 a.example.com."] },
  { why: "a host name instead of targets", specs: [{ metadata: { "waymark.dns.cname": "a.example.com" } }], want: ["0 a.example.com."] },
  {
    why: "a port of its own",
    specs: [{ targets: [at("a.example.com", "https", 8443)] }],
    want: ['1 a.example.com. mandatory=port alpn="http/1.1" port=8443'],
  },
  { why: "an unknown protocol", specs: [{ targets: [at("a.example.com", "", 443)] }], want: ["1 a.example.com. mandatory=port port=443"] },
  {
    why: "two hosts",
    specs: [{ targets: [at("a.example.com"), at("b.example.com")] }],
    want: ['1 a.example.com. mandatory=port alpn="http/1.1" port=443', '1 b.example.com. mandatory=port alpn="http/1.1" port=443'],
  },
  {
    why: "an address beside the host",
    specs: [{ targets: [at("a.example.com"), at("10.0.0.1", "tcp", 0)] }],
    want: ["1 10-0-0-1 ipv4hint=10.0.0.1", '1 a.example.com. mandatory=port alpn="http/1.1" port=443'],
  },
  { why: "itself", specs: [{ targets: [at(`${S}.waymark`)] }], want: [`1 ${S}.waymark. mandatory=port alpn="http/1.1" port=443`] },
  { why: "nothing", specs: [{}], want: [] },
])("SVCB is an alias only where no port is lost: $why", ({ specs, want }) => {
  expect(dataOf("SVCB", specs, { name: S })).toEqual(want);
});

test("SVCB is at the names of SRV and for their targets, HTTPS at names with addresses; each has the TTL of its own set", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", ttlMs: 9_000, targets: [{ ...at("10.0.0.1"), name: "front" }, at("10.0.0.1", "udp", 53)] }),
    entryView({ name: "web", instanceId: "i2", ttlMs: 3_000, targets: [at("10.0.0.2", "tcp", 1)] }),
    entryView({ kind: KIND.QUEUE, name: "mail", targets: [at("10.0.0.3", "grpc", 3)] }),
  ]);
  const told = (type: AskedType, name: string) => ask(newResponder(), catalog, type, `${name}.waymark`).answers;
  expect(told("SVCB", "_front._tcp.web.market")).toEqual([
    '_front._tcp.web.market.waymark. 9 SVCB 1 10-0-0-1.addr.node.waymark. mandatory=port alpn="http/1.1" port=443 ipv4hint=10.0.0.1',
  ]);
  expect(told("SVCB", "_svc._udp.web.market").map((line) => line.split(" ").slice(1, 4))).toEqual([["9", "SVCB", "1"]]);
  expect(told("SVCB", "_svc._tcp.web.market").map((line) => line.split(" ")[1])).toEqual(["3", "3"]);
  expect(told("HTTPS", "web.market").map((line) => line.split(" ").slice(1, 3))).toEqual([["9", "HTTPS"]]);
  expect(told("SVCB", "_queue._tcp.mail.market")).toHaveLength(1);
  for (const [type, name] of [
    ["HTTPS", S],
    ["SVCB", "web.market"],
    ["HTTPS", "waymark"],
    ["SVCB", "node"],
  ] as const)
    expect([name, told(type, name)]).toEqual([name, []]);
});
