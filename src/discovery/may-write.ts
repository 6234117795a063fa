/** Who may write what: the policy's owners, and the principal an entry belongs to. */
import type { Draft } from "../catalog/codec.ts";
import { isControlNamespace, NODES_NAMESPACE } from "../catalog/names.ts";
import { type CatalogRecord, KIND } from "../catalog/record.ts";
import { WaymarkError } from "../lib/errors.ts";
import { type Caller, hasRole, isOwnerOf } from "../policy/caller.ts";
import { mayPublish, type OnDenied, type PolicySource } from "../policy/eyes.ts";
import type { Source } from "../policy/verdict.ts";

export interface Publishing {
  /** This node, as the owner rule sees it. */
  readonly source: Source;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
}

/** Throws `discovery_access_denied` where this node's cluster may not publish the draft. */
export function checkPublishing(
  { source, policies, onDenied }: Publishing,
  caller: Caller,
  { namespace, scope, kind }: Draft,
  field: string,
): void {
  if (policies.policy.set === undefined || (kind === KIND.NODE && namespace === NODES_NAMESPACE)) return;
  const verdict = policies.policy.source(namespace, source);
  if (mayPublish(verdict, scope)) return;
  onDenied(caller, { action: "register", namespace, verdict });
  const rule = verdict.rule === "" ? {} : { rule: verdict.rule };
  const metadata = { namespace, reason: verdict.reason, ...rule };
  throw new WaymarkError("discovery_access_denied", `${field}: ${verdict.reason} for ${namespace} from cluster ${source.clusterId}`, {
    metadata,
  });
}

/**
 * Throws `discovery_access_denied` where the record is another principal's and the caller neither an admin nor an owner of
 * its namespace. What nodes say of themselves is theirs alone, also from admins: on loopback everybody is one.
 */
export function checkOwner(caller: Caller, record: CatalogRecord, field: string): void {
  if (record.principal === caller.principal) return;
  if (isOwnerOf(caller, record.namespace) && !isControlNamespace(record.namespace)) return;
  throw new WaymarkError("discovery_access_denied", `${field}: is registered by another principal`, {
    metadata: { namespace: record.namespace },
  });
}

export function isAdmin(caller: Caller): boolean {
  return hasRole(caller, "mesh.admin");
}
