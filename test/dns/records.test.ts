import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { findRecordType, RECORDS, type RecordContext, ttlSeconds } from "../../src/dns/records.ts";
import { findSubject, healthRank } from "../../src/dns/subject.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../fakes/dns-catalog.ts";

function contextOf(owner: string): RecordContext {
  return { owner, zone: "waymark", revision: 1, settings: TEST_DNS_SETTINGS };
}

test("every row is found by its number, and by no other", () => {
  for (const [type, row] of Object.entries(RECORDS)) expect(findRecordType(row.code)).toBe(type);
  expect(findRecordType(255)).toBeUndefined();
});

test.each([
  { ttlMs: undefined, want: 5 },
  { ttlMs: 0, want: 1 },
  { ttlMs: 999, want: 1 },
  { ttlMs: 30_999, want: 30 },
  { ttlMs: 86_400_000, want: 60 },
])("an entry's ttl of $ttlMs ms is $want s in DNS", ({ ttlMs, want }) => {
  expect(ttlSeconds(ttlMs, TEST_DNS_SETTINGS)).toBe(want);
});

/** Entries of one name with one target each. */
const SRV_WORLD = fc.array(
  fc.record({
    health: fc.constantFrom(HEALTH.HEALTHY, HEALTH.DEGRADED, HEALTH.CRITICAL, HEALTH.MAINTENANCE, HEALTH.ORPHANED),
    priority: fc.oneof(fc.nat(3), fc.integer({ min: 65_530, max: 65_535 })),
  }),
  { minLength: 1, maxLength: 12 },
);

test("a client that goes by the priorities of SRV meets the healthiest first, and among equals those that the entries prefer", () => {
  fc.assert(
    fc.property(SRV_WORLD, (world) => {
      const entries = world.map(({ health, priority }, i) =>
        entryView({
          name: "web",
          instanceId: `i${i}`,
          health,
          targets: [{ host: `h${i}.example`, port: 80, protocol: "tcp", priority, weight: 1 }],
        }),
      );
      const subject = findSubject("_svc._tcp.web.market", "waymark", new FakeDnsCatalog(entries));
      const records = RECORDS.SRV.find(subject, contextOf("_svc._tcp.web.market.waymark")).flat();
      const told = new Map(records.map(({ data }) => [data.target, data.priority]));
      const all = world.map((one, i) => ({ ...one, rank: healthRank(one.health), told: told.get(`h${i}.example`) ?? Number.NaN }));
      const best = Math.min(...all.map(({ rank }) => rank));
      for (const a of all) {
        expect(Number.isInteger(a.told) && a.told >= 0 && a.told <= 65_535).toBe(true);
        for (const b of all) expect(Math.sign(a.told - b.told)).toBe(Math.sign(a.rank - b.rank || a.priority - b.priority));
      }
      // Where all are alike, nothing is changed.
      if (all.every(({ rank }) => rank === best)) expect(all.map((one) => one.told)).toEqual(all.map(({ priority }) => priority));
    }),
  );
});

test("an address that a healthy and a sick entry have is told once, with the priority of the healthy one", () => {
  const targets = [{ host: "10.0.0.1", port: 80, protocol: "tcp", priority: 3, weight: 1 }];
  const entries = [HEALTH.CRITICAL, HEALTH.HEALTHY].map((health, i) => entryView({ name: "web", instanceId: `i${i}`, health, targets }));
  const subject = findSubject("_svc._tcp.web.market", "waymark", new FakeDnsCatalog(entries));
  const records = RECORDS.SRV.find(subject, contextOf("_svc._tcp.web.market.waymark")).flat();
  expect(records.map(({ data }) => data.priority)).toEqual([3]);
});

test("texts hold every tag and capability, in strings of at most 255 bytes that each name their key", () => {
  const item = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,128}$/);
  const items = fc.uniqueArray(item, { maxLength: 64 });
  fc.assert(
    fc.property(items, items, (tags, capabilities) => {
      const catalog = new FakeDnsCatalog([entryView({ name: "web", tags, capabilities, scope: SCOPE.GLOBAL })]);
      const [record] = RECORDS.TXT.find(findSubject("web.market", "waymark", catalog), contextOf("web.market.waymark")).flat();
      const strings = record?.data.strings ?? [];
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

test("a host that DNS cannot write costs its own SRV record only", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "a..b" }, { host: "10.0.0.1" }] })]);
  const records = RECORDS.SRV.find(findSubject("_svc._tcp.web.market", "waymark", catalog), contextOf("x")).flat();
  expect(records.map(({ data }) => data.target)).toEqual(["10-0-0-1.addr.node.waymark"]);
});

test("the serial follows the revision and wraps", () => {
  const apex = { kind: "apex" } as const;
  const [soa] = RECORDS.SOA.find(apex, { ...contextOf("waymark"), revision: 0x1_0000_0002 }).flat();
  expect(soa?.data.serial).toBe(2);
});

test("a node whose id is no label still has a name server", () => {
  const settings = { ...TEST_DNS_SETTINGS, nodeId: "n".repeat(64) };
  const [ns] = RECORDS.NS.find({ kind: "apex" }, { ...contextOf("waymark"), settings }).flat();
  expect(ns?.data.target).toBe("ns.waymark");
});
