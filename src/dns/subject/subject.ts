/** Resolves a name below a zone to its subject in the catalog (its entries, alias or list), as seen by one class of viewers. */

import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import { type EntryView, portWord, type TargetView, transportOf } from "../../catalog/entry/view.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { healthOrder, isDrained } from "../../consumer/health-tiers.ts";
import { advertisedTargets } from "../../consumer/hosting.ts";
import { withHosts } from "../../discovery/candidates.ts";
import type { DnsNames } from "../../discovery/dns-names.ts";
import { type IpAddress, parseAddress } from "../../lib/addresses.ts";
import type { Time } from "../../lib/machine.ts";
import type { TransportProtocol } from "../../lib/protocols.ts";
import { wordsOf } from "../names/labels.ts";
import {
  ADDRESS_LABEL,
  belowLonger,
  type DnsName,
  domainOfTypes,
  formatName,
  LOCATED_KINDS,
  parseName,
  parseNamespaceWords,
  zoneOf,
} from "../names/names.ts";
import { hasTypes, type ListedService, type TruncatedList, type TtlSource, typesOf } from "./browsing.ts";
import type { PlanDependencies } from "./plan-dependencies.ts";
import type { LookupOutcome, RemoteLookup } from "./remote-lookup.ts";

/** The catalog as seen by one class of viewers. Entries hidden from these viewers are absent. */
export interface DnsCatalog {
  /** The view that the viewers belong to. */
  readonly view: DnsView;
  /** Reports changes to the data that plans depend on. If this object is replaced by another object, all cached plans are invalid. */
  readonly changes: Pick<DnsNames, "catchUp" | "follow">;
  /**
   * A version that changes with the inputs shared by all plans of this view: the policy, its windows and, on a resolver, whether any upstream is
   * reachable.
   */
  readonly version: number;
  /** Returns the dependencies recorded since the last call. */
  takePlanDependencies(): PlanDependencies;
  /**
   * For a name without a usable entry in this cluster, returns the ingress of the best other cluster as an entry. If absent, names are not resolved
   * to other clusters.
   */
  readonly findCluster?: ((kind: Kind, namespace: string, name: string) => EntryView | undefined) | undefined;
  /** Returns the current time. Absent when none of the data expires at a fixed time. */
  readonly now?: (() => Time) | undefined;
  /**
   * The remote lookups of a resolver, used to verify that earlier results are still valid. Absent on nodes, because they have the complete catalog.
   */
  readonly remoteLookup?: Pick<RemoteLookup, "begin" | "isCurrent" | "isFollowed"> | undefined;
  /**
   * Returns the entries of this kind, namespace and name, in catalog order. With `port`, returns only entries that have this word among their
   * `portWords`. With `instanceId`, returns only entries with this instance id. For a name with too many entries, each call returns a different
   * sample.
   */
  find(kind: Kind, namespace: string, name: string, port?: string, instanceId?: string): readonly EntryView[];
  /**
   * Returns whether `find` would return an entry. Usually reads one entry. If entries have other ports, it reads more, but never all entries, because
   * many names depend on this result.
   */
  has(kind: Kind, namespace: string, name: string, port?: string): boolean;
  /**
   * Returns the services of a namespace that have a visible entry, ordered by name; at most `MAX_BROWSED`. Throws `not_ready` when the complete list
   * is unknown.
   */
  services(namespace: string): TruncatedList<ListedService>;
  /** Returns whether a namespace with a visible entry, or an alias (relative or in full), equals `suffix` or ends in `.suffix`. Without final dots. */
  hasNameUnder(suffix: string, zone: string): boolean;
  /** Returns the entries that own this name in the zone (lower case, without the final dot) as an alias, in catalog order. */
  findAlias(name: string, zone: string): readonly EntryView[];
  /**
   * For each visible service and node with a target at this address, returns one of the healthiest entries at the address. Returns at most
   * `MAX_AT_ADDRESS` entries. Supports only addresses in reverse zones. A resolver returns only entries that it watches.
   */
  atAddress(address: IpAddress): TruncatedList<EntryView>;
  /**
   * Returns at most 8 entries of healthy nodes in this cluster that have a reachable gateway for the zone. Returns an empty list when the nodes are
   * not in the catalog.
   */
  gateways(zone: string): readonly EntryView[];
  /** Returns the hidden namespaces that `find` encountered since the last call. */
  takeHidden(): readonly string[];
  /** Number of samples that `find` and `findAlias` have returned so far. */
  readonly sampleCount: number;
  /** Returns whether `find` or `findAlias` returned a sample since the last call. The answer then shows only some of the entries. */
  takeSampled(): boolean;
  /** Reports the hidden namespaces that an answer omits, for the audit log. Called for each answer, including answers from cached plans. */
  onHidden(namespaces: readonly string[]): void;
  /** Counts how a question was answered. Called once per question. If absent, questions are not counted. */
  answered?(answered: LookupOutcome): void;
  /** Returns for how long the data read since the last call remains valid, in ms, or 0 if some data may be stale. If absent, no limit is known. */
  takeLeftMs?(): number;
  /**
   * The same catalog for TXT queries, where few entries fill a response: `find` reads at most a fixed number of bytes per name. If absent, there is
   * no limit.
   */
  readonly texts?: DnsCatalog | undefined;
  /** The same catalog without fetches, for additional records. If absent, data is never fetched. */
  readonly held?: DnsCatalog | undefined;
}

export interface SubjectTarget {
  readonly entry: EntryView;
  readonly target: TargetView;
  /** The address when the host is an IP literal. */
  readonly address: IpAddress | undefined;
}

/**
 * Maximum number of targets per name that an answer is drawn from. It is the number of minimum-size records (16 bytes) that fit into the largest
 * response (65,535 bytes). Each entry contributes the same number of targets, and at least one. Using more targets would only delay other clients.
 */
export const MAX_TARGETS = 4_096;

/**
 * Which part of a name's data is omitted: entries (with their hosts and targets), hosts (with their targets), or only additional targets of included
 * hosts.
 */
export type TruncatedPart = "entries" | "hosts" | "nothing" | "targets";

export type DnsSubject =
  /** The zone apex. `gateways` returns the gateways in the catalog and the node with this id. It is called only for answers that list gateways. */
  | { readonly kind: "apex"; readonly gateways: (nodeId: string) => readonly EntryView[] }
  /**
   * The entries that are not in MAINTENANCE and the targets shown for this name, healthiest first. Without entries, the name exists but has no
   * records.
   */
  | {
      readonly kind: "entries";
      readonly shape: "located" | "direct" | "node";
      readonly entries: readonly EntryView[];
      readonly targets: readonly SubjectTarget[];
      /** Which part of the data is omitted. */
      readonly cut: TruncatedPart;
      /** Set when the entry represents another cluster and provides only its address. If absent, the entries belong to the name itself. */
      readonly isCluster?: true;
      /** For a name that can be browsed (RFC 6763, section 4), the service whose instances are listed. */
      readonly browsed?: { readonly name: string; readonly namespace: string; readonly transport: TransportProtocol };
    }
  /** A list of names. `ttlSources` contains the entry fields that limit the list's TTL. */
  | { readonly kind: "list"; readonly names: TruncatedList<string>; readonly ttlSources: readonly TtlSource[] }
  | { readonly kind: "address"; readonly address: IpAddress }
  /**
   * An alias. `target` is the full canonical name, the same for all `aliasOwners`. `isContested` means that services with another canonical name also
   * own the alias, but sort later in key order.
   */
  | { readonly kind: "alias"; readonly aliasOwners: readonly EntryView[]; readonly isContested: boolean; readonly target: string }
  /** The name has no records, but names exist below it (an empty non-terminal). */
  | { readonly kind: "empty" }
  | { readonly kind: "absent" };

const OTHER_LOCATED_KINDS = LOCATED_KINDS.filter((kind) => kind !== KIND.SERVICE);
const EMPTY: DnsSubject = { kind: "empty" };
const ABSENT: DnsSubject = { kind: "absent" };

/** All zones of a gateway, without final dots. */
export interface AllZones {
  readonly zones: readonly string[];
  readonly reverseZones: readonly string[];
}

/**
 * Finds the subject of a name. `relative` is the part before the zone, in lower case. A catalog name overrides an alias with the same text. `all`
 * contains the zones of the gateway. A name above one of these zones exists. If absent, other zones are ignored.
 */
export function findSubject(relative: string, zone: string, catalog: DnsCatalog, all?: AllZones): DnsSubject {
  const name = parseName(relative);
  const own = ownSubject(name, zone, catalog);
  // When all entries in this cluster are drained, another cluster serves the name, as in Resolve.
  if (own.kind === "entries" && own.entries.length === 0) return clusterSubject(name, catalog) ?? own;
  if (own.kind !== "absent") return own;
  const alias = aliasSubject(relative, zone, catalog, all?.zones) ?? clusterSubject(name, catalog);
  if (alias !== undefined) return alias;
  const end = `.${relative}.${zone}`;
  if (all?.zones.some((other) => other.endsWith(end)) === true || all?.reverseZones.some((other) => other.endsWith(end)) === true)
    return EMPTY;
  return isAboveSomething(relative, zone, { name, catalog }) ? EMPTY : ABSENT;
}

/** Returns whether the name is a catalog name, so that an alias with the same text is ignored. */
export function isCatalogName(relative: string, zone: string, catalog: DnsCatalog): boolean {
  return isOwn(parseName(relative), zone, catalog);
}

/** Returns whether `ownSubject` would find a subject, without reading all of its entries. */
function isOwn(name: DnsName, zone: string, catalog: DnsCatalog): boolean {
  if (name.form === "direct") return catalog.has(KIND.SERVICE, name.namespace, name.name);
  if (name.form === "located") return catalog.has(name.kind, name.namespace, name.name, portWord(name.transport, name.port));
  return ownSubject(name, zone, catalog).kind !== "absent";
}

/** The key fields that form the name of an entry. */
type CallableKey = Pick<EntryView["key"], "kind" | "name" | "namespace">;

/**
 * Returns whether the name resolves to the entry with this key, either as the entry's own name or as an alias of the entry that no other name
 * overrides.
 */
export function leadsTo(
  relative: string,
  key: CallableKey,
  zone: string,
  { catalog, zones }: { readonly catalog: DnsCatalog; readonly zones: readonly string[] },
): boolean {
  const name = parseName(relative);
  if (isOwn(name, zone, catalog)) return isNameOf(name, key);
  const alias = aliasSubject(relative, zone, catalog, zones);
  if (alias?.kind === "alias") return alias.aliasOwners.some((aliasOwner) => hasSameName(aliasOwner.key, key));
  return alias !== undefined && isBelowOwnName(relative, key, zone);
}

function isNameOf(form: DnsName, { kind, namespace, name }: CallableKey): boolean {
  switch (form.form) {
    case "located":
      return form.kind === kind && form.namespace === namespace && form.name === name;
    case "direct":
    case "instance":
      return kind === KIND.SERVICE && form.namespace === namespace && form.name === name;
    case "node":
      return kind === KIND.NODE && form.nodeId === name;
    case "apex":
    case "types":
    case "transport":
    case "address":
    case "fixed":
    case "other":
      return false;
  }
}

function ownSubject(name: DnsName, zone: string, catalog: DnsCatalog): DnsSubject {
  switch (name.form) {
    case "apex":
      return apexSubject(zone, catalog);
    case "located":
      return locatedSubject(name, catalog);
    case "instance": {
      const found = sampled(catalog, () =>
        catalog.find(KIND.SERVICE, name.namespace, name.name, portWord(name.transport), name.instanceId),
      );
      return entriesSubject("located", found, (target) => transportOf(target) === name.transport);
    }
    case "types": {
      const names = typesOf(name.domain, zone, catalog);
      if (!hasTypes(names)) return ABSENT;
      return names.items.length === 0 ? EMPTY : { kind: "list", names, ttlSources: names.ttlSources ?? [] };
    }
    case "direct":
      return entriesSubject(
        "direct",
        sampled(catalog, () => catalog.find(KIND.SERVICE, name.namespace, name.name)),
        () => true,
      );
    case "node":
      return entriesSubject(
        "node",
        sampled(catalog, () => catalog.find(KIND.NODE, NODES_NAMESPACE, name.nodeId).map(withAdvertised)),
        () => true,
      );
    case "address":
      return { kind: "address", address: name.address };
    case "fixed":
      return EMPTY;
    case "transport":
    case "other":
      return ABSENT;
  }
}

/** Returns the subject of the zone apex. If the zone has any gateways, the serving node is one of them, with the name from its own entry. */
export function apexSubject(zone: string, catalog: DnsCatalog): DnsSubject {
  const gateways = (nodeId: string) => {
    const found = catalog.gateways(zone);
    const [first] = found;
    if (first === undefined || found.some(({ key }) => key.name === nodeId)) return found;
    const own = catalog.find(KIND.NODE, NODES_NAMESPACE, nodeId).filter(({ key }) => key.clusterId === first.key.clusterId);
    return [...own, ...found];
  };
  return { kind: "apex", gateways };
}

function locatedSubject(
  { kind, transport, port, name, namespace }: DnsName & { readonly form: "located" },
  catalog: DnsCatalog,
): DnsSubject {
  const shows = (target: TargetView, entry: EntryView) =>
    transportOf(target) === transport && (port === undefined || isPort(target, entry, port));
  const found = sampled(catalog, () => catalog.find(kind, namespace, name, portWord(transport, port)));
  const nodesOf = (nodeId: string) => catalog.find(KIND.NODE, NODES_NAMESPACE, nodeId);
  const withOwn = { ...found, entries: withHosts(found.entries, nodesOf) };
  const subject = entriesSubject("located", withOwn, shows);
  if (subject.kind !== "entries" || kind !== KIND.SERVICE || port !== undefined) return subject;
  return { ...subject, browsed: { name, namespace, transport } };
}

/**
 * Returns the subject that represents another cluster, for a name without a usable entry in this cluster. Named ports do not exist in other clusters.
 */
function clusterSubject(name: DnsName, catalog: DnsCatalog): DnsSubject | undefined {
  const isLocated = name.form === "located" && name.port === undefined;
  if (catalog.findCluster === undefined || (name.form !== "direct" && !isLocated)) return undefined;
  const kind = isLocated ? name.kind : KIND.SERVICE;
  // Entries without a target for this transport are included, because this cluster still serves the name.
  if (catalog.find(kind, name.namespace, name.name).some(isShown)) return undefined;
  const entry = catalog.findCluster(kind, name.namespace, name.name);
  const shows = (target: TargetView) => !isLocated || transportOf(target) === name.transport;
  if (entry === undefined || !entry.targets.some(shows)) return undefined;
  const subject = entriesSubject(isLocated ? "located" : "direct", { entries: [entry], isSample: false }, shows);
  return subject.kind === "entries" ? { ...subject, isCluster: true } : undefined;
}

interface FoundEntries {
  readonly entries: readonly EntryView[];
  readonly isSample: boolean;
}

/** Runs a catalog lookup, and returns its entries and whether they are a sample. */
function sampled(catalog: DnsCatalog, find: () => readonly EntryView[]): FoundEntries {
  const before = catalog.sampleCount;
  const entries = find();
  return { entries, isSample: catalog.sampleCount > before };
}

function entriesSubject(
  shape: "located" | "direct" | "node",
  { entries, isSample }: FoundEntries,
  shows: (target: TargetView, entry: EntryView) => boolean,
): DnsSubject {
  if (entries.length === 0) return ABSENT;
  const shown = entries.filter(isShown);
  // The sort is stable, so entries of equal health stay in catalog order and the same catalog always gives the same answer.
  const ranked = shown.toSorted((a, b) => healthOrder(a.health) - healthOrder(b.health)).slice(0, MAX_TARGETS);
  const most = Math.max(1, Math.floor(MAX_TARGETS / ranked.length));
  let cut: TruncatedPart = isSample || ranked.length < shown.length ? "entries" : "nothing";
  const targets = ranked.flatMap((entry) => {
    const all = entry.targets.filter((target) => shows(target, entry));
    const own = all.length > most ? hostsFirst(all) : all;
    if (all.length > most && cut !== "entries" && cut !== "hosts") cut = isHostBehind(own, most) ? "hosts" : "targets";
    return own.slice(0, most).map((target) => ({ entry, target, address: parseAddress(target.host) }));
  });
  return { kind: "entries", shape, entries: ranked, targets, cut };
}

/** Moves the first target of each host to the front. */
function hostsFirst(targets: readonly TargetView[]): readonly TargetView[] {
  const first = new Map<string, TargetView>();
  for (const target of targets) if (!first.has(target.host)) first.set(target.host, target);
  return [...first.values(), ...targets.filter((target) => first.get(target.host) !== target)];
}

/** Returns whether some host has no target before index `first` in this order. */
function isHostBehind(targets: readonly TargetView[], first: number): boolean {
  const host = targets[first]?.host;
  return host !== undefined && targets.findIndex((target) => target.host === host) === first;
}

/** Operators drain entries with MAINTENANCE, so no record shows such an entry. */
function isShown(entry: EntryView): boolean {
  return !isDrained(entry);
}

/**
 * `zones` contains all zones of the gateway. An alias is ignored if its canonical name is in a longer zone of the gateway, because the name then
 * refers to other entries.
 */
function aliasSubject(relative: string, zone: string, catalog: DnsCatalog, zones: readonly string[] = [zone]): DnsSubject | undefined {
  if (relative === "") return undefined;
  const { entries: aliasOwners, isSample } = sampled(catalog, () => catalog.findAlias(relative, zone));
  const instances = aliasOwners.filter(({ key }) => isBelowOwnName(relative, key, zone));
  if (instances.length > 0) return entriesSubject("direct", { entries: instances, isSample }, () => true);
  for (const first of aliasOwners) {
    const target = formatName(canonicalName(first), zone);
    if (target === undefined || zoneOf(target, zones) !== zone) continue;
    const own = aliasOwners.filter(({ key }) => hasSameName(key, first.key));
    return { kind: "alias", aliasOwners: own, isContested: own.length < aliasOwners.length, target };
  }
  return undefined;
}

function hasSameName(a: CallableKey, b: CallableKey): boolean {
  return a.kind === b.kind && a.namespace === b.namespace && a.name === b.name;
}

/**
 * Returns whether the alias is exactly one label below the entry's own name, as for pods of a headless Kubernetes service. Such an alias refers only
 * to this instance.
 */
function isBelowOwnName(relative: string, { kind, namespace, name }: CallableKey, zone: string): boolean {
  const own = kind === KIND.SERVICE ? formatName({ form: "direct", name, namespace }, zone) : undefined;
  return own !== undefined && `${relative}.${zone}`.endsWith(`.${own}`) && !relative.slice(0, zone.length - own.length).includes(".");
}

/** Returns the canonical name of an entry, which its aliases resolve to. */
function canonicalName(entry: EntryView): DnsName {
  const { kind, name, namespace } = entry.key;
  if (kind === KIND.SERVICE) return { form: "direct", name, namespace };
  if (kind === KIND.NODE) return { form: "node", nodeId: name };
  if (!LOCATED_KINDS.includes(kind)) return { form: "other" };
  return { form: "located", kind, transport: commonTransport(entry.targets), name, namespace };
}

/** Returns whether names exist below this name (RFC 8020). The answer is then NODATA, never NXDOMAIN. */
function isAboveSomething(
  relative: string,
  zone: string,
  { name, catalog }: { readonly name: DnsName; readonly catalog: DnsCatalog },
): boolean {
  const namespace = parseNamespaceWords(wordsOf(relative));
  if (namespace !== undefined && catalog.hasNameUnder(namespace, zone)) return true;
  // An alias is stored as written, so it can be below labels that namespaces cannot have, such as `_tcp`.
  if (namespace !== relative && catalog.hasNameUnder(relative, zone)) return true;
  // The name may be the tail of a longer encoded name. A complete search would cost too much for one answer, so a possible name is treated as existing.
  const below = belowLonger(relative);
  if (below !== undefined && mayHaveNames(below, zone, catalog)) return true;
  const domain = domainOfTypes(relative);
  if (domain !== undefined && hasTypes(typesOf(domain, zone, catalog))) return true;
  if (name.form === "node") return name.nodeId === ADDRESS_LABEL;
  if (name.form !== "direct" && name.form !== "transport") return false;
  const port = name.form === "direct" ? undefined : portWord(name.transport);
  // SERVICE is omitted for a direct name: if such a service existed, the name would be the service's own name.
  const kinds = name.form === "direct" ? OTHER_LOCATED_KINDS : LOCATED_KINDS;
  const { namespace: place, name: own } = name;
  if (kinds.some((kind) => catalog.has(kind, place, own, port))) return true;
  const transport = name.form === "direct" ? "tcp" : name.transport;
  const isElsewhere = (kind: Kind) =>
    clusterSubject({ form: "located", kind, transport, name: own, namespace: place }, catalog) !== undefined;
  return catalog.findCluster !== undefined && kinds.some(isElsewhere);
}

/** Returns whether entries or nodes may have names one label below this one. */
function mayHaveNames(relative: string, zone: string, catalog: DnsCatalog): boolean {
  const name = parseName(relative);
  if (name.form === "transport" || name.form === "located")
    return catalog.has(KIND.SERVICE, name.namespace, name.name, portWord(name.transport));
  const namespace = parseNamespaceWords(wordsOf(relative));
  return name.form === "fixed" || (namespace !== undefined && catalog.hasNameUnder(namespace, zone));
}

/** Returns the transport that all targets share, or TCP if they differ. */
function commonTransport(targets: readonly TargetView[]): TransportProtocol {
  const [first] = targets;
  if (first === undefined) return "tcp";
  const transport = transportOf(first);
  return targets.every((target) => transportOf(target) === transport) ? transport : "tcp";
}

/** Returns whether a target has the port of this name. A second address with the same port has an unnamed target, because port names are unique in an entry. */
function isPort(target: TargetView, { targets }: EntryView, port: string): boolean {
  if (target.name !== "") return target.name === port;
  return targets.some((other) => other.name === port && other.port === target.port && transportOf(other) === transportOf(target));
}

/** Adds the hosts in advertised URLs to a node's targets. */
function withAdvertised(entry: EntryView): EntryView {
  const targets = advertisedTargets(entry.read("detail"));
  return targets.length === 0 ? entry : { ...entry, targets: [...entry.targets, ...targets] };
}

/** A class of viewers. All questions with the same view receive the same answers. */
export interface DnsView {
  /** Identifies the view in a gateway. At most 255. */
  readonly index: number;
  /** Distinguishes views that have the same index at different times. Defaults to 0. */
  readonly generation?: number;
  /**
   * The location of the clients. `zone` is a failure domain, not a DNS zone. Undefined when no location is configured. All entries are then equally
   * near.
   */
  readonly locality: { readonly region: string; readonly zone: string } | undefined;
  /** Maximum number of records per RRset. If undefined, there is no limit. */
  readonly answerLimit: number | undefined;
}

/** The view of all clients when no views are configured. */
export const DEFAULT_VIEW: DnsView = { index: 0, locality: undefined, answerLimit: undefined };
