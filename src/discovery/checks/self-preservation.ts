/**
 * Detects when check results are caused by the node itself and not by the checked programs. When most checks of one owner, or of most owners, change their
 * state at the same time, the node's own network or clock is probably at fault. These checks then keep their states for a while. Later results are accepted.
 */
import { NEVER } from "../../lib/machine.ts";

/** With fewer checks than this, chance would look like a fault of the node. */
const MIN_CHECKS = 10;
/** More than this share of the checks. */
const SHARE = 0.5;
/** Turns that lie no further apart count as turns at once, in ms: the default interval of a check. */
const WINDOW_MS = 10_000;
/** How long nothing turns, in ms. */
export const DOUBT_MS = 30_000;

/**
 * The checks of one owner that give evidence about this node: all checks with a known state, except aliases. Or the owners of such checks, each of
 * which counts once.
 */
export interface CheckEvidence {
  readonly checkCount: number;
  /** Number of checks whose last outcome contradicts their state. For owners: the number of owners most of whose checks change state at the same time. */
  readonly changingCount: number;
}

export class SelfPreservation {
  readonly #minCount: number;
  /** When checks turned that were known before, in the order of time. */
  #turnedMonoMs: number[] = [];
  #untilMonoMs = NEVER;
  /** Once a doubt has begun, no other begins before most checks agree with what they had turned to. Else a real outage would stay hidden. */
  #isArmed = true;
  #isSelfPreserving = false;
  /** How many doubts have begun. */
  count = 0;

  /** `minCount`: no doubt begins with fewer checks, or owners, than this. */
  constructor(minCount = MIN_CHECKS) {
    this.#minCount = minCount;
  }

  get isSelfPreserving(): boolean {
    return this.#isSelfPreserving;
  }

  /** When the doubt ends; `NEVER` without one. */
  get untilMonoMs(): number {
    return this.#isSelfPreserving ? this.#untilMonoMs : NEVER;
  }

  /** Ends a doubt whose time is over, and returns whether it did. To be called with each outcome too: it sees that most checks agree with what they had turned to. */
  look(evidence: CheckEvidence, monoMs: number): boolean {
    const isOver = this.#isSelfPreserving && monoMs >= this.#untilMonoMs;
    if (isOver) this.#isSelfPreserving = false;
    this.#turnedMonoMs = this.#turnedMonoMs.filter((at) => monoMs - at <= WINDOW_MS);
    if (!this.#isSelfPreserving && !this.#isEnough(evidence)) this.#isArmed = true;
    return isOver;
  }

  /** A wider doubt has begun for the same reason, so no doubt begins here before most checks agree with their state. */
  disarm(): void {
    this.#isArmed = false;
  }

  /** Whether most of these checks change state at the same time, however few there are. Call `look` first. */
  isMost({ checkCount, changingCount }: CheckEvidence): boolean {
    return changingCount + this.#turnedMonoMs.length > checkCount * SHARE;
  }

  /** Whether checks may turn that are due. To be asked after `look`, when there are any. It may begin a doubt. */
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

  /** A check turned that was known before. */
  turned(monoMs: number): void {
    this.#turnedMonoMs.push(monoMs);
  }
}
