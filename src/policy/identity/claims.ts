/** Converts the claims of a verified token into an identity. `tokens.io.ts` has verified the signature, issuer, audience and times. */
import { isName } from "../../catalog/entry/names.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { type CallerIdentity, isRole, unauthenticated } from "./caller.ts";
import { isPrincipal } from "./certificates.ts";

/** The names of the claims that are read. */
export interface ClaimNames {
  readonly principal: string;
  readonly tenant: string;
  readonly cluster: string;
  readonly roles: string;
}

/** The tenant and cluster for callers whose credential does not specify them. */
export interface IdentityDefaults {
  readonly tenant: string;
  readonly cluster: string;
}

/** Maximum number of roles that are read from a token, because some identity providers send a very large number of roles. */
const MAX_ROLES = 1000;

export type TokenClaims = Readonly<Record<string, unknown>>;

/**
 * Returns the identity that the claims describe. Throws `unauthenticated` if a claim has an invalid value. The error message never contains the
 * value.
 */
export function identityOfClaims(claims: TokenClaims, names: ClaimNames, defaults: IdentityDefaults): CallerIdentity {
  const principal = claimOf(claims, names.principal);
  if (typeof principal !== "string" || !isPrincipal(principal))
    throw unauthenticated(`token's claim ${names.principal} must be 1 to 256 printable characters without spaces`);
  return {
    principal,
    tenant: idOf(claims, names.tenant) ?? defaults.tenant,
    cluster: idOf(claims, names.cluster) ?? defaults.cluster,
    roles: rolesOf(claimOf(claims, names.roles)),
    isAuthenticated: true,
  };
}

/**
 * Finds a claim by its name. If there is no claim with this name, the dots in the name separate the keys of nested objects (`realm_access.roles`).
 */
function claimOf(claims: TokenClaims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let at: unknown = claims;
  for (const step of name.split(".")) {
    if (typeof at !== "object" || at === null || Array.isArray(at) || !Object.hasOwn(at, step)) return undefined;
    at = Object.getOwnPropertyDescriptor(at, step)?.value;
  }
  return at;
}

function idOf(claims: TokenClaims, name: string): string | undefined {
  const value = claimOf(claims, name);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" || !isName(value, NODE_BOUNDS.maxIdLength))
    throw unauthenticated(`token's claim ${name} must be an id: 1 to ${NODE_BOUNDS.maxIdLength} characters from A-Z a-z 0-9 . _ : / @ + -`);
  return value;
}

/** Reads roles from a list, or from a string in which spaces separate them, as in OAuth's `scope`. Words that are not roles are ignored. */
function rolesOf(value: unknown): readonly string[] {
  const words: readonly unknown[] = typeof value === "string" ? value.split(" ") : Array.isArray(value) ? value : [];
  const roles = words.slice(0, MAX_ROLES).filter((word): word is string => typeof word === "string" && isRole(word));
  return [...new Set(roles)];
}
