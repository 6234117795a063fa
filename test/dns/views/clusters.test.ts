/** Names without entries here, in DNS: they lead to the ingress of the cluster to which Resolve leads (`dns.summary_answers`). */
import type { MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { ClusterNames } from "../../../src/discovery/summaries/cluster-names.ts";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { ZoneSigner } from "../../../src/dns/signing/zone-signer.ts";
import { DEFAULT_VIEW, type DnsView } from "../../../src/dns/subject/subject.ts";
import { dnsCatalog } from "../../../src/dns/views/catalog.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { ClusterRedirects } from "../../../src/services/discovery/resolve.ts";
import { BAND, type Summary } from "../../../src/summary/summary.ts";
import { TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { denialOf, ownerOf, readMessage, signatureFaults, signedQuery, TestKeys, TYPE } from "../../fakes/dnssec.ts";
import { runs } from "../../fakes/effort.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, Registry, stamped, WALL } from "../../fakes/registry.ts";
import { ANYONE, NODE, SummaryWorld } from "../../fakes/summary-readers.ts";
import { type AskedType, ask, newResponder } from "../asking.ts";

const HIDING = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);
const URLS: Readonly<Record<string, readonly string[]>> = {
  "us-1": ["grpc://192.0.2.1:7420", "http://192.0.2.1:7480", "grpc://[2001:db8::1]:7420"],
  "ap-1": ["grpc://ap.example.org:7420"],
  "eu-2": ["grpc://192.0.2.9:7420"],
};
type Entries = Readonly<Record<string, MessageInitShape<typeof EntrySchema>>>;

/** A node with these entries in `svc`, and these summaries of `svc/web` of other clusters. */
function node(
  entries: Entries,
  summaries: readonly Partial<Summary>[],
  { hosts = ["192.0.2.200"] as readonly string[], locality = undefined as DnsView["locality"] } = {},
) {
  const world = new SummaryWorld();
  const put = (one: Partial<Summary>) => world.put({ namespace: "svc", serviceId: "web", ...one });
  const tell = (source: string, urls: readonly string[]) =>
    world.ingress.set(source, [{ urls, scope: SCOPE.REGION, capabilities: [], tags: [] }]);
  for (const [source, urls] of Object.entries(URLS)) tell(source, urls);
  const keys = summaries.map(put);
  const r = new Registry();
  const register = (name: string, init: MessageInitShape<typeof EntrySchema>) =>
    r.register("ann", [stamped(name, init)], at(0), { isStatic: true });
  for (const [name, init] of Object.entries(entries)) register(name, init);
  const { policies } = world;
  const reads = new CatalogReads(r.replica, NODE, { policies, onDenied: () => {} });
  const dnsNames = new DnsNames(r.replica, ["waymark"]);
  const clusters = new ClusterNames({ summaries: world.summaries, dnsNames, hosts, zones: ["waymark."], now: () => world.now() });
  const hidden: string[] = [];
  const sources = { reads, replica: r.replica, dnsNames, identity: NODE, policies, clusters };
  const onHidden = (namespaces: readonly string[]) => void hidden.push(...namespaces);
  const view = { ...DEFAULT_VIEW, locality };
  const catalog = dnsCatalog(() => 0, sources, onHidden, { view, caller: ANYONE });
  const change = (policy: Policy) => {
    world.change(policy);
    reads.show(policy);
    reads.settle(policy);
  };
  const responder = newResponder();
  const told = (type: AskedType, name: string, by = responder) => ask(by, catalog, type, name);
  const data = (type: AskedType, name: string) => {
    const { rcode, answers } = told(type, name);
    return answers.length === 0 ? rcode : answers.map((line) => line.split(" ").slice(3).join(" ")).join(", ");
  };
  return { world, put, tell, keys, register, registry: r, catalog, change, told, data, hidden, responder };
}

const US = { source: "us-1" };
const AP = { source: "ap-1", band: BAND.DEGRADED };
const target = { targets: [{ host: "10.0.0.1", port: 80, protocol: "http" }] };
const UDP = { targets: [{ host: "10.0.0.1", port: 80, protocol: "udp" }] };
const WEB = "web.svc.waymark";
const SRV = `_svc._tcp.${WEB}`;

interface Row {
  readonly what: string;
  readonly type: AskedType;
  readonly name: string;
  readonly want: string;
  readonly entries?: Entries;
}

test.each<Row>([
  { what: "an entry here", entries: { web: target }, type: "A", name: WEB, want: "10.0.0.1" },
  { what: "nothing here", type: "A", name: WEB, want: "192.0.2.1" },
  { what: "nothing here", type: "AAAA", name: WEB, want: "2001:db8::1" },
  {
    what: "nothing here",
    type: "SRV",
    name: SRV,
    want: "0 1 7420 192-0-2-1.addr.node.waymark., 0 1 7480 192-0-2-1.addr.node.waymark., 0 1 7420 2001-db8-0-0-0-0-0-1.addr.node.waymark.",
  },
  {
    what: "only what is in maintenance here",
    entries: { web: { ...target, health: HEALTH.MAINTENANCE } },
    type: "A",
    name: WEB,
    want: "192.0.2.1",
  },
  { what: "an entry without targets here", entries: { web: {} }, type: "A", name: WEB, want: "NOERROR" },
  {
    what: "an entry of another transport here",
    entries: { web: UDP },
    type: "SRV",
    name: SRV,
    want: "NXDOMAIN",
  },
  {
    what: "an alias of that name here",
    entries: { db: { ...target, aliases: ["web.svc"] } },
    type: "A",
    name: WEB,
    want: "db.svc.waymark., 10.0.0.1",
  },
  {
    what: "an alias of what is there",
    entries: { web: { ...target, health: HEALTH.MAINTENANCE, aliases: ["shop.front"] } },
    type: "A",
    name: "shop.front.waymark",
    want: "web.svc.waymark., 192.0.2.1",
  },
  { what: "facts of nothing here", type: "TXT", name: WEB, want: "NOERROR" },
  { what: "bindings of nothing here", type: "HTTPS", name: WEB, want: "NOERROR" },
  { what: "bindings of nothing here", type: "SVCB", name: SRV, want: "NOERROR" },
  { what: "a list of instances", type: "PTR", name: SRV, want: "NOERROR" },
  { what: "a list of services", type: "PTR", name: "_services._dns-sd._udp.svc.waymark", want: "NXDOMAIN" },
  { what: "a named port", type: "SRV", name: `_http._tcp.${WEB}`, want: "NXDOMAIN" },
  { what: "one instance", type: "SRV", name: `i1.${SRV}`, want: "NXDOMAIN" },
  { what: "UDP", type: "SRV", name: `_svc._udp.${WEB}`, want: "NXDOMAIN" },
  { what: "another kind", type: "SRV", name: `_rpc._tcp.${WEB}`, want: "NXDOMAIN" },
  { what: "what is above SRV", type: "SRV", name: `_tcp.${WEB}`, want: "NOERROR" },
  { what: "what is above it", type: "A", name: "svc.waymark", want: "NOERROR" },
  { what: "another name", type: "A", name: "webs.svc.waymark", want: "NXDOMAIN" },
  { what: "beacons", type: "A", name: "summaries.discovery.waymark", want: "NXDOMAIN" },
  { what: "beacons", type: "A", name: "us-1.discovery.summaries.waymark", want: "NXDOMAIN" },
])("with $what, $type of $name is $want", ({ type, name, want, entries = {} }) => {
  const { data, world } = node(entries, [US, AP, { source: "c1" }, { source: "eu-2", channel: SCOPE.ZONE }]);
  world.beacon("us-1");
  expect(data(type, name)).toBe(want);
});

test("a cluster whose ingress has host names answers with a CNAME, and with them in SRV, and without an ingress with nothing", () => {
  const { data, told, tell, world } = node({}, [AP]);
  expect([data("A", WEB), data("SRV", SRV)]).toEqual(["ap.example.org.", "10000 1 7420 ap.example.org."]);
  tell(
    "ap-1",
    Array.from({ length: 40 }, (_, i) => `grpc://192.0.2.${i}:1`),
  );
  world.beacon("ap-1");
  expect(told("SRV", SRV).answers.length).toBe(16);
});

test("functions and queues answer at their own names, and the names above those exist", () => {
  const { data } = node({}, [
    { ...US, kind: KIND.FUNCTION },
    { ...US, kind: KIND.TOPIC, serviceId: "news" },
  ]);
  expect(data("SRV", `_rpc._tcp.${WEB}`)).toContain("7420 192-0-2-1");
  const names = [WEB, `_tcp.${WEB}`, SRV, "news.svc.waymark"];
  expect(names.map((name) => data("A", name))).toEqual(["NOERROR", "NOERROR", "NXDOMAIN", "NXDOMAIN"]);
});

test("the cluster is that of Resolve: fresh before stale, then by band, and of equals that of the asker's region", () => {
  const { data, world } = node({}, [US, { source: "eu-2" }, AP]);
  expect(data("A", WEB)).toBe("192.0.2.9");
  world.turn("eu-2", true);
  expect(data("A", WEB)).toBe("192.0.2.1");
  world.turn("us-1", true);
  expect(data("A", WEB)).toBe("ap.example.org.");
  world.turn("eu-2", false);
  expect(data("A", WEB)).toBe("192.0.2.9");
  const west = node({}, [US, { source: "eu-2" }, AP], { locality: { region: "us", zone: "" } });
  expect(west.data("A", WEB)).toBe("192.0.2.1");
});

const NEAR = ["grpc://127.0.0.1:1", "grpc://localhost:1", "grpc://[::1]:1", "grpc://[::ffff:127.0.0.1]:1"];
const STRANGE = [
  "grpc://169.254.0.1:1",
  "grpc://0.0.0.0:1",
  "grpc://[fe80::1]:1",
  "grpc://[fe80::1%25eth0]:1",
  "grpc://224.0.0.251:1",
  "grpc://[ff02::fb]:1",
  "grpc://255.255.255.255:1",
  "grpc://[::ffff:224.0.0.1]:1",
  "grpc://127.1:1",
  "grpc://2130706433:1",
  "grpc://0x7f.1:1",
  "grpc://0177.0.0.1:1",
  "grpc://me@0:1",
  "grpc://127.0.0.1.:1",
  // A name of our own zone leads where we say, and this one to any machine's loopback.
  "grpc://127-0-0-1.addr.node.WAYMARK:1",
  "grpc://192.0.2.1:0",
];
const NEAR_NAMES = ["grpc://LocalHost.:1", "grpc://a.localhost:1", "grpc://ip6-loopback:1", "grpc://localhost..:1"];

/** What is told of a name that a better cluster has at this url, and another one at `ap.example.org`. */
function toldBeside(url: string, hosts: readonly string[]): readonly string[] {
  const { data, tell } = node({}, [US, AP], { hosts });
  tell("us-1", [url]);
  return [url, data("A", WEB), data("SRV", SRV)];
}
const OTHER = ["ap.example.org.", "10000 1 7420 ap.example.org."];

test.each([
  { hosts: ["192.0.2.200"] },
  { hosts: ["0.0.0.0"] },
  { hosts: ["::"] },
  { hosts: ["127.0.0.1", "0.0.0.0"] },
  { hosts: ["::1", "10.0.0.1"] },
])("listeners at $hosts tell nobody of a host at which the asker would find its own machine or link", ({ hosts }) => {
  for (const url of [...NEAR, ...STRANGE, ...NEAR_NAMES]) expect(toldBeside(url, hosts)).toEqual([url, ...OTHER]);
});

test("where all listeners are on loopback, hosts there are told, and strange ones are not", () => {
  const hosts = ["127.0.0.1", "::1"];
  for (const url of NEAR) expect(toldBeside(url, hosts)).not.toContain(OTHER[1]);
  for (const url of STRANGE) expect(toldBeside(url, hosts)).toEqual([url, ...OTHER]);
});

test.each([
  { what: "no end", one: {}, want: 60 },
  { what: "a short ttl", one: { ttlMs: 20_000 }, want: 20 },
  { what: "a ttl below the least", one: { ttlMs: 200 }, want: 1 },
  { what: "an end that is near", one: { notAfterWallMs: WALL + 5_900 }, want: 5 },
  { what: "an end within a second", one: { notAfterWallMs: WALL + 900 }, want: 0 },
  { what: "a source that may soon be lost", one: {}, freshMs: 7_400, want: 7 },
  { what: "a lost source", one: {}, isStale: true, want: 3 },
  { what: "an end that has passed", one: { notAfterWallMs: WALL - 1 }, want: undefined },
])("with $what, answers may be kept for $want s", ({ one, freshMs, isStale, want }) => {
  const { told, world } = node({}, [{ ...US, ...one }]);
  world.freshMs = freshMs ?? world.freshMs;
  if (isStale === true) world.turn("us-1", true);
  const ttls = [told("A", WEB), told("SRV", SRV)].flatMap(({ answers, additional }) => [...answers, ...additional]);
  expect([...new Set(ttls.map((line) => Number(line.split(" ")[1])))]).toEqual(want === undefined ? [] : [want]);
});

test("who may not see the namespace is told what it is told of a name that is nowhere, and so are those who ask for what is above it", () => {
  const { told, change, hidden } = node({}, [US]);
  change(HIDING);
  for (const name of [WEB, SRV, "svc.waymark", `_tcp.${WEB}`, "nowhere.svc.waymark"]) expect(told("A", name).rcode).toBe("NXDOMAIN");
  expect(new Set(hidden)).toEqual(new Set(["svc"]));
});

test("signed answers hold, and a denial names exactly the types that are there", () => {
  const { catalog, world } = node({}, [US]);
  const signer = new ZoneSigner({ keys: new TestKeys(), now: () => world.now() });
  const settings = { ...TEST_DNS_SETTINGS, zoneKeys: () => signer.keys };
  const responder = new DnsResponder({ settings, planBytes: SETTINGS.dns.planBytes, random: () => 0.5, signer, serialOf: () => 1 });
  const asked = (name: string, type: number) => {
    const reply = responder.respond(signedQuery(name, type), "tcp", () => onlyView(catalog));
    return readMessage(reply?.bytes ?? new Uint8Array());
  };
  const keys = asked("waymark", TYPE.DNSKEY).answers.flatMap(({ type, data }) => (type === TYPE.DNSKEY ? [data] : []));
  for (const [name, types] of [
    [WEB, [TYPE.A, TYPE.AAAA]],
    [SRV, [TYPE.SRV]],
  ] as const) {
    for (const type of types) {
      const { answers } = asked(name, type);
      expect(answers.filter((record) => record.type === type && record.owner === ownerOf(name)).length).toBeGreaterThan(0);
      expect(signatureFaults(answers, keys, WALL / 1000)).toEqual([]);
    }
    const { rcode, authority } = asked(name, TYPE.TXT);
    const denials = authority.filter(({ type }) => type === TYPE.NSEC).map(denialOf);
    expect([rcode, denials.map((denied) => [...denied.types])]).toEqual([0, [[...types, TYPE.RRSIG, TYPE.NSEC]]]);
  }
});

type Act = (world: ReturnType<typeof node>) => void;
const SOURCES = ["us-1", "eu-2", "ap-1"] as const;
const someSource = fc.constantFrom(...SOURCES);
const someAct: fc.Arbitrary<Act> = fc.oneof(
  fc
    .record({
      source: someSource,
      band: fc.constantFrom(BAND.HEALTHY, BAND.DEGRADED, BAND.CRITICAL),
      endsMs: fc.option(fc.integer({ min: 0, max: 90_000 })),
      ttlMs: fc.constantFrom(500, 9_000, 120_000),
      endpointCount: fc.nat(1),
    })
    .map(
      ({ endsMs, ...one }): Act =>
        ({ put, world }) =>
          void put({ ...one, version: (next += 1), notAfterWallMs: endsMs === null ? undefined : world.now().wallMs + endsMs }),
    ),
  someSource.map(
    (source): Act =>
      ({ world, keys }) =>
        keys.forEach((key) => key.endsWith(source) && world.hide(key)),
  ),
  fc.tuple(someSource, fc.boolean()).map(
    ([source, isStale]): Act =>
      ({ world }) =>
        world.turn(source, isStale),
  ),
  fc.tuple(someSource, fc.nat(3)).map(
    ([source, n]): Act =>
      ({ tell, world }) => {
        tell(source, n === 0 ? [] : [`grpc://192.0.2.${n}:1`]);
        world.beacon(source);
      },
  ),
  fc.constantFrom(100, 900, 1_000, 5_000, 30_000).map(
    (ms): Act =>
      ({ world }) =>
        world.pass(ms),
  ),
  fc.constantFrom(HEALTH.HEALTHY, HEALTH.MAINTENANCE).map(
    (health): Act =>
      ({ register }) =>
        void register("web", { ...target, health }),
  ),
);
let next = 2_000_000_000;

test("a gateway that keeps its answers answers as one that does not, whatever changes, and no answer outlives what it tells", () => {
  fc.assert(
    fc.property(fc.array(someAct, { maxLength: 20 }), (acts) => {
      const world = node({}, [US, { ...AP, notAfterWallMs: WALL + 20_000 }]);
      const redirects = new ClusterRedirects(world.world.summaries);
      for (const act of acts) {
        act(world);
        for (const [type, name] of [
          ["A", WEB],
          ["SRV", SRV],
          ["TXT", WEB],
          ["A", "svc.waymark"],
        ] as const) {
          const kept = world.told(type, name);
          expect(kept).toEqual(world.told(type, name, newResponder()));
          if (type !== "A" || name !== WEB || kept.answers.some((line) => line.includes("10.0.0.1"))) continue;
          const time = world.world.now();
          const redirect = redirects.find({
            caller: ANYONE,
            name: { kind: KIND.SERVICE, namespace: "svc", name: "web" },
            visited: [],
            region: "eu",
            time,
          });
          const leftMs = redirect?.ttl === undefined ? 0 : Number(redirect.ttl.seconds) * 1000 + redirect.ttl.nanos / 1e6;
          if (redirect === undefined) expect(kept.answers).toEqual([]);
          for (const line of kept.answers) expect(Number(line.split(" ")[1]) * 1000).toBeLessThanOrEqual(Math.max(1000, leftMs));
        }
      }
    }),
    { numRuns: runs(20) },
  );
});
