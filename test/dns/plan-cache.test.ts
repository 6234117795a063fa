import { expect, test } from "vitest";
import type { EntryView } from "../../src/catalog/entry/view.ts";
import { PlanCache } from "../../src/dns/plan-cache.ts";
import { RECORDS, type RecordType } from "../../src/dns/records.ts";
import { Rng } from "../../src/lib/rng.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../fakes/dns-catalog.ts";
import { recordText } from "./record-text.ts";

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
  expect(cname?.map(recordText)).toEqual(["x0.al.waymark. 30 IN CNAME web.market.waymark."]);
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
