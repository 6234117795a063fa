/**
 * Decides whether a caller may keep a lease's entries: a renewal requires the same permission as a registration (semantics.md, Leases and life).
 * Otherwise, a caller that has lost its permission could keep its entries forever.
 */
import type { StampedEntry } from "../../catalog/entry/codec.ts";
import { findRoleNamespace } from "../../catalog/entry/rules.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { Leases } from "../../catalog/leases.ts";
import { type KeyText, namespaceOfKey } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { type Caller, hasRole } from "../../policy/identity/caller.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { deniedPublishing, type WriteAuthorizer } from "./write-authorization.ts";

export interface LeaseRightsParts {
  readonly leases: Leases;
  readonly replica: Pick<Replica, "own">;
}

/** The caller's properties on which a verdict depends, in addition to the policy and the lease. */
type LeaseCaller = Pick<Caller, "cluster" | "roles" | "tenant">;

/** Maximum number of callers whose numbers are kept under one policy. If there are more callers, leases are checked again. */
const MAX_CALLERS = 10_000;

export class LeaseRights {
  readonly #publishing: WriteAuthorizer;
  readonly #parts: LeaseRightsParts;
  /** A number for each caller under the current policy. A lease stores the number of the caller for which it was last checked. */
  readonly #marks = new Map<string, number>();
  #policy: Policy | undefined;
  #last: { readonly caller: LeaseCaller; readonly mark: number } | undefined;
  #markCount = 0;

  constructor(publishing: WriteAuthorizer, parts: LeaseRightsParts) {
    this.#publishing = publishing;
    this.#parts = parts;
  }

  /**
   * Whether the caller could now register all entries of the lease. A denial is recorded in the audit log. The first check of a lease under a policy
   * costs O(keys of the lease).
   */
  // HOT: once per renewal. The lease has nearly always been checked before, under the same policy and for the same caller.
  mayHold(caller: Caller, leaseId: string): boolean {
    const { leases } = this.#parts;
    const mark = this.#markOf(caller);
    if (leases.markOf(leaseId) === mark) return true;
    if (!this.#mayKeepAll(caller, leases.keysOf(leaseId))) return false;
    leases.mark(leaseId, mark);
    return true;
  }

  #markOf(caller: Caller): number {
    const { policy } = this.#publishing.policies;
    if (policy !== this.#policy) {
      this.#policy = policy;
      this.#marks.clear();
      this.#last = undefined;
    }
    const last = this.#last;
    // An identity always has the same `roles` list object, so it can be compared by reference.
    if (
      last !== undefined &&
      last.caller.roles === caller.roles &&
      last.caller.tenant === caller.tenant &&
      last.caller.cluster === caller.cluster
    )
      return last.mark;
    const { cluster, tenant, roles } = caller;
    const name = [cluster, tenant, ...roles].join("\0");
    let mark = this.#marks.get(name);
    if (mark === undefined) {
      if (this.#marks.size >= MAX_CALLERS) this.#marks.clear();
      this.#markCount += 1;
      mark = this.#markCount;
      this.#marks.set(name, mark);
    }
    this.#last = { caller: { cluster, tenant, roles }, mark };
    return mark;
  }

  #mayKeepAll(caller: Caller, keys: readonly KeyText[]): boolean {
    /** Namespaces in which the caller may keep entries with any scope. */
    const open = new Set<string>();
    for (const key of keys) {
      const namespace = namespaceOfKey(key);
      if (open.has(namespace)) continue;
      if (this.#refusal(caller, { namespace, scope: SCOPE.GLOBAL }) === undefined) {
        open.add(namespace);
        continue;
      }
      const refusal = this.#refusal(caller, { namespace, scope: this.#parts.replica.own(key)?.scope ?? SCOPE.GLOBAL });
      if (refusal === undefined) continue;
      refusal();
      return false;
    }
    return true;
  }

  /** Returns a function that records in the audit log that the caller cannot keep such an entry. Returns undefined if the caller may keep it. */
  #refusal(caller: Caller, entry: Pick<StampedEntry, "namespace" | "scope">): (() => void) | undefined {
    const { policies, onDenied, onRefused } = this.#publishing;
    const { namespace } = entry;
    const writers = findRoleNamespace(namespace)?.writers;
    if (writers !== undefined && !hasRole(caller, writers)) {
      const detail = `permission denied: only callers with the role ${writers} may renew entries in ${namespace}`;
      return () => onRefused({ caller, action: "renew", namespace, reason: "discovery_access_denied", detail });
    }
    // No version is in force if no policy is configured, or if the policy has not arrived yet or cannot be read. Callers must not lose
    // entries for any of these reasons.
    if (policies.policy.number === 0) return undefined;
    const verdict = deniedPublishing(this.#publishing, caller, entry);
    return verdict && (() => onDenied(caller, { action: "register", namespace, verdict }));
  }
}
