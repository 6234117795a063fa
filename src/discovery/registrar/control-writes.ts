/**
 * Who may register in the namespaces of the control plane, and how much (semantics.md, Names and bounds). `control-namespaces.ts` has the table. The rule on
 * principals (`may-write.ts`) applies there too, but nobody counts as an owner: not even an admin changes an entry of another principal.
 */
import type { StampedEntry } from "../../catalog/entry/codec.ts";
import { findRoleNamespace, type RoleNamespace } from "../../catalog/entry/control-namespaces.ts";
import { BODY } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { type Caller, demandRole } from "../../policy/identity/caller.ts";
import type { Publishing } from "./may-write.ts";

export interface ControlWrite {
  readonly caller: Caller;
  readonly stampedEntries: readonly StampedEntry[];
  /** Of the lease; undefined for a static one. */
  readonly ttlMs: number | undefined;
}

/**
 * Throws `unauthenticated` or `discovery_access_denied` for a caller without the role of a namespace, `invalid_argument` for an entry that is too large or has
 * a lease that never ends or ends too late, and `quota_exceeded` where the principal would have too many entries.
 */
export function checkControlWrites(publishing: Pick<Publishing, "onRefused">, write: ControlWrite, replica: Replica): void {
  const written = new Map<string, RoleNamespace>();
  for (const [i, stamped] of write.stampedEntries.entries()) {
    const row = findRoleNamespace(stamped.namespace);
    if (row === undefined) continue;
    demandWriter(publishing, write.caller, row, { namespace: stamped.namespace, field: `entries[${i}].key.namespace` });
    const { length } = stamped.content;
    if (length > row.maxEntryBytes)
      throw invalid(`entries[${i}]`, `has ${length} bytes, at most ${row.maxEntryBytes} in ${stamped.namespace}`);
    written.set(stamped.namespace, row);
  }
  for (const [namespace, row] of written) {
    checkLease(write.ttlMs, namespace, row);
    checkCount(write, namespace, row, replica);
  }
}

function demandWriter(
  { onRefused }: Pick<Publishing, "onRefused">,
  caller: Caller,
  { writers }: RoleNamespace,
  { namespace, field }: { readonly namespace: string; readonly field: string },
): void {
  try {
    demandRole(caller, writers);
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    const refusal = new WaymarkError(error.reason, `${field}: only callers with the role ${writers} may register in ${namespace}`, {
      metadata: { namespace, role: writers },
    });
    onRefused({ caller, action: "register", namespace, reason: refusal.reason, detail: refusal.message });
    throw refusal;
  }
}

function checkLease(ttlMs: number | undefined, namespace: string, { maxTtlMs }: RoleNamespace): void {
  if (ttlMs === undefined) throw invalid("static_lease", `entries of ${namespace} must have a lease that ends`);
  if (ttlMs > maxTtlMs) throw invalid("ttl", `must be at most ${maxTtlMs / 1000} s in ${namespace}, is ${ttlMs / 1000} s`);
}

/** O(entries of the namespace), which the bound keeps few. */
function checkCount({ caller, stampedEntries }: ControlWrite, namespace: string, { maxEntries }: RoleNamespace, replica: Replica): void {
  const keys = keysOf(replica, namespace, caller.principal);
  const heldCount = keys.size;
  for (const stamped of stampedEntries) if (stamped.namespace === namespace) keys.add(stamped.key);
  if (keys.size <= maxEntries || keys.size === heldCount) return;
  throw new WaymarkError(
    "quota_exceeded",
    `the principal ${JSON.stringify(caller.principal)} has ${heldCount} entries in ${namespace}, at most ${maxEntries}; this request would add ${keys.size - heldCount}`,
    { metadata: { namespace, bound: "entries", max: `${maxEntries}` } },
  );
}

/** The live keys of a principal in exactly this namespace, what is staged included. */
function keysOf(replica: Replica, namespace: string, principal: string): Set<string> {
  const keys = new Set<string>();
  const cursor = replica.lookup.cursor();
  cursor.seek(namespace);
  // The keys of a namespace are neighbours.
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
