/** Whose policy a node takes: that of its own cluster and of those its settings accept, with what these took (semantics.md, Policy). */
import type { CaughtUp } from "./readiness.ts";
import type { Hello, MemberFacts } from "./wire/messages.ts";

/** A hello with this capability says in `policyFrom` whose policy its node takes; nodes without it take any. */
export const POLICY_FROM = "policy_from";

/** A hello with this capability: its node says which policy versions it does not take, and is given no records before it has or refuses ours. */
export const POLICY_FIRST = "policy_first";

/** Capability in the hello of a node that had caught up, or was the first, when it greeted. */
export const READY = "ready";

/** What a peer is to this node when it offers a policy. */
export type PolicySource =
  | "accepted"
  /** Of a cluster that is not accepted: its policy is its own affair. */
  | "foreign"
  /** This node's fabric is open: nobody's is taken, and beside a peer that has one this node would show what that hides. */
  | "open";

interface Place {
  readonly clusterId: string;
  readonly region: string;
}

/** Members whose news a newcomer waits for. */
export interface Others {
  readonly clusterId: string;
  readonly ownCount: number;
  readonly acceptedCount: number;
}

export class PolicySources {
  readonly #clusterId: string;
  readonly #accepted: ReadonlySet<string>;
  readonly #isOpen: boolean;

  constructor(own: { readonly clusterId: string; readonly acceptFrom: readonly string[]; readonly isOpen: boolean }) {
    this.#clusterId = own.clusterId;
    this.#accepted = new Set([own.clusterId, ...own.acceptFrom]);
    this.#isOpen = own.isOpen;
  }

  of(clusterId: string): PolicySource {
    if (this.#isOpen) return "open";
    return this.#accepted.has(clusterId) ? "accepted" : "foreign";
  }

  /** What this node says of it in its hello; nothing that a node of the first version would not understand. */
  get told(): readonly string[] {
    return [...this.#accepted].filter((clusterId) => clusterId !== this.#clusterId);
  }

  /** Members of the region beside this node: of its own cluster, and, while it has no policy, of others whose policy it takes. */
  others(members: readonly Pick<MemberFacts, "clusterId" | "region">[], here: Place, hasPolicy: boolean): Others {
    const clusters = members.flatMap(({ clusterId, region }) => (region === here.region ? [clusterId] : []));
    const count = (isCounted: (clusterId: string) => boolean) => clusters.filter(isCounted).length;
    return {
      clusterId: here.clusterId,
      ownCount: count((id) => id === here.clusterId),
      acceptedCount: hasPolicy ? 0 : count((id) => this.of(id) === "accepted"),
    };
  }

  /**
   * Of the peers of whose news all is here, those that count: of this cluster only, as long as it has other members, because only they have all that this
   * node must have. Without them, of clusters whose policy is taken, as long as those have members: what they hide this node must not show.
   */
  caughtUp(peers: readonly Hello[], { clusterId, ownCount, acceptedCount }: Others, maxLinks: number): CaughtUp {
    const counts = (hello: Hello) =>
      ownCount > 0 ? hello.clusterId === clusterId : acceptedCount === 0 || this.of(hello.clusterId) !== "foreign";
    const hellos = peers.filter(counts);
    const readyCount = hellos.filter(({ capabilities }) => capabilities.includes(READY)).length;
    // Above that many, links are to some only.
    const wantedCount = Math.min(Math.max(1, ownCount), Math.ceil(maxLinks / 2));
    return { count: hellos.length, readyCount, wantedCount };
  }

  /** Whether a policy applied here comes into force in that cluster, as far as linked nodes tell: directly, or by way of clusters it accepts. */
  reaches(target: string, hellos: readonly Hello[]): boolean {
    const reached = new Set([this.#clusterId]);
    for (let before = 0; before < reached.size; ) {
      before = reached.size;
      for (const { clusterId, capabilities, policyFrom = [] } of hellos)
        if (!capabilities.includes(POLICY_FROM) || policyFrom.some((each) => reached.has(each))) reached.add(clusterId);
    }
    return reached.has(target);
  }
}
