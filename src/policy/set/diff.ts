/** Computes the differences between two policy sets, rule by rule, and decides whether the owner of a namespace may make such a change. */
import { SCOPE_NAMES } from "../../catalog/entry/scope.ts";
import { BELOW, type CutoverWindow, type NamespaceRule, type PolicySet } from "./rules.ts";

export interface FieldChange {
  /** Name of the field as in a policy file: `visibility_tenants`. */
  readonly field: string;
  /** The removed items of a list, or the previous value. At most 20. */
  readonly removed: readonly string[];
  /** The added items of a list, or the new value. At most 20. */
  readonly added: readonly string[];
}

export interface RuleChange {
  /** Pattern of the rule; empty if the fields belong to the set itself. */
  readonly pattern: string;
  readonly change: "added" | "removed" | "changed";
  /** Empty unless `change` is `changed`. */
  readonly fields: readonly FieldChange[];
}

const MAX_ITEMS = 20;

const RULES_A_SLICE = 1000;

/**
 * Returns the changed fields of the set itself, followed by every changed rule in order of its pattern. The order of rules and of list items is
 * ignored. Yields after every thousand rules.
 */
export function* diffSlices(before: PolicySet | undefined, after: PolicySet): Generator<void, readonly RuleChange[]> {
  const changes: RuleChange[] = [];
  const outside = fieldChanges(setFields(before), setFields(after));
  if (outside.length > 0) changes.push({ pattern: "", change: "changed", fields: outside });
  const [old, now] = [ruleMap(before), ruleMap(after)];
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

/** Returns the rule that would apply to the namespaces of a pattern if there were no rule with that pattern. Undefined if there is none. */
export function findParent(pattern: string, ruleOf: ReadonlyMap<string, NamespaceRule>): NamespaceRule | undefined {
  const isBelow = pattern.endsWith(BELOW);
  let prefix = prefixOf(pattern);
  if (isBelow && ruleOf.has(prefix)) return ruleOf.get(prefix);
  for (let dot = prefix.lastIndexOf("."); dot > 0; dot = prefix.lastIndexOf(".")) {
    prefix = prefix.slice(0, dot);
    const parent = ruleOf.get(`${prefix}${BELOW}`) ?? ruleOf.get(prefix);
    if (parent !== undefined) return parent;
  }
  return undefined;
}

/** The fields as lists of strings, by their names in a policy file. */
type RuleFields = Readonly<Record<string, readonly string[]>>;

function setFields(set: PolicySet | undefined): RuleFields {
  return { version: text(set?.version), default_allow: [set === undefined ? "no policy" : `${set.defaultAllow}`] };
}

function ruleFields(rule: NamespaceRule): RuleFields {
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

function fieldChanges(before: RuleFields, after: RuleFields): readonly FieldChange[] {
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

const FOREIGN_SET = "the set changes default_allow, or no set is in force";

/** Whether a caller owns a namespace, as `isOwnerOf` in caller.ts defines it. */
export type OwnershipTest = (namespace: string) => boolean;

/**
 * Returns the reason why an owner must not replace `before` with `after`. Undefined if the change is allowed: an owner may change the rules at and
 * below its namespace, except their quota and priority. Yields between slices of work. The reason names one rule, which may be hidden from the
 * caller.
 */
export function* foreignChangeSlices(
  before: PolicySet | undefined,
  after: PolicySet,
  owns: OwnershipTest,
): Generator<void, string | undefined> {
  const changes = yield* diffSlices(before, after);
  const outside = changes.find((change) => !isOwned(change, owns));
  if (outside?.pattern === "") return FOREIGN_SET;
  if (outside !== undefined) return `the set changes the rule ${outside.pattern}`;
  const [old, now] = [ruleMap(before), ruleMap(after)];
  const freed = changes.find(({ pattern }) => pattern !== "" && boundsOf(pattern, old) !== boundsOf(pattern, now));
  return freed === undefined ? undefined : `the set changes the quota or priority of namespaces under the rule ${freed.pattern}`;
}

/** The parts of a set that can be read before the set's rules are decoded. */
export interface SetOutline {
  readonly defaultAllow: boolean;
  readonly patterns: ReadonlySet<string>;
}

/**
 * Returns the reason why an owner must not replace `before` with a set that has this outline, regardless of the contents of the set's rules.
 * Undefined if the decision depends on the rules. The reason names one rule, as in `foreignChangeSlices`. Cost: O(patterns).
 */
export function foreignOutline(
  before: PolicySet | undefined,
  { defaultAllow, patterns }: SetOutline,
  owns: OwnershipTest,
): string | undefined {
  if (before?.defaultAllow !== defaultAllow) return FOREIGN_SET;
  const old = ruleMap(before);
  const isForeign = (pattern: string): boolean => !owns(prefixOf(pattern));
  const added = [...patterns].find((pattern) => !old.has(pattern) && isForeign(pattern));
  const outside = added ?? [...old.keys()].find((pattern) => !patterns.has(pattern) && isForeign(pattern));
  return outside === undefined ? undefined : `the set changes the rule ${outside}`;
}

function isOwned({ pattern, fields }: RuleChange, owns: OwnershipTest): boolean {
  // Of the set's own fields, an owner may only change the author's label: the other fields affect every owner.
  if (pattern === "") return fields.every(({ field }) => field === "version");
  return owns(prefixOf(pattern));
}

function prefixOf(pattern: string): string {
  return pattern.endsWith(BELOW) ? pattern.slice(0, -BELOW.length) : pattern;
}

function ruleMap(set: PolicySet | undefined): ReadonlyMap<string, NamespaceRule> {
  return new Map((set?.rules ?? []).map((rule) => [rule.pattern, rule]));
}

/**
 * Returns the quota and priority that apply to a pattern, from the pattern's own rule or from its parent rule. These fields protect other tenants
 * from the owner.
 */
function boundsOf(pattern: string, ruleOf: ReadonlyMap<string, NamespaceRule>): string {
  const rule = ruleOf.get(pattern) ?? findParent(pattern, ruleOf);
  if (rule === undefined) return "0/0/0/0";
  const { quota, priority } = rule;
  return `${quota.entries}/${quota.watches}/${quota.bytes}/${priority}`;
}
