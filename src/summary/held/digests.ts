/** Digests of the live summaries that pass a filter, by which two regions find what one of them lacks (docs/design/summaries.md, Digests). */

import { SCOPE } from "../../catalog/entry/scope.ts";
import type { KeyText } from "../../catalog/record/record.ts";
import { type Hash64, Sum64 } from "../../lib/hash64.ts";
import { BUCKETS, bucketOf, contribution, keyHash } from "../hashes.ts";
import { summaryKeyOf } from "../keys.ts";
import type { Source, Sources } from "./sources.ts";

/** Which summaries a digest is about. Only those on channel GLOBAL are. It always answers the same for the same. */
export interface DigestFilter {
  passes(source: string, namespace: string): boolean;
}

export interface Digest {
  readonly digest: bigint;
  readonly count: number;
  /** By the first eight bits of a key's hash. */
  readonly buckets: readonly bigint[];
}

export interface Listed {
  readonly key: KeyText;
  readonly hash: bigint;
  readonly version: number;
  /** Its source took it back. Digests leave it out. */
  readonly isWithdrawn: boolean;
}

/** Filters whose sums are kept up to date. The one asked for longest ago goes. */
const MAX_FILTERS = 64;
/** Keys that are summed at once: some 2 ms. */
const SLICE = 2000;

class Sums {
  readonly buckets = Array.from({ length: BUCKETS }, () => new Sum64());
  count = 0;
  /** What was held when the filter came and is not summed yet. */
  readonly rest: (readonly [KeyText, number])[];

  constructor(rest: (readonly [KeyText, number])[]) {
    this.rest = rest;
  }

  add(hash: Hash64, version: number): void {
    this.count += 1;
    this.buckets[bucketOf(hash)]?.add(contribution(hash, version));
  }

  subtract(hash: Hash64, version: number): void {
    this.count -= 1;
    this.buckets[bucketOf(hash)]?.subtract(contribution(hash, version));
  }

  /** Sums some of the rest. */
  fill(): void {
    for (const [key, version] of this.rest.splice(-SLICE)) this.add(keyHash(key), version);
  }

  get digest(): Digest {
    const buckets = this.buckets.map(({ value }) => value);
    return {
      digest: BigInt.asUintN(
        64,
        buckets.reduce((sum, bucket) => sum + bucket, 0n),
      ),
      count: this.count,
      buckets,
    };
  }
}

export class Digests {
  readonly #sources: Sources;
  readonly #sums = new Map<DigestFilter, Sums>();

  constructor(sources: Sources) {
    this.#sources = sources;
  }

  /** Whether sums are still to be filled. */
  get isFilling(): boolean {
    for (const { rest } of this.#sums.values()) if (rest.length > 0) return true;
    return false;
  }

  /** The digest of a filter. Undefined while it is being summed for the first time: `fill` goes on with it. */
  find(filter: DigestFilter): Digest | undefined {
    let sums = this.#sums.get(filter);
    this.#sums.delete(filter);
    if (sums === undefined) {
      const rest: (readonly [KeyText, number])[] = [];
      for (const source of this.#sources.all)
        for (const entry of source.keys) if (entry[1] > 0 && passes(filter, source.id, entry[0])) rest.push(entry);
      sums = new Sums(rest);
      for (const [oldest] of this.#sums) if (this.#sums.size >= MAX_FILTERS) this.#sums.delete(oldest);
      sums.fill();
    }
    this.#sums.set(filter, sums);
    return sums.rest.length > 0 ? undefined : sums.digest;
  }

  /** Sums some more, if anything is left to sum. */
  fill(): void {
    for (const sums of this.#sums.values()) if (sums.rest.length > 0) return sums.fill();
  }

  /** What is known of a key changed, as `Source.keys` tells it. HOT: once a change, where there are borders. */
  changed(source: Source, key: KeyText, before: number, after: number): void {
    if (before === after || (before <= 0 && after <= 0) || this.#sums.size === 0) return;
    const hash = keyHash(key);
    for (const [filter, sums] of this.#sums) {
      if (!passes(filter, source.id, key)) continue;
      if (before > 0) sums.subtract(hash, before);
      if (after > 0) sums.add(hash, after);
    }
  }

  /** What is held of the keys in some buckets, in slices: call until it is done. */
  *list(filter: DigestFilter, buckets: ReadonlySet<number>): Generator<void, readonly Listed[]> {
    const listed: Listed[] = [];
    let looked = 0;
    for (const source of this.#sources.all) {
      for (const [key, version] of source.keys) {
        if (++looked % SLICE === 0) yield;
        const of = keyHash(key);
        if (version === 0 || !buckets.has(bucketOf(of)) || !passes(filter, source.id, key)) continue;
        const isDropped = version < 0 && source.state === "dropped";
        if (!isDropped)
          listed.push({ key, hash: (BigInt(of.high) << 32n) | BigInt(of.low), version: Math.abs(version), isWithdrawn: version < 0 });
      }
    }
    return listed;
  }
}

function passes(filter: DigestFilter, source: string, text: KeyText): boolean {
  const key = summaryKeyOf(text);
  return key?.channel === SCOPE.GLOBAL && filter.passes(source, key.namespace);
}
