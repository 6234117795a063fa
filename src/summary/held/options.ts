/** What the summaries of a node are made with, and what they answer (docs/design/summaries.md). */

import type { Scope } from "../../catalog/entry/scope.ts";
import type { KeyText } from "../../catalog/record/record.ts";
import type { KeyRegistry } from "../../signing/key-registry.ts";
import type { ClusterSigner } from "../../signing/signer.ts";
import type { Sealed, SummaryKey, SummaryRefusal } from "../summary.ts";

export interface HeldOptions {
  readonly nodeId: string;
  /** The cluster and the region of this node. */
  readonly clusterId: string;
  readonly region: string;
  /** Of this start; each start has another one, because the records are in no journal. */
  readonly generation: number;
  /** For how long a beacon of this cluster confirms its summaries. */
  readonly ttlMs: number;
  /** For how long the summaries of a lost source are shown as stale. */
  readonly staleKeepMs: number;
  readonly maxClockSkewMs: number;
  /** Between two rounds that drop what is over. */
  readonly pruneIntervalMs: number;
  /** False: what is not signed is taken and counted, of clusters without a key in the settings. */
  readonly requireSignatures: boolean;
  /** Those clusters, with their regions: what settings name as borders. Absent at a resolver, which believes its upstream of clusters without a key. */
  readonly neighbours?: readonly { readonly clusterId: string; readonly region: string }[];
  /** Keys of one source, keys of all, and sources. 20,000, 200,000 and 256 by default. */
  readonly maxOfSource?: number;
  readonly maxInAll?: number;
  readonly maxSources?: number;
}

/** The keys of clusters, as the settings have them and as they were announced. */
export type ClusterKeys = Pick<KeyRegistry, "allRegions" | "announce" | "announcements" | "counts" | "hasKeys" | "refusal" | "regionOf">;

export interface HeldParts {
  readonly keys: ClusterKeys;
  /** Absent at a node without the key of its cluster. */
  readonly signer: ClusterSigner | undefined;
  /** Whether this node is the one that says anew what its cluster says of a key. Absent: whoever has the key of the cluster is. */
  readonly isExporterOf?: (key: KeyText) => boolean;
  /** Whether this node's policy lets the source own the namespace. */
  isOwner(
    summary: { readonly namespace: string; readonly scope: Scope },
    source: { readonly clusterId: string; readonly region: string },
  ): boolean;
  /** Whether the import rules let a summary of the source be shown. */
  imports(source: string, namespace: string): boolean;
}

/** Where a seal comes from: a border link, and the cluster and region that the settings name there. */
export interface Via {
  readonly cluster: string;
  readonly region: string;
}

export type Taken =
  /** It is held. `hidden` tells why it is not shown. */
  | { readonly kind: "taken"; readonly hidden?: "not_owner" }
  /** The same is held already. */
  | { readonly kind: "known" }
  /** `olderThan`: the key of which a higher version is held. */
  | { readonly kind: "refused"; readonly why: SummaryRefusal; readonly olderThan?: KeyText };

/** What is held of a key: its highest version, whether readers are shown it or not. */
export interface HeldSeal {
  readonly key: KeyText;
  readonly source: string;
  readonly namespace: string;
  /** Of a beacon GLOBAL. */
  readonly channel: Scope;
  readonly version: number;
  readonly isBeacon: boolean;
  readonly isWithdrawn: boolean;
  /** Borders that it passed. */
  readonly hops: number;
  seal(): Sealed;
}

/** The newest beacon of a source that is not dropped. */
export interface HeldBeacon extends HeldSeal {
  /** Since this region took it, or since it was made here. */
  readonly ageMs: number;
  /** The lowest number of hops at any node of this region: 1 if one of its nodes receives the source directly. */
  readonly hops: number;
}

/** The exporter of this key must say it again, above `version`. An absent key is that of the beacon. */
export interface Exceed {
  readonly key: SummaryKey | undefined;
  readonly version: number;
}

/** How long ago this region heard of a source. */
export interface SourceAge {
  readonly source: string;
  /** Of the beacon; 0 if none was received. */
  readonly version: number;
  readonly ageMs: number;
}

export interface SourceStatus {
  readonly source: string;
  readonly state: "fresh" | "stale" | "dropped";
  /** Number of its summaries that are held, withdrawn ones included. */
  readonly summaries: number;
  /** New ones are refused, because there is no room for them. */
  readonly isFull: boolean;
  /** Since its last beacon was received. Undefined if none was. */
  readonly ageMs: number | undefined;
  /** How often something that claims to be of it was refused here, by reason. */
  readonly refused: ReadonlyMap<SummaryRefusal, number>;
}

/** For how long a withdrawal is remembered. */
export function withdrawalMemoryMs({ ttlMs, staleKeepMs, maxClockSkewMs }: HeldOptions): number {
  return ttlMs + staleKeepMs + 2 * maxClockSkewMs;
}
