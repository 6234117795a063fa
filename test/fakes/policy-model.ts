/** Who may see what, the naive way: plain lists and no tree, cache or index. What the listeners of a node are compared with. */
import type { NamespaceRule, PolicySet } from "../../src/policy/set/rules.ts";

export interface ModelEntry {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  /** 1 LOCAL to 4 GLOBAL. */
  readonly scope: number;
  readonly tags: readonly string[];
  readonly aliases: readonly string[];
  /** Undefined: never. */
  readonly expiresMonoMs: number | undefined;
}

export interface ModelViewer {
  readonly cluster: string;
  readonly tenant: string;
}

/** Where all entries of the model come from. */
const HERE = { cluster: "local", region: "local" } as const;

function patternCovers(pattern: string, namespace: string): boolean {
  if (pattern.endsWith(".*")) return namespace.startsWith(pattern.slice(0, -1));
  return namespace === pattern || namespace.startsWith(`${pattern}.`);
}

/** Labels before the wildcard, and half a label for it: `p.*` beats `p`, and loses to `p.q`. */
function weightOf(pattern: string): number {
  return pattern.split(".").length - (pattern.endsWith(".*") ? 0.5 : 0);
}

export class PolicyModel {
  /** Undefined: no policy was ever configured. */
  set: PolicySet | undefined;
  entries: ModelEntry[] = [];
  #known: { readonly of: PolicySet | undefined; readonly rules: Map<string, NamespaceRule | undefined> } = {
    of: undefined,
    rules: new Map(),
  };

  /** Remembered for one set: only the waiting gets shorter. */
  ruleOf(namespace: string): NamespaceRule | undefined {
    if (this.#known.of !== this.set) this.#known = { of: this.set, rules: new Map() };
    const { rules } = this.#known;
    if (!rules.has(namespace)) rules.set(namespace, this.#findRule(namespace));
    return rules.get(namespace);
  }

  #findRule(namespace: string): NamespaceRule | undefined {
    let best: NamespaceRule | undefined;
    for (const rule of this.set?.rules ?? []) {
      if (patternCovers(rule.pattern, namespace) && (best === undefined || weightOf(rule.pattern) > weightOf(best.pattern))) best = rule;
    }
    return best;
  }

  sees({ cluster, tenant }: ModelViewer, namespace: string): boolean {
    if (this.set === undefined || namespace.startsWith("discovery.")) return true;
    const rule = this.ruleOf(namespace);
    if (rule === undefined) return this.set.defaultAllow;
    const { visibility, visibilityTenants } = rule;
    if (visibility.length + visibilityTenants.length === 0) return true;
    return visibility.includes(cluster) || (tenant !== "" && visibilityTenants.includes(tenant));
  }

  /** Whether this node's cluster may publish it, and what it has published be seen. */
  isAdmitted({ namespace, scope }: Pick<ModelEntry, "namespace" | "scope">): boolean {
    if (this.set === undefined) return true;
    const rule = this.ruleOf(namespace);
    if (rule === undefined) return this.set.defaultAllow;
    if (rule.owners.length === 0 || rule.owners.includes(HERE.cluster) || rule.owners.includes(HERE.region)) return true;
    return scope <= 2;
  }

  visible(viewer: ModelViewer): readonly ModelEntry[] {
    const seen = new Map<string, boolean>();
    return this.entries.filter((entry) => {
      let sees = seen.get(entry.namespace);
      if (sees === undefined) {
        sees = this.sees(viewer, entry.namespace);
        seen.set(entry.namespace, sees);
      }
      return sees && this.isAdmitted(entry);
    });
  }

  /** The aliases that count: in a namespace that the entry's tenant may write, and below no name that a rule keeps from it. */
  aliasesOf({ key, scope, aliases }: ModelEntry): readonly string[] {
    const tenant = key.split("|")[2]?.split("-")[0] ?? "";
    return aliases.filter((alias) => {
      const labels = alias.split(".");
      const names = labels.map((_, i) => labels.slice(i).join("."));
      return names.every((namespace, i) => {
        const isAsked = i === 1 || this.ruleOf(namespace) !== undefined;
        return !isAsked || (this.isAdmitted({ namespace, scope }) && this.sees({ cluster: HERE.cluster, tenant }, namespace));
      });
    });
  }

  /** Whether a viewer may see an alias: the namespace that it lies in, and the name itself where a rule is for it. */
  seesAlias(viewer: ModelViewer, alias: string): boolean {
    const namespace = alias.split(".").slice(1).join(".");
    return this.sees(viewer, namespace) && (this.ruleOf(alias) === undefined || this.sees(viewer, alias));
  }

  /** Whether a summary of this scope may leave now. */
  exports(namespace: string, scope: number, wallMs: number): boolean {
    if (this.set === undefined) return true;
    const rule = this.ruleOf(namespace);
    if (rule === undefined) return this.set.defaultAllow;
    if (rule.owners.length > 0 && !rule.owners.includes(HERE.cluster) && !rule.owners.includes(HERE.region)) return false;
    const active = rule.cutoverWindows
      .filter(({ startsWallMs, endsWallMs }) => startsWallMs <= wallMs && wallMs < (endsWallMs ?? Number.POSITIVE_INFINITY))
      .toSorted((a, b) => a.startsWallMs - b.startsWallMs)
      .at(-1);
    if (rule.cutoverWindows.length > 0 && active === undefined) return false;
    const scopes: readonly number[] = active !== undefined && active.exportScopes.length > 0 ? active.exportScopes : rule.exportScopes;
    if (!(active?.allowSummaries ?? rule.allowSummaries)) return false;
    return scopes.length === 0 || scopes.includes(scope);
  }
}
