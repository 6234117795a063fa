/**
 * What a neighbour is given that it was found to lack (docs/design/summaries.md, What a neighbour is given again). A version that it was not given before costs nothing: nobody but
 * its source makes more of them. What it is given again comes out of a bucket for each source, because a neighbour may refuse it, or say so, for ever.
 */

import type { KeyText } from "../../catalog/record/record.ts";
import { TokenBucket } from "../../lib/buckets/token-bucket.ts";
import type { Listed } from "../../summary/held/digests.ts";
import { type BorderOptions, LOOKED_A_SLICE } from "./options.ts";

/** What a comparison found. */
export interface Found {
  /** What the other side lacks of a source. */
  readonly lacking: readonly Listed[];
  /** Of what was held at this revision, or later. */
  readonly revision: number;
  /** It is not to be given now, because it may be on its way. */
  readonly isWaiting: (key: KeyText) => boolean;
  /** It is held here, and not taken back. */
  readonly isLive: (key: KeyText) => boolean;
}

/** Of all sources. It outlives links. */
export class Given {
  readonly #options: BorderOptions;
  /** The source whose turn to be tried is next is first. */
  readonly #bySource = new Map<string, GivenOfSource>();
  #triedMonoMs = Number.NEGATIVE_INFINITY;
  /** Nothing was tried yet over a new link. */
  #isAnew = false;

  constructor(options: BorderOptions) {
    this.#options = options;
  }

  /** A new link, over which nothing is on its way. If it is among the first of some time, it need not wait until something is tried. */
  begin({ isAmongFirst }: { readonly isAmongFirst: boolean }): void {
    this.#isAnew = isAmongFirst;
    for (const given of this.#bySource.values()) given.lackNothing();
  }

  /** The other side lacks nothing of other sources than these. */
  lackingOnly(sources: ReadonlyMap<string, unknown>): void {
    for (const [source, given] of this.#bySource) if (!sources.has(source)) given.takeAll();
  }

  /** Since when the other side has not taken the oldest of what it was given and lacks all the same. */
  get refusedSinceMs(): number | undefined {
    const since = [...this.#bySource.values()].flatMap(({ refusedSinceMs }) => refusedSinceMs ?? []);
    return since.length === 0 ? undefined : Math.min(...since);
  }

  /** What is given now of a source, in slices. */
  *give(source: string, found: Found, monoMs: number): Generator<void, readonly KeyText[]> {
    const given = this.#bySource.get(source) ?? new GivenOfSource(this.#options);
    this.#bySource.set(source, given);
    return yield* given.give(found, monoMs);
  }

  /**
   * Before a digest: some of what the other side lacks and was not given, so that the comparison shows whether it takes any of it by now. A new link
   * tries as much of few sources as of many.
   */
  try(monoMs: number): readonly KeyText[] {
    const { digestIntervalMs, maxTried, triedOfSource } = this.#options;
    if (!this.#isAnew && monoMs < this.#triedMonoMs + digestIntervalMs) return [];
    const short = [...this.#bySource].filter(([, given]) => given.isShort);
    if (short.length === 0) return [];
    const most = this.#isAnew ? Math.max(triedOfSource, Math.floor(maxTried / short.length)) : triedOfSource;
    this.#triedMonoMs = monoMs;
    this.#isAnew = false;
    const tried: KeyText[] = [];
    for (const [source, given] of short) {
      if (tried.length === maxTried) break;
      tried.push(...given.try(Math.min(most, maxTried - tried.length)));
      this.#bySource.delete(source);
      this.#bySource.set(source, given);
    }
    return tried;
  }
}

class GivenOfSource {
  readonly #options: BorderOptions;
  /** What changed here later was not given before. */
  #revision = -1;
  /** The bucket, in full givings: a giving of all that is lacking. */
  readonly #again: TokenBucket;
  /** How often there is room again because something was taken. */
  readonly #early: TokenBucket;
  /** Chooses others each time. */
  #turn = 0;
  /** Some of what is lacking and was not given, to be tried. */
  #short: readonly KeyText[] = [];
  /** Some of what was sent since the last comparison. If any of it is lacking no more, the other side takes what it is given. */
  #sent: readonly KeyText[] = [];
  /** When what may still be lacking was first given. */
  #firstMonoMs: number | undefined;
  /** The same, once a later comparison found some of it lacking. */
  refusedSinceMs: number | undefined;

  constructor(options: BorderOptions) {
    this.#options = options;
    this.#again = new TokenBucket(options.fullGivings, options.fullGivingEveryMs);
    this.#early = new TokenBucket(options.roomBurst, options.roomEveryMs);
  }

  get isShort(): boolean {
    return this.#short.length > 0;
  }

  lackNothing(): void {
    this.#short = [];
  }

  /** A comparison found that nothing is lacking. */
  takeAll(): void {
    this.lackNothing();
    this.#firstMonoMs = undefined;
    this.refusedSinceMs = undefined;
  }

  try(count: number): readonly KeyText[] {
    const tried = this.#short.slice(0, count);
    this.#short = this.#short.slice(count);
    this.#sent = [...this.#sent, ...tried];
    return tried;
  }

  *give({ lacking, revision, isWaiting, isLive }: Found, monoMs: number): Generator<void, readonly KeyText[]> {
    const taken = new Set(this.#sent);
    const fresh: KeyText[] = [];
    const before: KeyText[] = [];
    // What waits is not given, so it is as new as it was.
    let upTo = revision;
    for (const [n, { key, order }] of lacking.entries()) {
      if (n % LOOKED_A_SLICE === LOOKED_A_SLICE - 1) yield;
      taken.delete(key);
      if (isWaiting(key)) upTo = Math.min(upTo, order - 1);
      else if (order > this.#revision) fresh.push(key);
      else before.push(key);
    }
    this.#revision = Math.max(this.#revision, upTo);
    // What is given for the first time counts as taken, until it is found lacking again.
    if (before.length === 0) this.#firstMonoMs = fresh.length === 0 ? undefined : monoMs;
    else this.#firstMonoMs ??= monoMs;
    this.refusedSinceMs = before.length === 0 ? undefined : this.#firstMonoMs;
    const again = this.#giveAgain(before, [...taken].some(isLive), monoMs);
    this.#short = again.size === before.length ? [] : [...this.#some(before, this.#options.maxTried)].filter((key) => !again.has(key));
    for (const key of again) fresh.push(key);
    this.#sent = fresh.slice(0, this.#options.triedOfSource);
    return fresh;
  }

  #giveAgain(before: readonly KeyText[], isTaken: boolean, monoMs: number): ReadonlySet<KeyText> {
    const size = Math.max(before.length, this.#options.leastGiving);
    const short = before.length / size - this.#again.left(monoMs);
    if (short > 0 && isTaken && this.#early.has(monoMs)) {
      this.#early.take(monoMs);
      this.#again.take(monoMs, -short);
    }
    const room = Math.floor(this.#again.left(monoMs) * size + ROUNDING);
    const again = room >= before.length ? new Set(before) : this.#some(before, room);
    this.#again.take(monoMs, again.size / size);
    return again;
  }

  /** Others each time, and from all over the list: its parts may be refused for reasons of their own. */
  #some(keys: readonly KeyText[], count: number): Set<KeyText> {
    const some = new Set<KeyText>();
    for (let n = 0; n < count; n++) {
      const key = keys[Math.floor(((this.#turn++ * GOLDEN_RATIO) % 1) * keys.length)];
      if (key !== undefined) some.add(key);
    }
    return some;
  }
}

/** Its multiples lie evenly between whole numbers, however many of them there are. */
const GOLDEN_RATIO = (1 + Math.sqrt(5)) / 2;
/** Of a whole number of summaries that was divided by their number. */
const ROUNDING = 1e-6;
