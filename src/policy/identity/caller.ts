/** The caller of a request, as identified by this node, and the rights that its roles include. */
import { namespaceCovers } from "../../catalog/entry/names.ts";
import { WaymarkError } from "../../lib/errors.ts";

/** The roles of the mesh, from weakest to strongest. Each role includes all previous ones. */
const ORDERED_ROLES = ["mesh.read", "mesh.operate", "mesh.admin"] as const;
/**
 * This role allows reads on behalf of all callers of a resolver, regardless of what each of these callers may see. It is not part of this order: no
 * role includes it, and it does not include any other role.
 */
const RESOLVE_ROLE = "mesh.resolve";
/** All roles of the mesh. */
export const MESH_ROLES = [...ORDERED_ROLES, RESOLVE_ROLE] as const;
export type MeshRole = (typeof MESH_ROLES)[number];

/** Prefix of an owner's role: `owner:svc.market` may administer `svc.market` and the namespaces below it. */
const OWNER = "owner:";

/** A caller's identity, regardless of the type of its credential. The identity is the same for every call with the same credential. */
export interface CallerIdentity {
  /** The principal that owns the entries that the caller registers; empty for an anonymous caller. */
  readonly principal: string;
  /** Empty if the caller has no tenant. */
  readonly tenant: string;
  /** The cluster whose view a read uses: the credential's cluster, or else the cluster of the serving node. */
  readonly cluster: string;
  /** `mesh.…` and `owner:<namespace>`. Use `hasRole` and `isOwnerOf` to check them. */
  readonly roles: readonly string[];
  /** Whether the identity was proved by a credential. */
  readonly isAuthenticated: boolean;
  /** Time at which the credential expires. Streams that were opened with it are then closed. Undefined if the credential does not expire. */
  readonly untilWallMs?: number | undefined;
  /** Identifies the credential in the audit log without revealing it, for example `sha256:9f86d081884c`. Undefined without a credential. */
  readonly tokenId?: string | undefined;
}

export interface Caller extends CallerIdentity {
  /** The peer's address without the port. */
  readonly address: string;
  /** Whether the policy hides nothing from this call. Only `withOperatorView` grants this view, for one call at a time. */
  readonly hasOperatorView?: boolean;
}

/** Returns a text that differs between the operator's view and other views, so that tokens, cursors and caches of one are useless in the other. */
export function viewText({ hasOperatorView }: Pick<Caller, "hasOperatorView">, text: string): string {
  return hasOperatorView === true ? `${text}\0operator` : text;
}

const TOKEN_ID_DIGITS = 12;

/** Returns the token id of a token or an API key. `digest` is its SHA-256 in hex. */
export function tokenIdOf(digest: string): string {
  return `sha256:${digest.slice(0, TOKEN_ID_DIGITS)}`;
}

/** Whether two identities are equal: they have the same caller, view and roles. */
export function isSameIdentity(a: CallerIdentity, b: CallerIdentity): boolean {
  const isSameCaller = a.principal === b.principal && a.tenant === b.tenant && a.cluster === b.cluster;
  return isSameCaller && a.isAuthenticated === b.isAuthenticated && a.roles.join("\0") === b.roles.join("\0");
}

/** Returns the identity of a caller without a credential. `roles` are the roles of all anonymous callers on this node. */
export function anonymousCaller(cluster: string, address: string, roles: readonly string[] = []): Caller {
  return { principal: "", tenant: "", cluster, roles, isAuthenticated: false, address };
}

/** Whether a string is a role of the mesh or an owner's role. */
export function isRole(text: string): boolean {
  return MESH_ROLES.some((role) => role === text) || (text.startsWith(OWNER) && text.length > OWNER.length);
}

/** Whether a caller has this role of the mesh or a stronger one. */
export function hasRole({ roles }: Pick<CallerIdentity, "roles">, role: MeshRole): boolean {
  if (role === RESOLVE_ROLE) return roles.includes(role);
  return ORDERED_ROLES.slice(ORDERED_ROLES.indexOf(role)).some((each) => roles.includes(each));
}

/**
 * Throws if the caller does not have the role: `unauthenticated` if the caller has no credential, or else `discovery_access_denied`. `or` is an
 * alternative to the role, which is used in the message.
 */
export function demandRole(caller: Pick<CallerIdentity, "isAuthenticated" | "roles">, role: MeshRole, or = ""): void {
  if (hasRole(caller, role)) return;
  if (!caller.isAuthenticated) throw new WaymarkError("unauthenticated", `this call needs a credential with the role ${role}${or}`);
  throw new WaymarkError("discovery_access_denied", `permission denied: the caller must have the role ${role}${or}`, {
    metadata: { role },
  });
}

/**
 * Whether a caller owns a namespace. A caller with `mesh.admin` owns all namespaces. Only such a caller owns the empty namespace, which means all
 * namespaces.
 */
export function isOwnerOf(caller: Pick<CallerIdentity, "roles">, namespace: string): boolean {
  if (hasRole(caller, "mesh.admin")) return true;
  if (namespace === "") return false;
  return caller.roles.some((role) => role.startsWith(OWNER) && role !== OWNER && namespaceCovers(role.slice(OWNER.length), namespace));
}

/** Whether a caller owns any namespace. */
export function isOwner({ roles }: Pick<CallerIdentity, "roles">): boolean {
  return roles.some((role) => role.startsWith(OWNER) && role !== OWNER);
}

/** The view that a request specifies; empty strings mean that the request does not specify one. */
export interface RequestedViewer {
  readonly clusterId: string;
  readonly tenantId: string;
}

/**
 * Returns the caller whose view a read uses. The view specified in a request is used only for callers without a credential, and only if
 * `tenants.allow_request_override` is on. The returned caller then has the view of that tenant and cluster, and keeps its principal and roles.
 */
export function viewerOf<C extends CallerIdentity>(caller: C, asked: RequestedViewer | undefined, allowsOverride: boolean): C {
  if (asked === undefined || caller.isAuthenticated || !allowsOverride) return caller;
  if (asked.clusterId === "" && asked.tenantId === "") return caller;
  return { ...caller, cluster: asked.clusterId || caller.cluster, tenant: asked.tenantId || caller.tenant };
}

/** Returns the error for an invalid credential. The message never contains the credential. */
export function unauthenticated(message: string): WaymarkError {
  return new WaymarkError("unauthenticated", message);
}
