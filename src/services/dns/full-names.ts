/** Builds the full DNS names of entries and aliases in each zone. */
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import { transportOf } from "../../catalog/entry/view.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { plainName } from "../../discovery/dns-names.ts";
import {
  type DnsName,
  LOCATED_KINDS,
  type NameInDns,
  nameInDns,
  parseHostName,
  parseName,
  splitZone,
  zoneOf,
} from "../../dns/names/names.ts";
import { type DnsCatalog, leadsTo } from "../../dns/subject/subject.ts";
import type { TransportProtocol } from "../../lib/protocols.ts";

/** Kinds whose entries have names in DNS. */
export const NAMED_KINDS: readonly Kind[] = [...LOCATED_KINDS, KIND.NODE];

export interface NamedSubject {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
}

/**
 * Returns the full names of an entry in some of the zones. `all` lists all zones. If the entry does not have a valid DNS name, `why` states the
 * reason in words. In all other cases `why` is empty.
 */
export function fullNames(
  { kind, namespace, name }: NamedSubject,
  transports: readonly TransportProtocol[],
  zones: readonly string[],
  all: readonly string[] = zones,
): { readonly fqdns: readonly string[]; readonly why: string } {
  const located = (transport: TransportProtocol): DnsName => ({ form: "located", kind, transport, name, namespace });
  // A function or queue without targets resolves to the address of its node. A service without targets does not have SRV records.
  const shown = transports.length === 0 && kind !== KIND.SERVICE ? TCP : transports;
  const forms: DnsName[] = kind === KIND.NODE ? [{ form: "node", nodeId: name }] : shown.map(located);
  if (kind === KIND.SERVICE) forms.unshift({ form: "direct", name, namespace });
  const found = zones.flatMap((zone) => forms.map((form) => inOwnZone(nameInDns(form, zone), zone, all)));
  const fqdns = found.flatMap((one) => ("text" in one ? [one.text] : []));
  const [why = ""] = fqdns.length > 0 ? [] : found.flatMap((one) => ("why" in one ? [one.why] : []));
  return { fqdns, why };
}

const TCP: readonly TransportProtocol[] = ["tcp"];

/** Rejects a name that belongs to a longer zone, where it is a different name or does not exist. */
function inOwnZone(name: NameInDns, zone: string, zones: readonly string[]): NameInDns {
  const owner = "text" in name ? zoneOf(name.text, zones) : zone;
  return owner === zone ? name : { unreachable: "reserved", why: `its DNS name would belong to the zone ${owner}` };
}

/** Returns the names, without duplicates, that resolve to the entries of `thing` for the viewer of the catalog. */
export function leadingNames(
  names: readonly string[],
  thing: NamedSubject,
  { zones, catalog }: { readonly zones: readonly string[]; readonly catalog: DnsCatalog },
): string[] {
  catalog.changes.catchUp();
  return [...new Set(names)].filter((name) => {
    const place = splitZone(name, zones);
    return place !== undefined && leadsTo(place.relative, thing, place.zone, { catalog, zones });
  });
}

/** Returns the full names of a service that is about to be registered, and of its aliases, whether or not they resolve to the service. */
export function endpointNames(
  endpoint: { readonly namespace: string; readonly name: string; readonly protocol: string; readonly aliases: readonly string[] },
  zones: readonly string[],
): readonly string[] {
  const { namespace, name, aliases } = endpoint;
  return [...fullNames({ kind: KIND.SERVICE, namespace, name }, [transportOf(endpoint)], zones).fqdns, ...aliasNames(aliases, zones)];
}

/**
 * Returns the full names of aliases. An alias may already include a zone. An alias equal to a zone is treated as relative, because a zone cannot be
 * an alias.
 */
export function aliasNames(aliases: readonly string[], zones: readonly string[]): readonly string[] {
  const names = aliases.map(plainName).flatMap((alias) => {
    const isFull = (splitZone(alias, zones)?.relative ?? "") !== "";
    return isFull ? [alias] : zones.map((zone) => `${alias}.${zone}`);
  });
  return [...new Set(names)].filter((name) => parseHostName(name) !== undefined);
}

/** Removes the zone, if there is one, from the end of a name in plain form. */
export function unzoned(name: string, zones: readonly string[]): string {
  const place = splitZone(name, zones);
  return place === undefined || place.relative === "" ? name : place.relative;
}

/** Returns the catalog name that a name below a zone refers to. Undefined for other names, which may be aliases. */
export function thingOf(relative: string): NamedSubject | undefined {
  const name = parseName(relative);
  switch (name.form) {
    case "located":
      return { kind: name.kind, namespace: name.namespace, name: name.name };
    case "direct":
    case "instance":
      return { kind: KIND.SERVICE, namespace: name.namespace, name: name.name };
    case "node":
      return { kind: KIND.NODE, namespace: NODES_NAMESPACE, name: name.nodeId };
    case "apex":
    case "types":
    case "transport":
    case "address":
    case "fixed":
    case "other":
      return undefined;
  }
}
