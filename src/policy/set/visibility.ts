/**
 * What one caller may see and publish under the policy in force, and how denials are reported. It turns the verdicts of
 * `verdict.ts` into functions, which `discovery/reads.ts` hands to every query, watch and DNS answer.
 */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../identity/caller.ts";
import { BELOW } from "./rules.ts";
import type { Policy, PolicyAction, Source, Verdict, VerdictReason } from "./verdict.ts";

/** What decides who sees a namespace: a policy, or the two that a node is changing between. */
export type VisiblePolicy = Pick<Policy, "set" | "viewer">;

/** The holder of the policy in force, which is replaced as a whole. */
export interface PolicySource {
  readonly policy: Policy;
}

/** Is told of every denial; never throws. */
export type OnDenied = (
  caller: Caller,
  denial: { readonly action: PolicyAction; readonly namespace: string; readonly verdict: Verdict },
) => void;

/** The reason that callers get for a namespace that they may not see, whatever rule hides it, and also when no rule names it. */
export const HIDDEN_REASON: VerdictReason = "viewer_denied";

/** The refusal of a call that names a namespace that its caller may not see. */
export function hiddenError(field: string, namespace: string): WaymarkError {
  const metadata = { namespace, reason: HIDDEN_REASON };
  return new WaymarkError("discovery_access_denied", `${field}: ${HIDDEN_REASON} for ${namespace}`, { metadata });
}

/** Sees everything. Readers get it while no policy is in force, so that filtering costs nothing. */
export function seesAll(): boolean {
  return true;
}

/** The namespaces that a caller sees, as a function: what a watch is told for as long as it runs. It follows the policy in force. */
export function visibilityOf(policies: { readonly policy: VisiblePolicy }, caller: Caller): (namespace: string) => boolean {
  const viewer = { clusterId: caller.cluster, tenant: caller.tenant };
  return (namespace) => policies.policy.viewer(namespace, viewer).allowed;
}

/** Shows only what both policies show: the new owner rules are not applied to all records yet, so that some of them may still be visible. */
export function visibilityBetween(before: Policy, after: Policy): VisiblePolicy {
  return {
    set: after.set,
    viewer: (namespace, viewer) => {
      const verdict = after.viewer(namespace, viewer);
      return verdict.allowed ? before.viewer(namespace, viewer) : verdict;
    },
  };
}

/** What one query may see. It notes one denial for each rule that hid something from the read. */
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

  /** Reports the denials: each denying rule once, also for reads by prefix (semantics.md, Policy). */
  tell(onDenied: OnDenied): void {
    for (const denial of this.#denials.values()) onDenied(this.#caller, { action: "query", ...denial });
  }
}

/**
 * Whether a source may publish in this scope. Owners may use any scope, and others those that stay in their own cluster ("can serve local
 * endpoints"). Without a rule, and where the default denies, nothing may be published.
 */
export function mayPublish(verdict: Verdict, scope: Scope): boolean {
  return verdict.allowed || (verdict.reason === "owner_denied" && scope <= SCOPE.ZONE);
}

/**
 * Whether a held record may be seen at this node at all: the owner rule for records that are in the catalog already (ingest). Without a policy every one
 * may.
 */
export function mayBeSeen(
  policy: Policy,
  record: { readonly namespace: string; readonly scope: Scope },
  from: Source,
  here: string,
): boolean {
  const verdict = policy.source(record.namespace, from);
  return verdict.allowed || (from.clusterId === here && mayPublish(verdict, record.scope));
}

const ANYBODY: readonly string[] = [];
const NOBODY: readonly string[] = ["\0"];
const ANY_LABEL = "*";

/** Whether two policies have the same owners for a namespace. False also where only a look at each source would tell. */
export function hasSameOwners(one: Policy, other: Policy, namespace: string): boolean {
  const [a, b] = [ownersOf(one, namespace), ownersOf(other, namespace)];
  return a === b || (a.length === b.length && a.every((owner, i) => owner === b[i]));
}

/**
 * The prefixes at and below which two policies may have different owners for a namespace, whether anything is there or not. The empty text stands for all namespaces. Cost: the
 * rules of both.
 */
export function differentOwners(one: Policy, other: Policy): readonly string[] {
  const found = new Set<string>();
  // No rule is of a namespace with such a label, so it stands for all that the rule of the one above decides.
  if (!hasSameOwners(one, other, ANY_LABEL)) found.add("");
  for (const { pattern } of [...(one.set?.rules ?? []), ...(other.set?.rules ?? [])]) {
    const prefix = pattern.endsWith(BELOW) ? pattern.slice(0, -BELOW.length) : pattern;
    if ([prefix, `${prefix}.${ANY_LABEL}`].some((namespace) => !hasSameOwners(one, other, namespace))) found.add(prefix);
  }
  return [...found];
}

function ownersOf(policy: Policy, namespace: string): readonly string[] {
  if (policy.set === undefined || isControlNamespace(namespace)) return ANYBODY;
  const rule = policy.ruleOf(namespace);
  if (rule === undefined) return policy.set.defaultAllow ? ANYBODY : NOBODY;
  return rule.owners.length === 0 ? ANYBODY : rule.owners;
}
