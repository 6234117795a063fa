/** Policy sets as plain values, and which rule of one a namespace falls under (semantics.md, Policy). */
import type { Scope } from "../../catalog/entry/scope.ts";

/** A span of time with its own export rule; `[startsWallMs, endsWallMs)`. */
export interface CutoverWindow {
  readonly startsWallMs: number;
  /** Undefined: open-ended. */
  readonly endsWallMs: number | undefined;
  /** Scopes that may leave inside the window; empty: as the rule says. */
  readonly exportScopes: readonly Scope[];
  /** Undefined: as the rule says. */
  readonly allowSummaries: boolean | undefined;
}

/** Bounds on what a namespace may hold; 0 means no bound. */
export interface Quota {
  readonly entries: number;
  readonly watches: number;
  readonly bytes: number;
}

/** The rule of one namespace and those below it; of `p.*` those below p only. */
export interface Rule {
  /** `p` or `p.*`. */
  readonly pattern: string;
  /** Clusters or regions; empty means unrestricted. */
  readonly owners: readonly string[];
  /** Clusters that may see it. With `visibilityTenants` empty too: unrestricted. */
  readonly visibility: readonly string[];
  readonly visibilityTenants: readonly string[];
  /** Empty: any. */
  readonly exportScopes: readonly Scope[];
  readonly allowSummaries: boolean;
  readonly cutoverWindows: readonly CutoverWindow[];
  /** The author's label of this rule. */
  readonly policyVersion: string;
  /** Higher leaves first when a link is slow. */
  readonly priority: number;
  readonly quota: Quota;
}

export interface PolicySet {
  /** The author's label. */
  readonly version: string;
  /** What a namespace without a rule gets. */
  readonly defaultAllow: boolean;
  readonly rules: readonly Rule[];
}

/** What a pattern ends in when it means the descendants only. */
export const BELOW = ".*";

interface Branch {
  self: Rule | undefined;
  below: Rule | undefined;
  readonly children: Map<string, Branch>;
}

/** Rules by longest prefix: a trie on labels. Patterns are distinct; `policy-set.ts` refuses sets where they are not. */
export class RuleTrie {
  readonly #root: Branch = newBranch();

  constructor(rules: readonly Rule[]) {
    for (const rule of rules) {
      const isBelow = rule.pattern.endsWith(BELOW);
      const branch = this.#branchOf(isBelow ? rule.pattern.slice(0, -BELOW.length) : rule.pattern);
      if (isBelow) branch.below = rule;
      else branch.self = rule;
    }
  }

  /** The rule a namespace falls under: the longest prefix, where `p.*` beats `p` for what is below p. Cost: its labels. */
  find(namespace: string): Rule | undefined {
    let branch = this.#root;
    let best: Rule | undefined;
    for (let start = 0; ; ) {
      const dot = namespace.indexOf(".", start);
      const child = branch.children.get(dot < 0 ? namespace.slice(start) : namespace.slice(start, dot));
      if (child === undefined) return best;
      if (child.self !== undefined) best = child.self;
      if (dot < 0) return best;
      if (child.below !== undefined) best = child.below;
      branch = child;
      start = dot + 1;
    }
  }

  #branchOf(prefix: string): Branch {
    let branch = this.#root;
    for (const label of prefix.split(".")) {
      let child = branch.children.get(label);
      if (child === undefined) {
        child = newBranch();
        branch.children.set(label, child);
      }
      branch = child;
    }
    return branch;
  }
}

function newBranch(): Branch {
  return { self: undefined, below: undefined, children: new Map() };
}
