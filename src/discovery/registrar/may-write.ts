/** Decides which callers may write which entries: by the policy's owners and viewers, and by the principal of an entry. */
import type { StampedEntry } from "../../catalog/entry/codec.ts";
import { isOfNodes } from "../../catalog/entry/control-namespaces.ts";
import { isControlNamespace, NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import { type CatalogRecord, isKeyOf, KIND, keyLabel, keyParts } from "../../catalog/record/record.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { RefusedAct } from "../../policy/audit/refusals.ts";
import { type Caller, hasRole, isOwnerOf } from "../../policy/identity/caller.ts";
import type { Source, Verdict } from "../../policy/set/verdict.ts";
import { hiddenError, mayPublish, type OnDenied, type PolicySource } from "../../policy/set/visibility.ts";

export interface Publishing {
  /** This node, as the owner rule sees it. */
  readonly source: Source;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  /** Reports a refused write that the policy itself allows, for the audit. */
  readonly onRefused: (refusal: RefusedAct) => void;
}

/** A write of a caller to a record, and the request field that names it. */
export interface AskedWrite {
  readonly action: "register" | "unregister" | "renew" | "maintenance";
  readonly field: string;
}

/**
 * Throws `discovery_access_denied` if this node's cluster may not publish the stamped entry, or if the caller may not see its namespace:
 * whether a key is taken there would reveal its entries.
 */
export function checkPublishing(publishing: Publishing, caller: Caller, { namespace, scope, kind }: StampedEntry, index: number): void {
  const { source, policies, onDenied } = publishing;
  if (kind === KIND.NODE && namespace === NODES_NAMESPACE) return;
  const denied = deniedPublishing(publishing, caller, { namespace, scope });
  if (denied === undefined) return;
  onDenied(caller, { action: "register", namespace, verdict: denied });
  const field = `entries[${index}].key.namespace`;
  // Only callers that may see a namespace learn its owners and its rule.
  if (hiddenBy(publishing, caller, namespace) !== undefined) throw hiddenError(field, namespace);
  const { reason, rule } = policies.policy.source(namespace, source);
  const metadata = { namespace, reason, ...(rule !== "" && { rule }) };
  throw new WaymarkError("discovery_access_denied", `${field}: ${reason} for ${namespace} from cluster ${source.clusterId}`, { metadata });
}

/** The verdict by which this node's cluster may not publish such an entry, or the caller may not see its namespace. Undefined: it may be published. */
export function deniedPublishing(
  { source, policies }: Pick<Publishing, "policies" | "source">,
  caller: Caller,
  { namespace, scope }: Pick<StampedEntry, "namespace" | "scope">,
): Verdict | undefined {
  if (policies.policy.set === undefined) return undefined;
  const verdict = policies.policy.source(namespace, source);
  return mayPublish(verdict, scope) ? hiddenBy({ policies }, caller, namespace) : verdict;
}

function hiddenBy({ policies }: Pick<Publishing, "policies">, caller: Caller, namespace: string): Verdict | undefined {
  const verdict = policies.policy.viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant });
  return verdict.allowed || isOwnerOf(caller, namespace) ? undefined : verdict;
}

/**
 * A held record, or undefined if it does not exist for the caller: it belongs to another principal in a hidden namespace. This refusal is
 * reported.
 */
export function presentFor<R extends CatalogRecord>(
  { policies, onDenied }: Publishing,
  caller: Caller,
  record: R | undefined,
): R | undefined {
  if (record === undefined || record.principal === caller.principal) return record;
  const { namespace } = record;
  const verdict = hiddenBy({ policies }, caller, namespace);
  if (verdict === undefined) return record;
  onDenied(caller, { action: "register", namespace, verdict });
  return undefined;
}

/**
 * Throws `discovery_access_denied` if the record belongs to another principal and the caller is neither an admin nor an owner of its
 * namespace. A node's own entry may not be changed by anybody else, not even by admins, because on loopback every caller is one.
 */
export function checkOwner(publishing: Pick<Publishing, "onRefused">, caller: Caller, record: CatalogRecord, asked: AskedWrite): void {
  if (record.principal === caller.principal) return;
  if (isOwnerOf(caller, record.namespace) && !isControlNamespace(record.namespace)) return;
  throw refused(publishing, caller, record, { ...asked, why: "is registered by another principal" });
}

function refused(
  { onRefused }: Pick<Publishing, "onRefused">,
  caller: Caller,
  { key, namespace }: Pick<CatalogRecord, "key" | "namespace">,
  { action, field, why }: AskedWrite & { readonly why: string },
): WaymarkError {
  const error = new WaymarkError("discovery_access_denied", `${field}: ${why}`, { metadata: { namespace } });
  onRefused({ caller, action, namespace, reason: error.reason, detail: error.message, subjects: keyLabel(key) });
  return error;
}

/**
 * Throws `discovery_access_denied` if the caller may not order maintenance for the record: it is of another principal and the caller does not operate the
 * mesh, or it is of the control plane. Also throws if the record is of another cluster, because only the nodes there take orders for it.
 */
export function checkMaintaining(publishing: Publishing, caller: Caller, record: CatalogRecord, field: string): void {
  const asked = { action: "maintenance", field } as const;
  const { namespace } = record;
  if (isControlNamespace(namespace)) throw refused(publishing, caller, record, { ...asked, why: "is an entry of the control plane" });
  if (record.principal !== caller.principal && !hasRole(caller, "mesh.operate"))
    throw refused(publishing, caller, record, { ...asked, why: "is registered by another principal" });
  checkHome(publishing, caller, record, { ...asked, what: "take it into maintenance" });
}

/**
 * Like `checkOwner`, for an unregister. Also throws if the record is of another cluster, because an unregister here would end nothing
 * there.
 */
export function checkEnding(publishing: Publishing, caller: Caller, record: CatalogRecord, field: string): void {
  const asked = { action: "unregister", field } as const;
  checkOwner(publishing, caller, record, asked);
  checkHome(publishing, caller, record, { ...asked, what: "take it out" });
}

/**
 * Whether the caller may say of a key that has expired that it was unregistered: the principal at the node where it expired, since no other node knows whose it
 * was, and owners of the namespace at all nodes of its cluster.
 */
export function mayEndExpired({ source }: Pick<Publishing, "source">, caller: Caller, record: CatalogRecord, isOwn: boolean): boolean {
  if (!isKeyOf(source.clusterId, record.key) || isOfNodes(record.namespace)) return false;
  if (isOwn && record.principal === caller.principal) return true;
  return isOwnerOf(caller, record.namespace) && !isControlNamespace(record.namespace);
}

function checkHome(
  publishing: Publishing,
  caller: Caller,
  record: CatalogRecord,
  { what, ...asked }: AskedWrite & { readonly what: string },
): void {
  const { clusterId } = publishing.source;
  if (isKeyOf(clusterId, record.key)) return;
  const home = keyParts(record.key).clusterId;
  const why = `is registered in cluster ${home}, whose nodes alone can ${what}; this one is of ${clusterId}`;
  throw refused(publishing, caller, record, { ...asked, why });
}

export function isAdmin(caller: Caller): boolean {
  return hasRole(caller, "mesh.admin");
}

export function unknownLease(id: string): WaymarkError {
  return new WaymarkError(
    "lease_not_found",
    `this node holds no lease ${JSON.stringify(id.slice(0, 128))}: it has ended, or another node granted it; register again what is still wanted`,
  );
}
