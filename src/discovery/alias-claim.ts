/**
 * An alias claims a name that may belong to other entries. The claim is valid if the entry's registrant may write in the namespace of the
 * name. The decision depends on fields of the record, so that every node of a cluster agrees, and on the current policy (semantics.md,
 * DNS).
 */
import { isReservedNamespace } from "../catalog/entry/names.ts";
import type { Scope } from "../catalog/entry/scope.ts";
import type { CatalogRecord } from "../catalog/record/record.ts";
import type { Policy } from "../policy/set/verdict.ts";
import { mayBeSeen } from "../policy/set/verdict.ts";

/** The properties of the registrant that a claim contains. */
interface AliasClaimant {
  readonly scope: Scope;
  readonly clusterId: string;
  readonly region: string;
  readonly tenant: string;
  /** Whether the registrant had the role mesh.admin. */
  readonly isAdmins: boolean;
}

export interface ParsedAliasClaim extends AliasClaimant {
  /** Namespace of the entry with the alias. */
  readonly namespace: string;
  /** The claimed name, below the zone. */
  readonly name: string;
}

const SEPARATOR = "\0";
const ADMINS = "admin";

/** Returns the claim that a record makes with an alias that matches that name. */
export function claimOf({ namespace, scope, traits }: CatalogRecord, name: string): ParsedAliasClaim {
  const { clusterId, region, tenantId, registeredByAdmin: isAdmins } = traits;
  return { namespace, name, scope, clusterId, region, tenant: tenantId, isAdmins };
}

/** Returns the properties of the registrant that all claims of a record contain, as text. */
export function claimantOf({ scope, traits }: CatalogRecord): string {
  const { clusterId, region, tenantId, registeredByAdmin: isAdmins } = traits;
  return [scope, clusterId, region, tenantId, isAdmins ? ADMINS : ""].join(SEPARATOR);
}

/** Whether an alias is a single-label name, as written or without one of the zones. */
export function isSingleLabel(alias: string, zones: readonly string[]): boolean {
  return namesOf(alias, zones).some((name) => !name.includes("."));
}

/** Returns the names that an alias matches: the alias itself, and the alias without one of the zones. */
export function namesOf(alias: string, zones: readonly string[]): readonly string[] {
  return [alias, ...zones.flatMap((zone) => (alias.endsWith(`.${zone}`) ? alias.slice(0, -zone.length - 1) : []))];
}

/** Parses a text of `claimantOf`. */
export function readClaimant(text: string): AliasClaimant {
  const [scope = "", clusterId = "", region = "", tenant = "", admins = ""] = text.split(SEPARATOR);
  // Only `claimantOf` makes such texts.
  return { scope: Number(scope) as Scope, clusterId, region, tenant, isAdmins: admins === ADMINS }; // oxlint-disable-line typescript/no-unsafe-type-assertion
}

/**
 * Whether the claim is valid on a node of cluster `here`: the record's cluster may write in the namespace of the name, its tenant may see
 * the namespace, and no rule gives the name to others. A single-label name is above all namespaces, so the registrant must be an admin.
 * Names of the control plane cannot be claimed.
 */
export function isRightful(policy: Policy, { name, scope, clusterId, region, tenant, isAdmins }: ParsedAliasClaim, here: string): boolean {
  if (!isAdmins && !name.includes(".")) return false;
  const from = { clusterId, region };
  for (let dot = name.indexOf("."), at = 0, depth = 0; ; depth += 1) {
    const suffix = name.slice(at);
    if (isReservedNamespace(suffix)) return false;
    if (policy.set !== undefined) {
      // The name itself, and the levels above its namespace, may also be namespaces. There, only a rule can deny the claim.
      const isOwn = depth === 1 || policy.ruleOf(suffix) !== undefined;
      if (isOwn && !mayBeSeen(policy, { namespace: suffix, scope }, from, here)) return false;
      if (isOwn && !policy.viewer(suffix, { clusterId, tenant }).allowed) return false;
    }
    if (dot < 0) return true;
    at = dot + 1;
    dot = name.indexOf(".", at);
  }
}
