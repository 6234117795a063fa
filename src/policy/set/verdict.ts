/** What policy says: the one function behind query, watch, DNS, UI and Explain (semantics.md, Policy; P11). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import type { Scope } from "../../catalog/entry/scope.ts";
import { activeWindow, nextEdge } from "./cutover.ts";
import { type PolicySet, type Rule, RuleTrie } from "./rules.ts";

/** What may be asked about, as `Explain` names it. */
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

export interface Verdict {
  readonly allowed: boolean;
  readonly reason: VerdictReason;
  /** Pattern of the rule that decided; empty when none did. */
  readonly rule: string;
  /** Next instant at which time alone changes it; undefined when time does not. */
  readonly untilWallMs: number | undefined;
}

/** Where a record comes from. */
export interface Source {
  readonly clusterId: string;
  readonly region: string;
}

/** Who looks. */
export interface Viewer {
  readonly clusterId: string;
  readonly tenant: string;
}

const DISABLED: Verdict = said(true, "policy_disabled", "");
const CONTROL: Verdict = said(true, "control_plane", "");
/** Viewer verdicts kept, over all viewers; emptied when full. */
const MAX_KEPT = 200_000;

/** A policy in force, compiled; or none. Immutable but for what it remembers. */
export class Policy {
  /** Undefined: no policy was ever configured, and everything is allowed. */
  readonly set: PolicySet | undefined;
  /** Assigned by the server; 0 without a set. */
  readonly number: number;
  /** Of the set's canonical text; empty where it is of no version. */
  readonly checksum: string;
  /** The cluster's policy is not known here yet: nobody sees anything, and everybody may register. */
  readonly isPending: boolean;
  readonly #trie: RuleTrie;
  #viewers = new Map<string, Map<string, Verdict>>();
  #kept = 0;

  constructor(set: PolicySet | undefined, number: number, { checksum = "", isPending = false } = {}) {
    this.set = set;
    this.number = number;
    this.checksum = checksum;
    this.isPending = isPending;
    this.#trie = new RuleTrie(set?.rules ?? []);
  }

  /**
   * Stands for what verdicts may depend on beside time; part of portable cursors, and so the same text at every node that has
   * the same version in force. Two nodes may give one number to two sets.
   */
  get epoch(): string {
    if (this.set === undefined) return "none";
    if (this.isPending) return "pending";
    return this.checksum === "" ? `${this.number}` : `${this.number}-${this.checksum.slice(0, 12)}`;
  }

  /** The rule a namespace falls under. */
  ruleOf(namespace: string): Rule | undefined {
    return this.#trie.find(namespace);
  }

  /** Whether a source owns the namespace: register, ingest, admin. */
  source(namespace: string, source: Source): Verdict {
    const early = this.#early(namespace);
    if (early !== undefined) return early;
    const rule = this.#trie.find(namespace);
    if (rule === undefined) return this.#unruled();
    if (rule.owners.length === 0) return said(true, "owners_unrestricted", rule.pattern);
    const owns = rule.owners.includes(source.clusterId) || rule.owners.includes(source.region);
    return said(owns, owns ? "owner_allowed" : "owner_denied", rule.pattern);
  }

  /** Whether a viewer sees the namespace: query, watch, DNS and every other read. HOT: kept by viewer and namespace. */
  viewer(namespace: string, viewer: Viewer): Verdict {
    if (this.set === undefined) return DISABLED;
    const name = `${viewer.clusterId}\0${viewer.tenant}`;
    let kept = this.#viewers.get(name);
    if (kept === undefined) {
      kept = new Map();
      this.#viewers.set(name, kept);
    }
    const known = kept.get(namespace);
    if (known !== undefined) return known;
    const verdict = this.#judgeViewer(namespace, viewer);
    if (this.#kept >= MAX_KEPT) this.#forget();
    else kept.set(namespace, verdict);
    this.#kept += 1;
    return verdict;
  }

  /** Whether a summary of this scope may leave the source's cluster now. */
  exportSummary(namespace: string, source: Source, at: { readonly scope: Scope; readonly wallMs: number }): Verdict {
    const owner = this.source(namespace, source);
    const rule = this.#trie.find(namespace);
    if (!owner.allowed || rule === undefined || this.set === undefined) return owner;
    const window = activeWindow(rule.cutoverWindows, at.wallMs);
    const until = nextEdge(rule.cutoverWindows, at.wallMs);
    const say = (allowed: boolean, reason: VerdictReason): Verdict => ({ allowed, reason, rule: rule.pattern, untilWallMs: until });
    if (rule.cutoverWindows.length > 0 && window === undefined) return say(false, "cutover_closed");
    const isByWindow = window !== undefined && window.exportScopes.length > 0;
    if (isByWindow && !window.exportScopes.includes(at.scope)) return say(false, "cutover_scope_denied");
    if (!(window?.allowSummaries ?? rule.allowSummaries)) return say(false, "summaries_disabled");
    if (!isByWindow && rule.exportScopes.length > 0 && !rule.exportScopes.includes(at.scope)) return say(false, "scope_denied");
    return say(true, "summary_allowed");
  }

  #judgeViewer(namespace: string, viewer: Viewer): Verdict {
    const early = this.#early(namespace);
    if (early !== undefined) return early;
    if (this.isPending) return said(false, "no_policy", "");
    const rule = this.#trie.find(namespace);
    if (rule === undefined) return this.#unruled();
    if (rule.visibility.length === 0 && rule.visibilityTenants.length === 0) return said(true, "visibility_unrestricted", rule.pattern);
    if (viewer.tenant !== "" && rule.visibilityTenants.includes(viewer.tenant)) return said(true, "tenant_allowed", rule.pattern);
    if (rule.visibility.includes(viewer.clusterId)) return said(true, "viewer_allowed", rule.pattern);
    return said(false, "viewer_denied", rule.pattern);
  }

  #early(namespace: string): Verdict | undefined {
    if (this.set === undefined) return DISABLED;
    return isControlNamespace(namespace) ? CONTROL : undefined;
  }

  #unruled(): Verdict {
    return said(this.set?.defaultAllow ?? false, "no_policy", "");
  }

  #forget(): void {
    this.#viewers = new Map();
    this.#kept = 0;
  }
}

/** No policy was ever configured. */
export const NO_POLICY: Policy = new Policy(undefined, 0);

/** Of a newcomer: what its cluster hides it must not show. */
export const PENDING_POLICY: Policy = new Policy({ version: "", defaultAllow: true, rules: [] }, 0, { isPending: true });

function said(allowed: boolean, reason: VerdictReason, rule: string): Verdict {
  return { allowed, reason, rule, untilWallMs: undefined };
}
