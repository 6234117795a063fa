/** Implements the writes of DnsService, RegisterName and UnregisterName, by calling Register and Unregister. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { type Entry, EntryKind, EntrySchema, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { RegisterRequestSchema, UnregisterRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  type Endpoint,
  type RegisteredName,
  type RegisterNameRequest,
  RegisterNameResponseSchema,
  type UnregisterNameRequest,
  UnregisterNameResponseSchema,
} from "../../../gen/waymark/dns/v1/dns_pb.js";
import { checksOf, reportedOf } from "../../catalog/entry/checks.ts";
import { parseKey } from "../../catalog/entry/codec.ts";
import type { EntryBounds } from "../../catalog/entry/names.ts";
import type { Leases } from "../../catalog/leases.ts";
import { BODY, type CatalogRecord, HEALTH, type Health, type KeyText, KIND, keyParts } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { type DnsNames, plainName } from "../../discovery/dns-names.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import type { DnsCatalog } from "../../dns/subject/subject.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { protocolWord } from "../../lib/protocols.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { RegistrationWrites } from "../discovery/write-handlers.ts";
import type { CallContext, ServiceDefinition } from "../service.ts";
import { aliasNames, endpointNames, leadingNames, type NamedSubject, unzoned } from "./full-names.ts";

export interface RegistrationParts {
  readonly writes: RegistrationWrites;
  readonly reads: Pick<CatalogReads, "replica" | "verdict">;
  readonly leases: Pick<Leases, "leaseOf">;
  readonly dnsNames: Pick<DnsNames, "keysOf" | "view">;
  readonly identity: { readonly clusterId: string };
  readonly bounds: EntryBounds;
  readonly zones: readonly string[];
  /** Returns the catalog as DNS shows it to a caller. */
  readonly catalogOf: (caller: Caller) => DnsCatalog;
}

export function registrationHandlers(parts: RegistrationParts): ServiceDefinition["handlers"] {
  const methods = new Registrations(parts);
  return {
    registerName: { kind: "unary", handle: (request: RegisterNameRequest, context) => methods.register(request, context) },
    unregisterName: { kind: "unary", handle: (request: UnregisterNameRequest, context) => methods.unregister(request, context) },
  };
}

class Registrations {
  readonly #parts: RegistrationParts;

  constructor(parts: RegistrationParts) {
    this.#parts = parts;
  }

  register(request: RegisterNameRequest, context: CallContext) {
    const { registration } = request;
    switch (registration.case) {
      case "endpoint":
        return this.#registerEndpoint(registration.value, request, context);
      case "name":
        return this.#registerAlias(registration.value, request, context);
      case undefined:
        throw invalid("endpoint", "is required: set endpoint or name");
    }
  }

  async unregister({ name, namespace, protocol, port }: UnregisterNameRequest, context: CallContext) {
    if (namespace === "") {
      if (protocol !== "" || port !== 0)
        throw invalid("namespace", "is required with protocol or port; a name without a namespace is an alias");
      return this.#unregisterAlias(name, context);
    }
    if (port === 0) throw invalid("port", "is required with namespace: must be from 1 to 65535");
    const keys = [endpointKey({ name, namespace, protocol, port })];
    const { removed, revision } = await this.#parts.writes
      .unregister(create(UnregisterRequestSchema, { keys }), context)
      .catch((error: unknown) => {
        throw error instanceof WaymarkError ? renamed(error, KEY_FIELDS) : error;
      });
    return create(UnregisterNameResponseSchema, { removed, revision });
  }

  async #registerEndpoint(endpoint: Endpoint, request: RegisterNameRequest, context: CallContext) {
    const { leaseId, idempotencyKey, staticLease, leaseTtl } = request;
    const ttl = leaseTtl === undefined ? {} : { ttl: leaseTtl };
    const make = () => create(RegisterRequestSchema, { entries: [entryOf(endpoint)], leaseId, idempotencyKey, staticLease, ...ttl });
    const answer = await this.#parts.writes.register(make, context).catch((error: unknown) => {
      throw error instanceof WaymarkError ? ofEndpoint(error) : error;
    });
    return create(RegisterNameResponseSchema, {
      fqdns: this.#leading(endpointNames(endpoint, this.#parts.zones), { kind: KIND.SERVICE, ...endpoint }, context),
      leaseId: answer.leaseId,
      revision: answer.revision,
      ...(answer.ttl && { ttl: answer.ttl }),
    });
  }

  /** Returns the names that resolve to the new registration for its caller. */
  #leading(names: readonly string[], thing: NamedSubject, { caller }: CallContext): string[] {
    const { zones, catalogOf } = this.#parts;
    return leadingNames(names, thing, { zones, catalog: catalogOf(caller) });
  }

  /** Registers the entry again with one more alias, but otherwise unchanged and under its current lease. */
  async #registerAlias({ name, key }: RegisteredName, request: RegisterNameRequest, context: CallContext) {
    checkEndpointFields(request);
    const { writes, identity, bounds, zones } = this.#parts;
    if (key === undefined) throw invalid("name.key", "is required");
    const parsed = parseKey(key, "name.key", identity.clusterId, bounds);
    const isNew = (alias: string) => plainName(alias) !== plainName(name);
    const make = () => {
      const own = this.#ownOf(parsed, key.namespace, context.caller);
      return this.#again(own, (aliases) => (aliases.every(isNew) ? [...aliases, name] : aliases));
    };
    const answer = await writes.register(make, context).catch((error: unknown) => {
      throw error instanceof WaymarkError ? ofAlias(error) : error;
    });
    return create(RegisterNameResponseSchema, {
      fqdns: this.#leading(aliasNames([name], zones), keyParts(parsed), context),
      leaseId: answer.leaseId,
      revision: answer.revision,
      ...(answer.ttl && { ttl: answer.ttl }),
    });
  }

  async #unregisterAlias(name: string, context: CallContext) {
    const { writes, reads } = this.#parts;
    const { caller } = context;
    const spellings = aliasSpellings(name, this.#parts.zones);
    const aliasOwners = this.#aliasOwners(spellings).filter(({ namespace }) => reads.verdict(caller, namespace).allowed);
    const own = aliasOwners.filter((record) => this.#isOwn(record, caller));
    const [other] = aliasOwners;
    if (own.length === 0 && other !== undefined) throw this.#notOwn(other, name, caller);
    const isKept = (alias: string) => !spellings.includes(plainName(alias));
    const without = ({ key }: CatalogRecord) =>
      writes.register(() => this.#again(this.#ownOf(key, "", caller), (aliases) => aliases.filter(isKept)), context);
    const answers = await Promise.all(own.map(without));
    const revision = answers.at(-1)?.revision ?? BigInt(reads.replica.revision);
    return create(UnregisterNameResponseSchema, { removed: own.length > 0 ? 1 : 0, revision });
  }

  #aliasOwners(spellings: readonly string[]): readonly CatalogRecord[] {
    const { dnsNames } = this.#parts;
    const keys = new Set(spellings.flatMap((alias) => [...dnsNames.keysOf(alias)]));
    return [...keys].map((key) => dnsNames.view(key)).filter((record) => record !== undefined);
  }

  #isOwn({ key, principal }: CatalogRecord, caller: Caller): boolean {
    const own = this.#parts.reads.replica.own(key);
    return own !== undefined && own.body === BODY.ENTRY && principal === caller.principal;
  }

  #notOwn({ origin, principal, namespace }: CatalogRecord, name: string, caller: Caller): WaymarkError {
    if (principal !== caller.principal)
      return new WaymarkError(
        "discovery_access_denied",
        `permission denied: name: ${name} is an alias of an entry that another principal owns`,
        {
          metadata: { namespace },
        },
      );
    return new WaymarkError(
      "not_found",
      `name: ${name} is an alias of an entry that is registered on node ${origin.nodeId}: send the call to that node`,
    );
  }

  /**
   * Returns this node's record of one of the caller's entries. Throws `not_found`, including for an entry that the caller may not see, or
   * `discovery_access_denied`.
   */
  #ownOf(key: KeyText, namespace: string, caller: Caller): StoredRecord {
    const own = this.#parts.reads.replica.own(key);
    const isSeen = namespace === "" || this.#parts.reads.verdict(caller, namespace).allowed;
    if (!isSeen || own === undefined || own.body !== BODY.ENTRY)
      throw new WaymarkError(
        "not_found",
        "name.key: no such entry is registered on this node; register an alias on the node that has its entry",
      );
    if (own.principal !== caller.principal)
      throw new WaymarkError(
        "discovery_access_denied",
        "permission denied: name.key: the entry is owned by another principal; only its owner can add aliases",
        {
          metadata: { namespace: own.namespace },
        },
      );
    return own;
  }

  /** Builds the request that registers an entry of this node again with different aliases. */
  #again(own: StoredRecord, change: (aliases: readonly string[]) => readonly string[]) {
    const { reads, leases } = this.#parts;
    const bytes = reads.replica.slab.view(own.at, own.sizeBytes);
    const entry = fromBinary(EntrySchema, bytes);
    entry.aliases = [...change(entry.aliases)];
    // The entry may show readers the health from a check or a maintenance override, so the reported health is restored here.
    entry.health = WIRE_HEALTHS[reportedOf(checksOf(bytes))];
    return create(RegisterRequestSchema, { entries: [entry], leaseId: leases.leaseOf(own.key) ?? "" });
  }
}

const WIRE_HEALTHS: Readonly<Record<Health, HealthStatus>> = {
  [HEALTH.UNSET]: HealthStatus.UNSPECIFIED,
  [HEALTH.HEALTHY]: HealthStatus.HEALTHY,
  [HEALTH.DEGRADED]: HealthStatus.DEGRADED,
  [HEALTH.CRITICAL]: HealthStatus.CRITICAL,
  [HEALTH.MAINTENANCE]: HealthStatus.MAINTENANCE,
  [HEALTH.ORPHANED]: HealthStatus.ORPHANED,
};

/**
 * Returns the key of a service instance. The key depends only on these fields, so a service replaces its previous registration on any node of the
 * cluster.
 */
function endpointKey({ name, namespace, protocol, port }: Pick<Endpoint, "name" | "namespace" | "port" | "protocol">) {
  const instanceId = `dns:${protocolWord(protocol)}:${port}`;
  return { kind: EntryKind.SERVICE, namespace, name, instanceId };
}

function entryOf(endpoint: Endpoint): Entry {
  const { port, priority, weight, scope, tags, capabilities, metadata, aliases, ttl } = endpoint;
  const protocol = protocolWord(endpoint.protocol);
  return create(EntrySchema, {
    key: endpointKey(endpoint),
    scope,
    targets: endpoint.targets.map((host) => ({ host, port, protocol, priority, weight })),
    tags,
    capabilities,
    metadata,
    aliases,
    ...(ttl && { ttl }),
  });
}

function checkEndpointFields({ leaseTtl, leaseId, staticLease, idempotencyKey }: RegisterNameRequest): void {
  const given = {
    lease_ttl: leaseTtl !== undefined,
    lease_id: leaseId !== "",
    static_lease: staticLease,
    idempotency_key: idempotencyKey !== "",
  };
  for (const [field, isGiven] of Object.entries(given)) {
    if (isGiven) throw invalid(field, "must not be set with name: an alias uses the lease of its entry");
  }
}

/** Returns the plain forms of a name: the relative name, and the full name in each zone. */
function aliasSpellings(name: string, zones: readonly string[]): readonly string[] {
  const relative = unzoned(plainName(name), zones);
  return [relative, ...zones.map((zone) => `${relative}.${zone}`)];
}

const ENDPOINT_FIELDS: readonly (readonly [RegExp, string])[] = [
  [/entries\[0\]\.key\.instance_id/g, "endpoint.protocol"],
  [/entries\[0\]\.targets\[(\d+)\]\.(port|priority|protocol|weight)/g, "endpoint.$2"],
  [/entries\[0\]\.targets\[(\d+)\]\.host/g, "endpoint.targets[$1]"],
  [/entries\[0\]\.key\./g, "endpoint."],
  [/entries\[0\]/g, "endpoint"],
  [/^ttl$/g, "lease_ttl"],
  [/^(\w+: )ttl: /g, "$1lease_ttl: "],
];

const KEY_FIELDS: readonly (readonly [RegExp, string])[] = [
  [/keys\[0\]\.instance_id/g, "protocol"],
  [/keys\[0\]\./g, ""],
  [/keys\[0\]/g, "name"],
];

/** Renames the fields in a registration error to the fields of an endpoint. */
function ofEndpoint(error: WaymarkError): WaymarkError {
  return renamed(error, ENDPOINT_FIELDS);
}

/** Renames the fields in a registration error for an alias. The new alias is the last one in the list. */
function ofAlias(error: WaymarkError): WaymarkError {
  return renamed(error, [
    [/entries\[0\]\.aliases\[\d+\]/g, "name.name"],
    [/entries\[0\]/g, "name"],
  ]);
}

function renamed(error: WaymarkError, rules: readonly (readonly [RegExp, string])[]): WaymarkError {
  const rename = (text: string) => rules.reduce((said, [from, to]) => said.replace(from, to), text);
  const { violations } = error.details;
  const details = {
    ...error.details,
    cause: error,
    ...(violations && {
      violations: violations.map(({ field, description }) => ({ field: rename(field), description: rename(description) })),
    }),
  };
  return new WaymarkError(error.reason, rename(error.message).slice(`${error.reason}: `.length), details);
}
