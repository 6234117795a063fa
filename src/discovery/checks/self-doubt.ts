/**
 * Finds out when the checks of a node say more about the node than about what it checks. When most checks of one owner, or those of most owners, turn at
 * once, then more likely the node's own network or time is at fault. No such check turns for a while. What is true afterwards is believed.
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
 * The checks of one owner that say something about this node: all but aliases, of which something was known before. Or the owners of such checks, each of
 * which counts once.
 */
export interface Evidence {
  readonly checkCount: number;
  /** The last outcome of so many of them contradicts what they had turned to. Of owners: most of their checks turn at once. */
  readonly swayingCount: number;
}

export class SelfDoubt {
  readonly #minCount: number;
  /** When checks turned that were known before, in the order of time. */
  #turnedMonoMs: number[] = [];
  #untilMonoMs = NEVER;
  /** Once a doubt has begun, no other begins before most checks agree with what they had turned to. Else a real outage would stay hidden. */
  #isArmed = true;
  #isDoubting = false;
  /** How many doubts have begun. */
  count = 0;

  /** `minCount`: with fewer checks, or owners, no doubt begins. */
  constructor(minCount = MIN_CHECKS) {
    this.#minCount = minCount;
  }

  get isDoubting(): boolean {
    return this.#isDoubting;
  }

  /** When the doubt ends; `NEVER` without one. */
  get untilMonoMs(): number {
    return this.#isDoubting ? this.#untilMonoMs : NEVER;
  }

  /** Ends a doubt whose time is over. To be called with each outcome too: it sees that most checks agree with what they had turned to. */
  look(evidence: Evidence, monoMs: number): void {
    if (this.#isDoubting && monoMs >= this.#untilMonoMs) this.#isDoubting = false;
    this.#turnedMonoMs = this.#turnedMonoMs.filter((at) => monoMs - at <= WINDOW_MS);
    if (!this.#isDoubting && !this.#isEnough(evidence)) this.#isArmed = true;
  }

  /** A wider doubt has begun for the same reason, so none begins here before most checks agree with what they had turned to. */
  disarm(): void {
    this.#isArmed = false;
  }

  /** Whether most of these checks turn at once, however few there are. To be asked after `look`. */
  isMost({ checkCount, swayingCount }: Evidence): boolean {
    return swayingCount + this.#turnedMonoMs.length > checkCount * SHARE;
  }

  /** Whether checks may turn that are due. To be asked after `look`, when there are any. It may begin a doubt. */
  mayTurn(evidence: Evidence, monoMs: number): boolean {
    if (this.#isDoubting) return false;
    if (!this.#isArmed || !this.#isEnough(evidence)) return true;
    this.#isArmed = false;
    this.#isDoubting = true;
    this.#untilMonoMs = monoMs + DOUBT_MS;
    this.count += 1;
    return false;
  }

  #isEnough(evidence: Evidence): boolean {
    return evidence.checkCount >= this.#minCount && this.isMost(evidence);
  }

  /** A check turned that was known before. */
  turned(monoMs: number): void {
    this.#turnedMonoMs.push(monoMs);
  }
}
