/** The order in which members are probed, and the state of one round of direct and indirect probes. */
import { idKey, type Member } from "./members.ts";

/**
 * All members are placed on a ring, ordered by the hash of their ids. In each period, every node probes the member that is one position further than
 * in the previous period. Therefore, when the clocks agree and all nodes know the same members, each member is probed by exactly one node in each
 * period. Otherwise the choice is as good as random (SWIM §3.1). In both cases, a node probes every member once in each pass (SWIM §4.3).
 */
export class ProbeOrder {
  readonly #key: number;
  #members: readonly Member[] | undefined;
  #ring: readonly Member[] = [];
  /** Number of members on the ring before this node. */
  #place = 0;

  constructor(selfId: string) {
    this.#key = idKey(selfId);
  }

  /**
   * Returns the member to probe in the period with the given number. `members` does not include this node. Undefined when `members` is empty. O(1) as
   * long as the same array is passed.
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

/** One round of probes of a member. */
export interface ProbeRound {
  readonly target: Member;
  readonly endsMonoMs: number;
  /** The helpers that were asked to probe the target. Undefined until the direct probe has failed. */
  helpers: readonly string[] | undefined;
  /** Number of failed direct probes, of two. The second one is sent together with the indirect probes. */
  failCount: number;
  /** Number of helpers that sent a nack because the target did not answer them. */
  nackCount: number;
  isOver: boolean;
}

export function newRound(target: Member, endsMonoMs: number): ProbeRound {
  return { target, endsMonoMs, helpers: undefined, failCount: 0, nackCount: 0, isOver: false };
}

/**
 * Returns how much a failed round worsens this node's own health score (Lifeguard §IV-A), which is the number of helpers that did not even send a
 * nack.
 */
export function missedNacks(round: ProbeRound): number {
  const helperCount = round.helpers?.length ?? 0;
  return helperCount === 0 ? 1 : helperCount - round.nackCount;
}
