/** Decides which aliases a policy shows to a viewer, based on the namespaces of the entry and the alias and the registrant's permissions. */
import { isReservedNamespace } from "../../catalog/entry/names.ts";
import { isRightful, type ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { wordsOf } from "../names/labels.ts";
import { parseName, parseNamespaceWords } from "../names/names.ts";

/**
 * Returns the namespace that hides an alias with this name: the namespace that contains the name, or the name itself if the policy has a rule for it.
 * Returns undefined when the alias is not hidden. A viewer sees an alias only if both this namespace and the entry's namespace are visible to the
 * viewer.
 */
export function hiddenAbove(name: string, policy: Policy, sees: (namespace: string) => boolean): string | undefined {
  if (policy.set === undefined) return undefined;
  const above = namespaceAbove(name);
  // Aliases cannot be registered in reserved namespaces.
  if (above !== undefined && isReservedNamespace(above)) return undefined;
  if (above !== undefined && !sees(above)) return above;
  const own = namespaceOf(ownWords(name));
  return policy.ruleOf(own) !== undefined && !sees(own) ? own : undefined;
}

/** Returns whether the alias's registrant may write to the alias's namespace, as decided by the nodes in cluster `here`. */
export function isClaimRightful(claim: ParsedAliasClaim, policy: Policy, here: string): boolean {
  return judgedNames(claim.name).every((name) => isRightful(policy, { ...claim, name }, here));
}

/**
 * Returns the namespace that the labels encode, or the labels as written if no namespace can have them. An alias can have such labels and is also
 * checked against them.
 */
export function namespaceOf(labels: readonly string[]): string {
  return parseNamespaceWords(labels) ?? labels.join(".");
}

/** Returns the labels of a name without port and transport labels. */
export function ownWords(name: string): readonly string[] {
  const words = wordsOf(name);
  // HOT: most names have no such labels. The array is reused when the same name is split again.
  return words.some(isOfPort) ? words.filter((word) => !isOfPort(word)) : words;
}

function isOfPort(word: string): boolean {
  return word.startsWith("_");
}

/** Returns the namespace that contains a name. Returns undefined for a name with one label. */
function namespaceAbove(name: string): string | undefined {
  const form = parseName(name);
  if ("namespace" in form) return form.namespace;
  const words = ownWords(name);
  return words.length < 2 ? undefined : namespaceOf(words.slice(1));
}

/**
 * Returns the names that a claim is checked against: the name as written and, if DNS encodes its namespace differently, the name in that namespace.
 */
function judgedNames(name: string): readonly string[] {
  const above = namespaceAbove(name);
  return above === undefined || name.endsWith(`.${above}`) ? [name] : [name, `_.${above}`];
}
