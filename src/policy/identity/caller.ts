/** Who makes a call, as far as this node can tell, and what its roles allow. */
import { namespaceCovers } from "../../catalog/entry/names.ts";

/** Roles of the mesh, weakest first; each has those before it. */
export const MESH_ROLES = ["mesh.read", "mesh.operate", "mesh.admin"] as const;
export type MeshRole = (typeof MESH_ROLES)[number];

/** `owner:svc.market` may administer `svc.market` and what is below it. */
const OWNER = "owner:";

/** What an identity is, wherever it comes from; the same for every call made with it. */
export interface Identity {
  /** Who registered entries belong to; empty for an anonymous caller. */
  readonly principal: string;
  /** Empty when the caller has none. */
  readonly tenant: string;
  /** Cluster whose view a read uses: the credential's, else the serving node's. */
  readonly cluster: string;
  /** `mesh.…` and `owner:<namespace>`. Asked about through `hasRole` and `isOwnerOf`. */
  readonly roles: readonly string[];
  /** Whether a credential said so. */
  readonly isAuthenticated: boolean;
  /** When the credential ends, and with it what it opened; undefined when it does not. */
  readonly untilWallMs?: number | undefined;
}

export interface Caller extends Identity {
  /** Peer address without port. */
  readonly address: string;
}

/** A caller that showed no credential; `roles` are those that everybody has here. */
export function anonymousCaller(cluster: string, address: string, roles: readonly string[] = []): Caller {
  return { principal: "", tenant: "", cluster, roles, isAuthenticated: false, address };
}

/** Whether a text is a role at all: one of the mesh's, or an owner's. */
export function isRole(text: string): boolean {
  return isMeshRole(text) || (text.startsWith(OWNER) && text.length > OWNER.length);
}

function isMeshRole(text: string): text is MeshRole {
  return text === "mesh.read" || text === "mesh.operate" || text === "mesh.admin";
}

/** Whether a caller has a role of the mesh, itself or by a stronger one. */
export function hasRole({ roles }: Pick<Identity, "roles">, role: MeshRole): boolean {
  return MESH_ROLES.slice(MESH_ROLES.indexOf(role)).some((each) => roles.includes(each));
}

/** Whether a caller owns a namespace, as `mesh.admin` owns all. The empty namespace, which stands for all, has no other owner. */
export function isOwnerOf(caller: Pick<Identity, "roles">, namespace: string): boolean {
  if (hasRole(caller, "mesh.admin")) return true;
  if (namespace === "") return false;
  return caller.roles.some((role) => role.startsWith(OWNER) && role !== OWNER && namespaceCovers(role.slice(OWNER.length), namespace));
}

/** Whether a caller owns some namespace. */
export function isOwner({ roles }: Pick<Identity, "roles">): boolean {
  return roles.some((role) => role.startsWith(OWNER) && role !== OWNER);
}

/** Whose view a request asks to use; empty texts ask for nothing. */
export interface AskedViewer {
  readonly clusterId: string;
  readonly tenantId: string;
}

/**
 * The caller whose view a read uses. What a request asks for counts only for callers without a credential, and where
 * `tenants.allow_request_override` is on: the caller then sees as that tenant and cluster do, and stays who it is.
 */
export function viewerOf<C extends Identity>(caller: C, asked: AskedViewer | undefined, allowsOverride: boolean): C {
  if (asked === undefined || caller.isAuthenticated || !allowsOverride) return caller;
  if (asked.clusterId === "" && asked.tenantId === "") return caller;
  return { ...caller, cluster: asked.clusterId || caller.cluster, tenant: asked.tenantId || caller.tenant };
}
