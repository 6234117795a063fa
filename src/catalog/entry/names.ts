/** Names and their bounds (semantics.md, Names and bounds): the parsers that make branded names, and fast tests for hot paths. */

import { RECORD_BOUNDS } from "../../lib/bounds.ts";
import { invalid } from "../../lib/errors.ts";
import { counted } from "../../lib/text/visible-text.ts";

/** Dot-separated lower-case labels, at most 63 characters a label and 200 in all. */
export type Namespace = string & { readonly __brand: "Namespace" };
/** Name, instance id, tag, capability or resource: 1 to 128 of `[A-Za-z0-9._:/@+-]`. */
export type Name = string & { readonly __brand: "Name" };

/** Bounds of one entry and one request. Lengths are in characters unless the name says bytes. */
export interface Bounds extends Readonly<Record<keyof typeof RECORD_BOUNDS, number>> {
  /** They are not the settings of a node but the most that any node can be set to. Refusals say so. */
  readonly isOfAnyNode?: true;
}

/** Bounds of existing records, whichever node wrote them. `lib/bounds.ts` has the table. */
export const PROTOCOL_BOUNDS: Bounds = { ...RECORD_BOUNDS, isOfAnyNode: true };

/**
 * Bounds of a request that registers nothing. Its names may be as large as any node may store, even if this node allows its own clients
 * less. The number of names in a request is this node's setting.
 */
export function askedBounds({ maxRequestEntries, maxRequestBytes }: Bounds): Bounds {
  return { ...PROTOCOL_BOUNDS, maxRequestEntries, maxRequestBytes };
}

/** The control plane owns this namespace and all below it. */
export const CONTROL_NAMESPACE = "discovery";
/** Where nodes register themselves. */
export const NODES_NAMESPACE = "discovery.nodes";
/** Metadata key of the entry of a node with a DNS gateway: the zones that it serves, with spaces between. */
export const DNS_ZONES_KEY = "waymark.dns.zones";
/** Where resolvers register themselves. `control-namespaces.ts` says what they may write. */
export const RESOLVERS_NAMESPACE = "discovery.resolvers";
/** Reserved, because its names would collide with `<node>.node.<zone>` in DNS. */
const NODE_NAMESPACE = "node";

/** Throws `invalid_argument` that names `field`. */
export function parseNamespace(text: string, field: string, bounds: Bounds): Namespace {
  if (!isNamespace(text, bounds)) throw invalid(field, namespaceRule(text, bounds));
  return text as Namespace; // The only cast to Namespace.
}

/** Throws `invalid_argument` that names `field`. */
export function parseName(text: string, field: string, bounds: Bounds): Name {
  if (!isName(text, bounds.maxNameLength)) throw invalid(field, nameRule(text, bounds.maxNameLength, bounds));
  return text as Name; // The only cast to Name.
}

/** Whether a prefix covers a namespace, on label boundaries: `svc.market` covers `svc.market.eu`, not `svc.marketing`. Empty covers all. */
export function namespaceCovers(prefix: string, namespace: string): boolean {
  if (prefix === "") return true;
  if (!namespace.startsWith(prefix)) return false;
  return namespace.length === prefix.length || namespace.charCodeAt(prefix.length) === DOT;
}

/** Whether a namespace belongs to the control plane, which policy never filters. */
export function isControlNamespace(namespace: string): boolean {
  return namespaceCovers(CONTROL_NAMESPACE, namespace);
}

/** Whether ordinary clients may not register in a namespace. `control-namespaces.ts` says which others may. */
export function isReservedNamespace(namespace: string): boolean {
  return isControlNamespace(namespace) || namespace === NODE_NAMESPACE;
}

const DOT = 46;
const HYPHEN = 45;

/** Sets of characters, one bit each in the table. */
export const CHARS = { NAME: 1, HOST: 2, ALIAS: 4, LABEL: 8 } as const;
export type Chars = (typeof CHARS)[keyof typeof CHARS];

const CHAR_BITS = charBits();

function charBits(): Uint8Array {
  const bits = new Uint8Array(128);
  const mark = (text: string, bit: Chars): void => {
    for (let i = 0; i < text.length; i++) bits[text.charCodeAt(i)] = (bits[text.charCodeAt(i)] ?? 0) | bit;
  };
  const lower = "abcdefghijklmnopqrstuvwxyz0123456789";
  const alphanumeric = `${lower}${lower.toUpperCase()}`;
  mark(`${alphanumeric}._:/@+-`, CHARS.NAME);
  mark(`${alphanumeric}._:-`, CHARS.HOST);
  mark(`${alphanumeric}._-`, CHARS.ALIAS);
  mark(`${lower}-`, CHARS.LABEL);
  return bits;
}

/**
 * Whether a text has at most `maxLength` characters, all of them in `chars`. True for the empty text. HOT: a loop is three times as fast as
 * a regular expression.
 */
export function consistsOf(text: string, chars: Chars, maxLength: number): boolean {
  const length = text.length;
  if (length > maxLength) return false;
  for (let i = 0; i < length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 128 || ((CHAR_BITS[unit] ?? 0) & chars) === 0) return false;
  }
  return true;
}

/** 1 to `maxLength` of `[A-Za-z0-9._:/@+-]`. */
export function isName(text: string, maxLength: number): boolean {
  return text.length > 0 && consistsOf(text, CHARS.NAME, maxLength);
}

export function isNamespace(text: string, bounds: Bounds): boolean {
  const length = text.length;
  if (length === 0 || length > bounds.maxNamespaceLength) return false;
  let labelStart = 0;
  for (let i = 0; i <= length; i++) {
    const unit = i < length ? text.charCodeAt(i) : DOT;
    if (unit === DOT) {
      const labelLength = i - labelStart;
      if (labelLength === 0 || labelLength > bounds.maxLabelLength) return false;
      if (text.charCodeAt(labelStart) === HYPHEN || text.charCodeAt(i - 1) === HYPHEN) return false;
      labelStart = i + 1;
    } else if (unit >= 128 || ((CHAR_BITS[unit] ?? 0) & CHARS.LABEL) === 0) return false;
  }
  return true;
}

/** A value for an error message: quoted, shortened, and without control characters. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

/** Behind a bound that is more than the settings of most nodes, and than the contract says. */
const OF_ANY_NODE = " (the most that any node can be set to allow)";

/** `bounds` where the length is one of theirs. */
export function nameRule(text: string, maxLength: number, bounds?: Bounds): string {
  const isOfAnyNode = bounds?.isOfAnyNode === true && (maxLength === bounds.maxNameLength || maxLength === bounds.maxIdLength);
  const rule = `1 to ${maxLength} of [A-Za-z0-9._:/@+-]${isOfAnyNode ? OF_ANY_NODE : ""}`;
  return text === "" ? `is required: ${rule}` : `${quoted(text)} (${counted(text.length, "character")}) must be ${rule}`;
}

export function namespaceRule(text: string, bounds: Bounds): string {
  if (text === "") return "is required: dot-separated labels of [a-z0-9-]";
  return `${quoted(text)} (${counted(text.length, "character")}) must be dot-separated labels of [a-z0-9-], not starting or ending with a hyphen, at most ${bounds.maxLabelLength} a label and ${bounds.maxNamespaceLength} in all${bounds.isOfAnyNode === true ? OF_ANY_NODE : ""}`;
}
