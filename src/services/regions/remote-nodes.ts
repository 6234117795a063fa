/**
 * Adds the ingress nodes of clusters in other regions to the lists of nodes. The ingress nodes come from beacons and are not members
 * (docs/design/summaries.md, Reading).
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Entry, EntryKind, EntrySchema, Scope as WireScope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type Peer, PeerSchema } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import { decodePageToken, encodePageToken } from "../../catalog/query/query.ts";
import { fnv64, hashHex } from "../../lib/hash64.ts";
import type { IngressNode } from "../../summary/summary.ts";

/** The content of the last beacon from a cluster in another region. */
export interface RemoteCluster {
  readonly clusterId: string;
  /** The region of the cluster according to the settings. */
  readonly region: string;
  /** Time at which the beacon was received. */
  readonly heardWallMs: number;
  readonly ingress: readonly IngressNode[];
}

/** One ingress node. */
export interface RemoteNode {
  readonly cluster: RemoteCluster;
  readonly node: IngressNode;
  /** The number of the node in its beacon, starting from 1. Beacons do not contain node names. */
  readonly number: number;
}

/** Prefix of page tokens for ingress nodes, which are listed after all members. No other token contains this character. */
const MARK = ".";

export function isRemoteToken(token: string): boolean {
  return token.startsWith(MARK);
}

/** Returns a page of ingress nodes, sorted by cluster. `salt` identifies the filter. An empty token requests the first page. */
export function remotePage(
  clusters: readonly RemoteCluster[],
  isWanted: (far: RemoteNode) => boolean,
  { token, limit, salt }: { readonly token: string; readonly limit: number; readonly salt: string },
): { readonly page: readonly RemoteNode[]; readonly nextToken: string } {
  const hash = hashHex(fnv64(`far\0${salt}`));
  const after = decodePageToken(token.slice(MARK.length), hash);
  const sorted = clusters.toSorted((a, b) => (a.clusterId < b.clusterId ? -1 : 1));
  const all = sorted.flatMap((cluster) => cluster.ingress.map((node, i): RemoteNode => ({ cluster, node, number: i + 1 })));
  const rest = all.filter((far) => placeOf(far) > after && isWanted(far));
  const page = rest.slice(0, limit);
  if (page.length === rest.length) return { page, nextToken: "" };
  const last = page.at(-1);
  return { page, nextToken: `${MARK}${encodePageToken(last === undefined ? START : placeOf(last), hash)}` };
}

/** A position before all ingress nodes, for a page that is already full of members. */
const START = "\u0001";

function placeOf({ cluster, number }: RemoteNode): string {
  return `${cluster.clusterId}\0${String(number).padStart(3, "0")}`;
}

/** Returns the node as a peer. The peer has no node id and no status, because the node is not a member. */
export function remotePeer({ cluster, node }: RemoteNode): Peer {
  const { clusterId, region, heardWallMs } = cluster;
  return create(PeerSchema, {
    clusterId,
    region,
    scope: WireScope.GLOBAL,
    urls: [...node.urls],
    lastSeen: timestampFromMs(Math.round(heardWallMs)),
  });
}

export function remoteEntry({ cluster, node, number }: RemoteNode): Entry {
  const { clusterId, region, heardWallMs } = cluster;
  const name = `ingress-${number}`;
  return create(EntrySchema, {
    key: { kind: EntryKind.NODE, namespace: NODES_NAMESPACE, name, instanceId: name, clusterId },
    region,
    scope: WireScope.GLOBAL,
    capabilities: [...node.capabilities],
    tags: [...node.tags],
    updatedAt: timestampFromMs(Math.round(heardWallMs)),
    detail: { case: "node", value: { advertisedUrls: [...node.urls] } },
  });
}
