/** PTR of addresses: the inverse of what A and AAAA say. */
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { EntryIndex } from "../../../src/catalog/query/entry-index.ts";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import type { DnsCatalog } from "../../../src/dns/subject/subject.ts";
import { zoneRecords } from "../../../src/dns/transfer/zone-records.ts";
import { CHANGING_ZONE, ChangingDns, type DnsAct, someDnsAct } from "../../fakes/changing-dns.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { runs, sized } from "../../fakes/effort.ts";
import { ask, newResponder, type Told, wordOf } from "../asking.ts";

const SETTINGS = { reverseZones: [CHANGING_ZONE] };
const NAMES = ["m", "m.eu", "shop"].flatMap((namespace) => ["web", "eu"].map((name) => `${name}.${namespace}.waymark`));
const ADDRESSES = ["10.0.0.1", "10.0.0.2"] as const;
const web = { kind: KIND.SERVICE, namespace: "m", name: "web", instanceId: "1" };

/** Two instances of one name, of which the second is orphaned: only the first is answered. */
const ORPHANING: readonly DnsAct[] = [
  { does: "put", by: "a", entry: web, aliases: [], host: "10.0.0.1" },
  { does: "put", by: "b", entry: { ...web, instanceId: "2" }, aliases: [], host: "10.0.0.2" },
  { does: "life", life: "orphaned" },
];

function ptr(catalog: DnsCatalog, address: string, settings: Parameters<typeof newResponder>[0] = { settings: SETTINGS }): Told {
  return ask(newResponder(settings), catalog, "PTR", `${address.split(".").toReversed().join(".")}.in-addr.arpa`);
}

function hasAddress(catalog: DnsCatalog, name: string, address: string): boolean {
  return ask(newResponder(), catalog, "A", name).answers.some((line) => line.startsWith(`${name}. `) && line.endsWith(` A ${address}`));
}

test("an address has exactly the names that answer with it, whatever changes", () => {
  let told = 0;
  fc.assert(
    fc.property(fc.constantFrom([], ORPHANING), fc.array(someDnsAct, { maxLength: 30 }), (first, acts) => {
      const world = new ChangingDns();
      for (const act of [...first, ...acts]) world.do(act);
      for (const address of ADDRESSES) {
        const names = wordOf(ptr(world.catalog, address).answers, -1);
        told += names.length;
        const scanned = NAMES.filter((name) => hasAddress(world.catalog, name, address)).map((name) => `${name}.`);
        expect(names.toSorted()).toEqual(scanned.toSorted());
      }
    }),
    { numRuns: runs(300) },
  );
  expect(told).toBeGreaterThan(runs(300) / 3);
});

test("what is hidden at an address is told apart from nothing by nothing", () => {
  const world = new ChangingDns();
  const absent = ptr(world.catalog, "10.0.0.1");
  expect(absent.rcode).toBe("NXDOMAIN");
  world.put({ by: "a", entry: web, aliases: [], host: "10.0.0.1" });
  expect(ptr(world.catalog, "10.0.0.1").rcode).toBe("NOERROR");
  world.do({ does: "policy", hidden: ["m"] });
  const serial = / \d+ 60 30 /;
  const plain = ({ authority, ...rest }: Told) => ({ ...rest, authority: authority.map((line) => line.replace(serial, " n 60 30 ")) });
  expect(plain(ptr(world.catalog, "10.0.0.1"))).toEqual(plain(absent));
});

test("hidden names take no room of those that are shown", () => {
  const world = new ChangingDns();
  for (let i = 0; i < 100; i++) world.put({ by: "a", entry: { ...web, name: `hidden${i}` }, aliases: [], host: "10.0.0.1" });
  world.put({ by: "a", entry: { ...web, namespace: "shop" }, aliases: [], host: "10.0.0.1" });
  expect(ptr(world.catalog, "10.0.0.1").answers).toHaveLength(64);
  world.do({ does: "policy", hidden: ["m"] });
  const { isTruncated, answers } = ptr(world.catalog, "10.0.0.1");
  expect([isTruncated, wordOf(answers, -1)]).toEqual([false, ["web.shop.waymark."]]);
});

test.each([64, 65])("an address with %i names tells 64 of them, as a whole set", (count) => {
  const world = new ChangingDns();
  for (let i = 0; i < count; i++) world.put({ by: "a", entry: { ...web, name: `web${i}` }, aliases: [], host: "10.0.0.1" });
  const told = ptr(world.catalog, "10.0.0.1");
  expect([told.answers.length, told.isTruncated]).toEqual([64, false]);
});

test.each([
  { health: HEALTH.CRITICAL, names: 5, told: 5 },
  { health: HEALTH.CRITICAL, names: 6, told: 5 },
  // What is healthy is shown without a look at the others.
  { health: HEALTH.HEALTHY, names: 6, told: 6 },
])("of $names crowded names of health $health at an address no more are read than 4,096 entries allow", ({ health, names, told }) => {
  const instances = Array.from({ length: 1000 * names }, (_, i) => ({
    ...entryView({ name: `web${i % names}`, instanceId: `i${i}`, targets: [{ host: "10.0.0.1" }] }),
    health,
  }));
  const { answers, isTruncated } = ptr(new FakeDnsCatalog(instances), "10.0.0.1");
  expect([answers.length, isTruncated]).toEqual([told, false]);
});

test("the name of a healthy entry is told without a look at the others of its name, of which each address may be asked for", () => {
  let findCount = 0;
  class Counting extends FakeDnsCatalog {
    override find(...name: Parameters<FakeDnsCatalog["find"]>): ReturnType<FakeDnsCatalog["find"]> {
      findCount += 1;
      return super.find(...name);
    }
  }
  const catalog = new Counting([
    entryView({ name: "web", instanceId: "1", targets: [{ host: "10.0.0.1" }] }),
    entryView({ name: "web", instanceId: "2", targets: [{ host: "10.0.0.2" }], health: HEALTH.DEGRADED }),
  ]);
  expect([wordOf(ptr(catalog, "10.0.0.1").answers, -1), findCount]).toEqual([["web.market.waymark."], 0]);
  expect([ptr(catalog, "10.0.0.2").answers, findCount]).toEqual([[], 1]);
});

test.each([
  { health: HEALTH.HEALTHY, looks: 0 },
  { health: HEALTH.CRITICAL, looks: 1 },
])("a transfer looks $looks times at all entries of a name of health $health that has 300 addresses", ({ health, looks }) => {
  const hosts = Array.from({ length: 300 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
  const catalog = new FakeDnsCatalog(
    hosts.map((host, i) => ({ ...entryView({ name: "web", instanceId: `i${i}`, targets: [{ host }] }), health })),
  );
  const find = vi.spyOn(catalog, "find");
  const addresses = () => hosts.map((host) => String.fromCharCode(...host.split(".").map(Number)));
  const settings = { ...TEST_DNS_SETTINGS, ...SETTINGS };
  const sources = { zone: CHANGING_ZONE, catalog, settings, lookup: new EntryIndex(), dnsNames: { addresses, aliases: () => [] } };
  const records = [...zoneRecords({ ...sources, onCrowded: () => {} })].flat().filter(({ type }) => type === "PTR");
  expect(records).toHaveLength(300);
  expect(find.mock.calls.filter(([kind]) => kind === KIND.SERVICE)).toHaveLength(looks);
});

test.each([
  { health: HEALTH.HEALTHY, mostRead: 2, isCut: false },
  { health: HEALTH.CRITICAL, mostRead: 65, isCut: true },
])("of thousands of instances of health $health at one address $mostRead entries are read at most, and no other name is lost", (row) => {
  const world = new ChangingDns();
  for (let i = 0; i < sized(30_000, 5000); i++)
    world.put({ by: "a", entry: { ...web, instanceId: `${i}` }, aliases: [], host: "10.0.0.1", health: row.health });
  world.put({ by: "a", entry: { ...web, name: "db" }, aliases: [], host: "10.0.0.1" });
  world.catalog.changes.catchUp();
  const { items, isCut } = world.catalog.atAddress(Uint8Array.of(10, 0, 0, 1));
  expect(items.map(({ key }) => key.name)).toEqual(["db", "web"]);
  expect(isCut).toBe(row.isCut);
  expect(world.viewedCount).toBeLessThanOrEqual(row.mostRead);
});

test("however much is hidden at an address, an answer reports sixteen namespaces", () => {
  const world = new ChangingDns();
  const namespaces = Array.from({ length: 40 }, (_, i) => `m.n${i}`);
  for (const namespace of namespaces) world.put({ by: "a", entry: { ...web, namespace }, aliases: [], host: "10.0.0.1" });
  world.do({ does: "policy", hidden: ["m"] });
  world.catalog.changes.catchUp();
  world.catalog.atAddress(Uint8Array.of(10, 0, 0, 1));
  expect(world.catalog.takeHidden()).toHaveLength(16);
});

test("an entry outside the reverse zones, and any without one, is not told", () => {
  const world = new ChangingDns();
  world.put({ by: "a", entry: web, aliases: [], host: "11.0.0.1" });
  expect(ptr(world.catalog, "11.0.0.1").rcode).toBe("REFUSED");
  expect(ptr(world.catalog, "11.0.0.1", { settings: { reverseZones: ["11.in-addr.arpa"] } }).rcode).toBe("NXDOMAIN");
  expect(ptr(world.catalog, "10.0.0.1", {}).rcode).toBe("REFUSED");
});

test("an address has a name that answers with it: where a longer zone has the names of the first one, the name in another zone", () => {
  const catalog = new FakeDnsCatalog(
    ["market", "inner"].map((namespace) => entryView({ name: "web", namespace, targets: [{ host: "10.0.0.1" }] })),
  );
  const settings = { ...SETTINGS, zones: ["waymark", "inner.waymark"] };
  const names = wordOf(ptr(catalog, "10.0.0.1", { settings }).answers, -1);
  expect(names.toSorted()).toEqual(["web.inner.inner.waymark.", "web.market.waymark."]);
  for (const name of names)
    expect(wordOf(ask(newResponder({ settings }), catalog, "A", name.slice(0, -1)).answers, -1)).toEqual(["10.0.0.1"]);
});

test("the longest zone counts, also among zones of services", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const zonesOf = (settings: Parameters<typeof newResponder>[0]) => {
    const { rcode, authority } = ptr(catalog, "10.0.0.9", settings);
    return [rcode, authority[0]?.split(" ")[0]];
  };
  expect(zonesOf({ settings: { reverseZones: ["10.in-addr.arpa", "0.0.10.in-addr.arpa"] } })).toEqual(["NXDOMAIN", "0.0.10.in-addr.arpa."]);
  expect(zonesOf({ settings: { zones: ["waymark", "0.10.in-addr.arpa"], reverseZones: ["10.in-addr.arpa"] } })).toEqual([
    "NXDOMAIN",
    "0.10.in-addr.arpa.",
  ]);
});

test("however many names of an address are hidden, all that are shown are told, and nothing says that there are more", () => {
  const told = (hiddenCount: number) => {
    const world = new ChangingDns();
    const hidden = Array.from({ length: hiddenCount }, (_, i) => `a${i}`);
    for (const namespace of hidden) world.put({ by: "a", entry: { ...web, namespace }, aliases: [], host: "10.0.0.1" });
    for (let i = 0; i < 60; i++) world.put({ by: "a", entry: { ...web, name: `s${i}` }, aliases: [], host: "10.0.0.1" });
    world.do({ does: "policy", hidden });
    const { answers, isTruncated } = ptr(world.catalog, "10.0.0.1");
    return [answers.length, isTruncated];
  };
  expect([told(0), told(20)]).toEqual([
    [60, false],
    [60, false],
  ]);
});

test("a name below a longer zone of ours is that zone's: neither an alias nor an address leads to what it stands for there", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "pay", namespace: "svc", targets: [{ host: "10.0.0.1" }] }),
    entryView({ name: "pay", namespace: "svc.corp", targets: [{ host: "10.0.0.2" }], aliases: ["pp.shop"] }),
  ]);
  const settings = { zones: ["waymark", "corp.waymark"], reverseZones: [CHANGING_ZONE] };
  const told = (name: string) => ask(newResponder({ settings }), catalog, "A", name);
  expect(told("pay.svc.corp.waymark").answers).toEqual(["pay.svc.corp.waymark. 30 A 10.0.0.1"]);
  expect(told("pp.shop.waymark")).toMatchObject({ rcode: "NOERROR", answers: [] });
  expect(told("pp.shop.corp.waymark").answers).toEqual([
    "pp.shop.corp.waymark. 30 CNAME pay.svc.corp.corp.waymark.",
    "pay.svc.corp.corp.waymark. 30 A 10.0.0.2",
  ]);
  expect(wordOf(ptr(catalog, "10.0.0.1", { settings }).answers, -1)).toEqual(["pay.svc.waymark."]);
  expect(wordOf(ptr(catalog, "10.0.0.2", { settings }).answers, -1)).toEqual(["pay.svc.corp.corp.waymark."]);
});
