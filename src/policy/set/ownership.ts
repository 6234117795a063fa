/** What the owner of a namespace may change of a policy: the rules at and below it, but not the bounds that others set it. */
import { diffSlices, findParent, type RuleChange } from "./diff.ts";
import { BELOW, type PolicySet, type Rule } from "./rules.ts";

/** Whether a caller owns a namespace; `isOwnerOf` of caller.ts. */
export type Owns = (namespace: string) => boolean;

/**
 * Why an owner may not put `after` in the place of `before`; undefined when it may. Yields between slices of work. The text names one rule, which the
 * caller may not be allowed to read.
 */
export function* foreignChangeSlices(before: PolicySet | undefined, after: PolicySet, owns: Owns): Generator<void, string | undefined> {
  const changes = yield* diffSlices(before, after);
  const outside = changes.find((change) => !isOwned(change, owns));
  if (outside?.pattern === "") return "the set differs in default_allow, or there is no set in force";
  if (outside !== undefined) return `the set differs in the rule ${outside.pattern}`;
  const old = ruleMap(before);
  const now = ruleMap(after);
  const freed = changes.find(({ pattern }) => pattern !== "" && boundsOf(pattern, old) !== boundsOf(pattern, now));
  return freed === undefined ? undefined : `the set differs in quota or priority of what is under the rule ${freed.pattern}`;
}

function isOwned({ pattern, fields }: RuleChange, owns: Owns): boolean {
  // The author's label says who wrote last; everything else outside of rules is everybody's.
  if (pattern === "") return fields.every(({ field }) => field === "version");
  return owns(pattern.endsWith(BELOW) ? pattern.slice(0, -BELOW.length) : pattern);
}

function ruleMap(set: PolicySet | undefined): ReadonlyMap<string, Rule> {
  return new Map((set?.rules ?? []).map((rule) => [rule.pattern, rule]));
}

/** Quota and priority where a pattern stands, its own rule's or that of the rule above it: what protects others from the owner. */
function boundsOf(pattern: string, ruleOf: ReadonlyMap<string, Rule>): string {
  const rule = ruleOf.get(pattern) ?? findParent(pattern, ruleOf);
  if (rule === undefined) return "0/0/0/0";
  const { quota, priority } = rule;
  return `${quota.entries}/${quota.watches}/${quota.bytes}/${priority}`;
}
