/**
 * Makes repeated choices among the endpoints of one name, while endpoints are added and removed (semantics.md, Selection). It follows the same rules
 * as `select`, and also uses the outcomes of this program's own calls to each endpoint.
 */
import { fnv64 } from "../lib/hash64.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { type Candidate, Endpoint } from "./endpoint.ts";
import { TIERS } from "./health-tiers.ts";
import { hasHighErrorRate, ObservedCalls } from "./load-score.ts";
import { LEVELS, LevelScheduler, type RankOptions, SELECT_POLICY, shareLevels } from "./locality-levels.ts";
import { EndpointPool, type PoolOptions } from "./pool.ts";

/**
 * `region` and `zone` are the preferred location. An empty value means no preference. `start` differs between programs, so that not all of them start
 * with the same endpoint.
 */
export interface ChooserOptions extends RankOptions, PoolOptions {}

/** Inputs of one choice in addition to the policy. */
export interface ChoiceRequest<C extends Candidate> {
  /** For HASH: the same key selects the same endpoint for as long as that endpoint exists and is usable. */
  readonly hashKey: string;
  /** Endpoints that have already been tried. */
  readonly avoid: ReadonlySet<Endpoint<C>> | undefined;
}

const NO_WISHES = { hashKey: "", avoid: undefined };
/** Maximum number of draws. If all draws yield endpoints to avoid, any other endpoint is used. */
const MOST_TRIES = 8;

/**
 * The cost of `choose` is O(1), without creating an object, by load; O(log n) at random; O(different weights) for round robin; and O(n) by hash.
 * `put` and `remove` cost O(log n).
 */
export class Chooser<C extends Candidate> {
  // HOT: with many names, a chooser is not in the processor cache when it is used, so all fields that a choice reads are in one cache line.
  /**
   * The pool of the only level that receives traffic. It is set while no ejection can end and no level has changed. In all other cases, and for HASH,
   * it is undefined.
   */
  #quick: EndpointPool<C> | undefined;
  #choiceCount = 0;
  #byLoadCount = 0;
  readonly #options: ChooserOptions;
  readonly #byKey = new Map<string, Endpoint<C>>();
  /** Pools by rank. Undefined for tiers and levels that have never had an endpoint. */
  readonly #pools: (EndpointPool<C> | undefined)[] = [];
  /** Number of endpoints per level, including endpoints that cannot be chosen. */
  readonly #all = new Float64Array(LEVELS);
  readonly #choosable = new Float64Array(LEVELS);
  readonly #shares = new Float64Array(LEVELS);
  readonly #levels = new LevelScheduler();
  /** The best tier with an endpoint that can be chosen. TIERS if there is no such tier. */
  #tier: number = TIERS;
  #areSharesOld = false;
  /**
   * With `LOAD_AWARE`: endpoints whose reported errors must be evaluated before the next choice. Undefined while there are none, which is the case in
   * most choosers.
   */
  #unjudged: Set<Endpoint<C>> | undefined;
  /** The pool of the only level that receives traffic. Undefined if there are several or none. */
  #only: EndpointPool<C> | undefined;
  #nowMonoMs = 0;
  #nextReturnMs = NEVER;
  /**
   * This is a flag and not a time, because V8 stores a number that is not a small integer as a separate object, which `choose` would have to
   * load.
   */
  #isAnyEjected = false;

  constructor(options: ChooserOptions) {
    this.#options = options;
  }

  /** Number of endpoints, including endpoints that cannot be chosen. */
  get size(): number {
    return this.#byKey.size;
  }

  /** Number of choices, and number of choices based on load. */
  get counts(): { readonly choices: number; readonly byLoad: number } {
    return { choices: this.#choiceCount, byLoad: this.#byLoadCount };
  }

  find(key: string): Endpoint<C> | undefined {
    return this.#byKey.get(key);
  }

  /** Returns all endpoints, in no particular order. */
  endpoints(): Iterable<Endpoint<C>> {
    return this.#byKey.values();
  }

  /** Adds an entry or updates its fields. Observations of its endpoint are kept. */
  put(candidate: C): Endpoint<C> {
    const endpoint = this.#put(candidate);
    if (this.#options.policy !== SELECT_POLICY.LOAD_AWARE || !(endpoint.isFaulty || hasHighErrorRate(candidate.view.load))) return endpoint;
    this.#unjudged ??= new Set();
    this.#unjudged.add(endpoint);
    this.#unsettle();
    return endpoint;
  }

  #put(candidate: C): Endpoint<C> {
    const known = this.#byKey.get(candidate.key);
    if (known === undefined) return this.#enter(new Endpoint(candidate, this.#options));
    if (known.isMovedBy(candidate, this.#options)) {
      this.#leave(known);
      known.describe(candidate, this.#options);
      return this.#enter(known);
    }
    // The member keeps its position in the rotation.
    const wasKnown = known.isKnown;
    known.describe(candidate, this.#options);
    this.#pools[known.rank]?.noteLoad(known, wasKnown);
    return known;
  }

  /** Removes the entry with this key, if it exists. Calls to its endpoint may still be in progress. */
  remove(key: string): void {
    const endpoint = this.#byKey.get(key);
    if (endpoint === undefined) return;
    this.#unjudged?.delete(endpoint);
    this.#leave(endpoint);
  }

  /**
   * Returns the endpoint for one call. Returns undefined if there are no entries, all are in MAINTENANCE, or all must be avoided. The caller supplies
   * the time and the random numbers in [0, 1).
   */
  choose(time: Time, random: () => number, wishes: ChoiceRequest<C> = NO_WISHES): Endpoint<C> | undefined {
    // HOT: runs once per client call (bench/resolve.ts), needs at most 1 µs, and does not create any objects.
    const quick = this.#quick;
    if (quick === undefined || wishes.avoid !== undefined) return this.#chooseAnew(time, random, wishes);
    this.#choiceCount += 1;
    if (quick.isByLoad) this.#byLoadCount += 1;
    return quick.choose(time, random);
  }

  #chooseAnew(time: Time, random: () => number, wishes: ChoiceRequest<C>): Endpoint<C> | undefined {
    if (this.#unjudged !== undefined) this.#judge(this.#unjudged, time);
    if (this.#isAnyEjected && time.monoMs >= this.#nextReturnMs) this.#readmitDue(time.monoMs);
    if (this.#areSharesOld) this.#share();
    if (this.#tier === TIERS) return undefined;
    this.#choiceCount += 1;
    if (this.#options.policy === SELECT_POLICY.HASH) return this.#byHash(wishes);
    const pool = this.#only ?? this.#pools[this.#tier * LEVELS + this.#levels.next(this.#shares)];
    if (pool?.isByLoad === true) this.#byLoadCount += 1;
    const { avoid } = wishes;
    if (avoid === undefined) return pool?.choose(time, random);
    for (let i = 0; i < MOST_TRIES; i++) {
      const chosen = pool?.choose(time, random);
      if (chosen !== undefined && !avoid.has(chosen)) return chosen;
    }
    return this.#other(avoid);
  }

  /** Records the start of a call. Exactly one of `succeeded`, `failed` and `abandoned` must follow. */
  started(endpoint: Endpoint<C>): void {
    endpoint.seen ??= new ObservedCalls();
    endpoint.seen.inFlightCount += 1;
    this.#pools[endpoint.rank]?.noteLoad(endpoint, endpoint.isKnown);
  }

  /** Records a successful call that took `latencyMs`. */
  succeeded(endpoint: Endpoint<C>, latencyMs: number, time: Time): void {
    this.#pools[endpoint.rank]?.noteLatency(latencyMs);
    this.#ended(endpoint, latencyMs, time);
    endpoint.noteSuccess();
  }

  /** Records a call that failed for a reason that might not affect another endpoint. */
  failed(endpoint: Endpoint<C>, time: Time): void {
    this.#ended(endpoint, undefined, time);
    if (!endpoint.noteFailure() || endpoint.index === -1) return;
    const pool = this.#pools[endpoint.rank];
    if (pool?.eject(endpoint, time.monoMs) !== true) return;
    this.#noteReturn(pool);
    this.#unsettle();
  }

  /** Records a call that ended without information about the endpoint, for example because the caller canceled it. */
  abandoned(endpoint: Endpoint<C>): void {
    if (endpoint.seen === undefined) return;
    endpoint.seen.inFlightCount -= 1;
    this.#pools[endpoint.rank]?.noteLoad(endpoint, endpoint.isKnown);
  }

  /** `latencyMs` is undefined for a failed call. */
  #ended(endpoint: Endpoint<C>, latencyMs: number | undefined, time: Time): void {
    this.#nowMonoMs = time.monoMs;
    const { seen } = endpoint;
    if (seen === undefined) return;
    const wasKnown = endpoint.isKnown;
    seen.inFlightCount -= 1;
    seen.note(latencyMs, time.monoMs);
    this.#pools[endpoint.rank]?.noteLoad(endpoint, wasKnown);
  }

  #enter(endpoint: Endpoint<C>): Endpoint<C> {
    this.#byKey.set(endpoint.key, endpoint);
    this.#all[endpoint.level] = (this.#all[endpoint.level] ?? 0) + 1;
    this.#unsettle();
    if (!endpoint.isChoosable) return endpoint;
    const pool = (this.#pools[endpoint.rank] ??= new EndpointPool(this.#options));
    pool.put(endpoint);
    this.#settle(pool);
    return endpoint;
  }

  #leave(endpoint: Endpoint<C>): void {
    this.#byKey.delete(endpoint.key);
    this.#all[endpoint.level] = (this.#all[endpoint.level] ?? 0) - 1;
    this.#unsettle();
    const pool = endpoint.isChoosable ? this.#pools[endpoint.rank] : undefined;
    if (pool === undefined) return;
    pool.remove(endpoint);
    this.#settle(pool);
  }

  /** Readmits members of a pool whose members have changed, because too many of them may be ejected. */
  #settle(pool: EndpointPool<C>): void {
    pool.readmit(this.#nowMonoMs);
    this.#noteReturn(pool);
  }

  #noteReturn(pool: EndpointPool<C>): void {
    this.#nextReturnMs = Math.min(this.#nextReturnMs, pool.nextReturnMs);
    this.#isAnyEjected = this.#nextReturnMs !== NEVER;
  }

  /** Evaluates endpoints that report errors or have reported errors. */
  #judge(unjudged: ReadonlySet<Endpoint<C>>, time: Time): void {
    this.#nowMonoMs = time.monoMs;
    this.#unjudged = undefined;
    for (const endpoint of unjudged) {
      const pool = endpoint.isChoosable ? this.#pools[endpoint.rank] : undefined;
      if (pool === undefined) continue;
      pool.judge(endpoint, time);
      this.#noteReturn(pool);
    }
    this.#unsettle();
  }

  #readmitDue(nowMonoMs: number): void {
    this.#nowMonoMs = nowMonoMs;
    this.#nextReturnMs = NEVER;
    this.#isAnyEjected = false;
    for (const pool of this.#pools) if (pool !== undefined) this.#settle(pool);
    this.#unsettle();
  }

  /** Marks the levels for evaluation before the next choice. */
  #unsettle(): void {
    this.#areSharesOld = true;
    this.#quick = undefined;
  }

  #share(): void {
    this.#areSharesOld = false;
    for (this.#tier = 0; this.#tier < TIERS; this.#tier++) {
      let count = 0;
      for (let level = 0; level < LEVELS; level++) {
        const size = this.#pools[this.#tier * LEVELS + level]?.size ?? 0;
        this.#choosable[level] = size;
        count += size;
      }
      if (count > 0) break;
    }
    shareLevels(this.#choosable, this.#all, this.#shares);
    const only = this.#shares.indexOf(1);
    this.#only = only === -1 ? undefined : this.#pools[this.#tier * LEVELS + only];
    if (!this.#isAnyEjected && this.#options.policy !== SELECT_POLICY.HASH) this.#quick = this.#only;
  }

  #byHash({ hashKey, avoid }: ChoiceRequest<C>): Endpoint<C> | undefined {
    const hash = fnv64(hashKey);
    for (const pool of this.#pools) {
      const chosen = pool?.byHash(hash, avoid);
      if (chosen !== undefined) return chosen;
    }
    return undefined;
  }

  /** Returns an endpoint that is not in `avoid`, with the best possible rank. */
  #other(avoid: ReadonlySet<Endpoint<C>>): Endpoint<C> | undefined {
    for (const pool of this.#pools) {
      const other = pool?.other(avoid);
      if (other !== undefined) return other;
    }
    return undefined;
  }
}
