/** Chooses the nodes of this cluster that clients of other clusters may call: the nodes with the role `ingress` or, if there are none, the nodes with borders. */
import { decodeEntry } from "../../../catalog/entry/codec.ts";
import { NODES_NAMESPACE } from "../../../catalog/entry/names.ts";
import { BODY, KIND, keyText } from "../../../catalog/record/record.ts";
import type { Replica } from "../../../catalog/replica/replica.ts";
import type { MemberUpdate } from "../../../fabric/wire/messages.ts";
import { type IngressNode, MAX_INGRESS } from "../../../summary/summary.ts";

const ROLE = "ingress";
/** URL schemes that other clusters cannot use. */
const INNER = /^(?:fabric|dns):/;

/** Member fields that determine whether a node is an ingress node. */
type IngressMember = Pick<MemberUpdate, "borders" | "nodeId" | "roles">;

/** Returns the nodes of a cluster that clients of other clusters may call. */
export function ingressMembers<M extends IngressMember>(members: readonly M[]): readonly M[] {
  const named = members.filter(({ roles }) => roles.includes(ROLE));
  return named.length > 0 ? named : members.filter(({ borders = [] }) => borders.length > 0);
}

/** Returns at most 32 nodes, sorted by id. `members` are the live nodes of the cluster, including this one. Cost: one lookup per member. */
export function ingressNodes(
  { lookup, slab }: Pick<Replica, "lookup" | "slab">,
  clusterId: string,
  members: readonly IngressMember[],
): readonly IngressNode[] {
  const ids = ingressMembers(members)
    .map(({ nodeId }) => nodeId)
    .toSorted();
  return ids
    .flatMap((nodeId) => {
      const record = lookup.find(keyText({ kind: KIND.NODE, namespace: NODES_NAMESPACE, name: nodeId, instanceId: nodeId, clusterId }));
      if (record?.body !== BODY.ENTRY) return [];
      const entry = decodeEntry(slab.view(record.at, record.sizeBytes), record.origin.life);
      const detail = entry.read("detail");
      const urls = detail.case === "node" ? detail.value.advertisedUrls.filter((url) => !INNER.test(url)) : [];
      return urls.length === 0 ? [] : [{ urls, scope: entry.scope, capabilities: entry.read("capabilities"), tags: entry.read("tags") }];
    })
    .slice(0, MAX_INGRESS);
}
