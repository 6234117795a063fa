/** Scopes of leadership. A scope is a right that has at most one holder at a time. */
import { invalid } from "../../lib/errors.ts";

/** The scope of the duties that one node of the cluster has, such as removing silent sessions. */
export const GLOBAL_SCOPE = "global-control";

/** `shard` is the ownership of a shard of a namespace. `custom` scopes belong to programs and have the meaning that the programs give them. */
export type ScopeKind = "global-control" | "shard" | "custom";

export interface LeaderScope {
  readonly kind: ScopeKind;
  /** Empty for `global-control`. */
  readonly namespace: string;
}

const SCOPE = /^(?<kind>shard|custom)\/(?<namespace>[a-z0-9-]+(?:\.[a-z0-9-]+)*)\/[A-Za-z0-9._-]{1,128}$/;
const MAX_NAMESPACE_LENGTH = 240;

/** Parses a scope. Throws `invalid_argument` for `field` if it is not valid. */
export function parseScope(text: string, field = "scope"): LeaderScope {
  const found = scopeOf(text);
  if (found !== undefined) return found;
  throw invalid(field, ruleOf(text));
}

/** Returns undefined if the text is not a scope. */
export function scopeOf(text: string): LeaderScope | undefined {
  if (text === GLOBAL_SCOPE) return { kind: GLOBAL_SCOPE, namespace: "" };
  const { kind, namespace = "" } = SCOPE.exec(text)?.groups ?? {};
  if ((kind !== "shard" && kind !== "custom") || namespace.length > MAX_NAMESPACE_LENGTH) return undefined;
  return { kind, namespace };
}

/** Throws `invalid_argument` for `field` if the text is neither a scope nor the first parts of scopes, such as `custom/orders`. */
export function checkScopePrefix(text: string, field: string): void {
  if (["", "/x", "/x/x"].every((rest) => scopeOf(text + rest) === undefined))
    throw invalid(field, `${ruleOf(text)}, or the first parts of a scope, such as custom/orders`);
}

/** Whether a scope is the same as a prefix, or begins with its parts. */
export function hasScopePrefix(scope: string, prefix: string): boolean {
  return prefix === "" || scope === prefix || scope.startsWith(`${prefix}/`);
}

function ruleOf(text: string): string {
  return `${JSON.stringify(text.slice(0, 64))} must be ${GLOBAL_SCOPE}, shard/<namespace>/<id> or custom/<namespace>/<name>`;
}
