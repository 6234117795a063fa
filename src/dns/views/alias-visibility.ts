/** Which aliases a policy shows to a viewer: by the namespaces of the entry and of the name, and by the right of who registered it. */
import { isReservedNamespace } from "../../catalog/entry/names.ts";
import { isRightful, type ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { wordsOf } from "../names/labels.ts";
import { parseName, parseNamespaceWords } from "../names/names.ts";

/**
 * The namespace that hides an alias of this name: the one that the name lies in, or the name itself where the policy has a rule for it. A viewer sees an alias only
 * if they see this namespace as well as the entry's.
 */
export function hiddenAbove(name: string, policy: Policy, sees: (namespace: string) => boolean): string | undefined {
  if (policy.set === undefined) return undefined;
  const above = namespaceAbove(name);
  // Nobody can claim a name there.
  if (above !== undefined && isReservedNamespace(above)) return undefined;
  if (above !== undefined && !sees(above)) return above;
  const own = namespaceOf(ownWords(name));
  return policy.ruleOf(own) !== undefined && !sees(own) ? own : undefined;
}

/** Whether the registrant of the alias may write where its name stands, as a node of cluster `here` judges it. */
export function isClaimRightful(claim: ParsedAliasClaim, policy: Policy, here: string): boolean {
  return judgedNames(claim.name).every((name) => isRightful(policy, { ...claim, name }, here));
}

/** As it is written where no namespace has such labels: an alias may, and is judged by them too. */
export function namespaceOf(labels: readonly string[]): string {
  return parseNamespaceWords(labels) ?? labels.join(".");
}

/** The words of a name without those of ports and transports. */
export function ownWords(name: string): readonly string[] {
  const words = wordsOf(name);
  // HOT: most names have none of those, and the words of a name are read once.
  return words.some(isOfPort) ? words.filter((word) => !isOfPort(word)) : words;
}

function isOfPort(word: string): boolean {
  return word.startsWith("_");
}

/** The namespace that a name lies in. Undefined for one of a single label. */
function namespaceAbove(name: string): string | undefined {
  const form = parseName(name);
  if ("namespace" in form) return form.namespace;
  const words = ownWords(name);
  return words.length < 2 ? undefined : namespaceOf(words.slice(1));
}

/** A claim is judged by the name as it is written and, where DNS spells its namespace otherwise, by that namespace too. */
function judgedNames(name: string): readonly string[] {
  const above = namespaceAbove(name);
  return above === undefined || name.endsWith(`.${above}`) ? [name] : [name, `_.${above}`];
}
