/** How one policy set differs from another, rule by rule: what history shows and what a reviewer reads. */
import { SCOPE_NAMES } from "../../catalog/entry/scope.ts";
import { runThrough } from "../../lib/slices.ts";
import { BELOW, type CutoverWindow, type PolicySet, type Rule } from "./rules.ts";

export interface FieldChange {
  /** As in a policy file: `visibility_tenants`. */
  readonly field: string;
  /** Items of a list that are gone, or the value before. At most 20. */
  readonly removed: readonly string[];
  readonly added: readonly string[];
}

export interface RuleChange {
  /** Empty for what a set says outside of its rules. */
  readonly pattern: string;
  readonly change: "added" | "removed" | "changed";
  /** Empty unless changed. */
  readonly fields: readonly FieldChange[];
}

const MAX_ITEMS = 20;

/** Every rule that differs, by pattern; what the sets say outside of rules first. Order of rules and of lists does not count. */
export function diff(before: PolicySet | undefined, after: PolicySet): readonly RuleChange[] {
  return runThrough(diffSlices(before, after));
}

const RULES_A_SLICE = 1000;

/** `diff` that yields after each thousand rules. */
export function* diffSlices(before: PolicySet | undefined, after: PolicySet): Generator<void, readonly RuleChange[]> {
  const changes: RuleChange[] = [];
  const outside = fieldChanges(setFields(before), setFields(after));
  if (outside.length > 0) changes.push({ pattern: "", change: "changed", fields: outside });
  const old = new Map((before?.rules ?? []).map((rule) => [rule.pattern, rule]));
  const now = new Map(after.rules.map((rule) => [rule.pattern, rule]));
  const patterns = [...new Set([...old.keys(), ...now.keys()])].toSorted();
  for (const [index, pattern] of patterns.entries()) {
    if (index % RULES_A_SLICE === 0) yield;
    const was = old.get(pattern);
    const is = now.get(pattern);
    if (was === undefined) changes.push({ pattern, change: "added", fields: [] });
    else if (is === undefined) changes.push({ pattern, change: "removed", fields: [] });
    else {
      const fields = fieldChanges(ruleFields(was), ruleFields(is));
      if (fields.length > 0) changes.push({ pattern, change: "changed", fields });
    }
  }
  return changes;
}

/** The rule a pattern's namespaces would fall under without it; undefined when there is none. */
export function findParent(pattern: string, ruleOf: ReadonlyMap<string, Rule>): Rule | undefined {
  const isBelow = pattern.endsWith(BELOW);
  let prefix = isBelow ? pattern.slice(0, -BELOW.length) : pattern;
  if (isBelow && ruleOf.has(prefix)) return ruleOf.get(prefix);
  for (let dot = prefix.lastIndexOf("."); dot > 0; dot = prefix.lastIndexOf(".")) {
    prefix = prefix.slice(0, dot);
    const parent = ruleOf.get(`${prefix}${BELOW}`) ?? ruleOf.get(prefix);
    if (parent !== undefined) return parent;
  }
  return undefined;
}

/** Fields as lists of texts, by their name in a policy file. */
type Fields = Readonly<Record<string, readonly string[]>>;

function setFields(set: PolicySet | undefined): Fields {
  return { version: text(set?.version), default_allow: [set === undefined ? "no policy" : `${set.defaultAllow}`] };
}

function ruleFields(rule: Rule): Fields {
  return {
    owners: rule.owners,
    visibility: rule.visibility,
    visibility_tenants: rule.visibilityTenants,
    export_scopes: rule.exportScopes.map((scope) => SCOPE_NAMES[scope]),
    allow_summaries: [`${rule.allowSummaries}`],
    cutover_windows: rule.cutoverWindows.map(windowText),
    policy_version: text(rule.policyVersion),
    priority: [`${rule.priority}`],
    "quota.entries": [`${rule.quota.entries}`],
    "quota.watches": [`${rule.quota.watches}`],
    "quota.bytes": [`${rule.quota.bytes}`],
  };
}

function text(value: string | undefined): readonly string[] {
  return value === undefined || value === "" ? [] : [value];
}

function windowText({ startsWallMs, endsWallMs, exportScopes, allowSummaries }: CutoverWindow): string {
  const end = endsWallMs === undefined ? "open" : new Date(endsWallMs).toISOString();
  const scopes = exportScopes.length === 0 ? "" : ` ${exportScopes.map((scope) => SCOPE_NAMES[scope]).join("+")}`;
  const summaries = allowSummaries === undefined ? "" : ` allow_summaries=${allowSummaries}`;
  return `${new Date(startsWallMs).toISOString()} to ${end}${scopes}${summaries}`;
}

function fieldChanges(before: Fields, after: Fields): readonly FieldChange[] {
  const changes: FieldChange[] = [];
  for (const [field, is] of Object.entries(after)) {
    const was = before[field] ?? [];
    const removed = without(was, is);
    const added = without(is, was);
    if (removed.length > 0 || added.length > 0) changes.push({ field, removed, added });
  }
  return changes;
}

function without(items: readonly string[], others: readonly string[]): readonly string[] {
  if (items.length === 1 && others.length === 1 && items[0] === others[0]) return [];
  const gone = new Set(others);
  const left = items.filter((item) => !gone.has(item));
  return left.length <= MAX_ITEMS ? left : [...left.slice(0, MAX_ITEMS - 1), `… and ${left.length - MAX_ITEMS + 1} more`];
}
