/** Digests of the live summaries that pass a filter, by which two regions find what one of them lacks (docs/design/summaries.md, Digests). */

import { SCOPE } from "../../catalog/entry/scope.ts";
import type { KeyText } from "../../catalog/record/record.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { fnv64, type Hash64, mix32, Sum64 } from "../../lib/hash64.ts";
import { summaryKeyOf } from "../keys.ts";
import type { Fact } from "./known.ts";
import type { Source, Sources } from "./sources.ts";

/** Which summaries a digest is about. Only those on channel GLOBAL are. It answers the same for the same while the region of the source is the same. */
export interface DigestFilter {
  passes(source: string, namespace: string): boolean;
}

export interface Digest {
  readonly digest: bigint;
  readonly count: number;
  /** By the first eight bits of the hash of a summary. */
  readonly buckets: readonly bigint[];
}

export interface Listed {
  readonly key: KeyText;
  readonly hash: bigint;
  readonly version: number;
  /** The number of its last change (`Changes`). */
  readonly order: number;
  /** Its source took it back. Digests leave it out. */
  readonly isWithdrawn: boolean;
}

/** Filters whose sums are kept up to date. The one asked for longest ago goes. */
const MAX_FILTERS = 64;
/** Keys that are summed at once: some 3 ms. */
const SLICE = 2000;

class Sums {
  readonly buckets = Array.from({ length: BUCKETS }, () => new Sum64());
  count = 0;
  /** Sources of which nothing is summed yet. What changes in them is summed with the rest of them. */
  readonly waiting: Set<Source>;
  readonly filter: DigestFilter;
  /** The source that is being summed, as it was when its turn came. What changed since is summed already. */
  #current: { readonly id: string; readonly facts: (readonly [KeyText, Fact])[] } | undefined;

  constructor(filter: DigestFilter, sources: readonly Source[]) {
    this.filter = filter;
    this.waiting = new Set(sources);
  }

  get isWhole(): boolean {
    return this.waiting.size === 0 && this.#current === undefined;
  }

  passes(source: string, key: KeyText): boolean {
    return passes(this.filter, source, key);
  }

  add(hash: Hash64, version: number): void {
    this.count += 1;
    this.buckets[bucketOf(hash)]?.add(contribution(hash, version));
  }

  subtract(hash: Hash64, version: number): void {
    this.count -= 1;
    this.buckets[bucketOf(hash)]?.subtract(contribution(hash, version));
  }

  /** Sums some of what is not summed yet. */
  fill(): void {
    for (let left = SLICE; left > 0 && !this.isWhole; ) {
      this.#current ??= this.#next();
      if (this.#current === undefined) return;
      const { id, facts } = this.#current;
      for (let next = facts.pop(); next !== undefined; next = left-- > 0 ? facts.pop() : undefined) {
        const [key, { version, tag }] = next;
        if (version > 0 && this.passes(id, key)) this.add(tagHash(id, tag), version);
      }
      if (facts.length === 0) this.#current = undefined;
    }
  }

  #next() {
    for (const source of this.waiting) {
      this.waiting.delete(source);
      return { id: source.id, facts: [...source.keys.entries()] };
    }
    return undefined;
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
  readonly #regionOf: (source: string) => string | undefined;
  readonly #sums = new BoundedMap<DigestFilter, Sums>(MAX_FILTERS);
  /** By which the sources were summed. */
  readonly #regions = new WeakMap<Source, { readonly region: string | undefined }>();

  constructor(sources: Sources, regionOf: (source: string) => string | undefined) {
    this.#sources = sources;
    this.#regionOf = regionOf;
  }

  /** Whether sums are still to be filled. */
  get isFilling(): boolean {
    for (const { isWhole } of this.#sums.values()) if (!isWhole) return true;
    return false;
  }

  /** The digest of a filter. Undefined while it is being summed for the first time: `fill` goes on with it. */
  find(filter: DigestFilter): Digest | undefined {
    let sums = this.#sums.get(filter);
    if (sums === undefined) {
      this.regionsChanged();
      sums = new Sums(filter, this.#sources.all);
      sums.fill();
    }
    this.#sums.set(filter, sums);
    return sums.isWhole ? sums.digest : undefined;
  }

  letGo(filter: DigestFilter): void {
    this.#sums.delete(filter);
  }

  /** The settings may give other regions to sources. What passes then is another part, so all is summed anew if they do. */
  regionsChanged(): void {
    if (this.#sources.all.some((source) => this.#isMoved(source))) this.#sumAnew();
  }

  /** A source that was not asked for before is not moved. */
  #isMoved(source: Source): boolean {
    const before = this.#regions.get(source);
    const region = this.#regionOf(source.id);
    if (before !== undefined && before.region === region) return false;
    this.#regions.set(source, { region });
    return before !== undefined;
  }

  /** What was added by the old region would not be taken out by the new one. */
  #sumAnew(): void {
    for (const source of this.#sources.all) this.#isMoved(source);
    const filters = [...this.#sums.keys()];
    for (const filter of filters) this.#sums.set(filter, new Sums(filter, this.#sources.all));
  }

  /** Sums some more, if anything is left to sum. */
  fill(): void {
    for (const sums of this.#sums.values()) if (!sums.isWhole) return sums.fill();
  }

  /** What is known of a key changed, as `Source.keys` tells it. HOT: once a change, where there are borders. */
  changed(source: Source, key: KeyText, before: Fact, after: Fact): void {
    if ((before.version === after.version && before.tag === after.tag) || this.#sums.size === 0) return;
    if (before.version <= 0 && after.version <= 0) return;
    if (this.#isMoved(source)) return this.#sumAnew();
    const parts = summaryKeyOf(key);
    if (parts?.channel !== SCOPE.GLOBAL) return;
    const [hashBefore, hashAfter] = [tagHash(source.id, before.tag), tagHash(source.id, after.tag)];
    for (const sums of this.#sums.values()) {
      if (sums.waiting.has(source) || !sums.filter.passes(source.id, parts.namespace)) continue;
      if (before.version > 0) sums.subtract(hashBefore, before.version);
      if (after.version > 0) sums.add(hashAfter, after.version);
    }
  }

  /** What is held of the summaries in some buckets, in slices: call until it is done. */
  *list(filter: DigestFilter, buckets: ReadonlySet<number>): Generator<void, readonly Listed[]> {
    const listed: Listed[] = [];
    let looked = 0;
    for (const source of this.#sources.all) {
      for (const [key, { version, tag, order }] of source.keys.entries()) {
        if (++looked % SLICE === 0) yield;
        const of = tagHash(source.id, tag);
        if (version === 0 || !buckets.has(bucketOf(of)) || !passes(filter, source.id, key)) continue;
        const isDropped = version < 0 && source.state === "dropped";
        if (isDropped) continue;
        const hash = (BigInt(of.high) << 32n) | BigInt(of.low);
        listed.push({ key, hash, version: Math.abs(version), order, isWithdrawn: version < 0 });
      }
    }
    return listed;
  }
}

function passes(filter: DigestFilter, source: string, text: KeyText): boolean {
  const key = summaryKeyOf(text);
  return key?.channel === SCOPE.GLOBAL && filter.passes(source, key.namespace);
}

// The hashes with which two regions compare what they hold (docs/design/summaries.md, What crosses a border). All versions of the program compute the same.

/** Buckets of a digest. */
export const BUCKETS = 256;

/** The hash of a summary, of which nobody can make one from its name: a neighbour cannot try whether this node holds it. */
export function tagHash(source: string, tag: bigint): Hash64 {
  return fnv64(tag.toString(16), fnv64(`${source}\0`));
}

/** The bucket of such a hash: its first eight bits. */
export function bucketOf({ high }: Hash64): number {
  return high >>> 24;
}

/** The same of a hash as one number. */
export function bucketOfNumber(hash: bigint): number {
  return Number(hash >> 56n);
}

/**
 * What one summary adds to a digest. It is mixed: hashes of FNV of two versions of one key differ by a small number of steps, so that in a sum a key that
 * went ahead here and another that went ahead there would often cancel out.
 */
export function contribution(hash: Hash64, version: number): Hash64 {
  const text = fnv64(String(version), hash);
  const low = mix32(text.low ^ mix32(text.high));
  return { high: mix32(text.high ^ low), low };
}
