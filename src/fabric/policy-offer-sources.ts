/** Whose policy a node takes: that of its own cluster and of the clusters that its settings accept, with the policies that these took (semantics.md, Policy). */
import type { CaughtUp } from "./readiness.ts";
import type { Hello } from "./wire/messages.ts";

/** What a peer is to this node when it offers a policy. */
export type PolicyOfferSource =
  | "accepted"
  /** It belongs to a cluster that is not accepted, and its policy is ignored. */
  | "foreign"
  /** This node's fabric is open. No policy is taken, so beside a peer with a policy this node would show what that policy hides. */
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

  /** The accepted other clusters, for the hello of this node. */
  get told(): readonly string[] {
    return [...this.#accepted].filter((clusterId) => clusterId !== this.#clusterId);
  }

  /**
   * The peers that count, of those that this node has caught up with. While its own cluster has other members, only these count, because only they have
   * everything that this node must have. Otherwise peers of clusters whose policy is taken count, as long as there are any and this node has no policy,
   * because this node must not show what they hide. Members of other regions do not count.
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
    // Above this number a node has links to some members only.
    const wantedCount = Math.min(Math.max(1, ownCount), Math.ceil(maxLinks / 2));
    return { count: hellos.length, readyCount, wantedCount };
  }

  /** Whether a policy that is applied here comes into force in a cluster, directly or by way of clusters that it accepts, as far as linked nodes tell. */
  reaches(target: string, hellos: readonly Hello[]): boolean {
    const reached = new Set([this.#clusterId]);
    for (let before = 0; before < reached.size; ) {
      before = reached.size;
      for (const { clusterId, policyFrom } of hellos) if (policyFrom.some((each) => reached.has(each))) reached.add(clusterId);
    }
    return reached.has(target);
  }
}
