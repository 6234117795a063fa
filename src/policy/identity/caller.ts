/** The caller of a request, as far as this node can tell, and what its roles allow. */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import { WaymarkError } from "../../lib/errors.ts";

/** Roles of the mesh, weakest first. Each includes those before it. */
const ORDERED_ROLES = ["mesh.read", "mesh.operate", "mesh.admin"] as const;
/** Reads for all callers of a resolver, whatever each of them may see. It stands outside the order: no role includes it, and it includes none. */
const RESOLVE_ROLE = "mesh.resolve";
/** All roles of the mesh. */
export const MESH_ROLES = [...ORDERED_ROLES, RESOLVE_ROLE] as const;
export type MeshRole = (typeof MESH_ROLES)[number];

/** Prefix of an owner's role: `owner:svc.market` may administer `svc.market` and the namespaces below it. */
const OWNER = "owner:";

/** An identity, whatever credential it comes from. It is the same for every call with that credential. */
export interface CallerIdentity {
  /** The owner of the entries that the caller registers; empty for an anonymous caller. */
  readonly principal: string;
  /** Empty when the caller has none. */
  readonly tenant: string;
  /** The cluster whose view a read uses: that of the credential, else that of the serving node. */
  readonly cluster: string;
  /** `mesh.…` and `owner:<namespace>`. Ask `hasRole` and `isOwnerOf` about them. */
  readonly roles: readonly string[];
  /** Whether a credential proved the identity. */
  readonly isAuthenticated: boolean;
  /** When the credential expires, and the streams opened with it end; undefined when it does not expire. */
  readonly untilWallMs?: number | undefined;
}

export interface Caller extends CallerIdentity {
  /** Peer address without port. */
  readonly address: string;
}

/** Whether two identities are one: the same caller, with the same view and the same roles. */
export function isSameIdentity(a: CallerIdentity, b: CallerIdentity): boolean {
  const isSameCaller = a.principal === b.principal && a.tenant === b.tenant && a.cluster === b.cluster;
  return isSameCaller && a.isAuthenticated === b.isAuthenticated && a.roles.join("\0") === b.roles.join("\0");
}

/** A caller without a credential. `roles` are those that every such caller has here. */
export function anonymousCaller(cluster: string, address: string, roles: readonly string[] = []): Caller {
  return { principal: "", tenant: "", cluster, roles, isAuthenticated: false, address };
}

/** Whether a text is a role: one of the mesh, or of an owner. */
export function isRole(text: string): boolean {
  return MESH_ROLES.some((role) => role === text) || (text.startsWith(OWNER) && text.length > OWNER.length);
}

/** Whether a caller has a role of the mesh, or a stronger one. */
export function hasRole({ roles }: Pick<CallerIdentity, "roles">, role: MeshRole): boolean {
  if (role === RESOLVE_ROLE) return roles.includes(role);
  return ORDERED_ROLES.slice(ORDERED_ROLES.indexOf(role)).some((each) => roles.includes(each));
}

/**
 * Throws `unauthenticated` for a caller without the role that showed no credential, else `discovery_access_denied`. `or`: what would do instead of
 * the role, for the message.
 */
export function demandRole(caller: Pick<CallerIdentity, "isAuthenticated" | "roles">, role: MeshRole, or = ""): void {
  if (hasRole(caller, role)) return;
  if (!caller.isAuthenticated) throw new WaymarkError("unauthenticated", `this call needs a credential with the role ${role}${or}`);
  throw new WaymarkError("discovery_access_denied", `the caller must have the role ${role}${or}`, { metadata: { role } });
}

/** Whether a caller owns a namespace. `mesh.admin` owns all of them, and alone the empty one, which stands for all. */
export function isOwnerOf(caller: Pick<CallerIdentity, "roles">, namespace: string): boolean {
  if (hasRole(caller, "mesh.admin")) return true;
  if (namespace === "") return false;
  return caller.roles.some((role) => role.startsWith(OWNER) && role !== OWNER && namespaceCovers(role.slice(OWNER.length), namespace));
}

/** Whether a caller owns some namespace. */
export function isOwner({ roles }: Pick<CallerIdentity, "roles">): boolean {
  return roles.some((role) => role.startsWith(OWNER) && role !== OWNER);
}

/** The view that a request asks for; empty texts ask for none. */
export interface RequestedViewer {
  readonly clusterId: string;
  readonly tenantId: string;
}

/**
 * The caller whose view a read uses. The view that a request asks for counts only for callers without a credential, and only where
 * `tenants.allow_request_override` is on. The caller then sees what that tenant and cluster see, and keeps its principal and roles.
 */
export function viewerOf<C extends CallerIdentity>(caller: C, asked: RequestedViewer | undefined, allowsOverride: boolean): C {
  if (asked === undefined || caller.isAuthenticated || !allowsOverride) return caller;
  if (asked.clusterId === "" && asked.tenantId === "") return caller;
  return { ...caller, cluster: asked.clusterId || caller.cluster, tenant: asked.tenantId || caller.tenant };
}

/** The refusal of a credential that is wrong. The message never shows the credential. */
export function unauthenticated(message: string): WaymarkError {
  return new WaymarkError("unauthenticated", message);
}
