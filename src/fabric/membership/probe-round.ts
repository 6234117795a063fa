/** Whose turn it is to be probed, and what a round of direct and indirect probes has found so far. */
import { idKey, type Member } from "./members.ts";

/**
 * All stand on a ring, in the order of their ids' keys. In each period every node probes the one that stands a step further from it than in the period
 * before. Where clocks agree and all know the same members, each is so probed by one node in each period. Where they do not, it is as if by chance
 * (SWIM §3.1). In both cases a node probes everybody once in each pass (SWIM §4.3).
 */
export class ProbeOrder {
  readonly #key: number;
  #members: readonly Member[] | undefined;
  #ring: readonly Member[] = [];
  /** Of the ring, those that stand before this node. */
  #place = 0;

  constructor(selfId: string) {
    this.#key = idKey(selfId);
  }

  /**
   * The one of the members, this node not among them, whose turn is in the period of this number. Undefined when there is nobody. O(1) while the array
   * is the same one.
   */
  at(period: number, members: readonly Member[]): Member | undefined {
    if (members !== this.#members) {
      this.#members = members;
      this.#ring = members.toSorted((a, b) => a.key - b.key || (a.update.nodeId < b.update.nodeId ? -1 : 1));
      this.#place = this.#ring.filter(({ key }) => key < this.#key).length;
    }
    return this.#ring[(this.#place + period) % this.#ring.length];
  }
}

/** One member being probed. */
export interface ProbeRound {
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

export function newRound(target: Member, endsMonoMs: number): ProbeRound {
  return { target, endsMonoMs, helpers: undefined, failCount: 0, nackCount: 0, isOver: false };
}

/** How much a failed round says against ourselves (Lifeguard §IV-A): helpers that did not even say no. */
export function missedNacks(round: ProbeRound): number {
  const helperCount = round.helpers?.length ?? 0;
  return helperCount === 0 ? 1 : helperCount - round.nackCount;
}
