/** What is wrong with a policy set: every problem with its path, none hidden behind the first (semantics.md, Policy). */
import { isControlNamespace, isName, isNamespace, nameRule, namespaceRule, PROTOCOL_BOUNDS, quoted } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import { NODE_BOUNDS } from "../../lib/bounds/node.ts";
import { invalid, MAX_VIOLATIONS, WaymarkError } from "../../lib/errors.ts";
import { runThrough } from "../../lib/slices.ts";
import { findParent } from "./diff.ts";
import { BELOW, type CutoverWindow, type PolicySet, type Rule } from "./rules.ts";
import { canonicalRule } from "./text.ts";

export interface Problem {
  /** Path of the field, for example `rules[3].cutover_windows[0].ends_at`. */
  readonly path: string;
  /** An error refuses the set; a warning is told. */
  readonly severity: "error" | "warning";
  /** What is wrong, with what value, and what would be right. */
  readonly message: string;
}

/** What the one who validates knows beside the set; what is undefined is not checked. */
export interface Known {
  /** Clusters and regions. */
  readonly clusters?: ReadonlySet<string> | undefined;
  readonly nowWallMs?: number | undefined;
}

export const SET_BOUNDS = {
  maxRules: 10_000,
  /** Of each list of a rule. */
  maxItems: 1000,
  /** Of a rule. */
  maxWindows: 256,
  /** Characters of an author's label. */
  maxLabelLength: 128,
} as const;

/** Errors reported, and warnings; a last one of each says that there are more. */
const MAX_PROBLEMS = 1000;
/** 9999-12-31T23:59:59.999Z: what RFC 3339 can say. */
export const MAX_WALL_MS = 253_402_300_799_999;
/** 0001-01-01T00:00:00Z. */
export const MIN_WALL_MS = -62_135_596_800_000;

/** Every problem of a set, in the order of its rules. A set without errors compiles. Cost: 10,000 rules in some 40 ms. */
export function validate(set: PolicySet, known: Known = {}): readonly Problem[] {
  return runThrough(validateSlices(set, known));
}

/** `validate` that yields after each few hundred rules: the caller may breathe in between. Returns the problems. */
export function* validateSlices(set: PolicySet, known: Known = {}): Generator<void, readonly Problem[]> {
  const check = new Check(known);
  yield* check.set(set);
  return check.problems;
}

export function hasErrors(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === "error");
}

const RULES_A_SLICE = 250;

class Check {
  readonly problems: Problem[] = [];
  readonly #known: Known;
  #errorCount = 0;
  #warningCount = 0;

  constructor(known: Known) {
    this.#known = known;
  }

  *set(set: PolicySet): Generator<void, void> {
    this.#label(set.version, "version");
    const { rules } = set;
    if (rules.length > SET_BOUNDS.maxRules) {
      this.#error("rules", `${rules.length} rules are more than ${SET_BOUNDS.maxRules}`);
      return;
    }
    const firstOf = new Map<string, number>();
    const ruleOf = new Map<string, Rule>();
    for (const [index, rule] of rules.entries()) {
      const first = firstOf.get(rule.pattern);
      if (first !== undefined) this.#error(`rules[${index}].namespace`, `${quoted(rule.pattern)} is also that of rules[${first}]`);
      else {
        firstOf.set(rule.pattern, index);
        ruleOf.set(rule.pattern, rule);
      }
    }
    for (const [index, rule] of rules.entries()) {
      if (this.#errorCount > MAX_PROBLEMS) return;
      this.#rule(rule, `rules[${index}]`, ruleOf);
      if (index % RULES_A_SLICE === RULES_A_SLICE - 1) yield;
    }
  }

  #rule(rule: Rule, path: string, ruleOf: ReadonlyMap<string, Rule>): void {
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
    if (isPattern) this.#useless(rule, path, ruleOf);
  }

  #pattern(pattern: string, path: string): boolean {
    const isBelow = pattern.endsWith(BELOW);
    const prefix = isBelow ? pattern.slice(0, -BELOW.length) : pattern;
    if (!isNamespace(prefix, PROTOCOL_BOUNDS)) {
      const rule = prefix.includes("*")
        ? `${quoted(pattern)} may have a * only at its end, as the last label`
        : namespaceRule(prefix, PROTOCOL_BOUNDS);
      this.#error(path, `${rule}; a pattern is p for p and all below it, or p.* for what is below p only`);
      return false;
    }
    if (isControlNamespace(prefix)) {
      this.#error(path, `${quoted(pattern)} is the control plane's own, which policy never filters`);
      return false;
    }
    // The shortest name below adds a dot and a letter.
    if (isBelow && prefix.length + 2 > PROTOCOL_BOUNDS.maxNamespaceLength)
      this.#warn(path, `never applies: no namespace is long enough to be below ${quoted(prefix)}`);
    return true;
  }

  #ids(ids: readonly string[], path: string): void {
    if (ids.length > SET_BOUNDS.maxItems) {
      this.#error(path, `${ids.length} items are more than ${SET_BOUNDS.maxItems}`);
      return;
    }
    const seen = new Set<string>();
    for (const [index, id] of ids.entries()) {
      if (!isName(id, NODE_BOUNDS.maxIdLength)) this.#error(`${path}[${index}]`, nameRule(id, NODE_BOUNDS.maxIdLength));
      else if (seen.has(id)) this.#error(`${path}[${index}]`, `${quoted(id)} is there twice`);
      seen.add(id);
    }
  }

  #scopes(scopes: readonly number[], path: string): void {
    if (scopes.length > SET_BOUNDS.maxItems) {
      this.#error(path, `${scopes.length} items are more than ${SET_BOUNDS.maxItems}`);
      return;
    }
    for (const [index, scope] of scopes.entries()) {
      if (!Number.isInteger(scope) || scope < SCOPE.LOCAL || scope > SCOPE.GLOBAL)
        this.#error(`${path}[${index}]`, `unknown scope ${scope}: must be local, zone, region or global`);
      else if (scopes.indexOf(scope) < index) this.#error(`${path}[${index}]`, "the same scope is there twice");
    }
  }

  #windows(windows: readonly CutoverWindow[], path: string): void {
    if (windows.length > SET_BOUNDS.maxWindows) {
      this.#error(path, `${windows.length} windows are more than ${SET_BOUNDS.maxWindows}`);
      return;
    }
    for (const [index, { startsWallMs, endsWallMs, exportScopes }] of windows.entries()) {
      const at = `${path}[${index}]`;
      const isStart = this.#time(startsWallMs, `${at}.starts_at`);
      if (endsWallMs !== undefined && this.#time(endsWallMs, `${at}.ends_at`) && isStart && endsWallMs <= startsWallMs)
        this.#error(`${at}.ends_at`, `${timeText(endsWallMs)} is not after starts_at, ${timeText(startsWallMs)}`);
      this.#scopes(exportScopes, `${at}.export_scopes`);
    }
    const { nowWallMs } = this.#known;
    const isOver =
      nowWallMs !== undefined && windows.length > 0 && windows.every(({ endsWallMs = nowWallMs + 1 }) => endsWallMs <= nowWallMs);
    if (isOver) this.#warn(path, "all windows are over: no summary of this namespace may leave any more");
  }

  #time(wallMs: number, path: string): boolean {
    if (wallMs >= MIN_WALL_MS && wallMs <= MAX_WALL_MS && Number.isInteger(wallMs)) return true;
    this.#error(path, `${wallMs} is no time between the years 1 and 9999 in ms since 1970`);
    return false;
  }

  #label(label: string, path: string): void {
    if (label.length > SET_BOUNDS.maxLabelLength)
      this.#error(path, `${label.length} characters are more than ${SET_BOUNDS.maxLabelLength}`);
    // A lone surrogate has no UTF-8: what is stored would not be what was given.
    else if (!label.isWellFormed()) this.#error(path, "is not well-formed text");
  }

  #integer(value: number, path: string, { min, max }: { readonly min: number; readonly max: number }): void {
    if (!Number.isSafeInteger(value) || value < min || value > max)
      this.#error(path, `${value} must be a whole number from ${min} to ${max}`);
  }

  #owners(owners: readonly string[], path: string): void {
    const { clusters } = this.#known;
    if (clusters === undefined || owners.length > SET_BOUNDS.maxItems) return;
    for (const [index, owner] of owners.entries()) {
      if (!clusters.has(owner)) this.#warn(`${path}[${index}]`, `${quoted(owner)} is no cluster or region known here`);
    }
  }

  /** A rule that changes nothing is often one that was meant to. */
  #useless(rule: Rule, path: string, ruleOf: ReadonlyMap<string, Rule>): void {
    const parent = findParent(rule.pattern, ruleOf);
    if (parent === undefined || parent.pattern === rule.pattern) return;
    const { pattern: _own, ...mine } = canonicalRule(rule);
    const { pattern: _parents, ...theirs } = canonicalRule(parent);
    if (JSON.stringify(mine) === JSON.stringify(theirs))
      this.#warn(path, `says what the rule of ${parent.pattern} says already: without it nothing would change`);
  }

  #error(path: string, message: string): void {
    this.#errorCount += 1;
    if (this.#errorCount <= MAX_PROBLEMS) this.problems.push({ path, severity: "error", message });
    else if (this.#errorCount === MAX_PROBLEMS + 1)
      this.problems.push({ path: "", severity: "error", message: "there are more errors: these are the first" });
  }

  #warn(path: string, message: string): void {
    this.#warningCount += 1;
    if (this.#warningCount <= MAX_PROBLEMS) this.problems.push({ path, severity: "warning", message });
    else if (this.#warningCount === MAX_PROBLEMS + 1)
      this.problems.push({ path: "", severity: "warning", message: "there are more warnings: these are the first" });
  }
}

/**
 * Rules whose lists of viewers lost their last item: from then on everybody sees the namespace, which whoever takes a
 * tenant out of a list hardly means (P10). Warnings on the lists of `after`.
 */
export function openedRules(before: PolicySet | undefined, after: PolicySet): readonly Problem[] {
  const wasLimited = new Set((before?.rules ?? []).filter(isLimited).map(({ pattern }) => pattern));
  const problems: Problem[] = [];
  for (const [index, rule] of after.rules.entries()) {
    if (isLimited(rule) || !wasLimited.has(rule.pattern)) continue;
    const message = `the last viewer of ${rule.pattern} was taken out: with both lists empty everybody sees it`;
    problems.push({ path: `rules[${index}].visibility_tenants`, severity: "warning", message });
    if (problems.length >= MAX_PROBLEMS) break;
  }
  return problems;
}

function isLimited({ visibility, visibilityTenants }: Rule): boolean {
  return visibility.length > 0 || visibilityTenants.length > 0;
}

function timeText(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

/** `invalid_argument` with every error of a set. */
export function refuseSet(problems: readonly Problem[]): WaymarkError {
  const violations = problems
    .filter(({ severity }) => severity === "error")
    .map(({ path, message }) => ({ field: path === "" ? "policy" : `policy.${path}`, description: message }));
  const [first] = violations;
  if (first === undefined) return invalid("policy", "is refused");
  const more = violations.length === 1 ? "" : ` (and ${violations.length - 1} more problems)`;
  return new WaymarkError("invalid_argument", `${first.field}: ${first.description}${more}`, {
    violations: violations.slice(0, MAX_VIOLATIONS),
  });
}
