/** Implements DiscoveryService.ClusterMap and ListPeers, which list the nodes of the fabric. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope as WireScope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type Peer, PeerSchema, PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { UnreachableNodesSchema } from "../../../gen/waymark/catalog/v1/watch_pb.js";
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
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { type CatalogReads, NODES } from "../../discovery/reads.ts";
import type { LoadReports } from "../../discovery/registrar/load-reports.ts";
import { enumName } from "../../lib/enum-words.ts";
import type { Time } from "../../lib/machine.ts";
import { isRemoteToken, type RemoteCluster, type RemoteNode, remoteEntry, remotePage, remotePeer } from "../regions/remote-nodes.ts";
import type { CallContext } from "../service.ts";
import type { LiveNode, PeerDirectory } from "./answer-age.ts";
import { answerAge } from "./answer-age.ts";
import { scopeOf, sorted } from "./filter.ts";
import type { DiscoveryBytes } from "./response-bytes.ts";

export interface NodeListParts {
  readonly reads: CatalogReads;
  readonly bytes: DiscoveryBytes;
  readonly identity: { readonly nodeId: string; readonly clusterId: string };
  readonly mesh: PeerDirectory;
  readonly loads: Pick<LoadReports, "of">;
  /** The ingress nodes of clusters in other regions. Absent on a node without summaries. */
  readonly ingress?: ((time: Time) => readonly RemoteCluster[]) | undefined;
}

/** Converts a scope to the enum in the generated code. */
export function wireScope(scope: Scope): WireScope {
  return WireScope[enumName(SCOPE_NAMES[scope])];
}

/**
 * Returns a page of the NODE entries of live nodes, followed by the ingress nodes of other regions. Nodes that left or died are not listed,
 * although this node may still have their entries.
 */
export function clusterMap(parts: NodeListParts, request: ClusterMapRequest, context: CallContext) {
  const { reads, bytes, identity, mesh } = parts;
  const scope = scopeOf(request.scope);
  const { namespaceFilter, resources, pageToken: token } = request;
  const capabilities = sorted(request.capabilities);
  const limit = pageLimit(request.limit);
  const filter = {
    ...NODES,
    // In this request, a scope describes only a locality. NODE entries have scope REGION, so a filter by GLOBAL would not match any of them.
    scope: scope === SCOPE.GLOBAL ? SCOPE.UNSET : scope,
    capabilities,
    resources: sorted(resources),
  };
  const near = isRemoteToken(token) ? NO_PAGE : reads.nodes(context.caller, { filter, limit, token }, namespaceFilter);
  // The entries and resources of ingress nodes in other regions are unknown, so these filters exclude all such nodes.
  const isAsked = isWide(scope) && namespaceFilter === "" && resources.length === 0;
  const isWanted = ({ node }: RemoteNode) => capabilities.every((term) => node.capabilities.includes(term));
  const far = farNodes(parts, context, { isAsked, isWanted, near, token, limit, salt: capabilities.join("\0") });
  return create(ClusterMapResponseSchema, {
    clusterId: identity.clusterId,
    nodes: [
      ...near.records
        .filter((record) => mesh.presence(record.traits.nodeId, context.time) !== undefined)
        .map((record) => decodeMessage(bytes.entry(record))),
      ...far.page.map(remoteEntry),
    ],
    nextPageToken: near.nextToken || far.nextToken,
    generatedAt: timestampFromMs(context.time.wallMs),
    ...freshness(parts, context),
  });
}

/** Returns the other live nodes, as peers of the serving node, followed by the ingress nodes of other regions. */
export function listPeers(parts: NodeListParts, request: ListPeersRequest, context: CallContext) {
  const { reads, identity, mesh } = parts;
  const scope = scopeOf(request.scope);
  const { region, pageToken: token } = request;
  const filter = { ...NODES, region };
  const limit = pageLimit(request.limit);
  const near = isRemoteToken(token) ? NO_PAGE : reads.nodes(context.caller, { filter, limit, token }, "");
  const peers = near.records.flatMap((record) => {
    const { nodeId } = record.traits;
    const relation = scopeBetween(reads.node, record.traits);
    if (nodeId === identity.nodeId || (scope !== 0 && relation !== scope)) return [];
    const presence = mesh.presence(nodeId, context.time);
    return presence === undefined ? [] : [peerOf(parts, record, presence)];
  });
  const isWanted = ({ cluster }: RemoteNode) => region === "" || cluster.region === region;
  const far = farNodes(parts, context, { isAsked: isWide(scope), isWanted, near, token, limit, salt: `peers\0${region}` });
  const all = [...peers, ...far.page.map(remotePeer)];
  return create(ListPeersResponseSchema, { peers: all, nextPageToken: near.nextToken || far.nextToken, ...freshness(parts, context) });
}

/** The page of members that is returned when all members are on previous pages. */
const NO_PAGE = { records: [], nextToken: "" } as const;
const NO_FAR = { page: [], nextToken: "" } as const;

/** Returns whether the scope includes nodes in other regions. */
function isWide(scope: Scope): boolean {
  return scope === SCOPE.UNSET || scope === SCOPE.GLOBAL;
}

interface RemoteNodesRequest {
  readonly isAsked: boolean;
  readonly isWanted: (far: RemoteNode) => boolean;
  /** The page of members, followed by the ingress nodes. */
  readonly near: { readonly records: readonly CatalogRecord[]; readonly nextToken: string };
  readonly token: string;
  readonly limit: number;
  readonly salt: string;
}

/** Returns the ingress nodes that fit after the last page of members. Callers that may see members may also see ingress nodes. */
function farNodes({ ingress, reads }: NodeListParts, { caller, time }: CallContext, asked: RemoteNodesRequest) {
  const { isAsked, isWanted, near, token, limit, salt } = asked;
  const isTurn = isAsked && near.nextToken === "" && reads.verdict(caller, NODES.namespace).allowed;
  if (!isTurn || ingress === undefined) return NO_FAR;
  return remotePage(ingress(time), isWanted, { token: isRemoteToken(token) ? token : "", limit: limit - near.records.length, salt });
}

function peerOf({ reads, loads }: NodeListParts, record: CatalogRecord, { status, lastSeenWallMs }: LiveNode): Peer {
  const entry = reads.entry(record);
  const detail = entry.read("detail");
  const load = loads.of(record.key) ?? entry.load;
  return create(PeerSchema, {
    nodeId: entry.nodeId,
    clusterId: entry.key.clusterId,
    region: entry.region,
    zone: entry.zone,
    scope: wireScope(scopeBetween(reads.node, record.traits)),
    ...(detail.case === "node" && { urls: [...detail.value.advertisedUrls], transports: [...detail.value.transports] }),
    status: PeerStatus[enumName(status)],
    lastSeen: timestampFromMs(lastSeenWallMs),
    ...(load !== undefined && { load: wireLoad(load) }),
  });
}

function wireLoad({ observedWallMs, ...numbers }: LoadView) {
  return { ...numbers, observedAt: timestampFromMs(observedWallMs) };
}

/** The sources for the freshness fields of an answer. */
interface AnswerAgeParts {
  readonly reads: { readonly replica: Pick<CatalogReads["replica"], "revision"> };
  readonly identity: { readonly nodeId: string };
  readonly mesh: Pick<PeerDirectory, "ageMs" | "unreachable">;
}

/** Returns the answer field that lists the nodes not included in the age. */
export function unreachableField(nodes: UnreachableNodes | undefined) {
  return nodes === undefined
    ? {}
    : { unreachableNodes: create(UnreachableNodesSchema, { nodeIds: [...nodes.nodeIds], count: nodes.count }) };
}

/** Returns the answer fields for the source and the age. */
export function freshness(parts: AnswerAgeParts, context: CallContext) {
  const { ageMs, isStale, source, unreachable } = answerAge(parts, context);
  return {
    servedBy: parts.identity.nodeId,
    revision: BigInt(parts.reads.replica.revision),
    age: durationFromMs(ageMs),
    stale: isStale,
    source,
    ...unreachableField(unreachable),
  };
}
