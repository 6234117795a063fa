/** DiscoveryService.ClusterMap and ListPeers: the nodes of the fabric. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type ClusterMapRequest,
  ClusterMapResponseSchema,
  type ListPeersRequest,
  ListPeersResponseSchema,
  PeerSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { decodeMessage } from "../catalog/codec.ts";
import type { Bounds } from "../catalog/names.ts";
import { pageLimit } from "../catalog/query.ts";
import { NODES, type Reads } from "../discovery/reads.ts";
import type { DiscoveryBytes } from "./discovery-bytes.ts";
import { idOf, namespaceOf, scopeOf, termsOf } from "./discovery-filter.ts";
import type { CallContext } from "./service.ts";

export interface NodeParts {
  readonly reads: Reads;
  readonly bytes: DiscoveryBytes;
  readonly bounds: Bounds;
  readonly identity: { readonly nodeId: string; readonly clusterId: string };
}

const WIRE_SCOPES = [Scope.UNSPECIFIED, Scope.LOCAL, Scope.ZONE, Scope.REGION, Scope.GLOBAL] as const;

/** NODE entries, a page. */
export function clusterMap(parts: NodeParts, request: ClusterMapRequest, context: CallContext) {
  const { reads, bytes, identity, bounds } = parts;
  const filter = {
    ...NODES,
    scope: scopeOf(request.scope, "scope"),
    capabilities: termsOf(request.capabilities, "capabilities", 64, bounds),
  };
  const within = namespaceOf(request.namespaceFilter, "namespace_filter", bounds);
  const page = reads.nodes(context.caller, { filter, limit: pageLimit(request.limit), token: request.pageToken }, within);
  return create(ClusterMapResponseSchema, {
    clusterId: identity.clusterId,
    nodes: page.records.map((record) => decodeMessage(bytes.entry(record))),
    nextPageToken: page.nextToken,
    generatedAt: timestampFromMs(context.time.wallMs),
    ...freshness(parts),
  });
}

/** The other nodes, as peers of this one. */
export function listPeers(parts: NodeParts, request: ListPeersRequest, context: CallContext) {
  const { reads, identity, bounds } = parts;
  const scope = scopeOf(request.scope, "scope");
  const filter = { ...NODES, region: idOf(request.region, "region", bounds) };
  const page = reads.nodes(context.caller, { filter, limit: pageLimit(request.limit), token: request.pageToken }, "");
  const peers = page.records
    .filter((record) => record.traits.nodeId !== identity.nodeId && (scope === 0 || reads.relation(record) === scope))
    .map((record) => {
      const entry = reads.entry(record);
      return create(PeerSchema, {
        nodeId: entry.nodeId,
        clusterId: entry.key.clusterId,
        region: entry.region,
        zone: entry.zone,
        scope: WIRE_SCOPES[reads.relation(record)],
        urls: [...entry.advertisedUrls],
        transports: [...entry.transports],
        status: record.origin.life === "live" ? "alive" : "suspect",
        lastSeen: timestampFromMs(context.time.wallMs),
      });
    });
  return create(ListPeersResponseSchema, { peers, nextPageToken: page.nextToken, ...freshness(parts) });
}

/** What every answer says of where it comes from. */
export function freshness(parts: Pick<NodeParts, "reads" | "identity">) {
  return { servedBy: parts.identity.nodeId, revision: BigInt(parts.reads.replica.revision), age: durationFromMs(0) };
}
