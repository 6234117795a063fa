/**
 * Queries an upstream for the entries that have a given DNS name, a name below it, or the name as an alias. Caches the entries that are visible to
 * the DNS viewer.
 */

import { clone, create, toBinary } from "@bufbuild/protobuf";
import { type Entry, EntrySchema, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogQueryRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { decodeEntry } from "../../catalog/entry/codec.ts";
import { type InstanceName, instanceCount } from "../../catalog/query/instances.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import type { AliasOwner, RemoteLookups } from "../../dns/subject/remote-lookup.ts";
import { AliasOwnerCache, type AliasOwners, aliasOwnersFrom } from "../../dns/views/alias-owners.ts";
import { MAX_FETCHING_VIEWS } from "../../dns/views/credential-views.ts";
import { FetchingRemoteLookup } from "../../dns/views/fetching-remote-lookup.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { anonymousCaller, type Caller } from "../../policy/identity/caller.ts";
import { mayBeSeen, type PolicySource } from "../../policy/set/verdict.ts";
import type { ResolverOptions } from "../../resolver/io-types.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import { filterOf } from "../discovery/filter.ts";
import { querySalt } from "../discovery/read-handlers.ts";
import type { ResolverPorts } from "./ports.ts";
import { proxyQuery, type UpstreamQuery } from "./upstream-query.ts";

/** Largest number of entries in an answer. A name with more entries is only known to exist. */
const MAX_TOLD = 100;
/** The form of names that the contract accepts as aliases and hosts. */
const ASKED_NAME = /^[A-Za-z0-9._-]{1,253}$/;
/** Estimated memory for a decoded entry: DECODED times its encoded size, plus DECODED_BYTES. */
const DECODED = 4;
const DECODED_BYTES = 2000;

/**
 * Memory for cached answers about aliases and names, in bytes. This amount is used once for the viewers in the settings, and once for callers with
 * credentials.
 */
const ALIAS_OWNERS_BYTES = 8 * 1024 * 1024;

export interface DnsRooms {
  readonly machine: ResolverMachine;
  readonly reads: CatalogReads;
  readonly policies: PolicySource;
  readonly inputs: { readonly count: number };
}

interface RemoteLookupOptions {
  readonly ports: ResolverPorts;
  readonly resolver: ResolverOptions;
  readonly now: () => Time;
}

/**
 * Opens the upstream lookups for the DNS of a process. Each class of viewers has separate lookups, because the entries of a name depend on the
 * viewer.
 */
export function openRemoteLookups(rooms: DnsRooms, options: RemoteLookupOptions & { readonly viewers: readonly Caller[] }): RemoteLookups {
  const { viewers } = options;
  const open = (viewer: Caller, parts: number) =>
    openRemoteLookup(rooms, { ...options, viewer, maxBytes: Math.ceil(ALIAS_OWNERS_BYTES / parts) });
  const named = new Map(viewers.map((viewer) => [classOf(viewer), open(viewer, viewers.length)]));
  /** The lookups for callers with credentials. The least recently used ones come first. */
  const others = new BoundedMap<string, FetchingRemoteLookup>(MAX_FETCHING_VIEWS);
  return {
    of: (caller) => {
      const key = classOf(caller);
      const own = named.get(key);
      if (own !== undefined) return own;
      const kept = others.get(key) ?? open({ ...anonymousCaller(caller.cluster, ""), tenant: caller.tenant }, MAX_FETCHING_VIEWS);
      others.set(key, kept);
      return kept;
    },
  };
}

function classOf({ cluster, tenant }: Pick<Caller, "cluster" | "tenant">): string {
  return `${cluster}\0${tenant}`;
}

function openRemoteLookup(
  rooms: DnsRooms,
  { ports, resolver, now, viewer, maxBytes }: RemoteLookupOptions & { readonly viewer: Caller; readonly maxBytes: number },
): FetchingRemoteLookup {
  const { machine, reads } = rooms;
  const nameCaller = askerOf(rooms, { ports, resolver, now, viewer });
  const { ttls, maxStaleMs } = resolver;
  const kept = { ttlMs: ttls.zoneMs, negativeMs: ttls.negativeMs, maxStaleMs: maxStaleMs === 0 ? NEVER : maxStaleMs, maxBytes };
  const aliasOwners = new AliasOwnerCache(kept);
  return new FetchingRemoteLookup({
    machine,
    isHeld: (name) => holds(machine, name),
    ask: (name, asked, told) => ports.ask(name, asked, told),
    aliasOwners,
    askAliasOwners: (name, zone, told) => void reportAliasOwners(nameCaller, { name, zone, maxBytes: aliasOwners.answerBytes }, told),
    inputCount: () => rooms.inputs.count,
    judgedRevision: () => reads.policyRevision + machine.releaseCount,
    now,
  });
}

/**
 * Returns whether any entries of a name are retained, because the upstream lost too many of them at the same time. HOT: runs once per name in a
 * planned answer. Usually, nothing is retained.
 */
export function holds({ held }: Pick<ResolverMachine, "held">, name: InstanceName): boolean {
  return held.lookup.size > 0 && instanceCount(held.lookup, name) > 0;
}

function askerOf(
  { reads, policies }: Pick<DnsRooms, "policies" | "reads">,
  { ports, resolver, now, viewer }: RemoteLookupOptions & { readonly viewer: Caller },
): AliasOwnersQuery {
  const { clusterId, name: self } = resolver;
  const caller = { ...anonymousCaller(viewer.cluster, ""), tenant: viewer.tenant };
  const seesIn: AliasOwnersQuery["seesIn"] = (namespace) => reads.verdict(caller, namespace).allowed;
  const isShown: AliasOwnersQuery["isShown"] = (entry) => mayBeSeen(policies.policy, entry, entry, clusterId);
  return { ports, seesIn, isShown, via: [self], clusterId, now };
}

interface AliasOwnersQuery {
  readonly ports: Pick<ResolverPorts, "adjust" | "callBytes" | "garbled" | "machine">;
  /** The filters for entries that the viewer may see. */
  readonly seesIn: UpstreamQuery["seesIn"];
  readonly isShown: UpstreamQuery["isShown"];
  /** The id of this resolver. */
  readonly via: readonly string[];
  readonly clusterId: string;
  readonly now: () => Time;
}

interface RequestedAliasOwners {
  readonly name: string;
  readonly zone: string;
  readonly maxBytes: number;
}

async function reportAliasOwners(
  nameCaller: AliasOwnersQuery,
  asked: RequestedAliasOwners,
  told: (aliasOwners: AliasOwners | undefined) => void,
): Promise<void> {
  let aliasOwners: AliasOwners | undefined;
  try {
    aliasOwners = await askAliasOwners(nameCaller, asked);
  } catch (error) {
    // After any error, the caller gets the result that the name is unknown.
    if (!(error instanceof WaymarkError)) throw error;
  } finally {
    told(aliasOwners);
  }
}

/** Queries the entries that have a name. Rejects as `proxyQuery` does. */
async function askAliasOwners(nameCaller: AliasOwnersQuery, { name, zone, maxBytes }: RequestedAliasOwners): Promise<AliasOwners> {
  const names = [name, `${name}.${zone}`].filter((text) => ASKED_NAME.test(text));
  // Such a name cannot belong to any alias or namespace.
  if (names.length === 0) return aliasOwnersFrom(name, zone, [], { isMore: false, maxBytes });
  const below = await ask(nameCaller, { hosts: names });
  // If the first answer was truncated, the entries with the exact name are queried again, because they must not be missing.
  const exact = below.isMore ? (await ask(nameCaller, { aliases: names })).entries : [];
  const entries = new Map([...below.entries, ...exact].map((entry) => [keyOf(entry), entry]));
  return aliasOwnersFrom(name, zone, [...entries.values()].map(sizedAliasOwner), { isMore: below.isMore, maxBytes });
}

async function ask(
  { ports, ...viewer }: AliasOwnersQuery,
  names: { readonly hosts: string[] } | { readonly aliases: string[] },
): Promise<{ readonly entries: readonly Entry[]; readonly isMore: boolean }> {
  const request = create(CatalogQueryRequestSchema, { ...names, limit: MAX_TOLD });
  // DNS reads the retained entries itself.
  const heldAfter = () => undefined;
  const passed = { request, filter: filterOf(request), salt: querySalt(request), heldAfter, ...viewer };
  const { response } = await proxyQuery(ports, passed);
  // Waymark servers never send LOCAL entries to resolvers.
  return { entries: response.items.filter(({ scope }) => scope !== Scope.LOCAL), isMore: response.nextPageToken !== "" };
}

/** Converts an entry for DNS, and estimates its memory. Load and times are removed: DNS does not use them, and they come last in the stored bytes. */
function sizedAliasOwner(asked: Entry): { readonly aliasOwner: AliasOwner; readonly sizeBytes: number } {
  const content = clone(EntrySchema, asked);
  content.load = undefined;
  content.registeredAt = undefined;
  content.updatedAt = undefined;
  const bytes = toBinary(EntrySchema, content);
  const entry = decodeEntry(bytes, "live");
  const { key, clusterId, region, tenantId, registeredByAdmin } = asked;
  const { namespace = "" } = key ?? {};
  const claim = { namespace, scope: entry.scope, clusterId, region, tenant: tenantId, isAdmins: registeredByAdmin };
  return { aliasOwner: { entry, claim }, sizeBytes: DECODED * bytes.length + DECODED_BYTES };
}

function keyOf({ key }: Entry): string {
  return [key?.namespace, key?.name, key?.kind, key?.instanceId, key?.clusterId].join("\0");
}
