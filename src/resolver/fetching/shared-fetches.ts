/**
 * Running fetches, which are shared by all callers that wait for the same name, and the freshness of fetched answers (semantics.md, Resolver 12). `T`
 * is the content of an answer.
 */
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { type AnswerState, answerState } from "../../consumer/answer-state.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { NEVER } from "../../lib/machine.ts";

/** Time in ms for which answers are fresh, according to the narrowest scope of their entries. */
export interface FetchTtls {
  readonly zoneMs: number;
  readonly regionMs: number;
  readonly globalMs: number;
  /** For a negative answer (no entry exists). */
  readonly negativeMs: number;
}

export interface FetchedAnswer<T> {
  readonly content: T;
  /** Age on arrival, as reported by the server, in ms. */
  readonly ageMs: number;
  readonly arrivedMonoMs: number;
}

/** Maximum number of concurrent fetches. */
const MAX_FETCHES = 1000;
const BUSY_RETRY_MS = 250;

export class SharedFetches<T> {
  readonly #ttls: FetchTtls;
  /** How long answers are served after the last upstream stopped responding, in ms. */
  readonly #maxStaleMs: number;
  /** Keys that are being fetched, with the callbacks of waiting callers. */
  readonly #running = new Map<string, ((outcome: FetchOutcome<T>) => void)[]>();
  /** Known end of the last period in which no upstream sent a message, as monotonic time. */
  #silentUntilMonoMs = Number.NEGATIVE_INFINITY;
  /** Keys that changed during their fetch, so that the answer may be older than the change. */
  readonly #outdated = new Set<string>();

  /** A `maxStaleMs` of 0 means no limit. */
  constructor(ttls: FetchTtls, maxStaleMs: number) {
    this.#ttls = ttls;
    this.#maxStaleMs = maxStaleMs === 0 ? NEVER : maxStaleMs;
  }

  get isFull(): boolean {
    return this.#running.size >= MAX_FETCHES;
  }

  /**
   * Records that no upstream has sent a message since `sinceMonoMs`. Must be called repeatedly during this period, and when an upstream sends
   * messages again.
   */
  onSilence(sinceMonoMs: number, monoMs: number): void {
    if (monoMs - sinceMonoMs < this.#maxStaleMs) this.#silentUntilMonoMs = monoMs;
  }

  /**
   * Returns the state of an answer, or of the part with this scope. An undefined scope means a negative answer. `cutOffMonoMs` is the time since
   * which no upstream has responded, so that the answer cannot be fetched again.
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
    // An entry was added since then or has become visible.
    if (answer.isOutdated && isNegative) return "miss";
    // Answers that could be served when the outage began are served for `maxStaleMs`, regardless of their age at that time.
    if (cutOffMonoMs !== undefined) return monoMs - cutOffMonoMs < this.#maxStaleMs ? "stale" : "miss";
    // Answers served during an outage are treated as if they became stale at its end. Otherwise, all of these answers would expire at the same time,
    // and all callers would wait for servers that have just started.
    const state = kept === "miss" ? answerState(ttlMs + monoMs - this.#silentUntilMonoMs, ttlMs) : kept;
    // A negative answer is never used beyond its TTL, so that new entries are found.
    return isNegative || state === "miss" ? "miss" : "stale";
  }

  ttlMs(scope: Scope | undefined): number {
    const { zoneMs, regionMs, globalMs, negativeMs } = this.#ttls;
    if (scope === undefined) return negativeMs;
    return scope === SCOPE.GLOBAL ? globalMs : scope === SCOPE.REGION ? regionMs : zoneMs;
  }

  /**
   * Registers a callback for the outcome of a fetch. Returns whether the caller must start the fetch. Only one fetch runs per key. Throws `not_ready`
   * if too many fetches are running.
   */
  wait(key: string, onOutcome: (outcome: FetchOutcome<T>) => void): boolean {
    const waiting = this.#running.get(key);
    if (waiting !== undefined) {
      waiting.push(onOutcome);
      return false;
    }
    if (this.isFull)
      throw new WaymarkError("not_ready", `this resolver is already fetching ${MAX_FETCHES} names; retry`, {
        retryMs: BUSY_RETRY_MS,
      });
    this.#running.set(key, [onOutcome]);
    return true;
  }

  /** Records a change to a key, so that its running fetch is treated as outdated. */
  changed(key: string): void {
    if (this.#running.has(key)) this.#outdated.add(key);
  }

  /** Does the same as `changed` for all matching keys. */
  changedIn(isChanged: (key: string) => boolean): void {
    for (const key of this.#running.keys()) if (isChanged(key)) this.#outdated.add(key);
  }

  /** Returns whether the key changed during its running fetch. */
  hasChanged(key: string): boolean {
    return this.#outdated.has(key);
  }

  /** Ends a fetch and delivers its outcome to all waiting callers. */
  ended(key: string, outcome: FetchOutcome<T>): void {
    const waiting = this.#running.get(key) ?? [];
    this.#running.delete(key);
    this.#outdated.delete(key);
    for (const onOutcome of waiting) onOutcome(outcome);
  }
}

export type FetchOutcome<T> = { readonly answer: FetchedAnswer<T> } | { readonly error: WaymarkError };
