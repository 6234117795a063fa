/** Which instances of a crowded name an answer looks at. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { EntryIndex } from "../../../src/catalog/query/entry-index.ts";
import { allInstances, findInstances, type NameSampling, sampleInstances } from "../../../src/catalog/query/instances.ts";
import { type CatalogRecord, HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import { healthRank } from "../../../src/discovery/candidates.ts";
import { runs } from "../../fakes/effort.ts";
import { type RecordSpec, testRecord } from "../../fakes/records.ts";

const NAME = { kind: KIND.SERVICE, namespace: "svc.market", name: "web" };
const SAMPLING = { form: "spread", at: 0, rank: healthRank, ideal: 0, fit: 0, wanted: 5 } as const satisfies NameSampling;

/** Names that sort around the one that is asked for have the same instances. */
function crowd(count: number, specOf: (i: number) => RecordSpec = () => ({})): EntryIndex {
  const lookup = new EntryIndex();
  const others: readonly RecordSpec[] = [{ namespace: "svc" }, { namespace: "svc.market.eu" }, { kind: KIND.QUEUE }, { name: "we" }];
  for (let i = 0; i < count; i++) {
    const instanceId = `i${String(i).padStart(6, "0")}`;
    lookup.put(testRecord({ ...specOf(i), instanceId }));
    if (i < 300) for (const other of others) lookup.put(testRecord({ ...other, instanceId }));
  }
  return lookup;
}

const keysOf = (records: readonly CatalogRecord[]) => records.map(({ key }) => key).toSorted();

test("every instance is in exactly one of the samples that a crowded name has, and each sample is bounded", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1500 }), fc.integer({ min: 1, max: 400 }), (count, most) => {
      const lookup = crowd(count);
      const all = keysOf(allInstances(lookup, NAME));
      expect(all).toHaveLength(count);
      const { stride } = sampleInstances(lookup, NAME, { ...SAMPLING, most });
      const samples = Array.from({ length: stride }, (_, i) =>
        sampleInstances(lookup, NAME, { ...SAMPLING, wanted: 0, most, at: (i + 0.5) / stride }),
      );
      for (const { records } of samples) expect(records.length).toBeLessThanOrEqual(most);
      expect(keysOf(samples.flatMap(({ records }) => records))).toEqual(all);
    }),
    { numRuns: runs(40) },
  );
});

test("of 10,000 instances an answer looks at 1,000 while enough of them are healthy", () => {
  const lookup = crowd(10_000, (i) => ({ health: i % 3 === 0 ? HEALTH.CRITICAL : HEALTH.HEALTHY }));
  for (const form of ["spread", "stretch"] as const) {
    for (const at of [0, 0.31, 0.999]) {
      let ranked = 0;
      const rank = (record: CatalogRecord) => {
        ranked += 1;
        return healthRank(record);
      };
      expect(sampleInstances(lookup, NAME, { ...SAMPLING, form, at, rank })).toMatchObject({ count: 10_000, stride: 10 });
      expect(ranked).toBe(1000);
    }
  }
});

test.each(["spread", "stretch"] as const)("health tiers come first: the few healthy ones of a crowd are in every %s", (form) => {
  const healthy = new Set([17, 4321, 9998]);
  const lookup = crowd(10_000, (i) => ({ health: healthy.has(i) ? HEALTH.HEALTHY : i % 2 === 0 ? HEALTH.DEGRADED : HEALTH.CRITICAL }));
  for (let i = 0; i < 20; i++) {
    const { records } = sampleInstances(lookup, NAME, { ...SAMPLING, form, at: i / 20 });
    expect(records).toHaveLength(1000);
    expect(records.slice(0, 3).every(({ health }) => health === HEALTH.HEALTHY)).toBe(true);
    expect(records.slice(3).every(({ health }) => health === HEALTH.DEGRADED)).toBe(true);
  }
});

test("a stretch changes by two at most when an instance comes or goes", () => {
  const lookup = crowd(5000);
  const [gone] = allInstances(lookup, NAME).slice(1234);
  const stretches = () =>
    Array.from({ length: 50 }, (_, i) => keysOf(sampleInstances(lookup, NAME, { ...SAMPLING, form: "stretch", at: i / 50 }).records));
  const before = stretches();
  if (gone !== undefined) lookup.remove(gone);
  for (const [i, after] of stretches().entries()) expect(after.filter((key) => !before[i]?.includes(key)).length).toBeLessThanOrEqual(2);
});

test("where none of a sample suits, the few that do are found, and no others are looked into", () => {
  const rare = new Set([123, 7777, 9001]);
  const lookup = crowd(10_000, (i) => ({ health: i % 2 === 0 ? HEALTH.HEALTHY : HEALTH.CRITICAL, tags: rare.has(i) ? ["udp"] : ["tcp"] }));
  const suited = (record: CatalogRecord) => record.traits.tags.includes("udp");
  for (const wanted of [true, false]) {
    let looked = 0;
    const read = (record: CatalogRecord) => {
      looked += 1;
      return record;
    };
    const suits = (record: CatalogRecord) => suited(record) && wanted;
    const { found, isSample } = findInstances(lookup, NAME, { sampling: { ...SAMPLING, at: 0.5 }, suits, read });
    expect([found.length, isSample, looked]).toEqual([wanted ? 3 : 0, false, wanted ? 3 : 0]);
  }
});

test("where many suit and none is fit for traffic, an answer looks into a thousand, best first, and each has its chance", () => {
  const lookup = crowd(10_000, (i) => ({ health: i % 3 === 0 ? HEALTH.MAINTENANCE : HEALTH.CRITICAL, tags: i % 2 === 0 ? ["udp"] : [] }));
  const seen = new Set<string>();
  for (let i = 0; i < 20; i++) {
    let looked = 0;
    const read = (record: CatalogRecord) => {
      looked += 1;
      return record;
    };
    const suits = (record: CatalogRecord) => record.traits.tags.length > 0;
    const { found, isSample } = findInstances(lookup, NAME, { sampling: { ...SAMPLING, at: i / 20 }, suits, read });
    expect([found.length, isSample, looked]).toEqual([1000, true, 1000]);
    for (const { key, health } of found) {
      expect(health).toBe(HEALTH.CRITICAL);
      seen.add(key);
    }
  }
  // All of those that are critical and suit.
  expect(seen.size).toBe(3333);
});

test("where half of a sample suits and is fit for traffic, nothing else is looked at", () => {
  const lookup = crowd(10_000, (i) => ({ tags: i % 2 === 0 ? ["udp"] : ["tcp"] }));
  let looked = 0;
  const suits = (record: CatalogRecord) => {
    looked += 1;
    return record.traits.tags.includes("udp");
  };
  const { found, isSample } = findInstances(lookup, NAME, { sampling: { ...SAMPLING, form: "stretch" }, suits, read: (record) => record });
  expect([found.length, isSample, looked]).toEqual([500, true, 1000]);
});

test("a sample of a tier of several ranks has some of each, and tells how many of each there are", () => {
  const levelOf = (record: CatalogRecord) => Number(record.traits.tags[0]);
  const rank = (record: CatalogRecord) => healthRank(record) * 3 + levelOf(record);
  // Five are near, the others half and half; a quarter is critical.
  const lookup = crowd(10_000, (i) => ({
    tags: [i % 1999 === 777 ? "0" : `${1 + (i % 2)}`],
    health: i % 4 === 0 ? HEALTH.CRITICAL : HEALTH.HEALTHY,
  }));
  const find = (wanted: number, suits?: (record: CatalogRecord) => boolean) => {
    const sampling = { ...SAMPLING, rank, ranksPerTier: 3, at: 0.4, fit: 2, wanted };
    const { found, ranks } = findInstances(lookup, NAME, { sampling, suits, read: (record) => record });
    return { levels: [0, 1, 2].map((level) => found.filter((one) => levelOf(one) === level).length), found, ranks: ranks?.map(Math.round) };
  };
  // All ranks were read to find those that are near. Then they share the room.
  const all = find(5);
  expect(all.levels).toEqual([4, 498, 498]);
  expect(all.found.every(({ health }) => health === HEALTH.HEALTHY)).toBe(true);
  expect(all.ranks?.slice(0, 3)).toEqual([4, 2499, 4997]);
  // Of a sample that needs no more, all are kept.
  expect(find(0).levels.reduce((sum, count) => sum + count)).toBe(1000);
  // Where a test leaves some out, the numbers are those of the rest.
  const isEarly = ({ key }: CatalogRecord) => (/i(\d{6})/.exec(key)?.[1] ?? "") < "002500";
  const [near = 0, region = 0, far = 0] = find(5, isEarly).ranks ?? [];
  expect([near, Math.round(region / 100), Math.round(far / 100)]).toEqual([1, 6, 13]);
  // Where none of the sample is fit for traffic, the numbers are those of all.
  const critical = find(5, ({ health }) => health === HEALTH.CRITICAL);
  expect([critical.levels, critical.ranks?.slice(6)]).toEqual([
    [1, 999, 0],
    [1, 2499],
  ]);
});
