/**
 * Which nodes are foreign here: those of other clusters that this node's settings do not let in, and those of other regions. They are no
 * members, and nothing of them is taken, whoever passes it on (semantics.md, Membership). Settings are per node: give a cluster's nodes the same.
 */

import { eventOutput, type FabricOutput } from "../io-types.ts";
import type { Goodbye } from "../wire/messages.ts";

/** `strict`: clusters that are listed, by certificate. `explicit`: clusters that are listed. `permissive`: every cluster of the region. */
export type TrustMode = "strict" | "explicit" | "permissive";

export interface PeerAuthSettings {
  readonly mode: TrustMode;
  /** Other clusters that are let in. */
  readonly clusters: readonly string[];
  /** Every connection proves a node and its cluster. */
  readonly hasCertificates: boolean;
}

/** Of a node without settings. */
export const EVERY_CLUSTER: PeerAuthSettings = { mode: "permissive", clusters: [], hasCertificates: false };

export interface Place {
  readonly clusterId: string;
  readonly region: string;
}

export interface ForeignRefusal {
  readonly reason: Extract<Goodbye, "wrong_cluster" | "other_region">;
  readonly detail: string;
}

/** Foreign nodes remembered, by what was said of them; and places told of. */
const MAX_KNOWN = 10_000;
const MAX_TOLD = 256;

export class Foreigners {
  readonly #here: Place;
  readonly #settings: PeerAuthSettings;
  readonly #listed: ReadonlySet<string>;
  readonly #isMember: (nodeId: string) => boolean;
  readonly #known = new Set<string>();
  readonly #told = new Set<string>();
  readonly #admitted = new Set<string>();
  /** Links that only `permissive` let in. */
  admittedCount = 0;

  constructor(here: Place, settings: PeerAuthSettings, isMember: (nodeId: string) => boolean) {
    this.#here = here;
    this.#settings = settings;
    this.#listed = new Set(settings.clusters);
    this.#isMember = isMember;
  }

  /** Nodes known to be foreign. */
  get size(): number {
    return this.#known.size;
  }

  /** Why nodes of that place are not let in, with what would let them; undefined when they are. */
  refusalOf(place: Place): ForeignRefusal | undefined {
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

  /** Whether nodes of that cluster are let in, in this region. */
  isLetIn(clusterId: string): boolean {
    const { mode, hasCertificates } = this.#settings;
    if (clusterId === this.#here.clusterId || mode === "permissive") return true;
    return this.#listed.has(clusterId) && (mode === "explicit" || hasCertificates);
  }

  /**
   * A node of a foreign place was heard of. Returns whether nobody of that place was before, so it is worth telling. Members are not marked: who says
   * so of one lies.
   */
  note(nodeId: string, { clusterId, region }: Place): boolean {
    if (!this.#isMember(nodeId)) remember(this.#known, nodeId, MAX_KNOWN);
    return remember(this.#told, `${clusterId}\0${region}`, MAX_TOLD);
  }

  /** Whether all that is known of the node is that it is foreign. */
  has(nodeId: string): boolean {
    return this.#known.has(nodeId) && !this.#isMember(nodeId);
  }

  /** It is a member now. Returns whether it was thought foreign. */
  forget(nodeId: string): boolean {
    return this.#known.delete(nodeId);
  }

  /** A link to a node is up: counted where only `permissive` let it in, and told once a cluster. */
  admitted({ nodeId, clusterId }: { readonly nodeId: string; readonly clusterId: string }, out: FabricOutput[]): void {
    if (clusterId === this.#here.clusterId || this.#listed.has(clusterId)) return;
    this.admittedCount += 1;
    const remedy = `fabric.clusters = ${JSON.stringify([...this.#settings.clusters, clusterId])}`;
    if (remember(this.#admitted, clusterId, MAX_TOLD))
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

/** Adds, oldest out. Returns whether it is new. */
function remember(set: Set<string>, text: string, max: number): boolean {
  if (set.has(text)) return false;
  set.add(text);
  const [oldest] = set;
  if (set.size > max && oldest !== undefined) set.delete(oldest);
  return true;
}
