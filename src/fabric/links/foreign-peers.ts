/**
 * Decides which nodes are foreign: nodes of other regions, and nodes of other clusters that this node's settings do not allow. Foreign
 * nodes never become members. This node rejects all of their records, even if another node relays them (semantics.md, Membership). Each node decides
 * according to its own settings, so all nodes of a cluster should have the same settings.
 */

import { BoundedMap } from "../../lib/bounded-map.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { Goodbye } from "../wire/messages.ts";

/**
 * Determines which clusters are allowed. `strict`: listed clusters whose nodes prove their cluster by certificate. `explicit`: listed clusters.
 * `permissive`: every cluster of the region.
 */
export type TrustMode = "strict" | "explicit" | "permissive";

export interface PeerAuthSettings {
  readonly mode: TrustMode;
  /** The other clusters that are listed in the settings. */
  readonly clusters: readonly string[];
  /** Whether every connection has a certificate that names a node and its cluster. */
  readonly hasCertificates: boolean;
}

/** The settings of a node on which nothing is configured. */
export const EVERY_CLUSTER: PeerAuthSettings = { mode: "permissive", clusters: [], hasCertificates: false };

export interface ClusterLocation {
  readonly clusterId: string;
  readonly region: string;
}

export interface ForeignRefusal {
  readonly reason: Extract<Goodbye, "wrong_cluster" | "other_region">;
  readonly detail: string;
}

/** Maximum number of remembered foreign nodes. */
const MAX_KNOWN = 10_000;
/** Maximum number of clusters and regions that the node remembers as logged. */
const MAX_LOGGED = 256;

export class ForeignPeers {
  readonly #here: ClusterLocation;
  readonly #settings: PeerAuthSettings;
  readonly #listed: ReadonlySet<string>;
  readonly #isMember: (nodeId: string) => boolean;
  readonly #known = new BoundedMap<string, true>(MAX_KNOWN);
  readonly #logged = new BoundedMap<string, true>(MAX_LOGGED);
  readonly #admitted = new BoundedMap<string, true>(MAX_LOGGED);
  /** Number of links that came up only because the mode is `permissive`. */
  admittedCount = 0;

  constructor(here: ClusterLocation, settings: PeerAuthSettings, isMember: (nodeId: string) => boolean) {
    this.#here = here;
    this.#settings = settings;
    this.#listed = new Set(settings.clusters);
    this.#isMember = isMember;
  }

  /** Number of known foreign nodes. */
  get size(): number {
    return this.#known.size;
  }

  /**
   * Returns why nodes of a cluster and region are refused, and which setting would allow them, or undefined when they are allowed.
   */
  refusalOf(place: ClusterLocation): ForeignRefusal | undefined {
    const { clusterId, region } = this.#here;
    if (place.region !== region)
      return place.clusterId === clusterId
        ? { reason: "wrong_cluster", detail: `cluster ${clusterId} is in region "${region}", not in region "${place.region}"` }
        : {
            reason: "other_region",
            detail: `records are not replicated between regions: this node is in region "${region}", not in region "${place.region}"`,
          };
    if (this.isLetIn(place.clusterId)) return undefined;
    return { reason: "wrong_cluster", detail: this.#remedy(place.clusterId) };
  }

  /** Returns whether nodes of a cluster are allowed if they are in this region. */
  isLetIn(clusterId: string): boolean {
    const { mode, hasCertificates } = this.#settings;
    if (clusterId === this.#here.clusterId || mode === "permissive") return true;
    return this.#listed.has(clusterId) && (mode === "explicit" || hasCertificates);
  }

  /**
   * Records a foreign node. Records a foreign node. Returns whether its cluster and region are new and should be logged. Members are not recorded: a
   * node that reports a member as foreign is wrong.
   */
  note(nodeId: string, { clusterId, region }: ClusterLocation): boolean {
    if (!this.#isMember(nodeId)) this.#known.set(nodeId, true);
    return isNew(this.#logged, `${clusterId}\0${region}`);
  }

  /** Returns whether the node is known to be foreign and is not currently a member. */
  has(nodeId: string): boolean {
    return this.#known.has(nodeId) && !this.#isMember(nodeId);
  }

  /** Removes a node that has become a member. Returns whether it was recorded as foreign. */
  forget(nodeId: string): boolean {
    return this.#known.delete(nodeId);
  }

  /** Counts a link that came up if its cluster was allowed only because of the mode `permissive`, and logs one event per cluster. */
  admitted({ nodeId, clusterId }: { readonly nodeId: string; readonly clusterId: string }, out: FabricOutput[]): void {
    if (clusterId === this.#here.clusterId || this.#listed.has(clusterId)) return;
    this.admittedCount += 1;
    const remedy = `fabric.clusters = ${JSON.stringify([...this.#settings.clusters, clusterId])}`;
    if (isNew(this.#admitted, clusterId))
      out.push(
        eventOutput("foreign_cluster_admitted", "warn", {
          nodeId,
          clusterId,
          detail: `fabric.trust is permissive; to list the cluster, set ${remedy}`,
        }),
      );
  }

  #remedy(clusterId: string): string {
    const { mode, clusters, hasCertificates } = this.#settings;
    const list = [...clusters, ...(this.#listed.has(clusterId) ? [] : [clusterId])];
    const lines = [`fabric.clusters = ${JSON.stringify(list)}`];
    if (mode === "strict" && !hasCertificates) lines.unshift('fabric.trust = "explicit"');
    const why = mode === "strict" && !hasCertificates ? "strict, which requires certificates to admit other clusters" : mode;
    return `cluster ${clusterId} is not trusted by cluster ${this.#here.clusterId} (fabric.trust is ${why}); to admit it, set ${lines.join(" and ")}`;
  }
}

/** Adds a text, and returns whether it is new. */
function isNew(known: Map<string, true>, text: string): boolean {
  return known.size < known.set(text, true).size;
}
