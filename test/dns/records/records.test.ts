import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { entryView, FakeDnsCatalog, nodeView } from "../../fakes/dns-catalog.ts";
import { type AskedType, ask, newResponder, questionBytes, wordOf } from "../asking.ts";

type Settings = NonNullable<Parameters<typeof newResponder>[0]>["settings"];

/** `[priority, target]` of each SRV record of `web`. */
function srvOf(catalog: FakeDnsCatalog, settings: Settings = {}): readonly (readonly [number, string])[] {
  const { answers } = ask(newResponder({ settings }), catalog, "SRV", "_svc._tcp.web.market.waymark");
  return answers.map((line) => [Number(line.split(" ")[3]), line.split(" ").at(-1)?.slice(0, -1) ?? ""]);
}

test("every type is found by its number, and by no other", () => {
  const codes = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, SVCB: 64, HTTPS: 65, ANY: 255 };
  // A question for OPT is malformed.
  for (const code of Array.from({ length: 300 }, (_, n) => n + 1).filter((n) => n !== 41)) {
    const name = Object.entries(codes).find(([, number]) => number === code)?.[0];
    const reply = newResponder().respond(questionBytes(code, "nope.waymark"), "tcp", () => onlyView(new FakeDnsCatalog()));
    expect([code, reply?.qtype]).toEqual([code, name ?? "other"]);
  }
});

test.each([
  { ttlMs: undefined, want: 6 },
  { ttlMs: 0, want: 1 },
  { ttlMs: 999, want: 1 },
  { ttlMs: 30_999, want: 30 },
  { ttlMs: 86_400_000, want: 60 },
])("an entry's ttl of $ttlMs ms is $want s in DNS", ({ ttlMs, want }) => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }], ttlMs })]);
  expect(wordOf(ask(newResponder(), catalog, "A", "web.market.waymark").answers, 1)).toEqual([String(want)]);
});

test("the TTL of a set is the least of the entries in it, not of those that it leaves out", () => {
  const out = { ttlMs: 2_000, health: HEALTH.MAINTENANCE, targets: [{ host: "10.0.0.9" }] };
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", instanceId: "1", ttlMs: 40_000, targets: [{ host: "10.0.0.1" }] }),
    entryView({ name: "web", instanceId: "2", ttlMs: 30_000, targets: [{ host: "10.0.0.1" }, { host: "2001:db8::1" }] }),
    entryView({ name: "web", instanceId: "3", ttlMs: 20_000, health: HEALTH.DEGRADED, targets: [{ host: "10.0.0.3" }] }),
    entryView({ name: "web", instanceId: "4", ttlMs: 10_000, health: HEALTH.DEGRADED, targets: [{ host: "a..b" }] }),
    entryView({ name: "web", instanceId: "5", ...out }),
    entryView({ name: "far", instanceId: "1", ttlMs: 40_000, targets: [{ host: "a.example" }] }),
    entryView({ name: "far", instanceId: "2", ttlMs: 30_000, targets: [{ host: "b.example" }] }),
    entryView({ name: "far", instanceId: "3", ...out }),
  ]);
  const ttls = (type: AskedType, name: string) => [...new Set(wordOf(ask(newResponder(), catalog, type, `${name}.waymark`).answers, 1))];
  expect(ttls("A", "web.market")).toEqual(["30"]);
  expect(ttls("SRV", "_svc._tcp.web.market")).toEqual(["20"]);
  expect(ttls("TXT", "web.market")).toEqual(["10"]);
  expect(ttls("CNAME", "far.market")).toEqual(["30"]);
  expect(ttls("PTR", "_svc._tcp.web.market")).toEqual(["10"]);
  expect(ttls("PTR", "_services._dns-sd._udp.far.market")).toEqual(["30"]);
  expect(ttls("PTR", "_services._dns-sd._udp.market")).toEqual(["10"]);
});

test.each<{ readonly type: AskedType; readonly name: string }>([
  { type: "A", name: "web.market" },
  { type: "CNAME", name: "far.market" },
  { type: "CNAME", name: "shop.example" },
  { type: "PTR", name: "_services._dns-sd._udp.market" },
])("a $type set of $name with an ORPHANED entry has the TTL of stale answers where dns.min_ttl is more", ({ type, name }) => {
  const health = HEALTH.ORPHANED;
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", health, targets: [{ host: "10.0.0.1" }], aliases: ["shop.example"] }),
    entryView({ name: "far", health, targets: [{ host: "a.example" }] }),
  ]);
  const { answers } = ask(newResponder({ settings: { staleTtlMs: 2_000, minTtlMs: 10_000 } }), catalog, type, `${name}.waymark`);
  expect([...new Set(wordOf(answers, 1))]).toEqual(["2"]);
});

test.each([
  { minTtlMs: 1_500, maxTtlMs: 10_700, ttlMs: 1_000, ttl: "2" },
  { minTtlMs: 1_500, maxTtlMs: 10_700, ttlMs: 2_900, ttl: "2" },
  { minTtlMs: 1_500, maxTtlMs: 10_700, ttlMs: 60_000, ttl: "10" },
  { minTtlMs: 1_100, maxTtlMs: 1_900, ttlMs: 60_000, ttl: "1" },
  { minTtlMs: 0, maxTtlMs: 10_000, ttlMs: 999, ttl: "0" },
])("a TTL is whole seconds within its bounds: $ttlMs ms of $minTtlMs to $maxTtlMs is $ttl s", ({ minTtlMs, maxTtlMs, ttlMs, ttl }) => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", ttlMs, targets: [{ host: "10.0.0.1" }] })]);
  const { answers } = ask(newResponder({ settings: { minTtlMs, maxTtlMs } }), catalog, "A", "web.market.waymark");
  expect(wordOf(answers, 1)).toEqual([ttl]);
});

test("a binding that several entries have may be kept for as long as each of them allows", () => {
  const entries = [40_000, 20_000].map((ttlMs, i) =>
    entryView({ name: "web", instanceId: `${i}`, ttlMs, targets: [{ host: "10.0.0.1", protocol: "https", port: 443 }] }),
  );
  const ttls = (type: AskedType, name: string) => wordOf(ask(newResponder(), new FakeDnsCatalog(entries), type, name).answers, 1);
  expect([ttls("SVCB", "_svc._tcp.web.market.waymark"), ttls("HTTPS", "web.market.waymark")]).toEqual([["20"], ["20"]]);
});

test("an ORPHANED entry of a short ttl keeps it: dns.stale_ttl makes no ttl longer", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", health: HEALTH.ORPHANED, ttlMs: 2_000, targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }] }),
  ]);
  const { answers } = ask(newResponder({ settings: { staleTtlMs: 9_000 } }), catalog, "A", "web.market.waymark");
  expect(wordOf(answers, 1)).toEqual(["2", "2"]);
});

/** Entries of one name with one target each. */
const SRV_WORLD = fc.array(
  fc.record({
    health: fc.constantFrom(...Object.values(HEALTH)),
    priority: fc.oneof(fc.nat(3), fc.integer({ min: 990, max: 1_010 }), fc.integer({ min: 65_530, max: 65_535 })),
    region: fc.constantFrom("eu", "us", ""),
    zone: fc.constantFrom("a", "b", ""),
  }),
  { minLength: 1, maxLength: 12 },
);
const LOCALITY = fc.option(fc.record({ region: fc.constantFrom("eu", "us"), zone: fc.constantFrom("a", "b", "") }), { nil: undefined });
const TIERS = {
  [HEALTH.UNSET]: 0,
  [HEALTH.HEALTHY]: 0,
  [HEALTH.DEGRADED]: 1,
  [HEALTH.CRITICAL]: 2,
  [HEALTH.ORPHANED]: 3,
  [HEALTH.MAINTENANCE]: undefined,
};

test("the priority of an SRV record is that of its tier, then of its distance from the view, then of its target, and MAINTENANCE has none", () => {
  fc.assert(
    fc.property(SRV_WORLD, LOCALITY, (world, locality) => {
      const entries = world.map(({ priority, ...place }, i) =>
        entryView({ name: "web", instanceId: `i${i}`, ...place, targets: [{ host: `h${i}.example`, priority }] }),
      );
      const want = world.flatMap(({ health, priority, region, zone }, i) => {
        const tier = TIERS[health];
        const isNear = locality?.region === region;
        const distance = locality === undefined ? 0 : isNear && locality.zone === zone && zone !== "" ? 0 : isNear ? 1 : 2;
        const own = priority < 999 ? priority : 999;
        return tier === undefined ? [] : [`${10_000 * tier + 1_000 * distance + own} h${i}.example`];
      });
      const catalog = new FakeDnsCatalog(entries, { locality });
      const records = srvOf(catalog);
      const told = records.map((record) => record.join(" "));
      expect(told.toSorted()).toEqual(want.toSorted());
      // A reader that takes the first records, or gets no others, has the best ones.
      const ranks = records.map(([priority]) => Math.floor(priority / 1_000));
      expect(ranks).toEqual(ranks.toSorted((a, b) => a - b));
    }),
  );
});

test("with dns.srv_priority = target, SRV tells the priorities of the targets as they are", () => {
  const targets = [{ host: "a.example", priority: 65_535 }];
  const world = [HEALTH.HEALTHY, HEALTH.CRITICAL, HEALTH.MAINTENANCE].map((health, i) =>
    entryView({ name: "web", instanceId: `i${i}`, health, region: "us", targets: [...targets, { host: `${i}.example`, priority: i }] }),
  );
  const locality = { region: "eu", zone: "" };
  const told = srvOf(new FakeDnsCatalog(world, { locality }), { srvPriority: "target" });
  expect(told.map((record) => record.join(" ")).toSorted()).toEqual(["0 0.example", "1 1.example", "65535 a.example"]);
});

test.each([
  { what: "no weight counts as 1", weights: [[0], [0]], want: [1, 1] },
  { what: "no weight counts as 1 if another entry has one", weights: [[0], [100]], want: [1, 100] },
  { what: "no weight counts as 1 for each target of an entry", weights: [[0, 0], [7]], want: [1, 1, 7] },
  { what: "no weight counts as 0 if another target of the entry has one", weights: [[0, 5], [0]], want: [0, 5, 1] },
])("SRV weights: $what", ({ weights, want }) => {
  const entries = weights.map((own, i) =>
    entryView({ name: "web", instanceId: `i${i}`, targets: own.map((weight, k) => ({ host: `h${i}${k}.example`, weight })) }),
  );
  const { answers } = ask(newResponder(), new FakeDnsCatalog(entries), "SRV", "_svc._tcp.web.market.waymark");
  const told = answers.map((line) => line.split(" ")).toSorted((a, b) => ((a.at(-1) ?? "") < (b.at(-1) ?? "") ? -1 : 1));
  expect(told.map((words) => Number(words[4]))).toEqual(want);
});

test("a target without a weight is not drained by a target of its entry with another priority, or by one that the name does not show", () => {
  const targets = [
    { host: "a.example", name: "api" },
    { host: "b.example", priority: 1, weight: 5 },
    { host: "c.example", name: "web", weight: 5 },
  ];
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets })]);
  const { answers } = ask(newResponder(), catalog, "SRV", "_api._tcp.web.market.waymark");
  expect(answers.map((line) => line.split(" ").slice(3, 5).join(" "))).toEqual(["0 1", "1 5"]);
});

test("with dns.srv_tiers = best, SRV shows the same tier as A, whatever the priorities are", () => {
  const world = [HEALTH.DEGRADED, HEALTH.CRITICAL, HEALTH.DEGRADED, HEALTH.MAINTENANCE].map((health, i) =>
    entryView({ name: "web", instanceId: `i${i}`, health, region: `r${i}`, targets: [{ host: `${i}.example` }] }),
  );
  const hosts = (settings: Settings) => srvOf(new FakeDnsCatalog(world), settings).map(([, host]) => host);
  expect(hosts({}).toSorted()).toEqual(["0.example", "1.example", "2.example"]);
  for (const srvPriority of ["health", "target"] as const)
    expect(hosts({ srvTiers: "best", srvPriority }).toSorted()).toEqual(["0.example", "2.example"]);
  expect(srvOf(new FakeDnsCatalog(world.slice(1, 2)), { srvTiers: "best" })).toEqual([[20_000, "1.example"]]);
});

test.each([
  { healths: ["UNSET", "HEALTHY", "DEGRADED"], want: [0, 1] },
  { healths: ["DEGRADED", "CRITICAL", "DEGRADED"], want: [0, 2] },
  { healths: ["CRITICAL", "MAINTENANCE", "ORPHANED"], want: [0, 2] },
  { healths: ["MAINTENANCE", "ORPHANED"], want: [1] },
  { healths: ["MAINTENANCE", "MAINTENANCE"], want: [] },
] as const)("addresses are those of the best tier, and never of MAINTENANCE: $healths shows $want", ({ healths, want }) => {
  const entries = healths.map((health, i) =>
    entryView({
      name: "web",
      instanceId: `i${i}`,
      health: HEALTH[health],
      targets: [{ host: `10.0.0.${i}` }, { host: `2001:db8::a${i}` }],
    }),
  );
  for (const [type, prefix] of [
    ["A", "10.0.0."],
    ["AAAA", "2001:db8::a"],
  ] as const) {
    const { rcode, answers, authority } = ask(newResponder(), new FakeDnsCatalog(entries), type, "web.market.waymark");
    expect([rcode, wordOf(answers, -1).toSorted()]).toEqual(["NOERROR", want.map((i) => prefix + String(i)).toSorted()]);
    expect(wordOf(authority, 2)).toEqual(want.length === 0 ? ["SOA"] : []);
  }
});

test("a name whose entries are all in MAINTENANCE exists and has no records of any type", () => {
  const health = HEALTH.MAINTENANCE;
  const out = { name: "web", health, targets: [{ host: "db.example.com" }], metadata: { "waymark.dns.cname": "db.example.com" } };
  const catalog = new FakeDnsCatalog([
    entryView(out),
    entryView({ ...out, name: "ext", targets: [] }),
    { ...nodeView("n7", ["grpc://10.0.0.7:1"]), health },
  ]);
  for (const name of ["web.market", "ext.market", "_svc._tcp.web.market", "n7.node"])
    for (const type of ["A", "AAAA", "TXT", "SRV", "CNAME", "ANY"] as const) {
      const { rcode, answers } = ask(newResponder(), catalog, type, `${name}.waymark`);
      expect([name, type, rcode, answers]).toEqual([name, type, "NOERROR", []]);
    }
});

test("a target without a port has addresses and no SRV record", () => {
  const entries = [
    entryView({
      name: "web",
      targets: [
        { host: "10.0.0.1", port: 0 },
        { host: "fd00::1", port: 0 },
        { host: "10.0.0.1", port: 80 },
      ],
    }),
    entryView({ name: "ext", targets: [{ host: "db.example.com", port: 0 }] }),
  ];
  const told = (type: AskedType, name: string) => ask(newResponder(), new FakeDnsCatalog(entries), type, `${name}.market.waymark`).answers;
  expect(wordOf(told("A", "web"), -1)).toEqual(["10.0.0.1"]);
  expect(wordOf(told("AAAA", "web"), -1)).toEqual(["fd00::1"]);
  expect(wordOf(told("SRV", "_svc._tcp.web"), -1)).toEqual(["10-0-0-1.addr.node.waymark."]);
  expect(wordOf(told("A", "ext"), -1)).toEqual(["db.example.com."]);
  expect(told("SRV", "_svc._tcp.ext")).toEqual([]);
});

test("an address that a healthy and a sick entry have is told once, with the priority of the healthy one", () => {
  const targets = [{ host: "10.0.0.1", port: 80, protocol: "tcp", priority: 3, weight: 1 }];
  const entries = [HEALTH.CRITICAL, HEALTH.HEALTHY].map((health, i) => entryView({ name: "web", instanceId: `i${i}`, health, targets }));
  expect(srvOf(new FakeDnsCatalog(entries)).map(([priority]) => priority)).toEqual([3]);
});

test("texts hold every tag and capability, in strings of at most 255 bytes that each name their key", () => {
  const item = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,128}$/);
  const items = fc.uniqueArray(item, { maxLength: 64 });
  fc.assert(
    fc.property(items, items, (tags, capabilities) => {
      const catalog = new FakeDnsCatalog([entryView({ name: "web", tags, capabilities, scope: SCOPE.GLOBAL })]);
      const [record = ""] = ask(newResponder(), catalog, "TXT", "web.market.waymark").answers;
      const strings = [...record.matchAll(/"([^"]*)"/g)].map(([, text = ""]) => text);
      const valuesOf = (key: string): string[] =>
        strings.filter((text) => text.startsWith(`${key}=`)).flatMap((text) => text.slice(key.length + 1).split(","));
      for (const text of strings) expect(text.length).toBeLessThanOrEqual(255);
      expect(valuesOf("tags")).toEqual(tags);
      expect(valuesOf("capabilities")).toEqual(capabilities);
      expect(valuesOf("scope")).toEqual(["global"]);
      expect(strings.every((text) => /^(namespace|scope|tags|cluster_id|node_id|capabilities)=/.test(text))).toBe(true);
    }),
  );
});

test("texts hold the metadata behind the facts, in the order of their keys; what is too long for a string, or has the key of a fact, is left out", () => {
  const metadata = {
    team: "payments",
    note: "h\u00e9 = 1",
    tags: "mine",
    TAGS: "mine",
    long: "x".repeat(251),
    longest: "x".repeat(247),
    wide: "\u00e9".repeat(126),
    empty: "",
  };
  const catalog = new FakeDnsCatalog([entryView({ name: "web", tags: ["a"], metadata })]);
  const [record = ""] = ask(newResponder(), catalog, "TXT", "web.market.waymark").answers;
  const strings = [...record.matchAll(/"([^"]*)"/g)].map(([, text = ""]) => text);
  expect(strings.slice(0, 3)).toEqual(["namespace=market", "scope=zone", "tags=a"]);
  expect(strings.slice(-4)).toEqual(["empty=", `longest=${"x".repeat(247)}`, "note=h\u00e9 = 1", "team=payments"]);
  expect(strings.filter((text) => /mine|^long=|^wide=/.test(text))).toEqual([]);
});

test("entries whose metadata differ have a text each, whatever characters are in a value", () => {
  const metadata = [{ a: "1", b: "2" }, { a: "1\0b=2" }, { a: '1","b=2' }];
  const catalog = new FakeDnsCatalog(metadata.map((each, i) => entryView({ name: "web", instanceId: `${i}`, metadata: each })));
  expect(ask(newResponder(), catalog, "TXT", "web.market.waymark").answers).toHaveLength(3);
});

test("a kept text counts two bytes for each character where one of them is not of Latin-1", () => {
  const sizeOf = (value: string) => {
    const responder = newResponder();
    const metadata = Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`k${i}`, value]));
    // Of a name that an alias leads to, the records are kept.
    ask(responder, new FakeDnsCatalog([entryView({ name: "web", metadata, aliases: ["x.al"] })]), "TXT", "x.al.waymark");
    return responder.plans.sizeBytes;
  };
  const plain = "x".repeat(200);
  // Beside two bytes more of each message.
  expect(sizeOf(`${plain}\u4e2d`) - sizeOf(`${plain}x`)).toBeGreaterThanOrEqual(64 * (2 + plain.length));
});

test("a host that DNS cannot write costs its own SRV record only", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "a..b" }, { host: "10.0.0.1" }] })]);
  expect(srvOf(catalog).map(([, target]) => target)).toEqual(["10-0-0-1.addr.node.waymark"]);
});

test("a node whose id has no name still has a name server", () => {
  const responder = newResponder({ settings: { nodeId: "n".repeat(150) } });
  expect(wordOf(ask(responder, new FakeDnsCatalog(), "NS", "waymark").answers, -1)).toEqual(["ns.waymark."]);
});

test.each([
  { what: "500 records are complete", count: 500, tags: (i: number) => [`t${i}`], told: 500, isTruncated: false },
  { what: "more than 500 records are truncated, with TC", count: 501, tags: (i: number) => [`t${i}`], told: 500, isTruncated: true },
  { what: "entries with equal texts share a record", count: 900, tags: () => ["t"], told: 1, isTruncated: false },
])("TXT of many entries: $what", ({ count, tags, told, isTruncated }) => {
  const catalog = new FakeDnsCatalog(
    Array.from({ length: count }, (_, i) => entryView({ name: "web", instanceId: `i${i}`, tags: tags(i) })),
  );
  const reply = ask(newResponder(), catalog, "TXT", "web.market.waymark");
  expect([reply.answers.length, reply.isTruncated]).toEqual([told, isTruncated]);
});
