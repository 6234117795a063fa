/** Lists all records of a zone in one view, name by name, from an immutable catalog. */
import { KINDS } from "../../catalog/entry/kinds.ts";
import { portWord, TRANSPORTS } from "../../catalog/entry/view.ts";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { type CatalogRecord, KIND, keyParts } from "../../catalog/record/record.ts";
import { namesOf } from "../../discovery/alias-claim.ts";
import type { DnsNames } from "../../discovery/dns-names.ts";
import { reverseName } from "../../lib/addresses.ts";
import { encodeLabel, MAX_NAME_CHARS } from "../names/labels.ts";
import {
  ADDRESS_LABEL,
  type DnsName,
  formatName,
  LOCATED_KINDS,
  parseAddressLabel,
  parseHostName,
  parseName,
  zoneAbove,
  zoneOf,
} from "../names/names.ts";
import { setsAt } from "../plan/answer.ts";
import type { BestTiers } from "../plan/reverse.ts";
import { addressRecord } from "../records/addresses.ts";
import type { DnsRecord, DnsSettings } from "../records/record.ts";
import { seconds } from "../records/record.ts";
import { namedHost } from "../records/records.ts";
import { type DnsCatalog, isCatalogName } from "../subject/subject.ts";

export interface ZoneSources {
  readonly zone: string;
  /** The catalog as seen by the view, with all entries of each name. */
  readonly catalog: DnsCatalog;
  readonly lookup: Pick<EntryIndex, "cursor">;
  readonly dnsNames: Pick<DnsNames, "addresses" | "aliases">;
  readonly settings: DnsSettings;
  /** Called for each name with more targets than its records show. */
  readonly onCrowded: (owner: string) => void;
}

/** Number of records whose host names are resolved in one step. */
const HOSTS_PER_STEP = 250;

/**
 * Yields the records of a zone without its SOA, one type of one name at a time. Address names are included only if records refer to them. Child zones
 * that this gateway serves are represented only by their delegation. A step costs at most as much as planning one answer for the name. A skipped name
 * is a step without records.
 */
export function* zoneRecords(sources: ZoneSources): Generator<readonly DnsRecord[]> {
  const { zone, settings, catalog } = sources;
  const hosts: string[] = [];
  for (const records of setsAt(zone, zone, { catalog, settings })) {
    yield records.filter(({ type }) => type !== "SOA");
    hosts.push(...serversOf(records));
  }
  yield* cutRecords(sources, hosts);
  if (settings.reverseZones.includes(zone)) yield* reverseRecords(sources);
  else yield* namedRecords(sources);
}

/**
 * Yields the delegations of child zones: their name servers, and the addresses of all name servers (including this zone's) whose names are at or
 * below a zone cut (RFC 1034, 4.2.1). Without a delegation, a secondary server would deny all names below the cut.
 */
function* cutRecords({ zone, settings, catalog }: ZoneSources, ownHosts: readonly string[]): Generator<readonly DnsRecord[]> {
  const zones = allZones(settings);
  const hosts = new Set(ownHosts);
  for (const below of new Set(zones)) {
    if (zoneAbove(below, zones) !== zone) continue;
    for (const records of setsAt(below, below, { catalog, settings })) {
      yield records.filter(({ type }) => type === "NS");
      for (const host of serversOf(records)) hosts.add(host);
    }
  }
  for (const host of hosts) {
    const itsZone = zoneOf(host, zones);
    if (itsZone === undefined || itsZone === zone || !itsZone.endsWith(`.${zone}`)) continue;
    for (const records of setsAt(host, itsZone, { catalog, settings })) yield records.filter(({ type }) => type === "A" || type === "AAAA");
  }
}

function serversOf(records: readonly DnsRecord[]): readonly string[] {
  return records.flatMap((record) => (record.type === "NS" ? (namedHost(record) ?? []) : []));
}

function allZones({ zones, reverseZones }: DnsSettings): readonly string[] {
  return [...zones, ...reverseZones];
}

function* namedRecords(sources: ZoneSources): Generator<readonly DnsRecord[]> {
  const { zone, settings, catalog, onCrowded } = sources;
  const hosts = new Set<string>();
  const zones = allZones(settings);
  for (const owner of ownersOf(sources)) {
    // Names in a child zone belong to that zone.
    if (owner === undefined || zoneOf(owner, zones) !== zone) {
      yield [];
      continue;
    }
    for (const records of setsAt(owner, zone, { catalog, settings, onCrowded })) {
      yield records;
      yield* hostRecords(records, hosts, sources);
    }
  }
  // The hosts of NS records come last, because the names above include nodes.
  for (const records of setsAt(zone, zone, { catalog, settings })) yield* hostRecords(records, hosts, sources);
}

function* reverseRecords({ zone, catalog, settings, dnsNames }: ZoneSources): Generator<readonly DnsRecord[]> {
  const zones = allZones(settings);
  // These results are shared between addresses, because the address of each instance would otherwise cause all instances of the service to be read
  // again.
  const tiers: BestTiers = new Map();
  for (const text of dnsNames.addresses()) {
    const owner = reverseName(Uint8Array.from(text, (char) => char.charCodeAt(0)));
    if (zoneOf(owner, zones) === zone) yield* setsAt(owner, zone, { catalog, settings, tiers });
    else yield [];
  }
}

/** Yields the address records of the hosts (address names) that these records refer to, each host once. */
function* hostRecords(records: readonly DnsRecord[], known: Set<string>, { zone, settings }: ZoneSources): Generator<readonly DnsRecord[]> {
  const end = `.${ADDRESS_LABEL}.node.${zone}`;
  const zones = allZones(settings);
  const addressesOf = (record: DnsRecord): readonly DnsRecord[] => {
    const host = namedHost(record);
    if (host === undefined || !host.endsWith(end) || known.has(host) || zoneOf(host, zones) !== zone) return [];
    known.add(host);
    const address = parseAddressLabel(host.slice(0, -end.length));
    return address === undefined ? [] : [addressRecord(host, address, seconds(settings.maxTtlMs))];
  };
  for (let from = 0; from < records.length; from += HOSTS_PER_STEP) yield records.slice(from, from + HOSTS_PER_STEP).flatMap(addressesOf);
}

/** Yields each name that may have records once, and undefined for a skipped name. */
function* ownersOf({ zone, lookup, dnsNames, catalog }: ZoneSources): Generator<string | undefined> {
  const domains = new Set<string>();
  const typesAt = (domain: string): readonly string[] => {
    if (domains.has(domain)) return [];
    domains.add(domain);
    return textOf({ form: "types", domain }, zone);
  };
  for (const group of nameGroups(lookup)) {
    const [first] = group;
    if (first === undefined) continue;
    const { namespace, name, kind } = first;
    yield* ownNamesOf(group, zone);
    const direct = kind === KIND.SERVICE ? formatName({ form: "direct", name, namespace }, zone) : undefined;
    if (direct === undefined) continue;
    yield* typesAt(direct.slice(0, -zone.length - 1));
    const labels = namespace.split(".").map((label) => encodeLabel(label));
    if (!labels.includes(undefined)) yield* typesAt(labels.join("."));
  }
  const seen = new Set<string>();
  for (const alias of dnsNames.aliases())
    for (const relative of namesOf(alias, [zone])) {
      // Returns undefined when the name is too long below this zone.
      const owner = parseHostName(`${relative}.${zone}`);
      const isPassed = owner === undefined || seen.has(relative) || isCatalogName(relative, zone, catalog);
      if (!isPassed) seen.add(relative);
      yield isPassed ? undefined : owner;
    }
}

/** Yields the records of the catalog in key order, grouped by name and kind. */
function* nameGroups(lookup: Pick<EntryIndex, "cursor">): Generator<readonly CatalogRecord[]> {
  const cursor = lookup.cursor();
  let group: CatalogRecord[] = [];
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) {
    const [first] = group;
    if (first !== undefined && (first.kind !== record.kind || first.name !== record.name || first.namespace !== record.namespace)) {
      yield group;
      group = [];
    }
    group.push(record);
  }
  if (group.length > 0) yield group;
}

/** Yields the names of one group individually, because there are many if a name has many instances. */
function* ownNamesOf(group: readonly CatalogRecord[], zone: string): Generator<string> {
  const [first] = group;
  if (first === undefined) return;
  const { kind, namespace, name } = first;
  if (kind === KIND.NODE) yield* textOf({ form: "node", nodeId: name }, zone);
  if (!LOCATED_KINDS.includes(kind)) return;
  const [plain = "", ...otherLabels] = KINDS[kind].dnsLabels;
  for (const transport of TRANSPORTS)
    for (const text of textOf({ form: "located", kind, transport, name, namespace }, zone)) {
      yield text;
      // A kind can have several labels. `formatName` uses the first label.
      for (const label of otherLabels)
        if (text.length - plain.length + label.length <= MAX_NAME_CHARS) yield label + text.slice(plain.length);
    }
  if (kind !== KIND.SERVICE) return;
  yield* textOf({ form: "direct", name, namespace }, zone);
  const words = new Set(group.flatMap(({ traits }) => traits.ports));
  for (const word of words) {
    if (word.startsWith(" ")) continue;
    const transport = TRANSPORTS.find((each) => word.endsWith(` ${each}`)) ?? "tcp";
    const port = transport === "tcp" ? word : word.slice(0, -transport.length - 1);
    const [text] = textOf({ form: "located", kind, transport, port, name, namespace }, zone);
    if (text === undefined) continue;
    const meant = parseName(text.slice(0, -zone.length - 1));
    // If a port is named `svc`, `rpc` or `queue`, the built-in name has priority.
    if (meant.form === "located" && meant.port === port) yield text;
  }
  const ids = new Set<string>();
  for (const { key, traits } of group)
    for (const transport of TRANSPORTS) {
      const { instanceId } = keyParts(key);
      if (!traits.ports.includes(portWord(transport)) || ids.has(`${transport} ${instanceId}`)) continue;
      ids.add(`${transport} ${instanceId}`);
      yield* textOf({ form: "instance", transport, instanceId, name, namespace }, zone);
    }
}

function textOf(name: DnsName, zone: string): readonly string[] {
  const text = formatName(name, zone);
  return text === undefined ? [] : [text];
}
