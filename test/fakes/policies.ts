/** Policy rules and sets for tests: plain ones to spell out, generated ones that `validate` accepts. */
import fc from "fast-check";
import { expect } from "vitest";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import type { CutoverWindow, NamespaceRule, PolicySet } from "../../src/policy/set/rules.ts";

export function rule(pattern: string, fields: Partial<NamespaceRule> = {}): NamespaceRule {
  const nothing = { owners: [], visibility: [], visibilityTenants: [], exportScopes: [], cutoverWindows: [] };
  const quota = { entries: 0, watches: 0, bytes: 0 };
  return { pattern, ...nothing, allowSummaries: false, policyVersion: "", priority: 0, quota, ...fields };
}

export function set(rules: readonly NamespaceRule[], fields: Partial<PolicySet> = {}): PolicySet {
  return { version: "v1", defaultAllow: false, rules, ...fields };
}

export function span(startsWallMs: number, endsWallMs?: number, fields: Partial<CutoverWindow> = {}): CutoverWindow {
  return { startsWallMs, endsWallMs, exportScopes: [], allowSummaries: undefined, ...fields };
}

/** The channels of a cluster whose settings of summaries are the defaults. */
export function channels(listed: readonly Scope[]): readonly Scope[] {
  return listed.length > 0 ? listed : [SCOPE.GLOBAL];
}

export const TENANTS = ["blue", "green", "red"] as const;
export const CLUSTERS = ["eu-1", "us-1"] as const;

const namespaceLabels = fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 });
/** Few enough that rules and questions meet. */
export const someNamespace: fc.Arbitrary<string> = namespaceLabels.map((labels) => labels.join("."));
export const somePattern: fc.Arbitrary<string> = fc
  .tuple(someNamespace, fc.boolean())
  .map(([prefix, isBelow]) => (isBelow ? `${prefix}.*` : prefix));
const scopes: fc.Arbitrary<readonly Scope[]> = fc.subarray<Scope>([1, 2, 3, 4]);
const time = fc.integer({ min: -62_135_596_800_000, max: 253_402_300_000_000 });
const window: fc.Arbitrary<CutoverWindow> = fc.record({
  startsWallMs: time,
  endsWallMs: fc.constant(undefined),
  exportScopes: scopes,
  allowSummaries: fc.option(fc.boolean(), { nil: undefined }),
});
const closedWindow = fc
  .tuple(window, fc.integer({ min: 1, max: 799_999 }))
  .map(([open, ms]) => ({ ...open, endsWallMs: open.startsWallMs + ms }));
const label = fc.string({ maxLength: 20, unit: "grapheme" });
const count = fc.nat(Number.MAX_SAFE_INTEGER);

function someRule(pattern: string): fc.Arbitrary<NamespaceRule> {
  return fc.record({
    pattern: fc.constant(pattern),
    owners: fc.subarray<string>(["eu", ...CLUSTERS]),
    visibility: fc.subarray<string>([...CLUSTERS]),
    visibilityTenants: fc.subarray<string>([...TENANTS]),
    exportScopes: scopes,
    allowSummaries: fc.boolean(),
    cutoverWindows: fc.array(fc.oneof(window, closedWindow), { maxLength: 3 }),
    policyVersion: label,
    priority: fc.integer(),
    quota: fc.record({ entries: count, watches: count, bytes: count }),
  });
}

/** Sets without errors. */
export const someSet: fc.Arbitrary<PolicySet> = fc.record({
  version: label,
  defaultAllow: fc.boolean(),
  rules: fc.uniqueArray(somePattern, { maxLength: 8 }).chain((patterns) => fc.tuple(...patterns.map(someRule))),
});

/** `expect.stringContaining`, whose type is any. */
export function containing(text: string): unknown {
  return expect.stringContaining(text);
}
