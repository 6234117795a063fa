/** Finds what a name below a zone stands for in the catalog, as one viewer sees it. */

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

/** The catalog as one class of viewers sees it. Entries that are hidden from them are absent here. */
export interface DnsCatalog {
  /** The class of viewers. */
  readonly view: DnsView;
  /** Tells what changes of what plans rest on. Another one than before: nothing is known of what was planned. */
  readonly changes: Pick<DnsNames, "catchUp" | "follow">;
  /** Changes with what all plans of this view rest on: the policy and its windows, and at a resolver whether any upstream answers. */
  readonly version: number;
  /** What was read since the last call. */
  takePlanDependencies(): PlanDependencies;
  /** Where a name leads of which nothing here can be chosen: the ingress of the best other cluster, as an entry. Absent: nowhere. */
  readonly findCluster?: ((kind: Kind, namespace: string, name: string) => EntryView | undefined) | undefined;
  /** The clocks. Absent where nothing that is read ends by them. */
  readonly now?: (() => Time) | undefined;
  /** Whether what a resolver took to be here, or was told of elsewhere, is still so. Absent at a node, which knows everything. */
  readonly remoteLookup?: Pick<RemoteLookup, "begin" | "isCurrent" | "isFollowed"> | undefined;
  /**
   * Entries of this kind, namespace and name, in catalog order; with `port`, only those that have this word among their `portWords`. Gives a
   * sample of a crowded name, a different one each time. With `instanceId`, only those that have it.
   */
  find(kind: Kind, namespace: string, name: string, port?: string, instanceId?: string): readonly EntryView[];
  /** Whether `find` has anything. Cost: one entry, unless that has another port; never that of all entries, because there are any number of names which rest on this. */
  has(kind: Kind, namespace: string, name: string, port?: string): boolean;
  /** The services of a namespace that have an entry to show, in order of their names; at most `MAX_BROWSED`. Throws `not_ready` where nobody knows all of them. */
  services(namespace: string): TruncatedList<ListedService>;
  /** Whether a namespace with a visible entry, or an alias (relative or in full), is `suffix` or ends in `.suffix`. Without final dots. */
  hasNameUnder(suffix: string, zone: string): boolean;
  /** Entries that have this name of the zone (lower case, without the final dot) as an alias, in catalog order. */
  findAlias(name: string, zone: string): readonly EntryView[];
  /**
   * For each visible service and node with a target at this address, an entry of the best health that is there; at most `MAX_AT_ADDRESS`. Only for addresses in reverse
   * zones. At a resolver only what it follows.
   */
  atAddress(address: IpAddress): TruncatedList<EntryView>;
  /** Entries of healthy nodes of this cluster, of which others know, with a gateway for the zone; at most 8. Empty where nodes are not in the catalog. */
  gateways(zone: string): readonly EntryView[];
  /** The namespaces that `find` found hidden since the last call. */
  takeHidden(): readonly string[];
  /** How many samples `find` and `findAlias` have given so far. */
  readonly sampleCount: number;
  /** Whether they gave one since the last call, so that the answer is only one of several. */
  takeSampled(): boolean;
  /** Reports, for the audit log, the namespaces that an answer leaves out because they are hidden. Called for each answer, also from a kept plan. */
  onHidden(namespaces: readonly string[]): void;
  /** Is told once of each question how it was answered. Absent: nobody counts. */
  answered?(answered: LookupOutcome): void;
  /** For how long what was read since the last call stays as it is, in ms; 0 if some of it may be old. Absent: for ever, as far as anybody knows. */
  takeLeftMs?(): number;
  /** The same limit for TXT queries, for which few entries fill an answer: `find` reads at most this many bytes of a name. Absent: no limit. */
  readonly texts?: DnsCatalog | undefined;
  /** The same, without what would have to be fetched first; for additional records. Absent: nothing is fetched. */
  readonly held?: DnsCatalog | undefined;
}

export interface SubjectTarget {
  readonly entry: EntryView;
  readonly target: TargetView;
  /** The address when the host is an IP literal. */
  readonly address: IpAddress | undefined;
}

/**
 * Most targets of one name that an answer is drawn from: as many of the shortest records (16 bytes) as the largest answer holds (65,535
 * bytes). Each entry gives the same number, and at least one. More targets would only make other clients wait.
 */
export const MAX_TARGETS = 4_096;

/** Of a name, what is left out: entries (then also their hosts and targets), hosts (then also their targets), or targets that have the host of others. */
export type TruncatedPart = "entries" | "hosts" | "nothing" | "targets";

export type DnsSubject =
  /** The zone itself. `gateways`: those of the catalog, and the node of this id; called only for answers that name them. */
  | { readonly kind: "apex"; readonly gateways: (nodeId: string) => readonly EntryView[] }
  /** The entries that are not in MAINTENANCE, with the targets this name shows, best health first. Without any, the name has no records. */
  | {
      readonly kind: "entries";
      readonly shape: "located" | "direct" | "node";
      readonly entries: readonly EntryView[];
      readonly targets: readonly SubjectTarget[];
      /** What there is more of. */
      readonly cut: TruncatedPart;
      /** What stands here for another cluster, which is to be reached and no more. Absent: the entries are those of the name. */
      readonly isCluster?: true;
      /** Of a name that is browsed (RFC 6763, 4): the place of its instances. */
      readonly browsed?: { readonly name: string; readonly namespace: string; readonly transport: TransportProtocol };
    }
  /** Names that this one lists. `ttlSources`: what of the entries that they are read from decides how long the list may be kept. */
  | { readonly kind: "list"; readonly names: TruncatedList<string>; readonly ttlSources: readonly TtlSource[] }
  | { readonly kind: "address"; readonly address: IpAddress }
  /**
   * The name is an alias; `target` is the full name that it leads to, that of all `aliasOwners`. Contested: other entries than those of that name carry it too, and
   * come later in key order.
   */
  | { readonly kind: "alias"; readonly aliasOwners: readonly EntryView[]; readonly isContested: boolean; readonly target: string }
  /** Names exist below this one, but it has no records itself. */
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
 * What a name stands for. `relative` is its part before the zone, in lower case. A name of the catalog wins over an alias of the same text. `all`: the zones of the
 * gateway; a name above one of them exists. Absent: they do not count.
 */
export function findSubject(relative: string, zone: string, catalog: DnsCatalog, all?: AllZones): DnsSubject {
  const name = parseName(relative);
  const own = ownSubject(name, zone, catalog);
  // What is drained here is to be had elsewhere, as in Resolve.
  if (own.kind === "entries" && own.entries.length === 0) return clusterSubject(name, catalog) ?? own;
  if (own.kind !== "absent") return own;
  const alias = aliasSubject(relative, zone, catalog, all?.zones) ?? clusterSubject(name, catalog);
  if (alias !== undefined) return alias;
  const end = `.${relative}.${zone}`;
  if (all?.zones.some((other) => other.endsWith(end)) === true || all?.reverseZones.some((other) => other.endsWith(end)) === true)
    return EMPTY;
  return isAboveSomething(relative, zone, { name, catalog }) ? EMPTY : ABSENT;
}

/** Whether the catalog itself gives the name something, so that no alias of this text counts. */
export function isCatalogName(relative: string, zone: string, catalog: DnsCatalog): boolean {
  return isOwn(parseName(relative), zone, catalog);
}

/** As `ownSubject` would find it, without a look at all of its entries. */
function isOwn(name: DnsName, zone: string, catalog: DnsCatalog): boolean {
  if (name.form === "direct") return catalog.has(KIND.SERVICE, name.namespace, name.name);
  if (name.form === "located") return catalog.has(name.kind, name.namespace, name.name, portWord(name.transport, name.port));
  return ownSubject(name, zone, catalog).kind !== "absent";
}

/** What of its key says how an entry is called. */
type CallableKey = Pick<EntryView["key"], "kind" | "name" | "namespace">;

/** Whether the name leads to the entry of this key: as a name of its own, or as an alias that it carries and that no other name takes. */
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

/** The zone. The serving node is among its gateways wherever there are any: how it is named, its own entry says. */
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

/** What another cluster is reached at, for a name without an entry here that could be chosen. Ports have no names there. */
function clusterSubject(name: DnsName, catalog: DnsCatalog): DnsSubject | undefined {
  const isLocated = name.form === "located" && name.port === undefined;
  if (catalog.findCluster === undefined || (name.form !== "direct" && !isLocated)) return undefined;
  const kind = isLocated ? name.kind : KIND.SERVICE;
  // An entry that has no target of this transport is one that could be chosen.
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

/** What the catalog finds, and whether that is a sample. */
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
  // The sort keeps the catalog's order within a rank, so that the same catalog gives the same answer.
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

/** The first target of each host, then the others. */
function hostsFirst(targets: readonly TargetView[]): readonly TargetView[] {
  const first = new Map<string, TargetView>();
  for (const target of targets) if (!first.has(target.host)) first.set(target.host, target);
  return [...first.values(), ...targets.filter((target) => first.get(target.host) !== target)];
}

/** Of targets in that order, whether a host is only behind the first ones. */
function isHostBehind(targets: readonly TargetView[], first: number): boolean {
  const host = targets[first]?.host;
  return host !== undefined && targets.findIndex((target) => target.host === host) === first;
}

/** MAINTENANCE is how one drains: no record shows it. */
function isShown(entry: EntryView): boolean {
  return !isDrained(entry);
}

/** `zones`: all of the gateway. A name below a longer one of them is not this zone's, and would be that of other entries. */
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

/** Whether the alias is one label below the own name of the entry of this key, as for headless pods in Kubernetes. Such a name is for this instance alone. */
function isBelowOwnName(relative: string, { kind, namespace, name }: CallableKey, zone: string): boolean {
  const own = kind === KIND.SERVICE ? formatName({ form: "direct", name, namespace }, zone) : undefined;
  return own !== undefined && `${relative}.${zone}`.endsWith(`.${own}`) && !relative.slice(0, zone.length - own.length).includes(".");
}

/** The name that an alias of this entry leads to. */
function canonicalName(entry: EntryView): DnsName {
  const { kind, name, namespace } = entry.key;
  if (kind === KIND.SERVICE) return { form: "direct", name, namespace };
  if (kind === KIND.NODE) return { form: "node", nodeId: name };
  if (!LOCATED_KINDS.includes(kind)) return { form: "other" };
  return { form: "located", kind, transport: commonTransport(entry.targets), name, namespace };
}

/** Whether names exist below this one (RFC 8020). The answer is then "no such type", and never "no such name". */
function isAboveSomething(
  relative: string,
  zone: string,
  { name, catalog }: { readonly name: DnsName; readonly catalog: DnsCatalog },
): boolean {
  const namespace = parseNamespaceWords(wordsOf(relative));
  if (namespace !== undefined && catalog.hasNameUnder(namespace, zone)) return true;
  // An alias stands as it is written, so it may lie below labels that no namespace has, such as `_tcp`.
  if (namespace !== relative && catalog.hasNameUnder(relative, zone)) return true;
  // The end of a long name: whether there is such a name is not looked for, because it takes more than an answer is worth.
  const below = belowLonger(relative);
  if (below !== undefined && mayHaveNames(below, zone, catalog)) return true;
  const domain = domainOfTypes(relative);
  if (domain !== undefined && hasTypes(typesOf(domain, zone, catalog))) return true;
  if (name.form === "node") return name.nodeId === ADDRESS_LABEL;
  if (name.form !== "direct" && name.form !== "transport") return false;
  const port = name.form === "direct" ? undefined : portWord(name.transport);
  // That there is no such service is known: the name would be its own.
  const kinds = name.form === "direct" ? OTHER_LOCATED_KINDS : LOCATED_KINDS;
  const { namespace: place, name: own } = name;
  if (kinds.some((kind) => catalog.has(kind, place, own, port))) return true;
  const transport = name.form === "direct" ? "tcp" : name.transport;
  const isElsewhere = (kind: Kind) =>
    clusterSubject({ form: "located", kind, transport, name: own, namespace: place }, catalog) !== undefined;
  return catalog.findCluster !== undefined && kinds.some(isElsewhere);
}

/** Whether entries or nodes may have names one word below this one. */
function mayHaveNames(relative: string, zone: string, catalog: DnsCatalog): boolean {
  const name = parseName(relative);
  if (name.form === "transport" || name.form === "located")
    return catalog.has(KIND.SERVICE, name.namespace, name.name, portWord(name.transport));
  const namespace = parseNamespaceWords(wordsOf(relative));
  return name.form === "fixed" || (namespace !== undefined && catalog.hasNameUnder(namespace, zone));
}

/** The transport that all targets have, else TCP. */
function commonTransport(targets: readonly TargetView[]): TransportProtocol {
  const [first] = targets;
  if (first === undefined) return "tcp";
  const transport = transportOf(first);
  return targets.every((target) => transportOf(target) === transport) ? transport : "tcp";
}

/** Whether a target has the port of this name. The same port at a second address has no name, because names are unique in an entry. */
function isPort(target: TargetView, { targets }: EntryView, port: string): boolean {
  if (target.name !== "") return target.name === port;
  return targets.some((other) => other.name === port && other.port === target.port && transportOf(other) === transportOf(target));
}

/** Adds the hosts of advertised URLs to the targets of a node. */
function withAdvertised(entry: EntryView): EntryView {
  const targets = advertisedTargets(entry.read("detail"));
  return targets.length === 0 ? entry : { ...entry, targets: [...entry.targets, ...targets] };
}

/** The class of viewers that a question belongs to. All who have a view get the same answers. */
export interface DnsView {
  /** Distinguishes the views of a gateway. At most 255. */
  readonly index: number;
  /** Distinguishes views that have had one index, one after the other. Absent: 0. */
  readonly generation?: number;
  /** Where the askers are; this zone is a place, not one of DNS. Undefined without a place: then no entry is nearer than another. */
  readonly locality: { readonly region: string; readonly zone: string } | undefined;
  /** Most records of a set; undefined for all of them. */
  readonly answerLimit: number | undefined;
}

/** The view of every asker where none is set. */
export const DEFAULT_VIEW: DnsView = { index: 0, locality: undefined, answerLimit: undefined };
