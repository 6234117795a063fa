/** The caller of a request, as far as this node can identify it, and the rights of its roles. */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import { WaymarkError } from "../../lib/errors.ts";

/** Roles of the mesh, weakest first. Each includes the previous ones. */
const ORDERED_ROLES = ["mesh.read", "mesh.operate", "mesh.admin"] as const;
/**
 * Role that allows reads on behalf of all callers of a resolver, regardless of what each caller may see. It is not part of the order: no
 * role includes it, and it includes none.
 */
const RESOLVE_ROLE = "mesh.resolve";
/** All roles of the mesh. */
export const MESH_ROLES = [...ORDERED_ROLES, RESOLVE_ROLE] as const;
export type MeshRole = (typeof MESH_ROLES)[number];

/** Prefix of an owner's role: `owner:svc.market` may administer `svc.market` and the namespaces below it. */
const OWNER = "owner:";

/** An identity, regardless of the type of its credential. It is equal for every call with that credential. */
export interface CallerIdentity {
  /** The owner of the entries that the caller registers; empty for an anonymous caller. */
  readonly principal: string;
  /** Empty if the caller has none. */
  readonly tenant: string;
  /** The cluster whose view a read uses: from the credential, otherwise the cluster of the serving node. */
  readonly cluster: string;
  /** `mesh.…` and `owner:<namespace>`. Use `hasRole` and `isOwnerOf` to check them. */
  readonly roles: readonly string[];
  /** Whether a credential proved the identity. */
  readonly isAuthenticated: boolean;
  /** When the credential expires, which ends the streams opened with it. Undefined if it does not expire. */
  readonly untilWallMs?: number | undefined;
}

export interface Caller extends CallerIdentity {
  /** Peer address without port. */
  readonly address: string;
}

/** Whether two identities are equal: the same caller, with the same view and the same roles. */
export function isSameIdentity(a: CallerIdentity, b: CallerIdentity): boolean {
  const isSameCaller = a.principal === b.principal && a.tenant === b.tenant && a.cluster === b.cluster;
  return isSameCaller && a.isAuthenticated === b.isAuthenticated && a.roles.join("\0") === b.roles.join("\0");
}

/** Returns a caller without a credential. `roles` are the roles of all anonymous callers on this node. */
export function anonymousCaller(cluster: string, address: string, roles: readonly string[] = []): Caller {
  return { principal: "", tenant: "", cluster, roles, isAuthenticated: false, address };
}

/** Whether a text is a role of the mesh or of an owner. */
export function isRole(text: string): boolean {
  return MESH_ROLES.some((role) => role === text) || (text.startsWith(OWNER) && text.length > OWNER.length);
}

/** Whether a caller has a role of the mesh, or a stronger one. */
export function hasRole({ roles }: Pick<CallerIdentity, "roles">, role: MeshRole): boolean {
  if (role === RESOLVE_ROLE) return roles.includes(role);
  return ORDERED_ROLES.slice(ORDERED_ROLES.indexOf(role)).some((each) => roles.includes(each));
}

/**
 * Throws for a caller without the role: `unauthenticated` if the caller has no credential, otherwise `discovery_access_denied`. `or`: an
 * alternative to the role, for the message.
 */
export function demandRole(caller: Pick<CallerIdentity, "isAuthenticated" | "roles">, role: MeshRole, or = ""): void {
  if (hasRole(caller, role)) return;
  if (!caller.isAuthenticated) throw new WaymarkError("unauthenticated", `this call needs a credential with the role ${role}${or}`);
  throw new WaymarkError("discovery_access_denied", `permission denied: the caller must have the role ${role}${or}`, {
    metadata: { role },
  });
}

/** Whether a caller owns a namespace. `mesh.admin` owns all of them. Only `mesh.admin` owns the empty namespace, which means all. */
export function isOwnerOf(caller: Pick<CallerIdentity, "roles">, namespace: string): boolean {
  if (hasRole(caller, "mesh.admin")) return true;
  if (namespace === "") return false;
  return caller.roles.some((role) => role.startsWith(OWNER) && role !== OWNER && namespaceCovers(role.slice(OWNER.length), namespace));
}

/** Whether a caller owns any namespace. */
export function isOwner({ roles }: Pick<CallerIdentity, "roles">): boolean {
  return roles.some((role) => role.startsWith(OWNER) && role !== OWNER);
}

/** The view that a request specifies; empty texts for none. */
export interface RequestedViewer {
  readonly clusterId: string;
  readonly tenantId: string;
}

/**
 * Returns the caller whose view a read uses. The view in a request is used only for callers without a credential, and only if
 * `tenants.allow_request_override` is on. The caller then has the view of that tenant and cluster, and keeps its principal and roles.
 */
export function viewerOf<C extends CallerIdentity>(caller: C, asked: RequestedViewer | undefined, allowsOverride: boolean): C {
  if (asked === undefined || caller.isAuthenticated || !allowsOverride) return caller;
  if (asked.clusterId === "" && asked.tenantId === "") return caller;
  return { ...caller, cluster: asked.clusterId || caller.cluster, tenant: asked.tenantId || caller.tenant };
}

/** Returns the error for a wrong credential. The message never contains the credential. */
export function unauthenticated(message: string): WaymarkError {
  return new WaymarkError("unauthenticated", message);
}
