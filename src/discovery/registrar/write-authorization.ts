/** Decides which callers may write which entries, based on the policy's owners and viewers and on the principal of an entry. */

import { checksOf } from "../../catalog/entry/checks.ts";
import type { StampedEntry } from "../../catalog/entry/codec.ts";
import { isControlNamespace, isReservedNamespace, NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import { findRoleNamespace, isOfNodes, type RoleNamespace } from "../../catalog/entry/rules.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import { hasNewerOverride } from "../../catalog/record/maintenance.ts";
import { BODY, type CatalogRecord, isKeyOf, type KeyText, KIND, keyLabel, keyParts } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { hiddenOrphanOf, isOfKeysCluster, winnerOf } from "../../catalog/replica/view.ts";
import { CAUSE, causeOf } from "../../catalog/watch/change-cause.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { RefusedAct } from "../../policy/audit/record.ts";
import { type Caller, demandRole, hasRole, isOwnerOf } from "../../policy/identity/caller.ts";
import type { NamespaceQuotas, QuotaEntry } from "../../policy/limits/quotas.ts";
import type { PolicyVerdict, RecordSource } from "../../policy/set/verdict.ts";
import { hiddenError, mayPublish, type OnDenied, type PolicySource } from "../../policy/set/verdict.ts";

export interface WriteAuthorizer {
  /** The cluster to which the owner rules apply when this node publishes. */
  readonly source: RecordSource;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  /** Records in the audit log a rejected write that the policy itself allows. */
  readonly onRefused: (refusal: RefusedAct) => void;
}

/** A caller's write to a record, and the request field that refers to the record. */
export interface RequestedWrite {
  readonly action: "register" | "unregister" | "renew" | "maintenance";
  readonly field: string;
}

/**
 * Throws `discovery_access_denied` if this node's cluster cannot publish the stamped entry, or if the caller cannot see its namespace, because the
 * answer would reveal whether the namespace contains the key.
 */
export function checkPublishing(
  publishing: WriteAuthorizer,
  caller: Caller,
  { namespace, scope, kind }: StampedEntry,
  index: number,
): void {
  if (kind === KIND.NODE && namespace === NODES_NAMESPACE) return;
  const denied = deniedPublishing(publishing, caller, { namespace, scope });
  if (denied !== undefined) throw refusedNamespace(publishing, caller, { namespace, denied, field: `entries[${index}].key.namespace` });
}

/**
 * Throws `invalid_argument` for a reserved namespace, and `discovery_access_denied` if the caller cannot register entries for the whole mesh in the
 * namespace. `field` is the field of the request that contains it.
 */
export function checkNamespace(publishing: WriteAuthorizer, caller: Caller, namespace: string, field: string): void {
  if (isReservedNamespace(namespace)) throw invalid(field, `the namespace ${namespace} is reserved for the control plane`);
  const denied = deniedPublishing(publishing, caller, { namespace, scope: SCOPE.GLOBAL });
  if (denied !== undefined) throw refusedNamespace(publishing, caller, { namespace, denied, field });
}

function refusedNamespace(
  publishing: WriteAuthorizer,
  caller: Caller,
  { namespace, denied, field }: { readonly namespace: string; readonly denied: PolicyVerdict; readonly field: string },
): WaymarkError {
  const { source, policies, onDenied } = publishing;
  onDenied(caller, { action: "register", namespace, verdict: denied });
  // The owners and the rule of a namespace are revealed only to callers that may see the namespace.
  if (hiddenBy(publishing, caller, namespace) !== undefined) return hiddenError(field, namespace);
  const { reason, rule } = policies.policy.source(namespace, source);
  const metadata = { namespace, reason, ...(rule !== "" && { rule }) };
  return new WaymarkError(
    "discovery_access_denied",
    `permission denied: ${field}: cluster ${source.clusterId} cannot publish in ${namespace} (${reason})`,
    { metadata },
  );
}

/**
 * Returns the verdict that forbids the entry, because this node's cluster cannot publish it or the caller cannot see its namespace. Returns undefined
 * if the entry may be published.
 */
export function deniedPublishing(
  { source, policies }: Pick<WriteAuthorizer, "policies" | "source">,
  caller: Caller,
  { namespace, scope }: Pick<StampedEntry, "namespace" | "scope">,
): PolicyVerdict | undefined {
  if (policies.policy.set === undefined) return undefined;
  const verdict = policies.policy.source(namespace, source);
  return mayPublish(verdict, scope) ? hiddenBy({ policies }, caller, namespace) : verdict;
}

function hiddenBy({ policies }: Pick<WriteAuthorizer, "policies">, caller: Caller, namespace: string): PolicyVerdict | undefined {
  const verdict = policies.policy.viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant });
  return verdict.allowed || isOwnerOf(caller, namespace) ? undefined : verdict;
}

/**
 * Returns the record. Returns undefined if the caller cannot see the record because it is registered by another principal in a hidden namespace. Such
 * a denial is recorded in the audit log.
 */
export function presentFor<R extends CatalogRecord>(
  { policies, onDenied }: WriteAuthorizer,
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
 * Throws `discovery_access_denied` if the record is registered by another principal and the caller is neither an admin nor an owner of
 * its namespace. A node's own entry can be changed only by the node itself, because on loopback every caller is an admin.
 */
export function checkOwner(
  publishing: Pick<WriteAuthorizer, "onRefused">,
  caller: Caller,
  record: CatalogRecord,
  write: RequestedWrite,
): void {
  if (record.principal === caller.principal) return;
  if (isOwnerOf(caller, record.namespace) && !isControlNamespace(record.namespace)) return;
  throw refused(publishing, caller, record, { ...write, why: "is registered by another principal" });
}

function refused(
  { onRefused }: Pick<WriteAuthorizer, "onRefused">,
  caller: Caller,
  { key, namespace }: Pick<CatalogRecord, "key" | "namespace">,
  { action, field, why }: RequestedWrite & { readonly why: string },
): WaymarkError {
  const error = new WaymarkError("discovery_access_denied", `permission denied: ${keyLabel(key)} (${field}) ${why}`, {
    metadata: { namespace },
  });
  onRefused({ caller, action, namespace, reason: error.reason, detail: error.message, subjects: keyLabel(key) });
  return error;
}

/**
 * Throws `discovery_access_denied` if the caller is not allowed to request maintenance for the record: it belongs to the control plane,
 * or is registered by another principal and the caller lacks the role `mesh.operate`. Also throws if the record belongs to another
 * cluster, because only nodes of that cluster can execute the override.
 */
export function checkMaintaining(publishing: WriteAuthorizer, caller: Caller, record: CatalogRecord, field: string): void {
  const write = { action: "maintenance", field } as const;
  const { namespace } = record;
  if (isControlNamespace(namespace)) throw refused(publishing, caller, record, { ...write, why: "belongs to the control plane" });
  if (record.principal !== caller.principal && !hasRole(caller, "mesh.operate"))
    throw refused(publishing, caller, record, { ...write, why: "is registered by another principal" });
  checkHome(publishing, caller, record, write);
}

/**
 * Like `checkOwner`, for an unregister. Also throws if the record belongs to another cluster, where an unregister on this node has no
 * effect.
 */
export function checkEnding(publishing: WriteAuthorizer, caller: Caller, record: CatalogRecord, field: string): void {
  const write = { action: "unregister", field } as const;
  checkOwner(publishing, caller, record, write);
  checkHome(publishing, caller, record, write);
}

/**
 * Whether the caller may mark an expired key as unregistered. The key's principal may do so on the node where the key expired, because no other node
 * knows the principal. Owners of the namespace may do so on all nodes of the key's cluster.
 */
export function mayEndExpired({ source }: Pick<WriteAuthorizer, "source">, caller: Caller, record: CatalogRecord, isOwn: boolean): boolean {
  if (!isKeyOf(source.clusterId, record.key) || isOfNodes(record.namespace)) return false;
  if (isOwn && record.principal === caller.principal) return true;
  return isOwnerOf(caller, record.namespace) && !isControlNamespace(record.namespace);
}

function checkHome(publishing: WriteAuthorizer, caller: Caller, record: CatalogRecord, write: RequestedWrite): void {
  const { clusterId } = publishing.source;
  if (isKeyOf(clusterId, record.key)) return;
  const home = keyParts(record.key).clusterId;
  const why = `is registered in cluster ${home}, but this node belongs to ${clusterId}: send the request to a node of ${home}`;
  throw refused(publishing, caller, record, { ...write, why });
}

export function isAdmin(caller: Caller): boolean {
  return hasRole(caller, "mesh.admin");
}

/** Returns the error for a lease that this node does not have. `advice` is the next step for the caller. */
export function unknownLease(id: string, advice: string): WaymarkError {
  return new WaymarkError(
    "lease_not_found",
    `unknown lease ${JSON.stringify(id.slice(0, 128))}: it no longer exists, or another node granted it; ${advice}`,
  );
}

// Checks which callers may register entries in the control plane's namespaces, and how many (semantics.md, Names and bounds).
// `catalog/entry/rules.ts` contains the table. The rule on principals above also applies in these namespaces, but without owners: not even an admin
// can change another principal's entry.

interface ControlWrite {
  readonly caller: Caller;
  readonly stampedEntries: readonly StampedEntry[];
  /** The lease's ttl. Undefined for a static lease. */
  readonly ttlMs: number | undefined;
}

/**
 * Throws `unauthenticated` or `discovery_access_denied` for a caller without the role of a namespace, `invalid_argument` for an entry that is too
 * large or whose lease never ends or lasts too long, and `quota_exceeded` if the principal would have too many entries.
 */
export function checkControlWrites(publishing: Pick<WriteAuthorizer, "onRefused">, write: ControlWrite, replica: Replica): void {
  const written = new Map<string, RoleNamespace>();
  for (const [i, stamped] of write.stampedEntries.entries()) {
    const row = findRoleNamespace(stamped.namespace);
    if (row === undefined) continue;
    demandWriter(publishing, write.caller, row, { namespace: stamped.namespace, field: `entries[${i}].key.namespace` });
    const { length } = stamped.content;
    if (length > row.maxEntryBytes)
      throw invalid(`entries[${i}]`, `must have at most ${row.maxEntryBytes} bytes in ${stamped.namespace}, got ${length}`);
    written.set(stamped.namespace, row);
  }
  for (const [namespace, row] of written) {
    checkLease(write.ttlMs, namespace, row);
    checkCount(write, namespace, row, replica);
  }
}

function demandWriter(
  { onRefused }: Pick<WriteAuthorizer, "onRefused">,
  caller: Caller,
  { writers }: RoleNamespace,
  { namespace, field }: { readonly namespace: string; readonly field: string },
): void {
  try {
    demandRole(caller, writers);
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    const prefix = error.reason === "unauthenticated" ? "" : "permission denied: ";
    const refusal = new WaymarkError(
      error.reason,
      `${prefix}${field}: only callers with the role ${writers} may register in ${namespace}`,
      {
        metadata: { namespace, role: writers },
      },
    );
    onRefused({ caller, action: "register", namespace, reason: refusal.reason, detail: refusal.message });
    throw refusal;
  }
}

function checkLease(ttlMs: number | undefined, namespace: string, { maxTtlMs }: RoleNamespace): void {
  if (ttlMs === undefined) throw invalid("static_lease", `must be false: entries in ${namespace} need a lease with a ttl`);
  if (ttlMs > maxTtlMs) throw invalid("ttl", `must be at most ${maxTtlMs / 1000} s in ${namespace}, got ${ttlMs / 1000} s`);
}

/** Throws if the principal would have too many entries. Cost: O(entries of the namespace), which the limit keeps small. */
function checkCount({ caller, stampedEntries }: ControlWrite, namespace: string, { maxEntries }: RoleNamespace, replica: Replica): void {
  const keys = keysOf(replica, namespace, caller.principal);
  const heldCount = keys.size;
  for (const stamped of stampedEntries) if (stamped.namespace === namespace) keys.add(stamped.key);
  if (keys.size <= maxEntries || keys.size === heldCount) return;
  throw new WaymarkError(
    "quota_exceeded",
    `the principal ${JSON.stringify(caller.principal)} has ${heldCount} of at most ${maxEntries} entries in ${namespace}; this request would add ${keys.size - heldCount}`,
    { metadata: { namespace, bound: "entries", max: `${maxEntries}` } },
  );
}

/** Returns the live keys of a principal in exactly this namespace, including staged ones. */
function keysOf(replica: Replica, namespace: string, principal: string): Set<string> {
  const keys = new Set<string>();
  const cursor = replica.lookup.cursor();
  cursor.seek(namespace);
  // The keys of a namespace are adjacent.
  for (let record = cursor.next(); record?.namespace === namespace; record = cursor.next()) {
    if (record.principal === principal) keys.add(record.key);
  }
  for (const staged of replica.staged) {
    if (staged.namespace !== namespace || staged.principal !== principal) continue;
    if (staged.body === BODY.ENTRY) keys.add(staged.key);
    else keys.delete(staged.key);
  }
  return keys;
}

// Applies quotas to the registrar: each request is checked as a whole, and staged records are counted before they become visible.

/** Returns the live record of a key, staged or stored. Includes a record that the owner rule hides, because its principal still owns the record. */
export function currentRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const staged = stagedRecord(replica, key);
  return staged === undefined ? winnerOf(replica.records(key)) : liveOf(staged);
}

/**
 * Returns the record that an unregister of the key ends: the live record or, if there is none, the record that would reappear with a node that was
 * unreachable for too long.
 */
export function endableRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const staged = stagedRecord(replica, key);
  if (staged !== undefined) return liveOf(staged);
  const records = replica.records(key);
  return winnerOf(records) ?? hiddenOrphanOf(records);
}

/**
 * Returns the tombstone of a key without an entry: the tombstone with the newest maintenance overrides or, without overrides, the newest tombstone of
 * the key's cluster.
 */
export function lastRemoval(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const own = replica.own(key);
  const records = [...(own === undefined ? [] : [own]), ...replica.records(key)].filter(isOfKeysCluster);
  const orders = replica.newestOrders(key);
  return (orders && records.find((record) => !hasNewerOverride(orders, record.orders))) ?? records.find(({ body }) => body !== BODY.ENTRY);
}

/**
 * Returns the tombstone of a key that readers see as expired. Returns undefined if the key ended in another way, has an entry, or has a staged
 * record.
 */
export function expiredRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  if (stagedRecord(replica, key) !== undefined || endableRecord(replica, key) !== undefined) return undefined;
  const [any] = replica.records(key);
  if (any === undefined || any.body === BODY.ENTRY || causeOf(any) !== CAUSE.EXPIRED) return undefined;
  const own = replica.own(key);
  return own !== undefined && own.body !== BODY.ENTRY ? own : any;
}

function stagedRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const own = replica.own(key);
  return own?.revision === 0 ? own : undefined;
}

function liveOf(staged: CatalogRecord): CatalogRecord | undefined {
  return staged.body === BODY.ENTRY ? staged : undefined;
}

export class QuotaGate {
  /** The quotas to which staged usage is committed, or from which it is removed when aborted. */
  readonly quotas: NamespaceQuotas;
  readonly #replica: Replica;

  constructor(replica: Replica, quotas: NamespaceQuotas) {
    this.#replica = replica;
    this.quotas = quotas;
  }

  /** Throws `quota_exceeded` if the stamped entries together exceed a quota. */
  check(caller: Caller, stampedEntries: readonly StampedEntry[]): void {
    const { quotas } = this;
    if (!quotas.isSet) return;
    quotas.check(
      caller,
      stampedEntries.map((stamped) => ({ before: this.#held(stamped.key), after: weighedStamped(stamped) })),
    );
  }

  /** Counts the next staged record, which replaces the key's current record. If `after` is undefined, the current record is removed. */
  stage(key: KeyText, after: StampedEntry | undefined): void {
    const { quotas } = this;
    if (!quotas.isSet) return;
    const change = { before: this.#held(key), after: after === undefined ? undefined : weighedStamped(after) };
    quotas.stage(this.#replica.lastSeq + 1, change);
  }

  #held(key: KeyText): QuotaEntry | undefined {
    // Hidden records do not count towards quotas.
    const staged = stagedRecord(this.#replica, key);
    const current = staged === undefined ? this.#replica.view(key) : liveOf(staged);
    return current === undefined ? undefined : weighed(current, current.contentBytes, this.#checkCount(current));
  }

  /**
   * Returns the number of checks if the entry belongs to this node, or 0 if it does not, because each node runs only the checks of its own entries.
   */
  #checkCount(record: CatalogRecord): number {
    const { slab } = this.#replica;
    const own = this.#replica.own(record.key);
    return own === record && own.mayHaveChecks ? checksOf(slab.view(own.at, own.sizeBytes)).checks.length : 0;
  }
}

function weighedStamped(stamped: StampedEntry): QuotaEntry {
  return weighed(stamped, stamped.content.length, stamped.hasChecks ? checksOf(stamped.content).checks.length : 0);
}

function weighed(of: Pick<CatalogRecord, "namespace" | "traits">, bytes: number, checks: number): QuotaEntry {
  return { namespace: of.namespace, tenant: of.traits.tenantId, bytes, checks };
}
