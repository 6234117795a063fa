/**
 * Computes the verdicts of the policy. No other code decides which namespaces a query, a watch, a DNS answer, a dry run or `Explain` may show
 * (semantics.md, Policy; P11).
 */
import { CONTROL_NAMESPACE, isControlNamespace, namespaceCovers } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../identity/caller.ts";
import { activeWindow, BELOW, type NamespaceRule, nextEdge, type PolicySet, RuleTrie } from "./rules.ts";

/** The actions for which a verdict can be requested, with the same names as in `Explain`. */
export const ACTIONS = ["register", "ingest", "query", "watch", "export-summary", "admin"] as const;
export type PolicyAction = (typeof ACTIONS)[number];

export type VerdictReason =
  | "policy_disabled"
  | "control_plane"
  | "no_policy"
  | "owners_unrestricted"
  | "owner_allowed"
  | "owner_denied"
  | "visibility_unrestricted"
  | "tenant_allowed"
  | "viewer_allowed"
  | "viewer_denied"
  | "cutover_closed"
  | "cutover_scope_denied"
  | "summaries_disabled"
  | "scope_denied"
  | "summary_allowed";

export interface PolicyVerdict {
  readonly allowed: boolean;
  readonly reason: VerdictReason;
  /** Pattern of the rule that determined the verdict; empty if no rule did. */
  readonly rule: string;
  /** The next time at which the verdict may change even if the policy does not. Undefined if there is no such time. */
  readonly untilWallMs: number | undefined;
}

/** The cluster and region of a record's source. */
export interface RecordSource {
  readonly clusterId: string;
  readonly region: string;
}

/** The cluster and tenant that determine a read's view. */
export interface Viewer {
  readonly clusterId: string;
  readonly tenant: string;
}

const DISABLED: PolicyVerdict = said(true, "policy_disabled", "");
const CONTROL: PolicyVerdict = said(true, "control_plane", "");
const NEVER_SUMMARISED: PolicyVerdict = said(false, "control_plane", "");
/** Maximum number of cached verdicts for all viewers together. If the number is exceeded, all cached verdicts are dropped. */
const MAX_KEPT = 200_000;

/** Returns the epoch of a policy version; see `Policy.epoch`. */
export function epochOf({ number, checksum }: { readonly number: number; readonly checksum: string }): string {
  return checksum === "" ? `${number}` : `${number}-${checksum.slice(0, 12)}`;
}

/** The compiled policy that is in force, if any. The object is immutable, except for its cache of verdicts. */
export class Policy {
  /** Undefined if no policy was ever configured. Everything is then allowed. */
  readonly set: PolicySet | undefined;
  /** Number of the version; 0 if there is no version. */
  readonly number: number;
  /** SHA-256 of the set's canonical text. Empty if the set does not belong to a version. */
  readonly checksum: string;
  /** Whether this node does not know its cluster's policy yet. While this is true, reads show nothing, and every caller may register. */
  readonly isPending: boolean;
  readonly #trie: RuleTrie;
  #viewers = new Map<string, Map<string, PolicyVerdict>>();
  #last: (Viewer & { readonly kept: Map<string, PolicyVerdict> }) | undefined;
  #kept = 0;

  constructor(set: PolicySet | undefined, number: number, { checksum = "", isPending = false } = {}) {
    this.set = set;
    this.number = number;
    this.checksum = checksum;
    this.isPending = isPending;
    this.#trie = new RuleTrie(set?.rules ?? []);
  }

  /**
   * Identifies everything that verdicts depend on, except the time. The epoch is part of portable cursors, and is the same on all nodes on which the
   * same version is in force. It contains the checksum, because two nodes may assign the same number to different sets.
   */
  get epoch(): string {
    if (this.set === undefined) return "none";
    if (this.isPending) return "pending";
    return epochOf(this);
  }

  /** Returns the rule that applies to a namespace. Undefined if there is none. */
  ruleOf(namespace: string): NamespaceRule | undefined {
    return this.#trie.find(namespace);
  }

  /** Returns whether a source owns the namespace. Used for register, ingest and admin. */
  source(namespace: string, source: RecordSource): PolicyVerdict {
    const early = this.#early(namespace);
    if (early !== undefined) return early;
    const rule = this.#trie.find(namespace);
    if (rule === undefined) return this.#unruled();
    if (rule.owners.length === 0) return said(true, "owners_unrestricted", rule.pattern);
    const owns = rule.owners.includes(source.clusterId) || rule.owners.includes(source.region);
    return said(owns, owns ? "owner_allowed" : "owner_denied", rule.pattern);
  }

  /**
   * Returns whether a viewer can see the namespace. Used for query, watch, DNS and every other read. HOT: verdicts are cached by viewer and
   * namespace.
   */
  viewer(namespace: string, viewer: Viewer): PolicyVerdict {
    if (this.set === undefined) return DISABLED;
    const kept = this.#keptOf(viewer);
    const known = kept.get(namespace);
    if (known !== undefined) return known;
    const verdict = this.#judgeViewer(namespace, viewer);
    if (this.#kept >= MAX_KEPT) {
      this.#viewers = new Map();
      this.#last = undefined;
      this.#kept = 0;
    } else kept.set(namespace, verdict);
    this.#kept += 1;
    return verdict;
  }

  /** Returns the cache of a viewer. The last viewer is remembered, because one viewer usually reads several namespaces in succession. */
  #keptOf({ clusterId, tenant }: Viewer): Map<string, PolicyVerdict> {
    const last = this.#last;
    if (last?.clusterId === clusterId && last.tenant === tenant) return last.kept;
    const name = `${clusterId}\0${tenant}`;
    const kept = this.#viewers.get(name) ?? new Map<string, PolicyVerdict>();
    this.#viewers.set(name, kept);
    this.#last = { clusterId, tenant, kept };
    return kept;
  }

  /**
   * Whether a viewer can see this namespace, or may be able to see a namespace below it. Below a hidden namespace, only a namespace with its own rule
   * can be visible. The result does not depend on existing entries. Cost: one step for each rule at and below the namespace.
   */
  showsUnder(namespace: string, viewer: Viewer): boolean {
    if (this.viewer(namespace, viewer).allowed || namespaceCovers(namespace, CONTROL_NAMESPACE)) return true;
    for (const rule of this.#trie.under(namespace)) if (judgeByRule(rule, viewer).allowed) return true;
    return false;
  }

  /** Returns whether a summary with this scope may leave the source's cluster at this time. */
  exportSummary(namespace: string, source: RecordSource, at: { readonly scope: Scope; readonly wallMs: number }): PolicyVerdict {
    if (isControlNamespace(namespace)) return NEVER_SUMMARISED;
    const owner = this.source(namespace, source);
    const rule = this.#trie.find(namespace);
    if (!owner.allowed || rule === undefined || this.set === undefined) return owner;
    const window = activeWindow(rule.cutoverWindows, at.wallMs);
    const until = nextEdge(rule.cutoverWindows, at.wallMs);
    const say = (allowed: boolean, reason: VerdictReason): PolicyVerdict => ({ allowed, reason, rule: rule.pattern, untilWallMs: until });
    if (rule.cutoverWindows.length > 0 && window === undefined) return say(false, "cutover_closed");
    const isByWindow = window !== undefined && window.exportScopes.length > 0;
    if (isByWindow && !window.exportScopes.includes(at.scope)) return say(false, "cutover_scope_denied");
    if (!(window?.allowSummaries ?? rule.allowSummaries)) return say(false, "summaries_disabled");
    if (!isByWindow && rule.exportScopes.length > 0 && !rule.exportScopes.includes(at.scope)) return say(false, "scope_denied");
    return say(true, "summary_allowed");
  }

  #judgeViewer(namespace: string, viewer: Viewer): PolicyVerdict {
    const early = this.#early(namespace);
    if (early !== undefined) return early;
    if (this.isPending) return said(false, "no_policy", "");
    const rule = this.#trie.find(namespace);
    return rule === undefined ? this.#unruled() : judgeByRule(rule, viewer);
  }

  #early(namespace: string): PolicyVerdict | undefined {
    if (this.set === undefined) return DISABLED;
    return isControlNamespace(namespace) ? CONTROL : undefined;
  }

  #unruled(): PolicyVerdict {
    return said(this.set?.defaultAllow ?? false, "no_policy", "");
  }
}

/** The policy of a node without a configured policy: everything is allowed. */
export const NO_POLICY: Policy = new Policy(undefined, 0);

/** The policy of a new node, which must not show entries that its cluster's policy may hide. */
export const PENDING_POLICY: Policy = new Policy({ version: "", defaultAllow: true, rules: [] }, 0, { isPending: true });

function said(allowed: boolean, reason: VerdictReason, rule: string): PolicyVerdict {
  return { allowed, reason, rule, untilWallMs: undefined };
}

function judgeByRule({ pattern, visibility, visibilityTenants }: NamespaceRule, { tenant, clusterId }: Viewer): PolicyVerdict {
  if (visibility.length === 0 && visibilityTenants.length === 0) return said(true, "visibility_unrestricted", pattern);
  if (tenant !== "" && visibilityTenants.includes(tenant)) return said(true, "tenant_allowed", pattern);
  if (visibility.includes(clusterId)) return said(true, "viewer_allowed", pattern);
  return said(false, "viewer_denied", pattern);
}

/** The input for `Explain`. */
export interface AccessQuestion {
  readonly action: PolicyAction;
  readonly namespace: string;
  /** For a read, the cluster that determines the read's view, together with `tenant`. For other actions, the cluster of the source. */
  readonly clusterId: string;
  readonly tenant: string;
  /** Region of the source; empty if unknown. */
  readonly region: string;
  /** Scope of the summary that would be exported. */
  readonly scope: Scope;
  readonly wallMs: number;
}

/** Answers `Explain` with the same verdict that all listeners use. */
export function explain(policy: Policy, question: AccessQuestion): PolicyVerdict {
  const { action, namespace, clusterId, tenant, region, scope, wallMs } = question;
  const source: RecordSource = { clusterId, region };
  switch (action) {
    case "query":
    case "watch":
      return policy.viewer(namespace, { clusterId, tenant });
    case "register":
    case "ingest":
    case "admin":
      return policy.source(namespace, source);
    case "export-summary":
      return policy.exportSummary(namespace, source, { scope, wallMs });
  }
}

// The view of one caller under the policy in force. This code also reports denials. It converts the verdicts above into functions that
// `discovery/reads.ts` passes to every query, watch and DNS answer.

/** Decides which namespaces are visible: either a policy, or two policies while a node is changing from one to the other. */
export type VisiblePolicy = Pick<Policy, "set" | "viewer">;

/** Holds the policy in force, which is replaced as a whole. */
export interface PolicySource {
  readonly policy: Policy;
}

/** Called for every denial. Never throws. */
export type OnDenied = (
  caller: Caller,
  denial: { readonly action: PolicyAction; readonly namespace: string; readonly verdict: PolicyVerdict },
) => void;

/**
 * The reason that callers receive for every namespace that they cannot see, regardless of which rule hides it, and even if no rule applies.
 */
export const HIDDEN_REASON: VerdictReason = "viewer_denied";

/** Returns the error for a call that names a namespace that its caller cannot see. */
export function hiddenError(field: string, namespace: string): WaymarkError {
  const metadata = { namespace, reason: HIDDEN_REASON };
  return new WaymarkError(
    "discovery_access_denied",
    `permission denied: ${field}: ${namespace} is not visible to this caller (${HIDDEN_REASON})`,
    { metadata },
  );
}

/** Sees all namespaces. Used by readers while no policy is in force, so that filtering costs nothing. */
export function seesAll(): boolean {
  return true;
}

/**
 * Returns a function that tests whether a caller can see a namespace. The function always uses the policy that is in force, so a watch can use the
 * function for its whole duration.
 */
export function visibilityOf(policies: { readonly policy: VisiblePolicy }, caller: Caller): (namespace: string) => boolean {
  const viewer = { clusterId: caller.cluster, tenant: caller.tenant };
  return (namespace) => policies.policy.viewer(namespace, viewer).allowed;
}

/**
 * Shows only namespaces that both policies show: the new owner rules have not been applied to all records yet, so some records that they hide may
 * still be visible.
 */
export function visibilityBetween(before: Policy, after: Policy): VisiblePolicy {
  return {
    set: after.set,
    viewer: (namespace, viewer) => {
      const verdict = after.viewer(namespace, viewer);
      return verdict.allowed ? before.viewer(namespace, viewer) : verdict;
    },
  };
}

/** The view of one query. Records one denial for each rule that hid a namespace from the query. */
export class VisibilityFilter {
  readonly #policy: VisiblePolicy;
  readonly #caller: Caller;
  readonly #denials = new Map<string, { readonly namespace: string; readonly verdict: PolicyVerdict }>();
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

  /** Reports the denials: once for each denying rule, even for reads by prefix (semantics.md, Policy). */
  tell(onDenied: OnDenied): void {
    for (const denial of this.#denials.values()) onDenied(this.#caller, { action: "query", ...denial });
  }
}

/**
 * Whether a source may publish entries with this scope. Owners may use any scope. Other sources may use only the scopes that do not leave their own
 * cluster ("can serve local endpoints"). In a namespace without a rule, nothing may be published if the default denies.
 */
export function mayPublish(verdict: PolicyVerdict, scope: Scope): boolean {
  return verdict.allowed || (verdict.reason === "owner_denied" && scope <= SCOPE.ZONE);
}

/**
 * Whether a record in the catalog may be visible on this node at all, according to the owner rule (ingest). If there is no policy, every record may
 * be visible.
 */
export function mayBeSeen(
  policy: Policy,
  record: { readonly namespace: string; readonly scope: Scope },
  from: RecordSource,
  here: string,
): boolean {
  const verdict = policy.source(record.namespace, from);
  return verdict.allowed || (from.clusterId === here && mayPublish(verdict, record.scope));
}

const ANYBODY: readonly string[] = [];
const NOBODY: readonly string[] = ["\0"];
const ANY_LABEL = "*";

/**
 * Whether two policies have the same owners for a namespace. The function may return false for owners that are equivalent but written differently.
 */
export function hasSameOwners(one: Policy, other: Policy, namespace: string): boolean {
  const [a, b] = [ownersOf(one, namespace), ownersOf(other, namespace)];
  return a === b || (a.length === b.length && a.every((owner, i) => owner === b[i]));
}

/**
 * Returns the prefixes at and below which two policies may have different owners for a namespace, whether or not the namespace has
 * entries. The empty string means all namespaces. Cost: O(rules in both policies).
 */
export function differentOwners(one: Policy, other: Policy): readonly string[] {
  const found = new Set<string>();
  // No rule can name a namespace with such a label. The label therefore represents all namespaces that do not have their own rule.
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
