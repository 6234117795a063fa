/**
 * Chooses which instances of a name an answer considers. Each instance is chosen equally often, and at most a thousand records of a name are
 * considered.
 */
import { assert } from "../../lib/errors.ts";
import { type CatalogRecord, type EntryKey, KIND, type Kind } from "../record/record.ts";
import type { EntryIndex } from "./entry-index.ts";
import { lowerBound, OrderedRecords } from "./ordered-records.ts";

/** Maximum number of instances that an answer considers and decodes. */
const MAX_INSTANCES = 1000;
/**
 * Maximum number of records whose ranks are read in order to find the best ones. Reading a rank costs a hundredth of the cost of considering a
 * record.
 */
const MAX_RANKED = 100_000;

const KINDS = Object.values(KIND);

/** The increment of `at` from one choice to the next. Its multiples are evenly distributed over any number of intervals. */
export const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

/**
 * A name of entries of one kind. If `onlyInstanceId` is set, only instances with this id are included, from any cluster. The field is not called
 * `instanceId`, because a whole key is also an `InstanceName`.
 */
export type InstanceName = Pick<EntryKey, "kind" | "namespace" | "name"> & { readonly onlyInstanceId?: string | undefined };

/** A name, for entries of all kinds. */
export type WholeName = Pick<EntryKey, "namespace" | "name">;

/** A name, for entries of one kind, or of all kinds if no kind is given. */
export type QueriedName = WholeName & { readonly kind?: Kind };

/**
 * How a name with many instances is sampled. `at` is in [0, 1). `spread` selects every n-th instance in key order, so the sample is
 * representative, and with evenly distributed values of `at` each instance is chosen equally often. `stretch` selects neighbours in key
 * order; when one instance is added or removed, a stretch changes by one or two instances.
 */
export interface NameSampling {
  readonly form: "spread" | "stretch";
  readonly at: number;
  /** A small whole number. Records with a lower rank are considered before records with a higher rank. */
  readonly rank: (record: CatalogRecord) => number;
  /**
   * Number of ranks in a tier. Within a tier, about the same number of records of each rank is considered. Default:
   * 1.
   */
  readonly ranksPerTier?: number;
  /** The best possible rank. A sample with enough records of this rank is used directly; otherwise the ranks of all instances are read. */
  readonly ideal: number;
  readonly wanted: number;
  /** The worst rank that can still receive traffic. */
  readonly fit: number;
  /** Maximum number of records to consider. Default: MAX_INSTANCES. */
  readonly most?: number;
  /** Names with up to this many instances are not sampled. Default: `most`. */
  readonly whole?: number;
}

export interface NameInstances {
  /** The records are in no particular order. */
  readonly records: readonly CatalogRecord[];
  /** Number of instances that the name has. If the records are a sample, this is larger than the length of `records`. */
  readonly count: number;
  /** A `spread` sample contains one out of this many instances. 1 if all instances are considered. */
  readonly stride: number;
  /** For a sample: the number of examined records of each rank. The examined records are either all instances or a representative part. */
  readonly ranks: readonly number[] | undefined;
}

/**
 * Returns all instances of a name, or a sample of them. Cost: at most `most` records, and also the ranks of all instances if too few instances of the
 * best rank are found.
 */
export function sampleInstances(lookup: EntryIndex, name: InstanceName, sampling: NameSampling): NameInstances {
  return sampled(instanceRange(lookup, name), sampling);
}

/** Returns how many instances a name has. Cost: one search. */
export function instanceCount(lookup: EntryIndex, name: InstanceName): number {
  return instanceRange(lookup, name).count;
}

/** Returns how many instances a name has. Cost: one search for each requested kind. */
export function askedCount(lookup: EntryIndex, { kind, namespace, name }: QueriedName): number {
  if (kind !== undefined) return instanceCount(lookup, { kind, namespace, name });
  return KINDS.reduce((sum, each) => sum + instanceCount(lookup, { kind: each, namespace, name }), 0);
}

export interface FindOptions<T> {
  readonly sampling: NameSampling;
  /**
   * Whether a record is suitable for the answer. The result must depend only on the record, because the function may be called for all instances. If
   * absent, all records are suitable.
   */
  readonly suits?: ((record: CatalogRecord) => boolean) | undefined;
  /** Builds one part of the answer from a suitable record. */
  readonly read: (record: CatalogRecord) => T;
}

/** The instances found. `isSample` means that a different `at` may find other instances. */
export interface FoundInstances<T> {
  readonly found: readonly T[];
  readonly isSample: boolean;
  /** For a sample: numbers proportional to the number of suitable instances of each rank. */
  readonly ranks: readonly number[] | undefined;
}

/**
 * Builds an answer from the instances of one name. If the name has many instances, a sample is used. If the sample contains no suitable record that
 * can receive traffic, all instances are examined, starting at an index that `at` selects, and the suitable ones with the best ranks are used. Cost:
 * one call of `read` per record found, and one call of `suits` per record examined.
 */
export function findInstances<T>(lookup: EntryIndex, name: InstanceName, { sampling, suits, read }: FindOptions<T>): FoundInstances<T> {
  const { records, count, ranks } = sampleInstances(lookup, name, sampling);
  const isSample = records.length < count;
  if (suits === undefined) return { found: records.map(read), isSample, ranks };
  const suited = records.filter(suits);
  const isFit = suited.some((record) => sampling.rank(record) <= sampling.fit);
  if (!isSample || isFit || suited.length === records.length)
    return { found: suited.map(read), isSample, ranks: ranks && suitedRanks(ranks, { records, suited }, sampling) };
  const all = allInstances(lookup, name).filter(suits);
  const best = new BestRanks(sampling, sampling.most ?? MAX_INSTANCES);
  // The records are in key order from an index that `at` selects, so that each instance can be chosen.
  const first = Math.floor(sampling.at * all.length);
  for (const part of [all.slice(first), all.slice(0, first)]) for (const record of part) best.add(record);
  const found = best.take();
  return { found: found.map(read), isSample: all.length > found.length, ranks: best.counts };
}

/** Like `findInstances`, but for a name whose instances are in several lists that share no keys. */
export function findJoined<T>(lookups: readonly EntryIndex[], name: InstanceName, options: FindOptions<T>): FoundInstances<T> {
  const all = lookups.filter((lookup) => instanceCount(lookup, name) > 0).map((lookup) => findInstances(lookup, name, options));
  const [one] = all;
  if (one !== undefined && all.length === 1) return one;
  // Rank counts exist only for samples, and the counts of several lists cannot be combined.
  return { found: all.flatMap(({ found }) => found), isSample: all.some(({ isSample }) => isSample), ranks: undefined };
}

/**
 * Estimates the number of suitable records of each rank, assuming that their share among all examined records is the same as in the sample.
 */
function suitedRanks(
  seen: readonly number[],
  taken: { readonly records: readonly CatalogRecord[]; readonly suited: readonly CatalogRecord[] },
  { rank }: NameSampling,
): readonly number[] {
  const [of, fitting] = [taken.records, taken.suited].map((records) => countRanks(records, rank));
  return seen.map((count, i) => (count * (fitting?.[i] ?? 0)) / Math.max(1, of?.[i] ?? 0));
}

function countRanks(records: readonly CatalogRecord[], rank: NameSampling["rank"]): readonly number[] {
  const counts: number[] = [];
  for (const record of records) {
    const of = rank(record);
    counts[of] = (counts[of] ?? 0) + 1;
  }
  return counts;
}

/** Like `sampleInstances`, but for the given records. */
export function sampleOf(records: readonly CatalogRecord[], sampling: NameSampling): NameInstances {
  return sampled({ count: records.length, at: (index) => existing(records[index]), all: () => records }, sampling);
}

function sampled(range: InstanceRange, sampling: NameSampling): NameInstances {
  const { count } = range;
  const most = sampling.most ?? MAX_INSTANCES;
  if (count <= (sampling.whole ?? most)) return { records: range.all(), count, stride: 1, ranks: undefined };
  const stride = Math.ceil(count / most);
  const best = new BestRanks(sampling, most);
  const enough = Math.floor(count / stride);
  const limit = Math.min(count, MAX_RANKED);
  if (sampling.form === "stretch") {
    const first = Math.floor(sampling.at * count);
    for (let i = 0; i < limit && !best.isEnough(enough); i++) best.add(range.at((first + i) % count));
    return { records: best.take(), count, stride, ranks: best.counts };
  }
  // Visits every `stride`-th index, starting at an offset that `at` selects, and then continues with the next offsets.
  const first = Math.floor(sampling.at * stride);
  for (let i = 0; i < stride && best.seenCount < limit && !best.isEnough(enough); i++)
    for (let index = (first + i) % stride; index < count; index += stride) best.add(range.at(index));
  return { records: best.take(), count, stride, ranks: best.counts };
}

/** Returns all instances of a name, in key order. Cost: O(instances). */
export function allInstances(lookup: EntryIndex, name: InstanceName): readonly CatalogRecord[] {
  return instanceRange(lookup, name).all();
}

/** Collects records and keeps the best `most` of them. Within a tier, it keeps about the same number of records of each rank. */
class BestRanks {
  readonly #sampling: NameSampling;
  readonly #most: number;
  readonly #byRank: CatalogRecord[][] = [];
  /** Number of records added so far, by rank. */
  readonly counts: number[] = [];
  seenCount = 0;

  constructor(sampling: NameSampling, most: number) {
    this.#sampling = sampling;
    this.#most = most;
  }

  isEnough(leastCount: number): boolean {
    return this.seenCount >= leastCount && (this.counts[this.#sampling.ideal] ?? 0) >= this.#sampling.wanted;
  }

  add(record: CatalogRecord): void {
    this.seenCount += 1;
    const rank = this.#sampling.rank(record);
    while (this.counts.length <= rank) {
      this.counts.push(0);
      this.#byRank.push([]);
    }
    this.counts[rank] = (this.counts[rank] ?? 0) + 1;
    const records = this.#byRank[rank];
    if (records !== undefined && records.length < this.#most) records.push(record);
  }

  take(): readonly CatalogRecord[] {
    const taken: CatalogRecord[] = [];
    const width = this.#sampling.ranksPerTier ?? 1;
    for (let first = 0; first < this.#byRank.length; first += width) {
      const ranks = this.#byRank.slice(first, first + width);
      const share = evenShare(
        ranks.map(({ length }) => length),
        this.#most - taken.length,
      );
      for (const records of ranks) taken.push(...(this.#sampling.form === "spread" ? spreadOver(records, share) : records.slice(0, share)));
    }
    return taken.slice(0, this.#most);
  }
}

/** Returns at most `count` of the records, at regular intervals, so that they are representative. */
function spreadOver(records: readonly CatalogRecord[], count: number): readonly CatalogRecord[] {
  if (records.length <= count) return records;
  return Array.from({ length: count }, (_, i) => existing(records[Math.floor((i * records.length) / count)]));
}

/** Returns the largest number of records that each of several lists may contribute. Short lists leave the rest of their share to the others. */
function evenShare(lengths: readonly number[], room: number): number {
  let left = room;
  for (const [i, length] of lengths.toSorted((a, b) => a - b).entries()) {
    const share = Math.ceil(left / (lengths.length - i));
    if (length > share) return share;
    left -= length;
  }
  return room;
}

/** The records of one name in key order, by index. */
interface InstanceRange {
  readonly count: number;
  at(index: number): CatalogRecord;
  all(): readonly CatalogRecord[];
}

const NO_RECORDS: readonly CatalogRecord[] = [];
const NO_RANGE: InstanceRange = { count: 0, at: (index) => existing(NO_RECORDS[index]), all: () => NO_RECORDS };

function instanceRange(lookup: EntryIndex, { kind, namespace, name, onlyInstanceId }: InstanceName): InstanceRange {
  const list = lookup.names.list(name);
  // HOT: runs for each nonexistent name that a client queries.
  if (!(list instanceof OrderedRecords) && list.length === 0) return NO_RANGE;
  const whole = `${namespace}\0${name}\0${kind}`;
  const prefix = onlyInstanceId === undefined ? whole : `${whole}\0${onlyInstanceId}`;
  // The separator sorts before all other characters, and no part of a key contains it.
  return list instanceof OrderedRecords ? new BlockRange(list, `${prefix}\0`, `${prefix}\u0001`) : arrayRange(list, prefix);
}

function arrayRange(sorted: readonly CatalogRecord[], prefix: string): InstanceRange {
  const records = sorted.slice(lowerBound(sorted, `${prefix}\0`), lowerBound(sorted, `${prefix}\u0001`));
  return { count: records.length, at: (index) => existing(records[index]), all: () => records };
}

class BlockRange implements InstanceRange {
  readonly #blocks: (readonly CatalogRecord[])[] = [];
  /** Index of the first record of each block. */
  readonly #starts: number[] = [];
  readonly count: number;
  #block = 0;

  constructor(list: OrderedRecords, from: string, to: string) {
    let count = 0;
    const [first, last] = [list.blockOf(from), list.blockOf(to)];
    for (let i = first; i <= last; i++) {
      const block = list.block(i);
      const part = i === first || i === last ? block.slice(lowerBound(block, from), lowerBound(block, to)) : block;
      if (part.length === 0) continue;
      this.#blocks.push(part);
      this.#starts.push(count);
      count += part.length;
    }
    this.count = count;
  }

  at(index: number): CatalogRecord {
    // Callers usually pass increasing indices, so the search continues from the last block.
    if (index < (this.#starts[this.#block] ?? 0)) this.#block = 0;
    while (index >= (this.#starts[this.#block + 1] ?? Infinity)) this.#block += 1;
    return existing(this.#blocks[this.#block]?.[index - (this.#starts[this.#block] ?? 0)]);
  }

  all(): readonly CatalogRecord[] {
    return this.#blocks.flat();
  }
}

function existing(record: CatalogRecord | undefined): CatalogRecord {
  assert(record !== undefined, "an index below the record count has no record");
  return record;
}
