/** The full DNS names of entries and aliases, in each zone. */
import { NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import { type Transport, transportOf } from "../../catalog/entry/ports.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { plainName } from "../../discovery/dns-names.ts";
import { type DnsName, nameInDns, parseHostName, parseName, splitZone } from "../../dns/names/names.ts";

/** Kinds whose entries have names in DNS. */
export const NAMED_KINDS: readonly Kind[] = [KIND.SERVICE, KIND.FUNCTION, KIND.QUEUE, KIND.NODE];

export interface NamedThing {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
}

/** The full names of an entry of this name. Where DNS can carry none of them, `why` says it for people; otherwise that is empty. */
export function fullNames(
  { kind, namespace, name }: NamedThing,
  transports: readonly Transport[],
  zones: readonly string[],
): { readonly fqdns: readonly string[]; readonly why: string } {
  const located = (transport: Transport): DnsName => ({ form: "located", kind, transport, name, namespace });
  const forms: DnsName[] =
    kind === KIND.NODE ? [{ form: "node", nodeId: name }] : (transports.length === 0 ? TCP : transports).map(located);
  if (kind === KIND.SERVICE) forms.unshift({ form: "direct", name, namespace });
  const found = zones.flatMap((zone) => forms.map((form) => nameInDns(form, zone)));
  const fqdns = found.flatMap((one) => ("text" in one ? [one.text] : []));
  const [first] = found;
  return { fqdns, why: fqdns.length === 0 && first !== undefined && "why" in first ? first.why : "" };
}

const TCP: readonly Transport[] = ["tcp"];

/** The full names of a service to register, and of its aliases. */
export function endpointNames(
  endpoint: { readonly namespace: string; readonly name: string; readonly protocol: string; readonly aliases: readonly string[] },
  zones: readonly string[],
): readonly string[] {
  const { namespace, name, aliases } = endpoint;
  return [...fullNames({ kind: KIND.SERVICE, namespace, name }, [transportOf(endpoint)], zones).fqdns, ...aliasNames(aliases, zones)];
}

/** The full names of aliases, which may be registered with the zone. */
export function aliasNames(aliases: readonly string[], zones: readonly string[]): readonly string[] {
  const names = aliases.map(plainName).flatMap((alias) => {
    const isFull = splitZone(alias, zones) !== undefined;
    return isFull ? [alias] : zones.map((zone) => `${alias}.${zone}`);
  });
  return [...new Set(names)].filter((name) => parseHostName(name) !== undefined);
}

/** A name in plain form without the zone that it may end in. */
export function unzoned(name: string, zones: readonly string[]): string {
  const place = splitZone(name, zones);
  return place === undefined || place.relative === "" ? name : place.relative;
}

/** What of the catalog a name below a zone is for. Undefined for other names, which may be aliases. */
export function thingOf(relative: string): NamedThing | undefined {
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
