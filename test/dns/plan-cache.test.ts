import { expect, test } from "vitest";
import type { EntryView } from "../../src/catalog/entry/view.ts";
import { HEALTH } from "../../src/catalog/record/record.ts";
import { PlanCache } from "../../src/dns/plan-cache.ts";
import { RECORDS, type RecordType } from "../../src/dns/records.ts";
import { Rng } from "../../src/lib/rng.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../fakes/dns-catalog.ts";

const ALIASES = 300;
const INSTANCES = 100;
const aliasNames = Array.from({ length: ALIASES }, (_, i) => `x${i}.al`);

/** Counts look-ups; with `samples` a name has one entry at a time, as if it had been sampled. */
class CountingCatalog extends FakeDnsCatalog {
  readonly #samples: readonly EntryView[];
  lookupCount = 0;
  #isSample = false;

  constructor(entries: readonly EntryView[], samples: readonly EntryView[] = []) {
    super([...entries, ...samples]);
    this.#samples = samples;
  }

  override find(...args: Parameters<FakeDnsCatalog["find"]>): readonly EntryView[] {
    this.lookupCount++;
    const found = super.find(...args);
    if (this.#samples.length === 0 || found.length < 2) return found;
    this.#isSample = true;
    return [this.#samples[this.lookupCount % this.#samples.length] ?? entryView({ name: "none" })];
  }

  takeSampled(): boolean {
    const isSample = this.#isSample;
    this.#isSample = false;
    return isSample;
  }
}

/** A name of a hundred instances, the first with all the aliases. */
function crowd(): EntryView[] {
  return Array.from({ length: INSTANCES }, (_, i) =>
    entryView({
      name: "web",
      instanceId: `i${i}`,
      nodeId: `n${i}`,
      targets: [{ host: `10.0.0.${i}` }],
      aliases: i === 0 ? aliasNames : [],
    }),
  );
}

function newCache(maxBytes: number): PlanCache {
  const rng = new Rng("plans");
  return new PlanCache({ settings: TEST_DNS_SETTINGS, random: () => rng.next(), maxPlans: 10_000, maxBytes });
}

function ask(cache: PlanCache, catalog: FakeDnsCatalog, name: string, type: RecordType = "A") {
  return cache.plan({ name: `${name}.waymark`, type: RECORDS[type].code, class: 1 }, catalog);
}

test.each([
  { type: "A", count: 300, name: (i: number) => `x${i}.al` },
  { type: "SRV", count: 40, name: (i: number) => `_svc._tcp.web${i % 20}.market` },
  { type: "TXT", count: 300, name: (i: number) => `x${i}.al` },
  { type: "A", count: 1000, name: (i: number) => `${"\\001".repeat(40)}${i}` },
] as const)(
  "however many names are asked, what is kept of $type stays within its bytes, and every answer is whole",
  ({ type, count, name }) => {
    const maxBytes = 1024 * 1024;
    const cache = newCache(maxBytes);
    const named = Array.from({ length: 20 }, (_, i) =>
      crowd().map((entry) => ({ ...entry, key: { ...entry.key, name: `web${i}` }, aliases: [] })),
    );
    const catalog = new CountingCatalog([...crowd(), ...named.flat()]);
    const counts = new Set<number>();
    for (let i = 0; i < count; i++) {
      counts.add(ask(cache, catalog, name(i), type).groups.flat().length);
      expect(cache.sizeBytes).toBeLessThanOrEqual(maxBytes);
    }
    expect(counts.size).toBe(1);
    expect(cache.sizeBytes).toBeGreaterThan(maxBytes / 2);
  },
);

test("what made room for others is counted and planned again, what is kept is not; a change empties it", () => {
  const cache = newCache(512 * 1024);
  const catalog = new CountingCatalog(crowd());
  for (const name of aliasNames) ask(cache, catalog, name);
  expect(cache.droppedCount).toBeGreaterThan(200);
  const looked = catalog.lookupCount;
  ask(cache, catalog, "x299.al");
  expect(catalog.lookupCount).toBe(looked);
  ask(cache, catalog, "x0.al");
  expect(catalog.lookupCount).toBeGreaterThan(looked);
  catalog.clear();
  expect(ask(cache, catalog, "x0.al").groups).toEqual([]);
  expect(cache.sizeBytes).toBeLessThan(2048);
});

test("aliases of a name share its records, also those of the name itself", () => {
  const cache = newCache(32 * 1024 * 1024);
  const catalog = new CountingCatalog(crowd());
  const [cname, first] = ask(cache, catalog, "x0.al").groups;
  expect(cname).toEqual([{ type: "CNAME", name: "x0.al.waymark", ttlSeconds: 30, data: { target: "web.market.waymark" } }]);
  expect(first).toHaveLength(INSTANCES);
  for (const name of aliasNames) expect(ask(cache, catalog, name).groups[1]).toBe(first);
  expect(ask(cache, catalog, "web.market").groups[0]).toBe(first);
  // A type that is not there is shared too, and says so for the name that was asked.
  expect(ask(cache, catalog, "x1.al", "AAAA")).toMatchObject({ rcode: 0, groups: [[{ type: "CNAME", name: "x1.al.waymark" }]] });
  expect(ask(cache, catalog, "x1.al", "AAAA").authority).toHaveLength(1);
});

test("a sample of a crowded name is used for sixteen answers in all, whichever of its names is asked", () => {
  const cache = newCache(32 * 1024 * 1024);
  const samples = crowd();
  const catalog = new CountingCatalog([], samples);
  const used = new Map<unknown, number>();
  for (let i = 0; i < 800; i++) {
    const [record] = ask(cache, catalog, i % 3 === 0 ? "web.market" : `x${i % ALIASES}.al`).groups.at(-1) ?? [];
    used.set(record, (used.get(record) ?? 0) + 1);
  }
  expect(new Set(used.values())).toEqual(new Set([16]));
  expect(used.size).toBe(50);
});

test("of a plan too large to be kept a part is, which fills the largest answer; each record has its turn", () => {
  const maxBytes = 4 * 1024 * 1024;
  const tags = Array.from({ length: 60 }, (_, k) => `tag-${k}`.padEnd(120, "x"));
  const wide = (i: number) => entryView({ name: "web", instanceId: `i${i}`, nodeId: `n${i}`, tags });
  const catalog = new CountingCatalog(Array.from({ length: 80 }, (_, i) => wide(i)));
  const cache = newCache(maxBytes);
  const seen = new Set<string>();
  for (let i = 0; i < 25_600; i++) {
    const plan = ask(cache, catalog, "web.market", "TXT");
    if (i % 256 !== 0) continue;
    const records = plan.groups.flat();
    expect(records.length * 7200).toBeGreaterThan(65_535);
    expect(records.length).toBeLessThan(30);
    for (const record of records) seen.add(record.type === "TXT" ? record.data.strings.join(" ").slice(-80) : "");
  }
  expect(cache.sizeBytes).toBeLessThan(maxBytes / 8);
  expect(catalog.lookupCount).toBe(100);
  expect(seen.size).toBe(80);
});

test("a plan counts its records, their texts and those of its glue", () => {
  const bytesOf = (entry: EntryView, name: string, type: RecordType) => {
    const cache = newCache(32 * 1024 * 1024);
    ask(cache, new CountingCatalog([entry]), name, type);
    return cache.sizeBytes;
  };
  const tagged = (length: number) => bytesOf(entryView({ name: "web", tags: ["x".repeat(length)] }), "web.market", "TXT");
  expect(tagged(100) - tagged(20)).toBe(80);
  const targeted = (host: string) =>
    bytesOf(entryView({ name: "web", targets: [{ host, port: 80, protocol: "tcp" }] }), "_svc._tcp.web.market", "SRV");
  // The name of an address has its record beside it, a name outside of our zones has none.
  expect(targeted("10.0.0.1") - targeted("10-0-0-1.addr.node.example")).toBeGreaterThan(350);
});

test("a part keeps the order of groups, each whole before the next begins, and the glue of what stays", () => {
  const each = 1000;
  const healths = [HEALTH.HEALTHY, HEALTH.DEGRADED, HEALTH.CRITICAL];
  const hostOf = (i: number) => `2001:db8:1234:1234:1234:1234:1234:${(0x1000 + i).toString(16)}`;
  const entries = healths.flatMap((health, group) =>
    Array.from({ length: each }, (_, k) => {
      const i = group * each + k;
      return entryView({
        name: "web",
        instanceId: `i${i}`,
        nodeId: `n${i}`,
        health,
        targets: [{ host: hostOf(i), port: 80, protocol: "tcp" }],
      });
    }),
  );
  const plan = ask(newCache(20 * 1024 * 1024), new CountingCatalog(entries), "_svc._tcp.web.market", "SRV");
  const numbers = plan.groups.map((group) =>
    group.map((record) =>
      record.type === "SRV" ? Number.parseInt(record.data.target.split(".")[0]?.split("-").at(-1) ?? "", 16) - 0x1000 : -1,
    ),
  );
  const [first = [], second = [], third = []] = numbers;
  expect(new Set(first)).toEqual(new Set(Array.from({ length: each }, (_, i) => i)));
  expect(new Set(second)).toEqual(new Set(Array.from({ length: each }, (_, i) => each + i)));
  expect([third.length > 0, third.length < each]).toEqual([true, true]);
  expect(third.every((i) => i >= 2 * each)).toBe(true);
  expect(third).not.toEqual(Array.from({ length: third.length }, (_, i) => 2 * each + i));
  expect(plan.glue.size).toBe(numbers.flat().length);
});

test("a part of very many small records is kept, in an eighth of the bytes", () => {
  const maxBytes = 8 * 1024 * 1024;
  const entries = Array.from({ length: 4000 }, (_, i) =>
    entryView({ name: "web", instanceId: `i${i}`, nodeId: `n${i}`, targets: [{ host: `10.0.${i >> 8}.${i & 255}` }] }),
  );
  const cache = newCache(maxBytes);
  ask(cache, new CountingCatalog(entries), "web.market");
  expect(cache.droppedCount).toBe(0);
  expect(cache.sizeBytes).toBeLessThanOrEqual(maxBytes / 8);
  expect(cache.sizeBytes).toBeGreaterThan(maxBytes / 9);
});
