/** What an rpc asks of its caller beside policy: read from the proto's option once a method, checked once a call. */
import { type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import { access, Role } from "../../gen/waymark/options/v1/options_pb.js";
import { assert } from "../lib/errors.ts";
import { type Caller, demandRole, hasRole, isOwner, isOwnerOf, type MeshRole } from "../policy/identity/caller.ts";
import { foreignFacts } from "../services/cost.ts";

export interface RequiredAccess {
  /** Undefined: none. */
  readonly role: MeshRole | undefined;
  /** Name in code of the request's field with a namespace whose owner may call too. */
  readonly ownerOf: string | undefined;
  /** Whether owners of any namespace may call; then the handler refuses what is not theirs. */
  readonly isForOwners: boolean;
  /** Whether callers without a credential are answered whatever the settings say of them, and while the server drains too. */
  readonly isForEverybody: boolean;
}

const ROLES: Readonly<Record<Exclude<Role, Role.UNSPECIFIED>, MeshRole | undefined>> = {
  [Role.NONE]: undefined,
  [Role.MESH_READ]: "mesh.read",
  [Role.MESH_OPERATE]: "mesh.operate",
  [Role.MESH_ADMIN]: "mesh.admin",
  [Role.MESH_RESOLVE]: "mesh.resolve",
};

/** What the option `waymark.options.v1.access` of an rpc says. An rpc without one is a mistake of ours and ends the start. */
export function requiredAccessOf(desc: DescMethod): RequiredAccess {
  const foreign = foreignFacts(desc);
  if (foreign !== undefined) return { role: undefined, ownerOf: undefined, isForOwners: false, isForEverybody: foreign.isForEverybody };
  const name = `${desc.parent.typeName}/${desc.name}`;
  assert(hasOption(desc, access), "an rpc declares no access", { rpc: name });
  const { role, ownerOf, anyOwner } = getOption(desc, access);
  assert(role !== Role.UNSPECIFIED, "an rpc names no role", { rpc: name });
  const field = desc.input.fields.find((each) => each.name === ownerOf);
  assert(ownerOf === "" || (field?.fieldKind === "scalar" && role !== Role.NONE), "an rpc has owners of no field of its request", {
    rpc: name,
    ownerOf,
  });
  return { role: ROLES[role], ownerOf: field?.localName, isForOwners: anyOwner, isForEverybody: false };
}

/**
 * Throws `unauthenticated` for a caller that showed no credential, else `discovery_access_denied`. A request that could
 * not be read has no owner.
 */
export function authorise(requiredAccess: RequiredAccess, caller: Caller, request: object | undefined): void {
  const { role, ownerOf, isForOwners } = requiredAccess;
  if (role === undefined || hasRole(caller, role)) return;
  if (isForOwners && isOwner(caller)) return;
  const namespace: unknown = ownerOf === undefined || request === undefined ? undefined : Reflect.get(request, ownerOf);
  if (typeof namespace === "string" && isOwnerOf(caller, namespace)) return;
  const or = ownerOf === undefined && !isForOwners ? "" : " or be an owner of the namespace";
  demandRole(caller, role, or);
}
