/**
 * Whether a caller may go on holding what is under a lease: a renewal needs the right that the registration needed (semantics.md, Leases and life). Otherwise
 * whoever has lost that right would keep its entries for ever.
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

/** What a verdict depends on beside the lease: the policy, and who the caller is to it. */
type LeaseCaller = Pick<Caller, "cluster" | "roles" | "tenant">;

/** Most askers whose marks are known under one policy. With more of them leases are judged again. */
const MAX_ASKERS = 10_000;

export class LeaseRights {
  readonly #publishing: WriteAuthorizer;
  readonly #parts: LeaseRightsParts;
  /** Under this policy. */
  readonly #marks = new Map<string, number>();
  #policy: Policy | undefined;
  #last: { readonly asker: LeaseCaller; readonly mark: number } | undefined;
  #markCount = 0;

  constructor(publishing: WriteAuthorizer, parts: LeaseRightsParts) {
    this.#publishing = publishing;
    this.#parts = parts;
  }

  /**
   * Whether the caller could register all entries under the lease now. A refusal is told to the audit. The first question under a policy takes as long as the
   * lease has keys.
   */
  // HOT: once a renewal. Nearly always the lease was judged before, under the same policy and for the same caller.
  mayHold(caller: Caller, leaseId: string): boolean {
    const { leases } = this.#parts;
    const mark = this.#markOf(caller);
    if (leases.markOf(leaseId) === mark) return true;
    if (!this.#judge(caller, leases.keysOf(leaseId))) return false;
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
    // The roles of an identity are one list, whatever call it comes with.
    if (
      last !== undefined &&
      last.asker.roles === caller.roles &&
      last.asker.tenant === caller.tenant &&
      last.asker.cluster === caller.cluster
    )
      return last.mark;
    const { cluster, tenant, roles } = caller;
    const name = [cluster, tenant, ...roles].join("\0");
    let mark = this.#marks.get(name);
    if (mark === undefined) {
      if (this.#marks.size >= MAX_ASKERS) this.#marks.clear();
      this.#markCount += 1;
      mark = this.#markCount;
      this.#marks.set(name, mark);
    }
    this.#last = { asker: { cluster, tenant, roles }, mark };
    return mark;
  }

  #judge(caller: Caller, keys: readonly KeyText[]): boolean {
    /** Namespaces where the caller may hold entries of every scope. */
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

  /** What tells the audit that the caller may not hold such an entry. Undefined: it may. */
  #refusal(caller: Caller, entry: Pick<StampedEntry, "namespace" | "scope">): (() => void) | undefined {
    const { policies, onDenied, onRefused } = this.#publishing;
    const { namespace } = entry;
    const writers = findRoleNamespace(namespace)?.writers;
    if (writers !== undefined && !hasRole(caller, writers)) {
      const detail = `only callers with the role ${writers} may hold entries in ${namespace}`;
      return () => onRefused({ caller, action: "renew", namespace, reason: "discovery_access_denied", detail });
    }
    // Without a version in force none was configured, it is awaited, or it cannot be read, which is no fault of callers.
    if (policies.policy.number === 0) return undefined;
    const verdict = deniedPublishing(this.#publishing, caller, entry);
    return verdict && (() => onDenied(caller, { action: "register", namespace, verdict }));
  }
}
