/**
 * The answers that a resolver fetched by name: how long each is good, and which are being fetched (semantics.md, Resolver 12). It knows no entries; what an
 * answer holds is the caller's `T`.
 */
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { type AnswerState, answerState } from "../../consumer/answer-state.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { NEVER } from "../../lib/machine.ts";

/** How long answers are fresh, in ms, by the narrowest scope in them. */
export interface FetchTtls {
  readonly zoneMs: number;
  readonly regionMs: number;
  readonly globalMs: number;
  /** Of an answer that nothing exists. */
  readonly negativeMs: number;
}

export interface FetchedAnswer<T> {
  readonly content: T;
  /** Its age when it arrived, by the account of the server, in ms. */
  readonly ageMs: number;
  readonly arrivedMonoMs: number;
}

/** Most fetches that run at a time. */
const MAX_FETCHES = 1000;
const BUSY_RETRY_MS = 250;

export class SharedFetches<T> {
  readonly #ttls: FetchTtls;
  /** How long answers are served while no upstream answers, in ms since then. */
  readonly #maxStaleMs: number;
  /** Keys that are being fetched, with whoever waits for them. */
  readonly #running = new Map<string, ((outcome: FetchOutcome<T>) => void)[]>();
  /** Until when, as far as is known, no upstream said anything the last time, by monotonic ms. */
  #silentUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** Keys that changed while they were fetched: what arrives may be older than the change. */
  readonly #outdated = new Set<string>();

  /** `maxStaleMs` of 0 means without end. */
  constructor(ttls: FetchTtls, maxStaleMs: number) {
    this.#ttls = ttls;
    this.#maxStaleMs = maxStaleMs === 0 ? NEVER : maxStaleMs;
  }

  get isFull(): boolean {
    return this.#running.size >= MAX_FETCHES;
  }

  /** No upstream says anything since then. To be told as long as it is so, and when one speaks again. */
  onSilence(sinceMonoMs: number, monoMs: number): void {
    if (monoMs - sinceMonoMs < this.#maxStaleMs) this.#silentUntilMonoMs = monoMs;
  }

  /**
   * How good an answer is now, or the part of it with this scope; a part without a scope is that nothing exists. `cutOffMonoMs`: since then no upstream answers, so nothing can
   * be fetched in its place.
   */
  stateOf(
    answer: Pick<FetchedAnswer<T>, "arrivedMonoMs"> & { readonly isOutdated: boolean },
    scope: Scope | undefined,
    monoMs: number,
    cutOffMonoMs: number | undefined,
  ): AnswerState {
    const ttlMs = this.ttlMs(scope);
    const kept = answerState(monoMs - answer.arrivedMonoMs, ttlMs);
    const isNegative = scope === undefined;
    if (!answer.isOutdated && kept === "fresh") return "fresh";
    // Something was put there, or may be seen there now.
    if (answer.isOutdated && isNegative) return "miss";
    // What was good when the outage began is good for the whole time, however old it was then.
    if (cutOffMonoMs !== undefined) return monoMs - cutOffMonoMs < this.#maxStaleMs ? "stale" : "miss";
    // What was told in an outage is as if it had become stale at its end. Else all of it would expire at once, and everybody wait for servers that have just started.
    const state = kept === "miss" ? answerState(ttlMs + monoMs - this.#silentUntilMonoMs, ttlMs) : kept;
    // That nothing exists is not said beyond its time: a new entry must be found.
    return isNegative || state === "miss" ? "miss" : "stale";
  }

  ttlMs(scope: Scope | undefined): number {
    const { zoneMs, regionMs, globalMs, negativeMs } = this.#ttls;
    if (scope === undefined) return negativeMs;
    return scope === SCOPE.GLOBAL ? globalMs : scope === SCOPE.REGION ? regionMs : zoneMs;
  }

  /**
   * Asks for a key to be fetched, and to be told of the outcome. Returns whether the fetch is to be started: one runs for each key. Throws `not_ready` if too
   * many run.
   */
  wait(key: string, told: (outcome: FetchOutcome<T>) => void): boolean {
    const waiting = this.#running.get(key);
    if (waiting !== undefined) {
      waiting.push(told);
      return false;
    }
    if (this.isFull)
      throw new WaymarkError("not_ready", `this resolver fetches ${MAX_FETCHES} names at once already; try again`, {
        retryMs: BUSY_RETRY_MS,
      });
    this.#running.set(key, [told]);
    return true;
  }

  /** Something changed under the key, so that a fetch under way may bring what was before. */
  changed(key: string): void {
    if (this.#running.has(key)) this.#outdated.add(key);
  }

  /** As `changed`, for all keys of which this is true. */
  changedIn(isChanged: (key: string) => boolean): void {
    for (const key of this.#running.keys()) if (isChanged(key)) this.#outdated.add(key);
  }

  /** Whether something changed under a key while it has been fetched. */
  hasChanged(key: string): boolean {
    return this.#outdated.has(key);
  }

  /** A fetch ended. All that waited are told. */
  ended(key: string, outcome: FetchOutcome<T>): void {
    const waiting = this.#running.get(key) ?? [];
    this.#running.delete(key);
    this.#outdated.delete(key);
    for (const told of waiting) told(outcome);
  }
}

export type FetchOutcome<T> = { readonly answer: FetchedAnswer<T> } | { readonly error: WaymarkError };
