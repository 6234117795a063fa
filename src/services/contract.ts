/**
 * Reads the properties of an rpc from the options in its proto, once per method: its cost, its namespaces, the process that answers it, the access
 * that it requires, and the rules for its requests. The properties of gRPC's own services are defined here.
 */
import {
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  getOption,
  hasOption,
  type Message,
} from "@bufbuild/protobuf";
import { type Duration, MethodOptions_IdempotencyLevel, type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Entry } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { ShardServiceApplyRequestSchema } from "../../gen/waymark/control/v1/shard_pb.js";
import { RegisterNameRequestSchema } from "../../gen/waymark/dns/v1/dns_pb.js";
import { Act, AnsweredBy, access, call, ResolverBehavior, Role, Cost as WireCost } from "../../gen/waymark/options/v1/options_pb.js";
import { REQUEST_CHECKS } from "../../gen/waymark/request_rules.ts";
import { type EntryBounds, FieldProblems, PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import { plainName } from "../discovery/dns-names.ts";
import { assert, invalid, WaymarkError } from "../lib/errors.ts";
import type { RefusedAct } from "../policy/audit/record.ts";
import { type Caller, demandRole, hasRole, isOwner, isOwnerOf, type MeshRole } from "../policy/identity/caller.ts";
import type { CallCost } from "../policy/limits/rate-limits.ts";
import { MAX_WALL_MS } from "../policy/set/validation.ts";

/** Replaces the options of `waymark.options.v1` for gRPC's own services, whose protos cannot be annotated. All of these services only read data. */
export interface ForeignFacts {
  /** Undefined if calls are never limited. */
  readonly cost: CallCost | undefined;
  /** Whether calls need no credential, regardless of the settings, and are also answered while the server drains. */
  readonly isForEverybody: boolean;
}

const REFLECTION: ForeignFacts = { cost: "read", isForEverybody: false };

const SERVICES: Readonly<Record<string, ForeignFacts>> = {
  // Load balancers have no credential, and must see that a node is draining. A load balancer that gets no answer removes the node.
  "grpc.health.v1.Health": { cost: undefined, isForEverybody: true },
  "grpc.reflection.v1.ServerReflection": REFLECTION,
  "grpc.reflection.v1alpha.ServerReflection": REFLECTION,
};

/** Returns undefined for Waymark's own rpcs. */
function foreignFacts({ parent }: DescMethod): ForeignFacts | undefined {
  return SERVICES[parent.typeName];
}

/** Returns whether calls of the method never change anything. */
export function changesNothing(desc: DescMethod): boolean {
  return foreignFacts(desc) !== undefined || costOf(desc) === "read" || desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/**
 * Returns the kind of token that a call of the method consumes, or undefined if the method is never limited. `ServerInfo` is not limited, because
 * operators need it for diagnosis. Renewals are not limited, because limits could make leases expire during a flood. Renewals are cheap, and the load
 * reports that they carry are limited by `catalog.load_interval` and the number of entries. Calls between nodes have separate limits. Opening a watch
 * costs as much as a read. A missing cost is a bug and aborts the start.
 */
export function costOf(desc: DescMethod): CallCost | undefined {
  const foreign = foreignFacts(desc);
  if (foreign !== undefined) return foreign.cost;
  const { cost } = getOption(desc, call);
  assert(cost !== WireCost.UNSPECIFIED, "rpc has no cost in its proto", { rpc: rpcName(desc) });
  return COSTS[cost];
}

const COSTS: Readonly<Record<Exclude<WireCost, WireCost.UNSPECIFIED>, CallCost | undefined>> = {
  [WireCost.FREE]: undefined,
  [WireCost.READ]: "read",
  [WireCost.WRITE]: "write",
};

/** Returns whether a read worker forwards calls of the method to the main thread. `isOwn` is true if the worker has its own handler. */
export function isForwarded(desc: DescMethod, isOwn: boolean): boolean {
  const { answeredBy } = getOption(desc, call);
  return answeredBy === AnsweredBy.NODE || (answeredBy === AnsweredBy.PROCESS && !isOwn);
}

/** Returns whether a resolver rejects calls of the method, because only nodes answer them. */
export function isRefusedByResolvers(desc: DescMethod): boolean {
  return getOption(desc, call).resolver === ResolverBehavior.REFUSE;
}

/** Returns whether only nodes have the method, because it is about the mesh. */
export function isOnlyOnNodes(desc: DescMethod): boolean {
  return getOption(desc, call).resolver === ResolverBehavior.UNIMPLEMENTED;
}

/**
 * Returns whether a resolver may proxy calls of the method to its upstream without checking access itself. The upstream checks the resolver's access instead of
 * the caller's. Therefore, a resolver needs its own handlers for methods that depend on the caller. A resolver also needs handlers for writes,
 * because the audit log must name the caller.
 */
export function isProxied(desc: DescMethod): desc is DescMethodUnary {
  const { answeredBy, resolver, act, namespaceFields } = getOption(desc, call);
  const isForNode = answeredBy === AnsweredBy.NODE && resolver === ResolverBehavior.UNSPECIFIED;
  return isForNode && act === Act.UNSPECIFIED && namespaceFields.length === 0 && changesNothing(desc) && desc.methodKind === "unary";
}

/** Returns whether servers of this kind must have a handler for the method. A missing `answered_by` option is a bug and aborts the start. */
export function mustAnswer(desc: DescMethod, isResolver: boolean): boolean {
  const { answeredBy } = getOption(desc, call);
  assert(answeredBy !== AnsweredBy.UNSPECIFIED, "rpc has no answered_by in its proto", { rpc: rpcName(desc) });
  return !(isResolver && isOnlyOnNodes(desc));
}

/** Returns the routes of the method that servers of this kind must answer. Methods that only nodes answer have no routes on a resolver. */
export function routesOf(desc: DescMethod, isResolver: boolean): readonly string[] {
  const { answeredBy, routes } = getOption(desc, call);
  return isResolver && answeredBy === AnsweredBy.NODE ? [] : routes;
}

/** `waymark.policy.v1.PolicyService/Explain` */
export function rpcName({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

/** Returns the namespaces that a request names, including repetitions. */
export type NamespacesOf = (request: Message) => readonly string[];

/** Reads the namespaces from the first of the option's paths that has any. Undefined if no field of the request contains a namespace. */
export function namespacesOf(desc: DescMethod): NamespacesOf | undefined {
  const paths = getOption(desc, call).namespaceFields.map((path) => textsAt(desc.input, path.split(".")));
  if (paths.length === 0) return undefined;
  return (request) => {
    const found: string[] = [];
    for (const read of paths) {
      read(request, found);
      if (found.length > 0) break;
    }
    return found;
  };
}

/** Reads the non-empty strings at a path. If a list is on the path, each of its items is read. */
function textsAt(message: DescMessage, [name, ...rest]: readonly string[]): (from: object, to: string[]) => void {
  const field = message.fields.find((each) => each.name === name);
  assert(field !== undefined, "namespace_fields contains an unknown field", { message: message.typeName, name });
  assert((field.message === undefined) === (rest.length === 0), "a path in namespace_fields does not end at a string field", {
    message: message.typeName,
    name,
  });
  const valueOf = readerOf(field);
  const inner = field.message === undefined ? undefined : textsAt(field.message, rest);
  return (from, to) => {
    const value = valueOf(from);
    const items: readonly unknown[] = Array.isArray(value) ? value : [value];
    for (const item of items) {
      if (typeof item === "object" && item !== null) inner?.(item, to);
      else if (typeof item === "string" && item !== "") to.push(item);
    }
  };
}

/** Returns a function that reads a field of a message. The function returns undefined for a field of a oneof that is not set. */
function readerOf({ localName, oneof }: DescField): (from: object) => unknown {
  const read = (from: object, name: string): unknown => Reflect.get(from, name);
  if (oneof === undefined) return (from) => read(from, localName);
  return (from) => {
    const chosen = read(from, oneof.localName);
    if (typeof chosen !== "object" || chosen === null || read(chosen, "case") !== localName) return undefined;
    return read(chosen, "value");
  };
}

// The access that an rpc requires of its caller in addition to policy. The access is read from the proto's option once per method, and checked in
// every call.

export interface RequiredAccess {
  /** Undefined if the rpc requires no role. */
  readonly role: MeshRole | undefined;
  /** Generated name of the request field that contains a namespace. The owners of that namespace may also call. */
  readonly ownerOf: string | undefined;
  /** Whether owners of any namespace may call the rpc. The handler then rejects namespaces that the caller does not own. */
  readonly isForOwners: boolean;
  /** Whether calls need no credential, regardless of the settings, and are also answered while the server drains. */
  readonly isForEverybody: boolean;
}

const ROLES: Readonly<Record<Exclude<Role, Role.UNSPECIFIED>, MeshRole | undefined>> = {
  [Role.NONE]: undefined,
  [Role.MESH_READ]: "mesh.read",
  [Role.MESH_OPERATE]: "mesh.operate",
  [Role.MESH_ADMIN]: "mesh.admin",
  [Role.MESH_RESOLVE]: "mesh.resolve",
};

/** Reads the option `waymark.options.v1.access` of an rpc. A missing option is a bug and aborts the start. */
export function requiredAccessOf(desc: DescMethod): RequiredAccess {
  const foreign = foreignFacts(desc);
  if (foreign !== undefined) return { role: undefined, ownerOf: undefined, isForOwners: false, isForEverybody: foreign.isForEverybody };
  const name = `${desc.parent.typeName}/${desc.name}`;
  assert(hasOption(desc, access), "rpc has no access option in its proto", { rpc: name });
  const { role, ownerOf, anyOwner } = getOption(desc, access);
  assert(role !== Role.UNSPECIFIED, "rpc has no role in its access option", { rpc: name });
  const field = desc.input.fields.find((each) => each.name === ownerOf);
  assert(ownerOf === "" || (field?.fieldKind === "scalar" && role !== Role.NONE), "rpc has an unsuitable request field in owner_of", {
    rpc: name,
    ownerOf,
  });
  return { role: ROLES[role], ownerOf: field?.localName, isForOwners: anyOwner, isForEverybody: false };
}

/**
 * Throws `unauthenticated` for a caller without a credential, and `discovery_access_denied` for any other caller without the required access.
 * If a request could not be decoded, no caller is regarded as an owner.
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

// The rules for requests. `scripts/gen-codec.ts` generates the rules in the contract from the protos, and every request is checked against them
// before its handler runs. Rules that the contract cannot express are defined below.

/**
 * Requests that create names, so they are subject to the limits that the node sets for its own clients. The handler of Register checks the names of
 * its requests itself.
 */
const REGISTERING: ReadonlySet<string> = new Set([RegisterNameRequestSchema.typeName, ShardServiceApplyRequestSchema.typeName]);

/**
 * Returns the check for requests of this type on a node with these limits. The check throws `invalid_argument` and lists all faults. Requests other
 * than registrations may contain names as long as any node may store, even if this node sets a lower limit for its own clients. HOT: runs once per
 * request; protovalidate needs 50 times as long.
 */
export function requestCheckOf(
  { typeName }: Pick<DescMessage, "typeName">,
  bounds: EntryBounds = PROTOCOL_BOUNDS,
): (request: Message) => void {
  const check = REQUEST_CHECKS.get(typeName);
  if (check === undefined) return () => {};
  const problems = new FieldProblems(REGISTERING.has(typeName) ? bounds : PROTOCOL_BOUNDS);
  return (request) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the check was generated for this type
    check(request as never, problems);
    problems.throwIfAny();
  };
}

const DEFAULT_BOOKMARK_MS = 10_000;

/** Longest label of a DNS name (RFC 1035, 2.3.4). */
const MAX_LABEL_LENGTH = 63;

/**
 * Throws `invalid_argument` for an alias that is not a valid DNS name, and for two aliases that are the same DNS name. Only new entries are checked.
 */
function checkNames(aliases: readonly string[], field: string): void {
  const known = new Map<string, number>();
  aliases.forEach((alias, i) => {
    const name = plainName(alias);
    if (!name.split(".").every((label) => label.length >= 1 && label.length <= MAX_LABEL_LENGTH))
      throw invalid(`${field}[${i}]`, `must have labels of 1 to ${MAX_LABEL_LENGTH} characters, separated by dots`);
    const same = known.get(name);
    if (same !== undefined) throw invalid(`${field}[${i}]`, `is the same DNS name as ${field}[${same}]`);
    known.set(name, i);
  });
}

/**
 * Throws `invalid_argument` for an alias that is not a valid DNS name. Throws `discovery_access_denied` for an alias with only one label unless the
 * caller is an admin, because such a name does not belong to any namespace.
 */
export function checkAliases(
  { aliases, key }: Pick<Entry, "aliases" | "key">,
  field: string,
  caller: Caller,
  rules: { readonly isSingle: (alias: string) => boolean; readonly onRefused: (refusal: RefusedAct) => void },
): void {
  checkNames(aliases, field);
  const at = hasRole(caller, "mesh.admin") ? -1 : aliases.findIndex(rules.isSingle);
  if (at < 0) return;
  const message = `permission denied: ${field}[${at}]: an alias of one label requires the role mesh.admin`;
  const error = new WaymarkError("discovery_access_denied", message, { metadata: { role: "mesh.admin" } });
  rules.onRefused({ caller, action: "register", namespace: key?.namespace ?? "", reason: error.reason, detail: error.message });
  throw error;
}

/** Converts a time to a Timestamp, whose range ends with the year 9999. Signed announcements and stored records can contain any time. */
export function timestampOf(wallMs: number): Timestamp {
  return timestampFromMs(Math.min(wallMs, MAX_WALL_MS));
}

/** Converts a Duration to ms, including fractions. */
export function durationMs({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + nanos / 1e6;
}

/** Returns the time between two bookmarks of a watch in ms. */
export function bookmarkMs(asked: Duration | undefined): number {
  return asked === undefined ? DEFAULT_BOOKMARK_MS : durationMs(asked);
}
