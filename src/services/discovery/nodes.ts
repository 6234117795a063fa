/** DiscoveryService.ClusterMap and ListPeers: the nodes of the fabric. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope as WireScope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type Peer, PeerSchema, PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import {
  type ClusterMapRequest,
  ClusterMapResponseSchema,
  type ListPeersRequest,
  ListPeersResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { decodeMessage } from "../../catalog/entry/codec.ts";
import { SCOPE, SCOPE_NAMES, type Scope, scopeBetween } from "../../catalog/entry/scope.ts";
import type { LoadView } from "../../catalog/entry/view.ts";
import { pageLimit } from "../../catalog/query/query.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import { NODES, type Reads } from "../../discovery/reads.ts";
import type { Loads } from "../../discovery/registrar/loads.ts";
import { enumName } from "../../lib/enum-words.ts";
import type { PeerDirectory, Presence } from "../peer-directory.ts";
import type { CallContext } from "../service.ts";
import { type AnswerAge, replicaAge } from "./age.ts";
import { scopeOf, sorted } from "./filter.ts";
import type { DiscoveryBytes } from "./response-bytes.ts";

export interface NodeParts {
  readonly reads: Reads;
  readonly bytes: DiscoveryBytes;
  readonly identity: { readonly nodeId: string; readonly clusterId: string };
  readonly mesh: PeerDirectory;
  readonly loads: Pick<Loads, "of">;
}

/** A scope as the generated code has it. */
export function wireScope(scope: Scope): WireScope {
  return WireScope[enumName(SCOPE_NAMES[scope])];
}

/** A page of the NODE entries of nodes that are there. Nodes that left or died are not listed, although their entries may still be held. */
export function clusterMap(parts: NodeParts, request: ClusterMapRequest, context: CallContext) {
  const { reads, bytes, identity, mesh } = parts;
  const scope = scopeOf(request.scope);
  const filter = {
    ...NODES,
    // Here a scope is only a locality. Entries of nodes have scope REGION, so a filter by GLOBAL would match none of them.
    scope: scope === SCOPE.GLOBAL ? SCOPE.UNSET : scope,
    capabilities: sorted(request.capabilities),
    resources: sorted(request.resources),
  };
  const page = reads.nodes(context.caller, { filter, limit: pageLimit(request.limit), token: request.pageToken }, request.namespaceFilter);
  return create(ClusterMapResponseSchema, {
    clusterId: identity.clusterId,
    nodes: page.records
      .filter((record) => mesh.presence(record.traits.nodeId, context.time) !== undefined)
      .map((record) => decodeMessage(bytes.entry(record))),
    nextPageToken: page.nextToken,
    generatedAt: timestampFromMs(context.time.wallMs),
    ...freshness(parts, context),
  });
}

/** The other nodes that are there, as peers of the serving node. */
export function listPeers(parts: NodeParts, request: ListPeersRequest, context: CallContext) {
  const { reads, identity, mesh } = parts;
  const scope = scopeOf(request.scope);
  const filter = { ...NODES, region: request.region };
  const page = reads.nodes(context.caller, { filter, limit: pageLimit(request.limit), token: request.pageToken }, "");
  const peers = page.records.flatMap((record) => {
    const { nodeId } = record.traits;
    const relation = scopeBetween(reads.node, record.traits);
    if (nodeId === identity.nodeId || (scope !== 0 && relation !== scope)) return [];
    const presence = mesh.presence(nodeId, context.time);
    return presence === undefined ? [] : [peerOf(parts, record, presence)];
  });
  return create(ListPeersResponseSchema, { peers, nextPageToken: page.nextToken, ...freshness(parts, context) });
}

function peerOf({ reads, loads }: NodeParts, record: CatalogRecord, { status, lastSeenWallMs }: Presence): Peer {
  const entry = reads.entry(record);
  const load = loads.of(record.key) ?? entry.load;
  return create(PeerSchema, {
    nodeId: entry.nodeId,
    clusterId: entry.key.clusterId,
    region: entry.region,
    zone: entry.zone,
    scope: wireScope(scopeBetween(reads.node, record.traits)),
    ...(entry.detail.case === "node" && { urls: [...entry.detail.value.advertisedUrls], transports: [...entry.detail.value.transports] }),
    status: PeerStatus[enumName(status)],
    lastSeen: timestampFromMs(lastSeenWallMs),
    ...(load !== undefined && { load: wireLoad(load) }),
  });
}

function wireLoad({ observedWallMs, ...numbers }: LoadView) {
  return { ...numbers, observedAt: timestampFromMs(observedWallMs) };
}

/** The parts of an answer that say where it comes from. */
interface FreshnessParts {
  readonly reads: { readonly replica: Pick<Reads["replica"], "revision"> };
  readonly identity: { readonly nodeId: string };
  readonly mesh: Pick<PeerDirectory, "ageMs">;
}

/** How good the data of an answer is: what the call says of it, or else the age of this node's replica. */
export function answerAge({ mesh }: Pick<FreshnessParts, "mesh">, { age, time }: CallContext): AnswerAge {
  return age ?? replicaAge(mesh.ageMs(time));
}

/** The fields of an answer about its source and age. */
export function freshness(parts: FreshnessParts, context: CallContext) {
  const { ageMs, isStale, source } = answerAge(parts, context);
  return {
    servedBy: parts.identity.nodeId,
    revision: BigInt(parts.reads.replica.revision),
    age: durationFromMs(ageMs),
    stale: isStale,
    source,
  };
}
