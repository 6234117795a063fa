/** Parses and formats the names below a zone (semantics.md, DNS). Names are lower-case text without the final dot; the root is the empty text. */
import { KINDS } from "../../catalog/entry/kinds.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { addressOf, type IpAddress, parseIpv4 } from "../../lib/addresses.ts";
import { invalid } from "../../lib/errors.ts";
import type { TransportProtocol } from "../../lib/protocols.ts";
import { decodeLabel, encodeLabel, MAX_LABEL_BYTES, MAX_NAME_CHARS, mayEndLonger, SAFE_LABEL, wordsOf } from "./labels.ts";

/** The possible forms of a name below a zone. Whether a name of this form exists depends on the catalog. */
export type DnsName =
  /** The zone apex. */
  | { readonly form: "apex" }
  /** `_svc._tcp.<name>.<namespace>`: the name of SRV records. `_<port>._tcp.…` names the ports of a service that have this port name. */
  | {
      readonly form: "located";
      readonly kind: Kind;
      readonly transport: TransportProtocol;
      /** Port name. Undefined if the name covers all ports. */
      readonly port?: string | undefined;
      readonly name: string;
      readonly namespace: string;
    }
  /** `<instance>._svc._tcp.<name>.<namespace>`: one instance of a service (RFC 6763, 4.1). */
  | {
      readonly form: "instance";
      readonly transport: TransportProtocol;
      readonly instanceId: string;
      readonly name: string;
      readonly namespace: string;
    }
  /** `_services._dns-sd._udp.<domain>`: the service types of a domain (RFC 6763, 9). The domain is a namespace, a `<name>.<namespace>`, or both. */
  | { readonly form: "types"; readonly domain: string }
  /** `_tcp.<name>.<namespace>`: an empty non-terminal above the located names. */
  | { readonly form: "transport"; readonly transport: TransportProtocol; readonly name: string; readonly namespace: string }
  /** `<name>.<namespace>`: the service's addresses. */
  | { readonly form: "direct"; readonly name: string; readonly namespace: string }
  /** `<node>.node`. */
  | { readonly form: "node"; readonly nodeId: string }
  /** `<address>.addr.node`: the name of an IP target, because an SRV target must be a name. */
  | { readonly form: "address"; readonly address: IpAddress }
  /** `node`: always exists, but has no records of its own. */
  | { readonly form: "fixed" }
  /** Any other name. Such a name may still be an alias or be above a namespace. */
  | { readonly form: "other" };

/** Kinds by label. */
const KIND_LABELS: ReadonlyMap<string, Kind> = new Map(
  Object.values(KIND).flatMap((kind) => KINDS[kind].dnsLabels.map((label) => [label, kind] as const)),
);
const TRANSPORT_LABELS: ReadonlyMap<string, TransportProtocol> = new Map([
  ["_tcp", "tcp"],
  ["_udp", "udp"],
  ["_sctp", "sctp"],
]);
/** Kinds that have names in DNS. */
export const LOCATED_KINDS: readonly Kind[] = [...new Set(KIND_LABELS.values())];

const SERVICE_LABEL = "_svc";
const TYPES_WORDS: readonly string[] = ["_services", "_dns-sd", "_udp"];

const NODE_LABEL = "node";
/** This label can also be a node id. `addr.node` refers to the node with this id if one exists, and address names always exist below it. */
export const ADDRESS_LABEL = "addr";

/** Parses a zone from the settings, with or without the final dot. Throws `invalid_argument`. */
export function parseZone(text: string): string {
  const zone = text.toLowerCase().replace(/\.$/, "");
  const labels = zone.split(".");
  if (zone.length > MAX_NAME_CHARS - MAX_LABEL_BYTES || !labels.every((label) => SAFE_LABEL.test(label))) {
    throw invalid(
      "dns.zones",
      `invalid zone "${text}": expected labels of a–z, 0–9 and '-' (max 63 characters each), separated by dots (max 190 characters)`,
    );
  }
  return zone;
}

/**
 * Returns the host name of a target as a DNS name, with its case unchanged, without the final dot. Returns undefined when the host name is not a
 * valid DNS name.
 */
export function parseHostName(text: string): string | undefined {
  const host = text.endsWith(".") ? text.slice(0, -1) : text;
  if (host.length > MAX_NAME_CHARS) return undefined;
  return host.split(".").every((label) => /^[A-Za-z0-9_-]{1,63}$/.test(label)) ? host : undefined;
}

/** Returns the form of a name. `relative` is the part before the zone in lower case, or empty for the zone itself. */
export function parseName(relative: string): DnsName {
  // HOT: runs about three times per nonexistent name.
  if (relative !== lastRelative) [lastRelative, lastForm] = [relative, formOf(relative)];
  return lastForm;
}

let lastRelative = "";
let lastForm: DnsName = { form: "apex" };

function formOf(relative: string): DnsName {
  if (relative === "") return { form: "apex" };
  const words = wordsOf(relative);
  const [first = "", second = "", third = ""] = words;
  if (TYPES_WORDS.every((word, i) => words[i] === word)) return { form: "types", domain: words.slice(TYPES_WORDS.length).join(".") };
  const kind = KIND_LABELS.get(first);
  const port = kind === undefined ? parsePortLabel(first) : undefined;
  const under = TRANSPORT_LABELS.get(second);
  // A port may be named `tcp`, because a label before a transport is always a port.
  if (kind !== undefined || (port !== undefined && under !== undefined)) {
    const place = parsePlace(words.slice(2));
    if (under === undefined || place === undefined) return { form: "other" };
    return { form: "located", kind: kind ?? KIND.SERVICE, transport: under, port, ...place };
  }
  if (second === SERVICE_LABEL) return parseInstance(words);
  const transport = TRANSPORT_LABELS.get(first);
  if (transport !== undefined) {
    const place = parsePlace(words.slice(1));
    return place === undefined ? { form: "other" } : { form: "transport", transport, ...place };
  }
  if (words.length === 1 && first === NODE_LABEL) return { form: "fixed" };
  if (words.length === 2 && second === NODE_LABEL) {
    const nodeId = decodeLabel(first);
    return nodeId === undefined ? { form: "other" } : { form: "node", nodeId };
  }
  // This form is checked before namespaces, so that an SRV target never refers to a service. A namespace `addr.node` is therefore not reachable over
  // DNS.
  if (words.length === 3 && second === ADDRESS_LABEL && third === NODE_LABEL) {
    const address = parseAddressLabel(first);
    return address === undefined ? { form: "other" } : { form: "address", address };
  }
  const place = parsePlace(words);
  return place === undefined ? { form: "other" } : { form: "direct", ...place };
}

function parseInstance([first = "", , third = "", ...rest]: readonly string[]): DnsName {
  const instanceId = decodeLabel(first);
  const transport = TRANSPORT_LABELS.get(third);
  const place = parsePlace(rest);
  if (instanceId === undefined || transport === undefined || place === undefined) return { form: "other" };
  return { form: "instance", transport, instanceId, ...place };
}

/** Returns the domain whose service types are listed below a name such as `_dns-sd._udp.market`. Returns undefined for all other names. */
export function domainOfTypes(relative: string): string | undefined {
  const words = wordsOf(relative);
  const between = TYPES_WORDS.slice(words[0] === TYPES_WORDS[1] ? 1 : 2);
  return between.every((word, i) => words[i] === word) ? words.slice(between.length).join(".") : undefined;
}

/** Returns the service and the namespace that a domain may refer to. Either or both may be undefined. */
export function parseDomain(domain: string): {
  readonly service: { readonly name: string; readonly namespace: string } | undefined;
  readonly namespace: string | undefined;
} {
  const words = wordsOf(domain);
  return { service: parsePlace(words), namespace: parseNamespaceWords(words) };
}

/** Returns the full name of a form, or undefined when DNS cannot represent it. `nameInDns` also returns the reason. */
export function formatName(name: DnsName, zone: string): string | undefined {
  const found = nameInDns(name, zone);
  return "text" in found ? found.text : undefined;
}

/** The full name of a form, or the reason why DNS cannot represent that name. */
export type NameInDns = { readonly text: string } | { readonly unreachable: "no_name" | "reserved" | "too_long"; readonly why: string };

export function nameInDns(name: DnsName, zone: string): NameInDns {
  const labels = labelsOf(name);
  if (labels === undefined) return { unreachable: "no_name", why: "entries of this kind have no DNS name" };
  if (labels === "reserved") return { unreachable: "reserved", why: "its DNS name is reserved for a node or an address" };
  const known = labels.filter((label) => label !== undefined);
  const text = [...known, zone].join(".");
  if (known.length === labels.length && text.length <= MAX_NAME_CHARS) return { text };
  const length = known.length === labels.length ? text.length : `more than ${MAX_NAME_CHARS}`;
  return { unreachable: "too_long", why: `its DNS name would have ${length} characters (max ${MAX_NAME_CHARS})` };
}

/**
 * Returns the rest of a name whose first word may be the tail of a longer encoded string. Names that start with that string exist below this name.
 * Returns undefined when the first word cannot be such a tail.
 */
export function belowLonger(relative: string): string | undefined {
  const [first = "", ...rest] = wordsOf(relative);
  const place = TRANSPORT_LABELS.has(rest[0] ?? "") ? "port" : "name";
  return rest.length > 0 && mayEndLonger(first, place) ? rest.join(".") : undefined;
}

/** Returns `<node>.node.<zone>`. Returns undefined when the name exceeds 253 characters. */
export function nodeName(nodeId: string, zone: string): string | undefined {
  return formatName({ form: "node", nodeId }, zone);
}

/** Returns the longest zone that contains the name, and the rest of the name. Returns undefined when the name is outside all zones. */
export function splitZone(name: string, zones: readonly string[]): { readonly zone: string; readonly relative: string } | undefined {
  const found = zoneOf(name, zones);
  if (found === undefined) return undefined;
  return { zone: found, relative: name === found ? "" : name.slice(0, -found.length - 1) };
}

/** Returns the closest zone above this zone. Returns undefined when there is none. */
export function zoneAbove(zone: string, zones: readonly string[]): string | undefined {
  const dot = zone.indexOf(".");
  return dot < 0 ? undefined : zoneOf(zone.slice(dot + 1), zones);
}

/** Returns the longest zone that contains the name. Returns undefined when the name is outside all zones. */
export function zoneOf(name: string, zones: readonly string[]): string | undefined {
  let found: string | undefined;
  for (const zone of zones) {
    if ((name === zone || name.endsWith(`.${zone}`)) && zone.length > (found?.length ?? -1)) found = zone;
  }
  return found;
}

/** Returns the namespace that the words of a name encode. Returns undefined when a word is not a namespace label. */
export function parseNamespaceWords(words: readonly string[]): string | undefined {
  // HOT: runs twice for the words of each nonexistent name.
  if (words !== lastWords) [lastWords, lastNamespace] = [words, namespaceOfWords(words)];
  return lastNamespace;
}

let lastWords: readonly string[] = [];
let lastNamespace: string | undefined = "";

function namespaceOfWords(words: readonly string[]): string | undefined {
  let namespace: string | undefined;
  for (const word of words) {
    const part = decodeLabel(word);
    // Labels of namespaces are DNS-safe. They are encoded only if they start with our prefix, so any other decoded text is not a namespace.
    if (part === undefined || (part !== word && !SAFE_LABEL.test(part))) return undefined;
    namespace = namespace === undefined ? part : `${namespace}.${part}`;
  }
  return namespace ?? "";
}

function parsePlace(words: readonly string[]): { readonly name: string; readonly namespace: string } | undefined {
  const [first, ...rest] = words;
  if (first === undefined || rest.length === 0) return undefined;
  const name = decodeLabel(first);
  const namespace = parseNamespaceWords(rest);
  return name === undefined || namespace === undefined || isReserved(namespace) ? undefined : { name, namespace };
}

/** Returns `_http` for a port named `http`. Names that are not DNS-safe are encoded like other labels. */
function portLabel(port: string): string | undefined {
  const label = encodeLabel(port, "port");
  return label === undefined ? undefined : `_${label}`;
}

function parsePortLabel(label: string): string | undefined {
  return label.startsWith("_") ? decodeLabel(label.slice(1), "port") : undefined;
}

/** Returns the labels of a name. Returns undefined if this form has no name. A label is undefined when its text is too long for a DNS name. */
function labelsOf(name: DnsName): readonly (string | undefined)[] | "reserved" | undefined {
  switch (name.form) {
    case "apex":
      return [];
    case "located": {
      const first = name.port === undefined ? KINDS[name.kind].dnsLabels[0] : portLabel(name.port);
      return first === undefined && name.port === undefined ? undefined : withPlace([first, `_${name.transport}`], name);
    }
    case "instance":
      return withPlace([encodeLabel(name.instanceId), SERVICE_LABEL, `_${name.transport}`], name);
    case "types":
      return [...TYPES_WORDS, name.domain];
    case "transport":
      return withPlace([`_${name.transport}`], name);
    case "direct":
      return withPlace([], name);
    case "node":
      return [encodeLabel(name.nodeId), NODE_LABEL];
    case "address":
      return [addressLabel(name.address), ADDRESS_LABEL, NODE_LABEL];
    case "fixed":
    case "other":
      return undefined;
  }
}

function withPlace(
  prefix: readonly (string | undefined)[],
  { name, namespace }: { readonly name: string; readonly namespace: string },
): readonly (string | undefined)[] | "reserved" {
  // A name that would be parsed as a different form is not returned.
  if (isReserved(namespace)) return "reserved";
  return [...prefix, ...[name, ...namespace.split(".")].map((text) => encodeLabel(text))];
}

/** `node` is reserved, and `addr.node` contains the names of addresses: neither is a namespace in DNS. */
function isReserved(namespace: string): boolean {
  return namespace === NODE_LABEL || namespace === `${ADDRESS_LABEL}.${NODE_LABEL}`;
}

// An address as one DNS label.

const HYPHEN = 45;
const LABEL_GROUP = /^(?:0|[1-9a-f][0-9a-f]{0,3})$/;
const IPV6_GROUPS = 8;

/** Returns the label of an address: `10-0-0-1`, or all eight groups, `2001-db8-0-0-0-0-0-1`. */
export function addressLabel(address: IpAddress): string {
  if (address.length === 4) return address.join("-");
  return groupsOf(address)
    .map((group) => group.toString(16))
    .join("-");
}

/** Reverses `addressLabel`. Returns undefined for labels that `addressLabel` does not produce. */
export function parseAddressLabel(label: string): IpAddress | undefined {
  const v4 = parseIpv4(label, HYPHEN);
  if (v4 !== undefined) return v4;
  const parts = label.split("-");
  if (parts.length !== IPV6_GROUPS || !parts.every((part) => LABEL_GROUP.test(part))) return undefined;
  return addressOf(parts.map((part) => Number.parseInt(part, 16)));
}

function groupsOf(bytes: IpAddress): number[] {
  const groups: number[] = [];
  for (let i = 0; i < bytes.length; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  return groups;
}
