/** The entries, leaders and shards of a node, and the addresses of nodes, as this node's copy of the catalog shows them. */
import { decodeMessage } from "../../catalog/entry/codec.ts";
import { isReservedNamespace, NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import { readTtlMs } from "../../catalog/entry/view.ts";
import { BODY, HEALTH, KIND, keyText, viewHealth } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { LeaderRecord } from "../../control/leadership/records.ts";
import type { NodeContents } from "../../services/peers/operations.ts";

export interface ContentsParts {
  readonly replica: Replica;
  readonly clusterId: string;
  /** The leaders of all scopes. */
  readonly leaders: () => ReadonlyMap<string, LeaderRecord | undefined>;
}

/** Maximum number of URLs of other nodes in an error. */
const MAX_URLS = 4;

/** O(entries of the node and leaders). An entry without a ttl is static. */
export function contentsOf({ replica, leaders }: ContentsParts, nodeId: string): NodeContents {
  const principals = new Map<string, number>();
  let [leasedCount, staticCount] = [0, 0];
  for (const { log } of [...replica.origins.values()].filter((origin) => origin.nodeId === nodeId))
    for (const stored of log.list()) {
      const { body, namespace, key, principal, at, sizeBytes } = stored;
      if (body !== BODY.ENTRY || isReservedNamespace(namespace) || replica.view(key) !== stored) continue;
      if (readTtlMs(replica.slab.view(at, sizeBytes)) === undefined) staticCount += 1;
      else leasedCount += 1;
      principals.set(principal, (principals.get(principal) ?? 0) + 1);
    }
  const [leaderships, shards]: [string[], string[]] = [[], []];
  for (const [scope, record] of leaders()) {
    if (record === undefined || record.nodeId !== nodeId || record.session === "") continue;
    if (record.shard === undefined) leaderships.push(scope);
    else shards.push(scope.slice("shard/".length));
  }
  return { leasedCount, staticCount, principals, leaderships: leaderships.toSorted(), shards: shards.toSorted() };
}

type CatalogParts = Pick<ContentsParts, "clusterId" | "replica">;

/** The NODE entry of a node. */
function nodeRecord({ replica, clusterId }: CatalogParts, nodeId: string) {
  return replica.view(keyText({ kind: KIND.NODE, namespace: NODES_NAMESPACE, name: nodeId, instanceId: nodeId, clusterId }));
}

/** The URLs at which clients reach a node: those in its NODE entry, or `reported` if this node does not know the entry. */
export function urlsOf(parts: CatalogParts, nodeId: string, reported: readonly string[] = []): readonly string[] {
  const record = nodeRecord(parts, nodeId);
  if (record === undefined) return reported;
  const { detail } = decodeMessage(parts.replica.slab.view(record.at, record.sizeBytes));
  return detail.case === "node" ? detail.value.advertisedUrls : [];
}

/** The gRPC URLs of at most 4 other nodes of the cluster that accept new work. */
export function otherUrls(parts: CatalogParts, ownId: string): readonly string[] {
  return parts.replica.origins
    .values()
    .filter(({ nodeId, clusterId, life }) => nodeId !== ownId && life === "live" && (clusterId === "" || clusterId === parts.clusterId))
    .flatMap(({ nodeId }) => {
      const record = nodeRecord(parts, nodeId);
      return record === undefined || viewHealth(record) === HEALTH.MAINTENANCE ? [] : urlsOf(parts, nodeId);
    })
    .filter((url) => url.startsWith("grpc"))
    .take(MAX_URLS)
    .toArray();
}
