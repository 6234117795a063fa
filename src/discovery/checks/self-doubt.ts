/**
 * Finds out when the checks of a node say more about the node than about what it checks. When most of its checks turn at once, then more likely
 * its own network or its own time is at fault. It then lets no check turn for a while. What is true afterwards is believed.
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

/** The checks that say something about this node: all but aliases, of which something was known before. */
export interface Evidence {
  readonly checkCount: number;
  /** The last outcome of so many of them contradicts what they had turned to. */
  readonly swayingCount: number;
}

export class SelfDoubt {
  /** When checks turned that were known before, in the order of time. */
  #turnedMonoMs: number[] = [];
  #untilMonoMs = NEVER;
  /** Once a doubt has begun, no other begins before most checks agree with what they had turned to. Else a real outage would stay hidden. */
  #isArmed = true;
  #isDoubting = false;
  /** How many doubts have begun. */
  count = 0;

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
    if (!this.#isDoubting && !this.#isMost(evidence)) this.#isArmed = true;
  }

  /** Whether checks may turn that are due. To be asked after `look`, when there are any. It may begin a doubt. */
  mayTurn(evidence: Evidence, monoMs: number): boolean {
    if (this.#isDoubting) return false;
    if (!this.#isArmed || !this.#isMost(evidence)) return true;
    this.#isArmed = false;
    this.#isDoubting = true;
    this.#untilMonoMs = monoMs + DOUBT_MS;
    this.count += 1;
    return false;
  }

  #isMost({ checkCount, swayingCount }: Evidence): boolean {
    return checkCount >= MIN_CHECKS && swayingCount + this.#turnedMonoMs.length > checkCount * SHARE;
  }

  /** A check turned that was known before. */
  turned(monoMs: number): void {
    this.#turnedMonoMs.push(monoMs);
  }
}
