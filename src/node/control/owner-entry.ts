/** Finds the entry of an instance that owns shards in the catalog of this node. */
import { decodeEntry } from "../../catalog/entry/codec.ts";
import { HEALTH, KIND, keyText, viewHealth } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { hostPort } from "../../lib/addresses.ts";
import type { OwnerEntry } from "../../services/shards/attach.ts";

/** An unreachable node of an entry is only a suspicion, and moves no shards. */
const OWNER_HEALTHS = {
  [HEALTH.UNSET]: "healthy",
  [HEALTH.HEALTHY]: "healthy",
  [HEALTH.DEGRADED]: "degraded",
  [HEALTH.CRITICAL]: "critical",
  [HEALTH.MAINTENANCE]: "maintenance",
  [HEALTH.ORPHANED]: "healthy",
} as const;

/** Returns the entry of an instance of a service of this cluster. Undefined if this node does not know it. Its target is the first one. */
export function ownerEntry(
  { replica, clusterId }: { readonly replica: Replica; readonly clusterId: string },
  { namespace, service, instance }: { readonly namespace: string; readonly service: string; readonly instance: string },
): OwnerEntry | undefined {
  const record = replica.view(keyText({ kind: KIND.SERVICE, namespace, name: service, instanceId: instance, clusterId }));
  if (record === undefined) return undefined;
  const { principal, traits, origin, at, sizeBytes } = record;
  const [first] = decodeEntry(replica.slab.view(at, sizeBytes), origin.life).targets;
  const target = first === undefined ? "" : hostPort(first.host, first.port);
  return {
    principal,
    target,
    health: OWNER_HEALTHS[viewHealth(record)],
    weight: Math.max(first?.weight ?? 1, 1),
    zone: traits.zone,
    region: traits.region,
  };
}
