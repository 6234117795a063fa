/**
 * The clusters whose policy this node accepts: its own cluster and the clusters listed in its settings, including policies that these clusters
 * accepted from others (semantics.md, Policy).
 */
import type { CaughtUp } from "./readiness.ts";
import type { Hello } from "./wire/messages.ts";

/** How this node treats a policy that a peer offers. */
export type PolicyOfferSource =
  | "accepted"
  /** The peer belongs to a cluster that is not accepted. Its policy is ignored. */
  | "foreign"
  /**
   * This node's fabric is open, so it does not accept any policy. If it were linked to a peer with a policy, this node would show entries that the
   * policy hides.
   */
  | "open";

interface PeerLocation {
  readonly clusterId: string;
  readonly region: string;
}

export class PolicyOfferSources {
  readonly #clusterId: string;
  readonly #accepted: ReadonlySet<string>;
  readonly #isOpen: boolean;

  constructor(own: { readonly clusterId: string; readonly acceptFrom: readonly string[]; readonly isOpen: boolean }) {
    this.#clusterId = own.clusterId;
    this.#accepted = new Set([own.clusterId, ...own.acceptFrom]);
    this.#isOpen = own.isOpen;
  }

  of(clusterId: string): PolicyOfferSource {
    if (this.#isOpen) return "open";
    return this.#accepted.has(clusterId) ? "accepted" : "foreign";
  }

  /** The other clusters whose policy this node accepts, which are sent in its hello. */
  get acceptedOthers(): readonly string[] {
    return [...this.#accepted].filter((clusterId) => clusterId !== this.#clusterId);
  }

  /**
   * Counts the peers that this node has caught up with and that count towards its readiness. While its own cluster has other members, only these are
   * counted, because only they have everything that this node must have. Otherwise, all peers are counted. There is one exception: while this node
   * has no policy but there are clusters whose policy it accepts, peers of foreign clusters are not counted, because this node must not show entries
   * that a policy hides. Members of other regions are never counted.
   */
  caughtUp(
    peers: readonly Hello[],
    { listed, region: here }: { readonly listed: readonly PeerLocation[]; readonly region: string },
    { hasPolicy, maxLinks }: { readonly hasPolicy: boolean; readonly maxLinks: number },
  ): CaughtUp {
    const clusters = listed.flatMap(({ clusterId, region }) => (region === here ? [clusterId] : []));
    const ownCount = clusters.filter((id) => id === this.#clusterId).length;
    const isAnyTaken = hasPolicy || !clusters.some((id) => this.of(id) === "accepted");
    const counts = ({ clusterId }: Hello) =>
      ownCount > 0 ? clusterId === this.#clusterId : isAnyTaken || this.of(clusterId) !== "foreign";
    const hellos = peers.filter(counts);
    const readyCount = hellos.filter(({ isReady }) => isReady).length;
    // If there are more members than this, a node has links to only some of them.
    const wantedCount = Math.min(Math.max(1, ownCount), Math.ceil(maxLinks / 2));
    return { count: hellos.length, readyCount, wantedCount };
  }

  /**
   * Returns whether a policy that is applied on this node comes into force in a cluster, directly or through clusters whose policy it accepts,
   * according to the hellos of linked nodes.
   */
  reaches(target: string, hellos: readonly Hello[]): boolean {
    const reached = new Set([this.#clusterId]);
    for (let before = 0; before < reached.size; ) {
      before = reached.size;
      for (const { clusterId, policyFrom } of hellos) if (policyFrom.some((each) => reached.has(each))) reached.add(clusterId);
    }
    return reached.has(target);
  }
}
