/** What one caller may see and write under the policy in force, and who is told when it may not. */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../identity/caller.ts";
import type { Policy, PolicyAction, Source, Verdict, VerdictReason } from "./verdict.ts";

/** What says who sees a namespace: a policy, or the two between which a node is. */
export type VisiblePolicy = Pick<Policy, "set" | "viewer">;

/** Whoever holds the policy in force: it is replaced as a whole. */
export interface PolicySource {
  readonly policy: Policy;
}

/** Told of every denial; never throws. */
export type OnDenied = (
  caller: Caller,
  denial: { readonly action: PolicyAction; readonly namespace: string; readonly verdict: Verdict },
) => void;

/** What a caller is told of a namespace that it may not see: the same whether a rule hides it, which one, or none speaks of it. */
export const HIDDEN_REASON: VerdictReason = "viewer_denied";

/** The refusal of a call that names a namespace which its caller may not see. */
export function hiddenError(field: string, namespace: string): WaymarkError {
  const metadata = { namespace, reason: HIDDEN_REASON };
  return new WaymarkError("discovery_access_denied", `${field}: ${HIDDEN_REASON} for ${namespace}`, { metadata });
}

/** Sees everything: what readers get while no policy is in force, so that it costs nothing. */
export function seesAll(): boolean {
  return true;
}

/** The namespaces a caller sees, as a function for scans. It follows the policy in force. */
export function visibilityOf(policies: { readonly policy: VisiblePolicy }, caller: Caller): (namespace: string) => boolean {
  const viewer = { clusterId: caller.cluster, tenant: caller.tenant };
  return (namespace) => policies.policy.viewer(namespace, viewer).allowed;
}

/** Only what both show: what the first hides may still hold records that the owners of the second hide. */
export function visibilityBetween(before: Policy, after: Policy): VisiblePolicy {
  return {
    set: after.set,
    viewer: (namespace, viewer) => {
      const verdict = after.viewer(namespace, viewer);
      return verdict.allowed ? before.viewer(namespace, viewer) : verdict;
    },
  };
}

/** What one read may see: which namespaces its caller sees, and one denial for each rule that hid something from it. */
export class VisibilityFilter {
  readonly #policy: VisiblePolicy;
  readonly #caller: Caller;
  readonly #denials = new Map<string, { readonly namespace: string; readonly verdict: Verdict }>();
  readonly #viewer: { readonly clusterId: string; readonly tenant: string };

  constructor(policy: VisiblePolicy, caller: Caller) {
    this.#policy = policy;
    this.#caller = caller;
    this.#viewer = { clusterId: caller.cluster, tenant: caller.tenant };
  }

  readonly sees = (namespace: string): boolean => {
    const verdict = this.#policy.viewer(namespace, this.#viewer);
    if (!verdict.allowed && !this.#denials.has(verdict.rule)) this.#denials.set(verdict.rule, { namespace, verdict });
    return verdict.allowed;
  };

  /** Tells of what was denied: a distinct denying rule once, also by prefix (semantics.md, Policy). */
  tell(onDenied: OnDenied): void {
    for (const denial of this.#denials.values()) onDenied(this.#caller, { action: "query", ...denial });
  }
}

/**
 * Whether a source may publish this wide: owners anything, others what stays in their own cluster ("can serve local
 * endpoints"); where no rule speaks and the default denies, nothing.
 */
export function mayPublish(verdict: Verdict, scope: Scope): boolean {
  return verdict.allowed || (verdict.reason === "owner_denied" && scope <= SCOPE.ZONE);
}

/** Whether a held record may be seen at this node at all: the owner rule, for what is in the catalog already (ingest). */
export function mayBeSeen(
  policy: Policy,
  record: { readonly namespace: string; readonly scope: Scope },
  from: Source,
  here: string,
): boolean {
  const verdict = policy.source(record.namespace, from);
  if (verdict.allowed) return true;
  return verdict.reason === "owner_denied" && from.clusterId === here && record.scope <= SCOPE.ZONE;
}

const ANYBODY: readonly string[] = [];
const NOBODY: readonly string[] = ["\0"];

/** Whether two policies let the same sources be seen in a namespace; false where only asking for each source would tell. */
export function hasSameOwners(one: Policy, other: Policy, namespace: string): boolean {
  const [a, b] = [ownersOf(one, namespace), ownersOf(other, namespace)];
  return a === b || (a.length === b.length && a.every((owner, i) => owner === b[i]));
}

function ownersOf(policy: Policy, namespace: string): readonly string[] {
  if (policy.set === undefined || isControlNamespace(namespace)) return ANYBODY;
  const rule = policy.ruleOf(namespace);
  if (rule === undefined) return policy.set.defaultAllow ? ANYBODY : NOBODY;
  return rule.owners.length === 0 ? ANYBODY : rule.owners;
}
