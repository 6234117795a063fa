/** Whose turn it is to be probed (SWIM §4.3), and what a round of direct and indirect probes has found so far. */
import type { Rng } from "../lib/rng.ts";
import { isListed, type Member } from "./members.ts";

/** Everybody once in each pass, in an order shuffled anew: bounds the time until a death is noticed. */
export class ProbeTurns {
  readonly #rng: Rng;
  readonly #turns: Member[] = [];
  #next = 0;

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  /** At a random place, so that newcomers are not all probed by everybody at the same time. */
  add(member: Member): void {
    if (member.isInTurn) return;
    member.isInTurn = true;
    const place = this.#rng.int(this.#turns.length + 1);
    const moved = this.#turns[place];
    this.#turns[place] = member;
    if (moved !== undefined) this.#turns.push(moved);
  }

  /** Undefined when there is nobody. */
  next(): Member | undefined {
    while (this.#turns.length > 0) {
      if (this.#next >= this.#turns.length) this.#shuffle();
      const member = this.#turns[this.#next];
      if (member !== undefined && isListed(member.update.status) && member.place >= 0) {
        this.#next += 1;
        return member;
      }
      if (member !== undefined) member.isInTurn = false;
      const last = this.#turns.pop();
      if (last !== undefined && this.#next < this.#turns.length) this.#turns[this.#next] = last;
    }
    return undefined;
  }

  /** Fisher and Yates. */
  #shuffle(): void {
    this.#next = 0;
    for (let i = this.#turns.length - 1; i > 0; i--) {
      const j = this.#rng.int(i + 1);
      const a = this.#turns[i];
      const b = this.#turns[j];
      if (a === undefined || b === undefined) continue;
      this.#turns[i] = b;
      this.#turns[j] = a;
    }
  }
}

/** One member being probed. */
export interface Round {
  readonly target: Member;
  readonly endsMonoMs: number;
  /** Whom we asked to probe for us; undefined before the direct probe failed. */
  helpers: readonly string[] | undefined;
  /** Own attempts that failed, of two: the second goes out with those of the helpers. */
  failCount: number;
  /** Helpers that answered that the target does not. */
  nackCount: number;
  isOver: boolean;
}

export function newRound(target: Member, endsMonoMs: number): Round {
  return { target, endsMonoMs, helpers: undefined, failCount: 0, nackCount: 0, isOver: false };
}

/** How much a failed round says against ourselves (Lifeguard §IV-A): helpers that did not even say no. */
export function missedNacks(round: Round): number {
  const helperCount = round.helpers?.length ?? 0;
  return helperCount === 0 ? 1 : helperCount - round.nackCount;
}
