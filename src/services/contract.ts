/**
 * What the contract says of a call: its cost, the namespaces that it concerns, which process answers it and who may make it, all read from the proto's
 * options once for each method, and the rules of its request. The facts of services of gRPC itself are here.
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
import { type Duration, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Entry } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterNameRequestSchema } from "../../gen/waymark/dns/v1/dns_pb.js";
import { Act, AnsweredBy, access, call, ResolverBehavior, Role, Cost as WireCost } from "../../gen/waymark/options/v1/options_pb.js";
import { REQUEST_CHECKS } from "../../gen/waymark/request_rules.ts";
import { type EntryBounds, FieldProblems, PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import { plainName } from "../discovery/dns-names.ts";
import { assert, invalid, WaymarkError } from "../lib/errors.ts";
import type { RefusedAct } from "../policy/audit/record.ts";
import { type Caller, demandRole, hasRole, isOwner, isOwnerOf, type MeshRole } from "../policy/identity/caller.ts";
import type { CallCost } from "../policy/limits/rate-limits.ts";

/** The facts of `waymark.options.v1` for services of gRPC itself, whose protos we cannot annotate. All of them only read. */
export interface ForeignFacts {
  /** Undefined means that calls are never limited. */
  readonly cost: CallCost | undefined;
  /** Whether every caller gets an answer: without a credential, whatever the settings say, and also while the server drains. */
  readonly isForEverybody: boolean;
}

const REFLECTION: ForeignFacts = { cost: "read", isForEverybody: false };

const SERVICES: Readonly<Record<string, ForeignFacts>> = {
  // Load balancers have no credential, and must learn that a node drains. A load balancer that gets no answer removes the node.
  "grpc.health.v1.Health": { cost: undefined, isForEverybody: true },
  "grpc.reflection.v1.ServerReflection": REFLECTION,
  "grpc.reflection.v1alpha.ServerReflection": REFLECTION,
};

/** Undefined for rpcs of our own. */
function foreignFacts({ parent }: DescMethod): ForeignFacts | undefined {
  return SERVICES[parent.typeName];
}

/** Whether a call of the method never changes anything. */
export function changesNothing(desc: DescMethod): boolean {
  return foreignFacts(desc) !== undefined || costOf(desc) === "read" || desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/**
 * The kind of token that a call of the method takes. Undefined: the method is never limited. `ServerInfo` is not limited, because operators
 * need it to find faults. Renewals are not limited, because refusing them would end leases in the middle of a flood. They are cheap, and
 * `catalog.load_interval` and the number of entries bound their reports. Calls between nodes have bounds of their own. Opening a watch is a
 * read. An rpc without a cost is a bug, and ends the start.
 */
export function costOf(desc: DescMethod): CallCost | undefined {
  const foreign = foreignFacts(desc);
  if (foreign !== undefined) return foreign.cost;
  const { cost } = getOption(desc, call);
  assert(cost !== WireCost.UNSPECIFIED, "an rpc names no cost", { rpc: rpcName(desc) });
  return COSTS[cost];
}

const COSTS: Readonly<Record<Exclude<WireCost, WireCost.UNSPECIFIED>, CallCost | undefined>> = {
  [WireCost.FREE]: undefined,
  [WireCost.READ]: "read",
  [WireCost.WRITE]: "write",
};

/** Whether a read worker sends calls of the method to the main thread. `isOwn`: the worker has a handler of its own. */
export function isForwarded(desc: DescMethod, isOwn: boolean): boolean {
  const { answeredBy } = getOption(desc, call);
  return answeredBy === AnsweredBy.NODE || (answeredBy === AnsweredBy.PROCESS && !isOwn);
}

/** Whether a resolver refuses calls of the method, because only nodes answer them. */
export function isRefusedByResolvers(desc: DescMethod): boolean {
  return getOption(desc, call).resolver === ResolverBehavior.REFUSE;
}

/**
 * Whether a resolver may pass calls of the method on without judging them. The upstream judges the resolver in place of its caller, so that what
 * depends on the caller needs a handler at the resolver, and so does a write, whose caller is to be in the audit.
 */
export function isProxied(desc: DescMethod): desc is DescMethodUnary {
  const { answeredBy, resolver, act, namespaceFields } = getOption(desc, call);
  const isForNode = answeredBy === AnsweredBy.NODE && resolver === ResolverBehavior.UNSPECIFIED;
  return isForNode && act === Act.UNSPECIFIED && namespaceFields.length === 0 && changesNothing(desc) && desc.methodKind === "unary";
}

/** Whether servers of this kind must have a handler for the method. An rpc that does not say which process answers it is a bug, and ends the start. */
export function mustAnswer(desc: DescMethod, isResolver: boolean): boolean {
  const { answeredBy, resolver } = getOption(desc, call);
  assert(answeredBy !== AnsweredBy.UNSPECIFIED, "an rpc does not say which process answers it", { rpc: rpcName(desc) });
  return !(isResolver && resolver === ResolverBehavior.UNIMPLEMENTED);
}

/** The routes of the method that servers of this kind must answer. What a resolver leaves to nodes has no routes on a resolver. */
export function routesOf(desc: DescMethod, isResolver: boolean): readonly string[] {
  const { answeredBy, routes } = getOption(desc, call);
  return isResolver && answeredBy === AnsweredBy.NODE ? [] : routes;
}

/** `waymark.policy.v1.PolicyService/Explain` */
export function rpcName({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

/** Returns the namespaces that a request names, with repetitions. */
export type NamespacesOf = (request: Message) => readonly string[];

/** Reads the namespaces at the first of the option's paths that holds any. Undefined if no field of the request holds a namespace. */
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

/** Reads the texts at a path, without empty ones. A list on the path is read item by item. */
function textsAt(message: DescMessage, [name, ...rest]: readonly string[]): (from: object, to: string[]) => void {
  const field = message.fields.find((each) => each.name === name);
  assert(field !== undefined, "a path of namespaces names no field", { message: message.typeName, name });
  assert((field.message === undefined) === (rest.length === 0), "a path of namespaces ends at no text", {
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

/** Reads a field of a message. Of a oneof that has another field, or none, it is undefined. */
function readerOf({ localName, oneof }: DescField): (from: object) => unknown {
  const read = (from: object, name: string): unknown => Reflect.get(from, name);
  if (oneof === undefined) return (from) => read(from, localName);
  return (from) => {
    const chosen = read(from, oneof.localName);
    if (typeof chosen !== "object" || chosen === null || read(chosen, "case") !== localName) return undefined;
    return read(chosen, "value");
  };
}

// What an rpc asks of its caller beside policy: read from the proto's option once a method, checked once a call.

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

// The rules of requests: those of the contract, which `scripts/gen-codec.ts` writes from the protos and every request is checked by before its
// handler sees it, and those that the contract cannot state.

/** Requests whose names are registered, and therefore held to what the node allows its own clients. Those of Register are looked at by its handler. */
const REGISTERING: ReadonlySet<string> = new Set([RegisterNameRequestSchema.typeName]);

/**
 * The check of requests of this type at a node with these bounds. It throws `invalid_argument` with all faults. A request may ask for names as long as any node may
 * store, even if this node allows its own clients less. HOT: once a request; protovalidate takes 50 times as long.
 */
export function requestCheckOf(
  { typeName }: Pick<DescMessage, "typeName">,
  bounds: EntryBounds = PROTOCOL_BOUNDS,
): (request: Message) => void {
  const check = REQUEST_CHECKS.get(typeName);
  if (check === undefined) return () => {};
  const problems = new FieldProblems(REGISTERING.has(typeName) ? bounds : PROTOCOL_BOUNDS);
  return (request) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the check is that of this type
    check(request as never, problems);
    problems.throwIfAny();
  };
}

const DEFAULT_BOOKMARK_MS = 10_000;

/** Longest label of a DNS name (RFC 1035, 2.3.4). */
const MAX_LABEL_LENGTH = 63;

/** Throws `invalid_argument` for an alias that cannot be a DNS name, and for two that are the same DNS name. Only new entries are checked. */
function checkNames(aliases: readonly string[], field: string): void {
  const known = new Map<string, number>();
  aliases.forEach((alias, i) => {
    const name = plainName(alias);
    if (!name.split(".").every((label) => label.length >= 1 && label.length <= MAX_LABEL_LENGTH))
      throw invalid(`${field}[${i}]`, `must have labels of 1 to ${MAX_LABEL_LENGTH} characters, with a dot between two`);
    const same = known.get(name);
    if (same !== undefined) throw invalid(`${field}[${i}]`, `is the same name in DNS as ${field}[${same}]`);
    known.set(name, i);
  });
}

/**
 * Throws `invalid_argument` for an alias that cannot be a DNS name. Throws `discovery_access_denied` for an alias of one label unless the
 * caller is an admin, because such a name stands above all namespaces.
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
  const message = `${field}[${at}]: an alias of one label needs the role mesh.admin`;
  const error = new WaymarkError("discovery_access_denied", message, { metadata: { role: "mesh.admin" } });
  rules.onRefused({ caller, action: "register", namespace: key?.namespace ?? "", reason: error.reason, detail: error.message });
  throw error;
}

/** A Duration in ms, with fractions. */
export function durationMs({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + nanos / 1e6;
}

/** Time between two bookmarks of a watch. */
export function bookmarkMs(asked: Duration | undefined): number {
  return asked === undefined ? DEFAULT_BOOKMARK_MS : durationMs(asked);
}
