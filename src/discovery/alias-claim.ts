/**
 * An alias claims a name that may belong to other entries. The claim is valid if the entry's registrant may write in the name's namespace. The
 * decision depends only on the record's fields and the current policy, so all nodes of a cluster agree (semantics.md, DNS).
 */
import { isReservedNamespace } from "../catalog/entry/names.ts";
import type { Scope } from "../catalog/entry/scope.ts";
import type { CatalogRecord } from "../catalog/record/record.ts";
import type { Policy } from "../policy/set/verdict.ts";
import { mayBeSeen } from "../policy/set/verdict.ts";

/** The registrant's properties that are part of a claim. */
interface AliasClaimant {
  readonly scope: Scope;
  readonly clusterId: string;
  readonly region: string;
  readonly tenant: string;
  /** Whether the registrant had the mesh.admin role. */
  readonly isAdmins: boolean;
}

export interface ParsedAliasClaim extends AliasClaimant {
  /** Namespace of the entry that has the alias. */
  readonly namespace: string;
  /** The claimed name, without the zone. */
  readonly name: string;
}

const SEPARATOR = "\0";
const ADMINS = "admin";

/** Returns a record's claim to a name that one of its aliases matches. */
export function claimOf({ namespace, scope, traits }: CatalogRecord, name: string): ParsedAliasClaim {
  const { clusterId, region, tenantId, registeredByAdmin: isAdmins } = traits;
  return { namespace, name, scope, clusterId, region, tenant: tenantId, isAdmins };
}

/** Returns, as text, the registrant's properties, which all claims of a record share. */
export function claimantOf({ scope, traits }: CatalogRecord): string {
  const { clusterId, region, tenantId, registeredByAdmin: isAdmins } = traits;
  return [scope, clusterId, region, tenantId, isAdmins ? ADMINS : ""].join(SEPARATOR);
}

/** Whether an alias is a single label, either as written or without one of the zones. */
export function isSingleLabel(alias: string, zones: readonly string[]): boolean {
  return namesOf(alias, zones).some((name) => !name.includes("."));
}

/** Returns the names that an alias matches: the alias itself, and the alias without one of the zones. */
export function namesOf(alias: string, zones: readonly string[]): readonly string[] {
  return [alias, ...zones.flatMap((zone) => (alias.endsWith(`.${zone}`) ? alias.slice(0, -zone.length - 1) : []))];
}

/** Parses a text returned by `claimantOf`. */
export function readClaimant(text: string): AliasClaimant {
  const [scope = "", clusterId = "", region = "", tenant = "", admins = ""] = text.split(SEPARATOR);
  // The text always comes from `claimantOf`.
  return { scope: Number(scope) as Scope, clusterId, region, tenant, isAdmins: admins === ADMINS }; // oxlint-disable-line typescript/no-unsafe-type-assertion
}

/**
 * Whether the claim is valid on a node of cluster `here`: the record's cluster may write in the namespace of the name, its tenant may see the
 * namespace, and no rule assigns the name to other owners. A single-label name is above all namespaces, so the registrant must be an admin. The
 * control plane's names cannot be claimed.
 */
export function isRightful(policy: Policy, { name, scope, clusterId, region, tenant, isAdmins }: ParsedAliasClaim, here: string): boolean {
  if (!isAdmins && !name.includes(".")) return false;
  const from = { clusterId, region };
  for (let dot = name.indexOf("."), at = 0, depth = 0; ; depth += 1) {
    const suffix = name.slice(at);
    if (isReservedNamespace(suffix)) return false;
    if (policy.set !== undefined) {
      // The name itself, and the levels above its namespace, may also be namespaces. For such a name, only a rule can deny the claim.
      const isOwn = depth === 1 || policy.ruleOf(suffix) !== undefined;
      if (isOwn && !mayBeSeen(policy, { namespace: suffix, scope }, from, here)) return false;
      if (isOwn && !policy.viewer(suffix, { clusterId, tenant }).allowed) return false;
    }
    if (dot < 0) return true;
    at = dot + 1;
    dot = name.indexOf(".", at);
  }
}
