/**
 * DNS names and their meaning: labels to text and back, and the forms that a name below a zone can have (semantics.md, DNS).
 * Names are lower-case text without the final dot; the root is the empty text.
 */
import { KINDS } from "../../catalog/entry/kinds.ts";
import type { Transport } from "../../catalog/entry/ports.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import type { Address } from "../../lib/addresses.ts";
import { invalid } from "../../lib/errors.ts";
import { addressLabel, parseAddressLabel } from "./addresses.ts";

/** Longest label in octets (RFC 1035, 2.3.4). */
const MAX_LABEL_BYTES = 63;
/** Longest name as text without the final dot; it has 255 octets on the wire. */
const MAX_NAME_CHARS = 253;

const SAFE_LABEL = /^[a-z0-9-]{1,63}$/;
const NAME_TEXT = /^[A-Za-z0-9._:/@+-]{1,128}$/;
const B32_PREFIX = "b32-";
const B32_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** The form of a name below a zone. Whether the name exists is for the catalog to say. */
export type DnsName =
  /** The zone itself. */
  | { readonly form: "apex" }
  /** `_svc._tcp.<name>.<namespace>`: the name of SRV records. `_<port>._tcp.…` is for the ports of a service that have this name. */
  | {
      readonly form: "located";
      readonly kind: Kind;
      readonly transport: Transport;
      /** Name of the port; undefined for all ports. */
      readonly port?: string | undefined;
      readonly name: string;
      readonly namespace: string;
    }
  /** `_tcp.<name>.<namespace>`: has no records of its own, but names below it. */
  | { readonly form: "transport"; readonly transport: Transport; readonly name: string; readonly namespace: string }
  /** `<name>.<namespace>`: the service's addresses. */
  | { readonly form: "direct"; readonly name: string; readonly namespace: string }
  /** `<node>.node`. */
  | { readonly form: "node"; readonly nodeId: string }
  /** `<address>.addr.node`: the name of an IP target, because an SRV target must be a name. */
  | { readonly form: "address"; readonly address: Address }
  /** `node`: always exists, without records of its own. */
  | { readonly form: "fixed" }
  /** Any other name. It may still be an alias, or lie above a namespace. */
  | { readonly form: "other" };

/** Label of a kind to the kind. */
const KIND_LABELS: ReadonlyMap<string, Kind> = new Map(
  Object.values(KIND).flatMap((kind) => KINDS[kind].dnsLabels.map((label) => [label, kind] as const)),
);
const TRANSPORT_LABELS: ReadonlyMap<string, Transport> = new Map([
  ["_tcp", "tcp"],
  ["_udp", "udp"],
  ["_sctp", "sctp"],
]);
/** Kinds that have names in DNS. */
export const LOCATED_KINDS: readonly Kind[] = [...new Set(KIND_LABELS.values())];

const NODE_LABEL = "node";
/** May be a node id as well: `addr.node` is that node if it exists, and always lies above the addresses. */
export const ADDRESS_LABEL = "addr";

/**
 * The label for a name, node id or namespace label: the text itself if it is DNS-safe (`[a-z0-9-]`, at most 63), else `b32-` and
 * lower-case base32. Undefined when no label can hold the text (a safe one may have 63 characters, another one 36): such a name
 * cannot be reached over DNS. Several labels were rejected, because they would read as a namespace.
 */
export function encodeLabel(text: string): string | undefined {
  if (!NAME_TEXT.test(text)) return undefined;
  if (isPlain(text)) return text;
  const label = B32_PREFIX + encodeBase32(text);
  return label.length <= MAX_LABEL_BYTES ? label : undefined;
}

/** The reverse of `encodeLabel`, for a label in upper or lower case. Undefined for every label that `encodeLabel` does not make. */
export function decodeLabel(label: string): string | undefined {
  const lower = label.toLowerCase();
  if (isPlain(lower)) return lower;
  if (!lower.startsWith(B32_PREFIX)) return undefined;
  const text = decodeBase32(lower.slice(B32_PREFIX.length));
  // Each name has one label: no second spelling may resolve.
  return text !== undefined && encodeLabel(text) === lower ? text : undefined;
}

/** Parses a zone from the settings, with or without the final dot. Throws `invalid_argument`. */
export function parseZone(text: string): string {
  const zone = text.toLowerCase().replace(/\.$/, "");
  const labels = zone.split(".");
  if (zone.length > MAX_NAME_CHARS - MAX_LABEL_BYTES || !labels.every((label) => SAFE_LABEL.test(label))) {
    throw invalid("dns.zones", `"${text}" is not a zone; labels of [a-z0-9-] with dots between are, at most 190 characters`);
  }
  return zone;
}

/** The host name of a target as a DNS name, its case unchanged, without the final dot; undefined when it cannot be a DNS name. */
export function parseHostName(text: string): string | undefined {
  const host = text.endsWith(".") ? text.slice(0, -1) : text;
  if (host.length > MAX_NAME_CHARS) return undefined;
  return host.split(".").every((label) => /^[A-Za-z0-9_-]{1,63}$/.test(label)) ? host : undefined;
}

/** The form of a name. `relative` is its part before the zone, in lower case; empty for the zone itself. */
export function parseName(relative: string): DnsName {
  if (relative === "") return { form: "apex" };
  const labels = relative.split(".");
  const [first = "", second = "", third = ""] = labels;
  const kind = KIND_LABELS.get(first);
  const port = kind === undefined ? parsePortLabel(first) : undefined;
  const under = TRANSPORT_LABELS.get(second);
  // A port may be called `tcp`: a label before a transport is always a port.
  if (kind !== undefined || (port !== undefined && under !== undefined)) {
    const place = parsePlace(labels.slice(2));
    if (under === undefined || place === undefined) return { form: "other" };
    return { form: "located", kind: kind ?? KIND.SERVICE, transport: under, port, ...place };
  }
  const transport = TRANSPORT_LABELS.get(first);
  if (transport !== undefined) {
    const place = parsePlace(labels.slice(1));
    return place === undefined ? { form: "other" } : { form: "transport", transport, ...place };
  }
  if (labels.length === 1 && first === NODE_LABEL) return { form: "fixed" };
  if (labels.length === 2 && second === NODE_LABEL) {
    const nodeId = decodeLabel(first);
    return nodeId === undefined ? { form: "other" } : { form: "node", nodeId };
  }
  // Checked before namespaces, so that an SRV target never means a service: a namespace `addr.node` cannot be reached over DNS.
  if (labels.length === 3 && second === ADDRESS_LABEL && third === NODE_LABEL) {
    const address = parseAddressLabel(first);
    return address === undefined ? { form: "other" } : { form: "address", address };
  }
  const place = parsePlace(labels);
  return place === undefined ? { form: "other" } : { form: "direct", ...place };
}

/** The full name for a form; undefined when DNS cannot hold it (a label over 63, a name over 253, or a form without a name). */
export function formatName(name: DnsName, zone: string): string | undefined {
  const labels = labelsOf(name);
  if (labels === undefined) return undefined;
  const text = [...labels, zone].join(".");
  return text.length <= MAX_NAME_CHARS ? text : undefined;
}

/** `<node>.node.<zone>`; undefined when the id does not fit into a label. */
export function nodeName(nodeId: string, zone: string): string | undefined {
  return formatName({ form: "node", nodeId }, zone);
}

/** The longest zone that contains the name, and the rest of the name; undefined outside all zones. */
export function splitZone(name: string, zones: readonly string[]): { readonly zone: string; readonly relative: string } | undefined {
  let found: string | undefined;
  for (const zone of zones) {
    if ((name === zone || name.endsWith(`.${zone}`)) && zone.length > (found?.length ?? -1)) found = zone;
  }
  if (found === undefined) return undefined;
  return { zone: found, relative: name === found ? "" : name.slice(0, -found.length - 1) };
}

/** The namespace that the labels spell; undefined when a label is not one of a namespace. */
export function parseNamespaceLabels(labels: readonly string[]): string | undefined {
  const parts = labels.map(decodeLabel);
  // Labels of namespaces are DNS-safe. They are encoded only if they start with our prefix, so other decoded texts are no namespace.
  return parts.every((part) => part !== undefined && SAFE_LABEL.test(part)) ? parts.join(".") : undefined;
}

function parsePlace(labels: readonly string[]): { readonly name: string; readonly namespace: string } | undefined {
  const [first, ...rest] = labels;
  if (first === undefined || rest.length === 0) return undefined;
  // `node` is reserved and `addr.node` holds the names of addresses: neither is a namespace here.
  if (rest.at(-1) === NODE_LABEL && (rest.length === 1 || (rest.length === 2 && rest[0] === ADDRESS_LABEL))) return undefined;
  const name = decodeLabel(first);
  const namespace = parseNamespaceLabels(rest);
  return name === undefined || namespace === undefined ? undefined : { name, namespace };
}

/** `_http` for a port called `http`. Names that are not DNS-safe are encoded as elsewhere. */
function portLabel(port: string): string | undefined {
  const label = encodeLabel(port);
  return label === undefined || label.length === MAX_LABEL_BYTES ? undefined : `_${label}`;
}

function parsePortLabel(label: string): string | undefined {
  return label.startsWith("_") ? decodeLabel(label.slice(1)) : undefined;
}

function labelsOf(name: DnsName): readonly string[] | undefined {
  switch (name.form) {
    case "apex":
      return [];
    case "located": {
      const first = name.port === undefined ? KINDS[name.kind].dnsLabels[0] : portLabel(name.port);
      return first === undefined ? undefined : withPlace([first, `_${name.transport}`], name);
    }
    case "transport":
      return withPlace([`_${name.transport}`], name);
    case "direct":
      return withPlace([], name);
    case "node": {
      const label = encodeLabel(name.nodeId);
      return label === undefined ? undefined : [label, NODE_LABEL];
    }
    case "address":
      return [addressLabel(name.address), ADDRESS_LABEL, NODE_LABEL];
    case "fixed":
    case "other":
      return undefined;
  }
}

function withPlace(prefix: readonly string[], place: { readonly name: string; readonly namespace: string }): string[] | undefined {
  const labels = [place.name, ...place.namespace.split(".")].map(encodeLabel);
  const safe = labels.filter((label) => label !== undefined);
  // A name that would be parsed as another form is not written.
  if (safe.length !== labels.length || parsePlace(safe) === undefined) return undefined;
  return [...prefix, ...safe];
}

function isPlain(text: string): boolean {
  return SAFE_LABEL.test(text) && !text.startsWith(B32_PREFIX);
}

/** RFC 4648 base32 of ASCII text, lower case, without padding. */
function encodeBase32(text: string): string {
  let out = "";
  let bits = 0;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    value = ((value << 8) | text.charCodeAt(i)) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      out += B32_ALPHABET.charAt((value >> bits) & 31);
    }
  }
  return bits > 0 ? out + B32_ALPHABET.charAt((value << (5 - bits)) & 31) : out;
}

function decodeBase32(text: string): string | undefined {
  let out = "";
  let bits = 0;
  let value = 0;
  for (const char of text) {
    const digit = B32_ALPHABET.indexOf(char);
    if (digit < 0) return undefined;
    value = ((value << 5) | digit) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out += String.fromCharCode((value >> bits) & 0xff);
    }
  }
  return out;
}
