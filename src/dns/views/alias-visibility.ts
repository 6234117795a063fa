/** Decides which aliases a policy shows to a viewer: by the namespaces of the entry and of the alias, and by the permissions of the registrant. */
import { isReservedNamespace } from "../../catalog/entry/names.ts";
import { isRightful, type ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { wordsOf } from "../names/labels.ts";
import { parseName, parseNamespaceWords } from "../names/names.ts";

/**
 * Returns the namespace that hides an alias of this name: the namespace that the name lies in, or the name itself if the policy has a rule for it. Undefined
 * when none hides it. A viewer sees an alias only if they see this namespace and the namespace of the entry.
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

/** Returns whether the registrant of the alias may write in the namespace of the alias, as nodes of cluster `here` decide. */
export function isClaimRightful(claim: ParsedAliasClaim, policy: Policy, here: string): boolean {
  return judgedNames(claim.name).every((name) => isRightful(policy, { ...claim, name }, here));
}

/**
 * Returns the namespace that labels spell, or the labels as written if no namespace can have them. An alias can have such labels, and is checked against them
 * too.
 */
export function namespaceOf(labels: readonly string[]): string {
  return parseNamespaceWords(labels) ?? labels.join(".");
}

/** Returns the labels of a name without port and transport labels. */
export function ownWords(name: string): readonly string[] {
  const words = wordsOf(name);
  // HOT: most names have no such labels, and the array is reused when the same name is split again.
  return words.some(isOfPort) ? words.filter((word) => !isOfPort(word)) : words;
}

function isOfPort(word: string): boolean {
  return word.startsWith("_");
}

/** Returns the namespace that a name lies in. Undefined for a name of one label. */
function namespaceAbove(name: string): string | undefined {
  const form = parseName(name);
  if ("namespace" in form) return form.namespace;
  const words = ownWords(name);
  return words.length < 2 ? undefined : namespaceOf(words.slice(1));
}

/** Returns the names that a claim is checked against: the name as written and, if DNS encodes its namespace differently, a name in that namespace too. */
function judgedNames(name: string): readonly string[] {
  const above = namespaceAbove(name);
  return above === undefined || name.endsWith(`.${above}`) ? [name] : [name, `_.${above}`];
}
