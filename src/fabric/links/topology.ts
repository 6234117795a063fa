/** Chooses the members that a node links to: all members while there are few of them, and otherwise its neighbours on hashed rings. */
import { fnv64, hashFraction } from "../../lib/hash64.ts";

/** The facts about a member that affect the choice. */
export interface LinkCandidate {
  readonly nodeId: string;
  readonly clusterId: string;
}

/**
 * Chooses neighbours so that two nodes choose each other when they know the same members. With more than `maxLinks` members, each of `maxLinks / 2`
 * rings orders the members by a different hash and links each member with the next one. Each ring connects all members on its own. Random rings form
 * an expander (diameter O(log n); Law and Siu, "Distributed construction of random expander networks", INFOCOM 2003). No node has more than
 * `maxLinks` links, and a member that joins or leaves changes one link per ring. Half of the rings contain only this node's own cluster, because
 * records that stay inside a cluster are sent only on its own links.
 */
export class Topology {
  readonly #maxLinks: number;
  /** One map per ring: the position of each member. It remembers at most twice as many members as there are. */
  readonly #rings: readonly Map<string, number>[];

  constructor(maxLinks: number) {
    this.#maxLinks = maxLinks;
    this.#rings = Array.from({ length: Math.max(2, maxLinks >>> 1) }, () => new Map<string, number>());
  }

  /** Returns the ids of the neighbours among `others`. */
  choose(self: LinkCandidate, others: readonly LinkCandidate[]): ReadonlySet<string> {
    if (others.length <= this.#maxLinks) return new Set(others.map(({ nodeId }) => nodeId));
    const chosen = new Set<string>();
    const cluster = others.filter(({ clusterId }) => clusterId === self.clusterId);
    const isOneCluster = cluster.length === others.length;
    this.#rings.forEach((ring, i) => {
      if (ring.size > 2 * others.length + 2) ring.clear();
      for (const nodeId of neighboursOf(self, isOneCluster || i % 2 === 0 ? cluster : others, { ring, i })) chosen.add(nodeId);
    });
    return chosen;
  }
}

interface CandidateRing {
  readonly ring: Map<string, number>;
  readonly i: number;
}

/** Returns the members before and after this node on a ring. */
function neighboursOf(self: LinkCandidate, others: readonly LinkCandidate[], ring: CandidateRing): readonly string[] {
  const at = positionOf(self.nodeId, ring);
  let [next, nextAway, before, beforeAway] = ["", 2, "", 2];
  for (const { nodeId } of others) {
    const away = positionOf(nodeId, ring) - at;
    const ahead = away < 0 ? away + 1 : away;
    if (ahead < nextAway) [next, nextAway] = [nodeId, ahead];
    if (1 - ahead < beforeAway) [before, beforeAway] = [nodeId, 1 - ahead];
  }
  return next === "" ? [] : [next, before];
}

function positionOf(nodeId: string, { ring, i }: CandidateRing): number {
  let position = ring.get(nodeId);
  if (position === undefined) {
    position = hashFraction(fnv64(`${i}/${nodeId}`));
    ring.set(nodeId, position);
  }
  return position;
}
