/**
 * Detects check results that are caused by the node itself and not by the checked programs. If most checks of one owner, or of most owners, change
 * state at the same time, the node's own network or clock is probably at fault. These checks then keep their states for some time. Results after that
 * time are accepted.
 */
import { NEVER } from "../../lib/machine.ts";

/** Minimum number of checks. With fewer checks, a coincidence could look like a fault of the node. */
const MIN_CHECKS = 10;
/** Self-preservation begins if more than this fraction of the checks changes state. */
const SHARE = 0.5;
/** State changes within this time are considered simultaneous, in ms. Equals the default interval of a check. */
const WINDOW_MS = 10_000;
/** Duration of self-preservation, in ms. States do not change during this time. */
export const DOUBT_MS = 30_000;

/**
 * The checks of one owner that give evidence about this node: all checks with a known state, except aliases. For self-preservation across all owners:
 * the owners of such checks, each counted once.
 */
export interface CheckEvidence {
  readonly checkCount: number;
  /**
   * Number of checks whose last outcome contradicts their state. For owners: the number of owners for which most checks change state at
   * the same time.
   */
  readonly changingCount: number;
}

export class SelfPreservation {
  readonly #minCount: number;
  /** The times at which checks with a known state changed state, in ascending monotonic ms. */
  #changedMonoMs: number[] = [];
  #untilMonoMs = NEVER;
  /**
   * Whether self-preservation may begin. After it has begun, it cannot begin again until the last outcomes of most checks agree with their states,
   * because otherwise a real outage would remain hidden.
   */
  #isArmed = true;
  #isSelfPreserving = false;
  /** Number of times self-preservation has begun. */
  count = 0;

  /** `minCount`: minimum number of checks, or of owners, for self-preservation to begin. */
  constructor(minCount = MIN_CHECKS) {
    this.#minCount = minCount;
  }

  get isSelfPreserving(): boolean {
    return this.#isSelfPreserving;
  }

  /** Time at which self-preservation ends, or `NEVER` if it is not active. */
  get untilMonoMs(): number {
    return this.#isSelfPreserving ? this.#untilMonoMs : NEVER;
  }

  /**
   * Ends self-preservation if its time has passed, and returns whether it ended. Must also be called with each outcome, to detect when the outcomes
   * of most checks agree with their states.
   */
  look(evidence: CheckEvidence, monoMs: number): boolean {
    const isOver = this.#isSelfPreserving && monoMs >= this.#untilMonoMs;
    if (isOver) this.#isSelfPreserving = false;
    this.#changedMonoMs = this.#changedMonoMs.filter((at) => monoMs - at <= WINDOW_MS);
    if (!this.#isSelfPreserving && !this.#isEnough(evidence)) this.#isArmed = true;
    return isOver;
  }

  /**
   * Prevents this owner's self-preservation until most outcomes agree with the states, because self-preservation of all owners has begun for the same
   * reason.
   */
  disarm(): void {
    this.#isArmed = false;
  }

  /** Whether most of these checks change state at the same time, regardless of how few they are. Call `look` first. */
  isMost({ checkCount, changingCount }: CheckEvidence): boolean {
    return changingCount + this.#changedMonoMs.length > checkCount * SHARE;
  }

  /** Whether due state changes may be applied. Must be called after `look` if any state changes are due. This call may begin self-preservation. */
  mayTurn(evidence: CheckEvidence, monoMs: number): boolean {
    if (this.#isSelfPreserving) return false;
    if (!this.#isArmed || !this.#isEnough(evidence)) return true;
    this.#isArmed = false;
    this.#isSelfPreserving = true;
    this.#untilMonoMs = monoMs + DOUBT_MS;
    this.count += 1;
    return false;
  }

  #isEnough(evidence: CheckEvidence): boolean {
    return evidence.checkCount >= this.#minCount && this.isMost(evidence);
  }

  /** Records that a check with a known state has changed state. */
  turned(monoMs: number): void {
    this.#changedMonoMs.push(monoMs);
  }
}
