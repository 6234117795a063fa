/** An entry that can be chosen, with this program's observations and the entry's ejections. */

import type { Time } from "../lib/machine.ts";
import { type Fitness, type HealthNumber, TIERS } from "./health-tiers.ts";
import { errorEjectionMs, type ObservedCalls, type ReportedLoad, SmoothedReports } from "./load-score.ts";
import { LEVELS, type RankOptions, rankOf, type ZoneLocality } from "./locality-levels.ts";
import { drawTarget, entryWeight, preferredTargets, type WeightedTarget } from "./targets.ts";

/** An entry that can be chosen, with the fields on which the choice depends. */
export interface Candidate {
  /** Identifies the entry. Candidates are ordered by this key, and HASH hashes it. */
  readonly key: string;
  readonly view: ZoneLocality & {
    readonly health: HealthNumber;
    readonly targets: readonly WeightedTarget[];
    /** Whether callers reach the entry through its node if it has no target. Default: no. */
    readonly isHosted?: boolean;
    readonly load: ReportedLoad | undefined;
  };
}

/** The candidate's target type. */
export type TargetOf<C extends Candidate> = C["view"]["targets"][number];

/** The inputs that determine the candidate's tier. */
export function fitnessOf({ view }: Candidate): Fitness {
  return { health: view.health, hasTarget: view.targets.length > 0 || view.isHosted === true };
}

/** Consecutive failures after which an endpoint is ejected. */
const MOST_FAILURES = 5;
/** Length of an ejection, multiplied by the number of the endpoint's ejections so far, up to Envoy's `max_ejection_time` of 300 s. */
const EJECTION_MS = 30_000;
const MOST_EJECTIONS = 10;
/** After this time without an ejection, the number of ejections is reset. */
const FORGIVEN_AFTER_MS = 600_000;
/** Largest fraction of a level's endpoints that can be ejected at the same time. One endpoint can always be ejected. */
const MOST_EJECTED = 0.1;

/** Maximum number of a level's endpoints that can be ejected at the same time. The last endpoint is never ejected. */
export function mostEjected(levelSize: number): number {
  return Math.min(levelSize - 1, Math.max(1, Math.floor(levelSize * MOST_EJECTED)));
}

/**
 * An endpoint of the chooser. The same object represents it while its key exists, even if its fields change. Only the chooser uses these fields;
 * readers use `candidate`.
 */
export class Endpoint<C extends Candidate> {
  // HOT: with 100,000 endpoints, a chosen endpoint is not in the processor cache. The fields that a choice reads are first, in one cache line
  // (bench/resolve.ts).
  candidate: C;
  /** The target with the lowest priority value. Undefined if there are several or none. */
  #only: TargetOf<C> | undefined;
  #preferred: readonly TargetOf<C>[] = [];
  readonly key: string;
  /** The result of `rankOf` for the candidate. */
  rank = 0;
  weight = 1;
  /** Observations of calls to this endpoint. Undefined before the first call. */
  seen: ObservedCalls | undefined;
  /** Index among the selectable members of its pool, or -1. */
  index = -1;
  readonly reports = new SmoothedReports();
  /** Whether the last evaluated report had too many errors. */
  isFaulty = false;
  /** Monotonic times at which the ejections for failed calls and for reported errors end. 0 if there is no ejection. */
  #failedUntilMs = 0;
  #faultyUntilMs = 0;
  #failures = 0;
  #ejections = 0;
  #returnedMs = 0;

  constructor(candidate: C, options: RankOptions) {
    this.key = candidate.key;
    this.candidate = candidate;
    this.describe(candidate, options);
  }

  /** Updates the fields from a candidate with the same key. */
  describe(candidate: C, options: RankOptions): void {
    this.candidate = candidate;
    this.rank = rankOf(fitnessOf(candidate), candidate.view, options);
    this.reports.note(candidate.view.load);
    const preferred = preferredTargets<TargetOf<C>>(candidate.view.targets);
    this.#only = preferred.length === 1 ? preferred[0] : undefined;
    this.#preferred = preferred;
    this.weight = entryWeight(preferred);
  }

  /** Whether these fields change the tier, level or weight. */
  isMovedBy(candidate: C, options: RankOptions): boolean {
    const { view } = candidate;
    return rankOf(fitnessOf(candidate), view, options) !== this.rank || entryWeight(preferredTargets(view.targets)) !== this.weight;
  }

  get tier(): number {
    return Math.floor(this.rank / LEVELS);
  }

  get level(): number {
    return this.rank % LEVELS;
  }

  get isChoosable(): boolean {
    return this.tier < TIERS;
  }

  /** Whether the endpoint's load is known, from its own reports or from calls. */
  get isKnown(): boolean {
    return this.candidate.view.load !== undefined || this.seen?.isKnown === true;
  }

  /** Returns one of the preferred targets, chosen by weight. Returns undefined if there are no targets. */
  target(drawn: number): TargetOf<C> | undefined {
    return this.#only ?? drawTarget(this.#preferred, drawn);
  }

  /** Records a successful call. */
  noteSuccess(): void {
    this.#failures = 0;
  }

  /** Records a failed call. Returns whether there were enough consecutive failures for an ejection. */
  noteFailure(): boolean {
    this.#failures += 1;
    return this.#failures >= MOST_FAILURES;
  }

  /** Starts an ejection. */
  eject(nowMonoMs: number): void {
    if (this.#ejections > 0 && nowMonoMs - this.#returnedMs >= FORGIVEN_AFTER_MS) this.#ejections = 0;
    this.#ejections = Math.min(MOST_EJECTIONS, this.#ejections + 1);
    this.#failedUntilMs = nowMonoMs + this.#ejections * EJECTION_MS;
  }

  /** Evaluates the errors in the last report. */
  judge({ monoMs, wallMs }: Time): void {
    const forMs = errorEjectionMs(this.candidate.view.load, wallMs);
    this.isFaulty = forMs > 0;
    this.#faultyUntilMs = this.isFaulty ? monoMs + forMs : 0;
  }

  /** Cancels an ejection for reported errors. */
  clearErrorEjection(): void {
    this.#faultyUntilMs = 0;
  }

  /** Ends its ejections. */
  readmit(nowMonoMs: number): void {
    if (this.#failedUntilMs > 0) {
      this.#returnedMs = nowMonoMs;
      this.#failures = 0;
    }
    this.#failedUntilMs = 0;
    this.#faultyUntilMs = 0;
  }

  /** Monotonic time at which the ejection ends. 0 if the endpoint is not ejected. */
  get ejectedUntilMs(): number {
    return Math.max(this.#failedUntilMs, this.#faultyUntilMs);
  }
}
