/**
 * Chooses the instances of a name that an answer considers, so that each instance is chosen equally often and a name with many instances
 * costs at most a thousand records.
 */
import { assert } from "../../lib/errors.ts";
import { type CatalogRecord, type EntryKey, KIND, type Kind } from "../record/record.ts";
import type { EntryIndex } from "./entry-index.ts";
import { lowerBound, OrderedRecords } from "./ordered-records.ts";

/** Maximum number of instances that an answer considers and decodes. */
const MAX_INSTANCES = 1000;
/** Maximum number of records whose rank is read to find the best ones. Reading a rank costs a hundredth of considering a record. */
const MAX_RANKED = 100_000;

const KINDS = Object.values(KIND);

/** Increment of `at` from one choice to the next. Its multiples are spread evenly over any number of parts. */
export const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

/**
 * A name of one kind. With `onlyInstanceId`, only its instances with this id, of any cluster. The field is not called `instanceId`,
 * because a whole key is also an `InstanceName`.
 */
export type InstanceName = Pick<EntryKey, "kind" | "namespace" | "name"> & { readonly onlyInstanceId?: string | undefined };

/** A name for all kinds. */
export type WholeName = Pick<EntryKey, "namespace" | "name">;

/** A name for one kind, or for all kinds if no kind is given. */
export type QueriedName = WholeName & { readonly kind?: Kind };

/**
 * How a name with many instances is sampled. `at` is in [0, 1). `spread` selects every n-th instance in key order, so the sample is
 * representative, and with evenly distributed values of `at` each instance is chosen equally often. `stretch` selects neighbours in key
 * order; when one instance is added or removed, a stretch changes by one or two instances.
 */
export interface NameSampling {
  readonly form: "spread" | "stretch";
  readonly at: number;
  /** A small whole number. Records of a lower rank are considered before records of a higher rank. */
  readonly rank: (record: CatalogRecord) => number;
  /**
   * Number of ranks in a tier. The considered records of a tier include about the same number of records of each of its ranks. Default:
   * 1.
   */
  readonly ranksPerTier?: number;
  /** The best possible rank. A sample with enough records of this rank is used directly; otherwise the ranks of all instances are read. */
  readonly ideal: number;
  readonly wanted: number;
  /** The worst rank that is still fit for traffic. */
  readonly fit: number;
  /** Maximum number of records to consider. Default: MAX_INSTANCES. */
  readonly most?: number;
  /** Names with up to this many instances are not sampled. Default: `most`. */
  readonly whole?: number;
}

export interface NameInstances {
  /** In no particular order. */
  readonly records: readonly CatalogRecord[];
  /** Number of all instances of the name. For a sample, it is larger than the length of `records`. */
  readonly count: number;
  /** A `spread` sample contains one of this many instances. 1 if all are considered. */
  readonly stride: number;
  /** For a sample: the number of examined records of each rank. The examined records are all instances, or are representative. */
  readonly ranks: readonly number[] | undefined;
}

/**
 * Returns all instances of a name, or a sample of them. Cost: at most `most` records, plus the ranks of all instances if too few
 * instances of the best rank are found.
 */
export function sampleInstances(lookup: EntryIndex, name: InstanceName, sampling: NameSampling): NameInstances {
  return sampled(instanceRange(lookup, name), sampling);
}

/** Returns the number of instances of a name. Cost: one search. */
export function instanceCount(lookup: EntryIndex, name: InstanceName): number {
  return instanceRange(lookup, name).count;
}

/** Returns the number of instances of a name. Cost: one search for each requested kind. */
export function askedCount(lookup: EntryIndex, { kind, namespace, name }: QueriedName): number {
  if (kind !== undefined) return instanceCount(lookup, { kind, namespace, name });
  return KINDS.reduce((sum, each) => sum + instanceCount(lookup, { kind: each, namespace, name }), 0);
}

export interface FindOptions<T> {
  readonly sampling: NameSampling;
  /**
   * Whether a record fits the answer. It is judged by the record alone, because it may be called for all instances. If absent, all
   * records fit.
   */
  readonly suits?: ((record: CatalogRecord) => boolean) | undefined;
  /** Builds a part of the answer from a fitting record. */
  readonly read: (record: CatalogRecord) => T;
}

/** The instances found. `isSample` means that another `at` may find other instances. */
export interface FoundInstances<T> {
  readonly found: readonly T[];
  readonly isSample: boolean;
  /** For a sample: numbers in the same proportion as the fitting instances of each rank. */
  readonly ranks: readonly number[] | undefined;
}

/**
 * Builds the parts of an answer from the instances of one name. A name with many instances is sampled. If no record of the sample both
 * fits and can receive traffic, all instances are examined, best rank first and from an index that `at` selects, until there are enough
 * for an answer. Cost: `read` of the found records, and `suits` of all.
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
  // The records are in key order from an index that `at` selects, so that each instance has a chance.
  const first = Math.floor(sampling.at * all.length);
  for (const part of [all.slice(first), all.slice(0, first)]) for (const record of part) best.add(record);
  const found = best.take();
  return { found: found.map(read), isSample: all.length > found.length, ranks: best.counts };
}

/** Like `findInstances`, for a name whose instances are in several lists without a common key. */
export function findJoined<T>(lookups: readonly EntryIndex[], name: InstanceName, options: FindOptions<T>): FoundInstances<T> {
  const all = lookups.filter((lookup) => instanceCount(lookup, name) > 0).map((lookup) => findInstances(lookup, name, options));
  const [one] = all;
  if (one !== undefined && all.length === 1) return one;
  // Only samples have counts of ranks, and counts of several lists cannot be weighed against each other.
  return { found: all.flatMap(({ found }) => found), isSample: all.some(({ isSample }) => isSample), ranks: undefined };
}

/**
 * Returns the number of fitting records of each rank, assuming that the share of fitting records is the same among all seen records as in
 * the sample.
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

/** Like `sampleInstances`, for the given records. */
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
  // Selects the class of indices that `at` determines, and then the next classes.
  const first = Math.floor(sampling.at * stride);
  for (let i = 0; i < stride && best.seenCount < limit && !best.isEnough(enough); i++)
    for (let index = (first + i) % stride; index < count; index += stride) best.add(range.at(index));
  return { records: best.take(), count, stride, ranks: best.counts };
}

/** Returns all instances of a name, in key order. Cost: O(instances). */
export function allInstances(lookup: EntryIndex, name: InstanceName): readonly CatalogRecord[] {
  return instanceRange(lookup, name).all();
}

/** Keeps the best `most` of the records that it receives. Within a tier, it keeps about as many of each rank. */
class BestRanks {
  readonly #sampling: NameSampling;
  readonly #most: number;
  readonly #byRank: CatalogRecord[][] = [];
  /** Number of received records, by rank. */
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

/** Returns at most `count` of the records, evenly spread over them, so that they are representative. */
function spreadOver(records: readonly CatalogRecord[], count: number): readonly CatalogRecord[] {
  if (records.length <= count) return records;
  return Array.from({ length: count }, (_, i) => existing(records[Math.floor((i * records.length) / count)]));
}

/** Returns the largest share of the room for each of several lists, such that shorter lists leave the rest to the others. */
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
  // The separator is the smallest character, and no part of a key contains it.
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
    // Indices mostly increase, so the search continues from the last block.
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
