/**
 * An alias is a claim to a name that others may own. It counts where its registrant may write, judged from what the record carries, so
 * that every node of a cluster comes to the same, and by the policy of the moment (semantics.md, DNS).
 */
import { isReservedNamespace } from "../catalog/entry/names.ts";
import type { Scope } from "../catalog/entry/scope.ts";
import type { CatalogRecord } from "../catalog/record/record.ts";
import type { Policy } from "../policy/set/verdict.ts";
import { mayBeSeen } from "../policy/set/visibility.ts";

export interface Claim {
  /** Of the entry that carries the alias. */
  readonly namespace: string;
  /** Below the zone. */
  readonly name: string;
  readonly scope: Scope;
  readonly clusterId: string;
  readonly region: string;
  readonly tenant: string;
  /** Its registrant had the role mesh.admin. */
  readonly isAdmins: boolean;
  /** All of it; no namespace is such a text. */
  readonly text: string;
}

const SEPARATOR = "\0";
const ADMINS = "admin";

/** What a record claims where its alias stands for that name. */
export function claimOf({ namespace, scope, traits }: CatalogRecord, name: string): Claim {
  const { clusterId, region, tenantId, registeredByAdmin: isAdmins } = traits;
  const text = [namespace, name, scope, clusterId, region, tenantId, isAdmins ? ADMINS : ""].join(SEPARATOR);
  return { namespace, name, scope, clusterId, region, tenant: tenantId, isAdmins, text };
}

/** Whether an alias may stand for a single label: as it is, or in full in one of the zones. */
export function isSingleLabel(alias: string, zones: readonly string[]): boolean {
  const names = [alias, ...zones.flatMap((zone) => (alias.endsWith(`.${zone}`) ? alias.slice(0, -zone.length - 1) : []))];
  return names.some((name) => !name.includes("."));
}

/** A claim from its text; undefined for any other. */
export function readClaim(text: string): Claim | undefined {
  if (!text.includes(SEPARATOR)) return undefined;
  const [namespace = "", name = "", scope = "", clusterId = "", region = "", tenant = "", admins = ""] = text.split(SEPARATOR);
  // Only `claimOf` makes such texts.
  return { namespace, name, scope: Number(scope) as Scope, clusterId, region, tenant, isAdmins: admins === ADMINS, text }; // oxlint-disable-line typescript/no-unsafe-type-assertion
}

/**
 * Whether the claim counts at a node of cluster `here`: the namespace that the name would be in is one that the record's cluster may
 * write and its tenant may see, and the name is in nobody's whom a rule names. One of a single label stands above all namespaces, so
 * it is an admin's. The control plane's names are nobody's to claim.
 */
export function isRightful(policy: Policy, { name, scope, clusterId, region, tenant, isAdmins }: Claim, here: string): boolean {
  if (!isAdmins && !name.includes(".")) return false;
  const from = { clusterId, region };
  for (let dot = name.indexOf("."), at = 0, depth = 0; ; depth += 1) {
    const suffix = name.slice(at);
    if (isReservedNamespace(suffix)) return false;
    if (policy.set !== undefined) {
      // The name itself, and what is above its namespace, may be namespaces too: there only a rule speaks against it.
      const isOwn = depth === 1 || policy.ruleOf(suffix) !== undefined;
      if (isOwn && !mayBeSeen(policy, { namespace: suffix, scope }, from, here)) return false;
      if (isOwn && !policy.viewer(suffix, { clusterId, tenant }).allowed) return false;
    }
    if (dot < 0) return true;
    at = dot + 1;
    dot = name.indexOf(".", at);
  }
}
