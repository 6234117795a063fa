/** Validates policy sets, and reports every problem with its path, not only the first problem (semantics.md, Policy). */
import { isControlNamespace, isName, isNamespace, nameRule, namespaceRule, PROTOCOL_BOUNDS, quoted } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { invalid, MAX_VIOLATIONS, WaymarkError } from "../../lib/errors.ts";
import { runThrough } from "../../lib/machine.ts";
import { findParent } from "./diff.ts";
import { BELOW, type CutoverWindow, canonicalRule, type NamespaceRule, type PolicySet } from "./rules.ts";

export interface PolicyProblem {
  /** The path of the field, for example `rules[3].cutover_windows[0].ends_at`. */
  readonly path: string;
  /** A set with errors is rejected. Warnings are only reported to the author. */
  readonly severity: "error" | "warning";
  /** Describes the fault, with the value and the correct form. */
  readonly message: string;
}

/** Facts that are not in the set and that the caller provides. A check is skipped if a fact that it needs is undefined. */
export interface ValidationFacts {
  /** The existing clusters and regions. */
  readonly clusters?: ReadonlySet<string> | undefined;
  readonly nowWallMs?: number | undefined;
  /** Returns the number of entries in exactly this namespace. */
  readonly countEntries?: ((namespace: string) => number) | undefined;
}

export const SET_BOUNDS = {
  maxRules: 10_000,
  /** Maximum number of items in each list of a rule. */
  maxItems: 1000,
  /** Maximum number of cutover windows in one rule. */
  maxWindows: 256,
  /** Maximum number of cutover windows in all rules together. */
  maxSetWindows: 20_000,
  /** Maximum number of owners and viewers in all rules together. */
  maxSetIds: 250_000,
  /** Maximum length of an author's label for a set or a rule, in characters. */
  maxLabelLength: 128,
} as const;

/** Maximum number of problems that are reported for each severity. If there are more, one additional problem states this. */
const MAX_PROBLEMS = 1000;
/** 9999-12-31T23:59:59.999Z, the latest time that RFC 3339 can express. */
export const MAX_WALL_MS = 253_402_300_799_999;
/** 0001-01-01T00:00:00Z, the earliest time that RFC 3339 can express. */
export const MIN_WALL_MS = -62_135_596_800_000;

/** Returns all problems of a set, in the order of the set's rules. Cost: 10,000 rules take about 40 ms. */
export function validate(set: PolicySet, known: ValidationFacts = {}): readonly PolicyProblem[] {
  return runThrough(validateSlices(set, known));
}

/**
 * Like `validate`, but yields after every few hundred rules, so that the caller can let the event loop run. Problems found are added to `problems`,
 * and its limit includes the problems that it already contains.
 */
export function* validateSlices(
  set: PolicySet,
  known: ValidationFacts = {},
  problems = new PolicyProblems<PolicyProblem>(),
): Generator<void, readonly PolicyProblem[]> {
  yield* new SetCheck(known, problems).set(set);
  return problems.list;
}

export function hasErrors(problems: readonly PolicyProblem[]): boolean {
  return problems.some(({ severity }) => severity === "error");
}

/** Collects problems, up to a limit for each severity. */
export class PolicyProblems<P extends PolicyProblem> {
  readonly list: P[] = [];
  readonly counts = { error: 0, warning: 0 };

  add(problem: P): void {
    const { severity } = problem;
    this.counts[severity] += 1;
    if (this.counts[severity] <= MAX_PROBLEMS) this.list.push(problem);
    else if (this.counts[severity] === MAX_PROBLEMS + 1)
      this.list.push({ ...problem, path: "", message: `there are more ${severity}s: only the first ${MAX_PROBLEMS} are listed` });
  }

  /** Whether further errors would no longer be reported. */
  get isFull(): boolean {
    return this.counts.error > MAX_PROBLEMS;
  }
}

const RULES_A_SLICE = 250;

/** The rules and the default of the set, with which each rule is compared. */
interface OtherRules {
  readonly ruleOf: ReadonlyMap<string, NamespaceRule>;
  readonly defaultAllow: boolean;
}

class SetCheck {
  readonly #known: ValidationFacts;
  readonly #problems: PolicyProblems<PolicyProblem>;

  constructor(known: ValidationFacts, problems: PolicyProblems<PolicyProblem>) {
    this.#known = known;
    this.#problems = problems;
  }

  *set(set: PolicySet): Generator<void, void> {
    this.#label(set.version, "version");
    const { rules } = set;
    if (!this.#fits(rules, SET_BOUNDS.maxRules, "rules", "rules")) return;
    if (!this.#fitsInAll(rules)) return;
    const firstOf = new Map<string, number>();
    const ruleOf = new Map<string, NamespaceRule>();
    for (const [index, rule] of rules.entries()) {
      const first = firstOf.get(rule.pattern);
      if (first !== undefined)
        this.#error(`rules[${index}].namespace`, `${quoted(rule.pattern)} is already the namespace of rules[${first}]`);
      else {
        firstOf.set(rule.pattern, index);
        ruleOf.set(rule.pattern, rule);
      }
    }
    for (const [index, rule] of rules.entries()) {
      if (this.#problems.isFull) return;
      this.#rule(rule, `rules[${index}]`, { ruleOf, defaultAllow: set.defaultAllow });
      if (index % RULES_A_SLICE === RULES_A_SLICE - 1) yield;
    }
  }

  #fitsInAll(rules: readonly NamespaceRule[]): boolean {
    const counts = { windows: 0, ids: 0 };
    for (const { owners, visibility, visibilityTenants, cutoverWindows } of rules) {
      counts.windows += cutoverWindows.length;
      counts.ids += owners.length + visibility.length + visibilityTenants.length;
    }
    const areWindowsFew = this.#fits(
      { length: counts.windows },
      SET_BOUNDS.maxSetWindows,
      "cutover windows in all rules together",
      "rules",
    );
    return this.#fits({ length: counts.ids }, SET_BOUNDS.maxSetIds, "owners and viewers in all rules together", "rules") && areWindowsFew;
  }

  #rule(rule: NamespaceRule, path: string, others: OtherRules): void {
    const isPattern = this.#pattern(rule.pattern, `${path}.namespace`);
    this.#ids(rule.owners, `${path}.owners`);
    this.#ids(rule.visibility, `${path}.visibility`);
    this.#ids(rule.visibilityTenants, `${path}.visibility_tenants`);
    this.#scopes(rule.exportScopes, `${path}.export_scopes`);
    this.#windows(rule.cutoverWindows, `${path}.cutover_windows`);
    this.#label(rule.policyVersion, `${path}.policy_version`);
    this.#integer(rule.priority, `${path}.priority`, { min: -2_147_483_648, max: 2_147_483_647 });
    for (const name of ["entries", "watches", "bytes"] as const)
      this.#integer(rule.quota[name], `${path}.quota.${name}`, { min: 0, max: Number.MAX_SAFE_INTEGER });
    this.#owners(rule.owners, `${path}.owners`);
    if (!isPattern) return;
    this.#useless(rule, path, others);
    this.#uncovered(rule, path, others);
  }

  #pattern(pattern: string, path: string): boolean {
    const isBelow = pattern.endsWith(BELOW);
    const prefix = isBelow ? pattern.slice(0, -BELOW.length) : pattern;
    if (pattern === "*") {
      this.#error(path, '"*" is not a pattern: a rule needs a namespace before the *; use default_allow for namespaces without a rule');
      return false;
    }
    if (!isNamespace(prefix, PROTOCOL_BOUNDS)) {
      const rule = prefix.includes("*") ? `${quoted(pattern)} can have a * only as its last label` : namespaceRule(prefix, PROTOCOL_BOUNDS);
      this.#error(path, `${rule}; write p for p and all namespaces below it, or p.* for the namespaces below p only`);
      return false;
    }
    if (isControlNamespace(prefix)) {
      this.#error(path, `${quoted(pattern)} belongs to the control plane, to which policies do not apply`);
      return false;
    }
    // The shortest namespace below the prefix is longer than the prefix by a dot and a letter.
    if (isBelow && prefix.length + 2 > PROTOCOL_BOUNDS.maxNamespaceLength)
      this.#warn(path, `never applies: every namespace below ${quoted(prefix)} would be too long`);
    return true;
  }

  #ids(ids: readonly string[], path: string): void {
    if (!this.#fits(ids, SET_BOUNDS.maxItems, "items", path)) return;
    const seen = new Set<string>();
    for (const [index, id] of ids.entries()) {
      if (!isName(id, NODE_BOUNDS.maxIdLength)) this.#error(`${path}[${index}]`, nameRule(id, NODE_BOUNDS.maxIdLength));
      else if (seen.has(id)) this.#error(`${path}[${index}]`, `${quoted(id)} is listed twice`);
      seen.add(id);
    }
  }

  #scopes(scopes: readonly number[], path: string): void {
    if (!this.#fits(scopes, SET_BOUNDS.maxItems, "items", path)) return;
    for (const [index, scope] of scopes.entries()) {
      if (!Number.isInteger(scope) || scope < SCOPE.LOCAL || scope > SCOPE.GLOBAL)
        this.#error(`${path}[${index}]`, `unknown scope ${scope}: must be local, zone, region or global`);
      else if (scopes.indexOf(scope) < index) this.#error(`${path}[${index}]`, "the same scope is listed twice");
    }
  }

  #windows(windows: readonly CutoverWindow[], path: string): void {
    if (!this.#fits(windows, SET_BOUNDS.maxWindows, "windows", path)) return;
    for (const [index, { startsWallMs, endsWallMs, exportScopes }] of windows.entries()) {
      const at = `${path}[${index}]`;
      const isStart = this.#time(startsWallMs, `${at}.starts_at`);
      if (endsWallMs !== undefined && this.#time(endsWallMs, `${at}.ends_at`) && isStart && endsWallMs <= startsWallMs)
        this.#error(`${at}.ends_at`, `must be after starts_at (${timeText(startsWallMs)}), got ${timeText(endsWallMs)}`);
      this.#scopes(exportScopes, `${at}.export_scopes`);
    }
    const { nowWallMs } = this.#known;
    const isOver =
      nowWallMs !== undefined && windows.length > 0 && windows.every(({ endsWallMs = nowWallMs + 1 }) => endsWallMs <= nowWallMs);
    if (isOver) this.#warn(path, "all windows have ended: summaries of this namespace are no longer exported");
  }

  #time(wallMs: number, path: string): boolean {
    if (wallMs >= MIN_WALL_MS && wallMs <= MAX_WALL_MS && Number.isInteger(wallMs)) return true;
    this.#error(path, `must be a time between the years 1 and 9999 in ms since 1970, got ${wallMs}`);
    return false;
  }

  #label(label: string, path: string): void {
    if (!this.#fits(label, SET_BOUNDS.maxLabelLength, "characters", path)) return;
    // A lone surrogate cannot be encoded in UTF-8, so the stored string would differ from the original.
    if (!label.isWellFormed()) this.#error(path, "must be well-formed Unicode text");
  }

  #integer(value: number, path: string, { min, max }: { readonly min: number; readonly max: number }): void {
    if (!Number.isSafeInteger(value) || value < min || value > max)
      this.#error(path, `must be a whole number from ${min} to ${max}, got ${value}`);
  }

  #owners(owners: readonly string[], path: string): void {
    const { clusters } = this.#known;
    if (clusters === undefined || owners.length > SET_BOUNDS.maxItems) return;
    for (const [index, owner] of owners.entries()) {
      if (!clusters.has(owner)) this.#warn(`${path}[${index}]`, `${quoted(owner)} is not a known cluster or region`);
    }
  }

  /** Warns about a rule that has no effect, which is often a mistake. */
  #useless(rule: NamespaceRule, path: string, { ruleOf }: OtherRules): void {
    const parent = findParent(rule.pattern, ruleOf);
    if (parent === undefined || parent.pattern === rule.pattern) return;
    const { pattern: _own, ...mine } = canonicalRule(rule);
    const { pattern: _parents, ...theirs } = canonicalRule(parent);
    if (JSON.stringify(mine) === JSON.stringify(theirs))
      this.#warn(path, `repeats the rule of ${parent.pattern}: removing it would change nothing`);
  }

  /**
   * Warns about a rule for `p.*` if `p` itself is visible to all, or has entries to which no rule applies: the author probably intended the rule for
   * `p` too.
   */
  #uncovered(rule: NamespaceRule, path: string, { ruleOf, defaultAllow }: OtherRules): void {
    if (!rule.pattern.endsWith(BELOW)) return;
    const namespace = rule.pattern.slice(0, -BELOW.length);
    if (ruleOf.has(namespace)) return;
    const parent = findParent(namespace, ruleOf);
    const isOpen =
      parent === undefined
        ? defaultAllow && (isLimited(rule) || rule.owners.length > 0)
        : (isLimited(rule) && !isLimited(parent)) || (rule.owners.length > 0 && parent.owners.length === 0);
    const entryCount = this.#known.countEntries?.(namespace) ?? 0;
    if (!isOpen && (parent !== undefined || defaultAllow || entryCount === 0)) return;
    const decides = parent === undefined ? `default_allow (${defaultAllow})` : `the rule of ${parent.pattern}`;
    const entries = entryCount === 0 ? "" : ` and its entries (${entryCount})`;
    this.#warn(
      `${path}.namespace`,
      `does not cover ${namespace} itself${entries}: ${decides} applies to it; write ${namespace} to cover both, or add a rule for it`,
    );
  }

  #fits({ length }: { readonly length: number }, max: number, what: string, path: string): boolean {
    if (length > max) this.#error(path, `must have at most ${max} ${what}, got ${length}`);
    return length <= max;
  }

  #error(path: string, message: string): void {
    this.#problems.add({ path, severity: "error", message });
  }

  #warn(path: string, message: string): void {
    this.#problems.add({ path, severity: "warning", message });
  }
}

/**
 * Returns warnings for rules in `after` from whose lists of viewers the last item was removed. Without viewers, the namespace is visible to all
 * callers. An author who removes a tenant from a list rarely intends this (P10).
 */
export function openedRules(before: PolicySet | undefined, after: PolicySet): readonly PolicyProblem[] {
  const wasLimited = new Set((before?.rules ?? []).filter(isLimited).map(({ pattern }) => pattern));
  const problems: PolicyProblem[] = [];
  for (const [index, rule] of after.rules.entries()) {
    if (isLimited(rule) || !wasLimited.has(rule.pattern)) continue;
    const message = `the last viewer of ${rule.pattern} was removed: with both lists empty, all callers see it`;
    problems.push({ path: `rules[${index}].visibility_tenants`, severity: "warning", message });
    if (problems.length >= MAX_PROBLEMS) break;
  }
  return problems;
}

function isLimited({ visibility, visibilityTenants }: NamespaceRule): boolean {
  return visibility.length > 0 || visibilityTenants.length > 0;
}

function timeText(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

/** Returns the error for a rejected set: `invalid_argument` with all errors found in the set. */
export function refuseSet(problems: readonly PolicyProblem[]): WaymarkError {
  const violations = problems
    .filter(({ severity }) => severity === "error")
    .map(({ path, message }) => ({ field: path === "" ? "policy" : `policy.${path}`, description: message }));
  const [first] = violations;
  if (first === undefined) return invalid("policy", "was rejected without a reported error");
  const more = violations.length === 1 ? "" : ` (and ${violations.length - 1} more)`;
  return new WaymarkError("invalid_argument", `${first.field}: ${first.description}${more}`, {
    violations: violations.slice(0, MAX_VIOLATIONS),
  });
}
