/**
 * Decides which nodes are foreign here: nodes of other regions, and nodes of other clusters that this node's settings do not let in. Foreign
 * nodes never become members. This node takes no record of theirs, also when another node passes it on (semantics.md, Membership). Each node
 * decides by its own settings, so all nodes of a cluster should have the same.
 */

import { BoundedMap } from "../../lib/bounded-map.ts";
import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { Goodbye } from "../wire/messages.ts";

/** Who is let in. `strict`: clusters that are listed and prove it by certificate. `explicit`: clusters that are listed. `permissive`: every cluster of the region. */
export type TrustMode = "strict" | "explicit" | "permissive";

export interface PeerAuthSettings {
  readonly mode: TrustMode;
  /** The list of other clusters. */
  readonly clusters: readonly string[];
  /** Whether every connection has a certificate that names a node and its cluster. */
  readonly hasCertificates: boolean;
}

/** The settings of a node that has none. */
export const EVERY_CLUSTER: PeerAuthSettings = { mode: "permissive", clusters: [], hasCertificates: false };

export interface ClusterLocation {
  readonly clusterId: string;
  readonly region: string;
}

export interface ForeignRefusal {
  readonly reason: Extract<Goodbye, "wrong_cluster" | "other_region">;
  readonly detail: string;
}

/** The most foreign nodes that are remembered. */
const MAX_KNOWN = 10_000;
/** The most places and clusters of which is remembered that the operator was told. */
const MAX_TOLD = 256;

export class ForeignPeers {
  readonly #here: ClusterLocation;
  readonly #settings: PeerAuthSettings;
  readonly #listed: ReadonlySet<string>;
  readonly #isMember: (nodeId: string) => boolean;
  readonly #known = new BoundedMap<string, true>(MAX_KNOWN);
  readonly #told = new BoundedMap<string, true>(MAX_TOLD);
  readonly #admitted = new BoundedMap<string, true>(MAX_TOLD);
  /** Number of links that came up only because the mode is `permissive`. */
  admittedCount = 0;

  constructor(here: ClusterLocation, settings: PeerAuthSettings, isMember: (nodeId: string) => boolean) {
    this.#here = here;
    this.#settings = settings;
    this.#listed = new Set(settings.clusters);
    this.#isMember = isMember;
  }

  /** Number of nodes that are known to be foreign. */
  get size(): number {
    return this.#known.size;
  }

  /** Why nodes of a place are not let in, and which setting would let them in. Undefined when they are let in. */
  refusalOf(place: ClusterLocation): ForeignRefusal | undefined {
    const { clusterId, region } = this.#here;
    if (place.region !== region)
      return place.clusterId === clusterId
        ? { reason: "wrong_cluster", detail: `cluster ${clusterId} is in region ${region}, not in ${place.region}` }
        : {
            reason: "other_region",
            detail: `records do not travel between regions, and this node is in ${region}, not in ${place.region}`,
          };
    if (this.isLetIn(place.clusterId)) return undefined;
    return { reason: "wrong_cluster", detail: this.#remedy(place.clusterId) };
  }

  /** Whether nodes of a cluster are let in when they are in this region. */
  isLetIn(clusterId: string): boolean {
    const { mode, hasCertificates } = this.#settings;
    if (clusterId === this.#here.clusterId || mode === "permissive") return true;
    return this.#listed.has(clusterId) && (mode === "explicit" || hasCertificates);
  }

  /**
   * Notes a node of a foreign place. Returns whether the place is new, so that it is worth telling. Members are not noted: a node that calls a
   * member foreign is wrong.
   */
  note(nodeId: string, { clusterId, region }: ClusterLocation): boolean {
    if (!this.#isMember(nodeId)) this.#known.set(nodeId, true);
    return isNew(this.#told, `${clusterId}\0${region}`);
  }

  /** Whether the node is known to be foreign and is no member. */
  has(nodeId: string): boolean {
    return this.#known.has(nodeId) && !this.#isMember(nodeId);
  }

  /** The node became a member. Returns whether it was known as foreign. */
  forget(nodeId: string): boolean {
    return this.#known.delete(nodeId);
  }

  /** A link to a node came up. Counts it if only the mode `permissive` let it in, and tells the operator once a cluster. */
  admitted({ nodeId, clusterId }: { readonly nodeId: string; readonly clusterId: string }, out: FabricOutput[]): void {
    if (clusterId === this.#here.clusterId || this.#listed.has(clusterId)) return;
    this.admittedCount += 1;
    const remedy = `fabric.clusters = ${JSON.stringify([...this.#settings.clusters, clusterId])}`;
    if (isNew(this.#admitted, clusterId))
      out.push(
        eventOutput("foreign_cluster_admitted", "warn", { nodeId, clusterId, detail: `fabric.trust is permissive; to list it: ${remedy}` }),
      );
  }

  #remedy(clusterId: string): string {
    const { mode, clusters, hasCertificates } = this.#settings;
    const list = [...clusters, ...(this.#listed.has(clusterId) ? [] : [clusterId])];
    const lines = [`fabric.clusters = ${JSON.stringify(list)}`];
    if (mode === "strict" && !hasCertificates) lines.unshift('fabric.trust = "explicit"');
    const why = mode === "strict" && !hasCertificates ? "strict, and without certificates nobody of another cluster is known" : mode;
    return `cluster ${clusterId} is foreign to cluster ${this.#here.clusterId} (fabric.trust is ${why}); to let it in, add to the settings: ${lines.join(" and ")}`;
  }
}

/** Whether a text is new. From now on it is not. */
function isNew(known: Map<string, true>, text: string): boolean {
  return known.size < known.set(text, true).size;
}
