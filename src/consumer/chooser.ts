/**
 * Chooses again and again among the endpoints of one name, which come and go meanwhile (semantics.md, Selection). It follows the rules of `select`, and
 * knows more: what this program's own calls to each endpoint came to.
 */
import { fnv64 } from "../lib/hash64.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import { type Candidate, Endpoint } from "./endpoint.ts";
import { TIERS } from "./health-tiers.ts";
import { hasHighErrorRate, ObservedCalls } from "./load-score.ts";
import { LEVELS, LevelScheduler, type RankOptions, SELECT_POLICY, shareLevels } from "./locality-levels.ts";
import { EndpointPool, type PoolOptions } from "./pool.ts";

/** `region` and `zone` are the preferred place; empty text is no preference. `start` differs between programs, so that not all begin with one endpoint. */
export interface ChooserOptions extends RankOptions, PoolOptions {}

/** What one choice asks for beyond the policy. */
export interface ChoiceRequest<C extends Candidate> {
  /** HASH: the same text gives the same endpoint while that endpoint is there and usable. */
  readonly hashKey: string;
  /** Endpoints that were tried already. */
  readonly avoid: ReadonlySet<Endpoint<C>> | undefined;
}

const NO_WISHES = { hashKey: "", avoid: undefined };
/** Most times that a choice is made anew because it falls on an endpoint to be avoided. Then any other is taken. */
const MOST_TRIES = 8;

/** `choose` costs O(1) and makes no object by load, O(log n) at random, O(different weights) in turn, O(n) by hash. `put` and `remove` cost O(log n). */
export class Chooser<C extends Candidate> {
  // HOT: a choice among many names reads a chooser that is in no processor cache. What it reads each time is in one line of it.
  /** The pool of the only level that takes traffic, while no ejection can end and no level has changed. Undefined otherwise, and for HASH. */
  #quick: EndpointPool<C> | undefined;
  #choiceCount = 0;
  #byLoadCount = 0;
  readonly #options: ChooserOptions;
  readonly #byKey = new Map<string, Endpoint<C>>();
  /** By rank. Those of tiers and levels without an endpoint so far are missing. */
  readonly #pools: (EndpointPool<C> | undefined)[] = [];
  /** Number of endpoints by level, also of those that cannot be chosen. */
  readonly #all = new Float64Array(LEVELS);
  readonly #choosable = new Float64Array(LEVELS);
  readonly #shares = new Float64Array(LEVELS);
  readonly #levels = new LevelScheduler();
  /** The best tier with an endpoint that may be chosen. TIERS without any. */
  #tier: number = TIERS;
  #areSharesOld = false;
  /** With `LOAD_AWARE`: endpoints whose reported errors must be evaluated before the next choice. Undefined while there are none, as in most choosers. */
  #unjudged: Set<Endpoint<C>> | undefined;
  /** The pool of the only level that takes traffic. Undefined if there are more, or none. */
  #only: EndpointPool<C> | undefined;
  #nowMonoMs = 0;
  #nextReturnMs = NEVER;
  /** A number that is no small integer is an object of its own in memory, which `choose` would have to fetch. */
  #isAnyEjected = false;

  constructor(options: ChooserOptions) {
    this.#options = options;
  }

  /** Number of endpoints, also of those that cannot be chosen. */
  get size(): number {
    return this.#byKey.size;
  }

  /** Choices made, and those of them that were made by load. */
  get counts(): { readonly choices: number; readonly byLoad: number } {
    return { choices: this.#choiceCount, byLoad: this.#byLoadCount };
  }

  find(key: string): Endpoint<C> | undefined {
    return this.#byKey.get(key);
  }

  /** All endpoints, in no particular order. */
  endpoints(): Iterable<Endpoint<C>> {
    return this.#byKey.values();
  }

  /** Adds an entry, or takes its new fields. What was seen of its endpoint stays. */
  put(candidate: C): Endpoint<C> {
    const endpoint = this.#put(candidate);
    if (this.#options.policy !== SELECT_POLICY.LOAD_AWARE || !(endpoint.isFaulty || hasHighErrorRate(candidate.view.load))) return endpoint;
    this.#unjudged ??= new Set();
    this.#unjudged.add(endpoint);
    this.#unsettle();
    return endpoint;
  }

  #put(candidate: C): Endpoint<C> {
    const held = this.#byKey.get(candidate.key);
    if (held === undefined) return this.#enter(new Endpoint(candidate, this.#options));
    if (held.isMovedBy(candidate, this.#options)) {
      this.#leave(held);
      held.describe(candidate, this.#options);
      return this.#enter(held);
    }
    // It keeps its turn.
    const wasKnown = held.isKnown;
    held.describe(candidate, this.#options);
    this.#pools[held.rank]?.noteLoad(held, wasKnown);
    return held;
  }

  /** Removes the entry with this key, if it is there. Calls to its endpoint may still end. */
  remove(key: string): void {
    const endpoint = this.#byKey.get(key);
    if (endpoint === undefined) return;
    this.#unjudged?.delete(endpoint);
    this.#leave(endpoint);
  }

  /**
   * The endpoint for one call. Undefined if there is none: no entry, all in MAINTENANCE, or all to be avoided. `time` and the random numbers in [0, 1)
   * come from the caller.
   */
  choose(time: Time, random: () => number, wishes: ChoiceRequest<C> = NO_WISHES): Endpoint<C> | undefined {
    // HOT: once a call of a client (bench/resolve.ts): at most 1 µs, and no object.
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

  /** A call to the endpoint begins. Exactly one of `succeeded`, `failed` and `abandoned` must follow. */
  started(endpoint: Endpoint<C>): void {
    endpoint.seen ??= new ObservedCalls();
    endpoint.seen.inFlightCount += 1;
    this.#pools[endpoint.rank]?.noteLoad(endpoint, endpoint.isKnown);
  }

  /** A call ended well after `latencyMs`. */
  succeeded(endpoint: Endpoint<C>, latencyMs: number, time: Time): void {
    this.#pools[endpoint.rank]?.noteLatency(latencyMs);
    this.#ended(endpoint, latencyMs, time);
    endpoint.noteSuccess();
  }

  /** A call failed for a reason that another endpoint might not have had. */
  failed(endpoint: Endpoint<C>, time: Time): void {
    this.#ended(endpoint, undefined, time);
    if (!endpoint.noteFailure() || endpoint.index === -1) return;
    const pool = this.#pools[endpoint.rank];
    if (pool?.eject(endpoint, time.monoMs) !== true) return;
    this.#noteReturn(pool);
    this.#unsettle();
  }

  /** A call ended without a verdict on the endpoint, for example because the caller gave it up. */
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

  /** After a change of a pool's members: too many may be ejected now. */
  #settle(pool: EndpointPool<C>): void {
    pool.readmit(this.#nowMonoMs);
    this.#noteReturn(pool);
  }

  #noteReturn(pool: EndpointPool<C>): void {
    this.#nextReturnMs = Math.min(this.#nextReturnMs, pool.nextReturnMs);
    this.#isAnyEjected = this.#nextReturnMs !== NEVER;
  }

  /** Evaluates the endpoints that report errors, or reported errors before. */
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

  /** The levels must be looked at before the next choice. */
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

  /** Any endpoint that is not in `avoid`, best rank first. */
  #other(avoid: ReadonlySet<Endpoint<C>>): Endpoint<C> | undefined {
    for (const pool of this.#pools) {
      const other = pool?.other(avoid);
      if (other !== undefined) return other;
    }
    return undefined;
  }
}
