/** Names and their bounds (semantics.md, Names and bounds): parsers that return branded types, and fast checks for hot paths. */

import { isIpv4, parseAddress } from "../../lib/addresses.ts";
import { RECORD_BOUNDS } from "../../lib/bounds.ts";
import { type FieldViolation, invalid, MAX_VIOLATIONS, WaymarkError } from "../../lib/errors.ts";
import { type TimeFields, utf8Size } from "../../lib/protowire.ts";
import { counted } from "../../lib/text/visible-text.ts";

/** Dot-separated lower-case labels, at most 63 characters per label and 200 in total. */
export type Namespace = string & { readonly __brand: "Namespace" };
/** A name, instance id, tag, capability or resource: 1 to 128 characters of `[A-Za-z0-9._:/@+-]`. */
export type Name = string & { readonly __brand: "Name" };

/** Limits for one entry and one request. Lengths are in characters, unless the field name contains `Bytes`. */
export interface EntryBounds extends Readonly<Record<keyof typeof RECORD_BOUNDS, number>> {
  /**
   * Whether these bounds are the highest limits that any node can configure. If so, error messages mention this. Otherwise, they are the settings of
   * one node.
   */
  readonly isOfAnyNode?: true;
}

/** Bounds that apply to existing records, regardless of which node wrote them. The table is in `lib/bounds.ts`. */
export const PROTOCOL_BOUNDS: EntryBounds = { ...RECORD_BOUNDS, isOfAnyNode: true };

/**
 * Returns the bounds for a request that does not register entries. Names in such a request may have any length that a node can store, even if this
 * node has lower limits for its own clients. The number of names in a request is still limited by this node's setting.
 */
export function askedBounds({ maxRequestEntries, maxRequestBytes }: EntryBounds): EntryBounds {
  return { ...PROTOCOL_BOUNDS, maxRequestEntries, maxRequestBytes };
}

/** The control plane owns this namespace and all namespaces below it. */
export const CONTROL_NAMESPACE = "discovery";
/** The namespace in which nodes register themselves. */
export const NODES_NAMESPACE = "discovery.nodes";
/** Metadata key in the entry of a node with a DNS gateway. Its value lists the zones that the node serves, separated by spaces. */
export const DNS_ZONES_KEY = "waymark.dns.zones";
/** The namespace in which resolvers register themselves. `rules.ts` defines their permitted entries. */
export const RESOLVERS_NAMESPACE = "discovery.resolvers";
/** This namespace is reserved, because its names would collide with `<node>.node.<zone>` in DNS. */
const NODE_NAMESPACE = "node";

/** Parses a namespace. Throws `invalid_argument` for `field` if the value is not valid. */
export function parseNamespace(text: string, field: string, bounds: EntryBounds): Namespace {
  if (!isNamespace(text, bounds)) throw invalid(field, namespaceRule(text, bounds));
  return text as Namespace; // This is the only cast to Namespace.
}

/** Parses a name. Throws `invalid_argument` for `field` if the value is not valid. */
export function parseName(text: string, field: string, bounds: EntryBounds): Name {
  if (!isName(text, bounds.maxNameLength)) throw invalid(field, nameRule(text, bounds.maxNameLength, bounds));
  return text as Name; // This is the only cast to Name.
}

/**
 * Whether a prefix covers a namespace. Only whole labels are compared: `svc.market` covers `svc.market.eu`, but not `svc.marketing`. An empty prefix
 * covers all namespaces.
 */
export function namespaceCovers(prefix: string, namespace: string): boolean {
  if (prefix === "") return true;
  if (!namespace.startsWith(prefix)) return false;
  return namespace.length === prefix.length || namespace.charCodeAt(prefix.length) === DOT;
}

/** Whether a namespace belongs to the control plane. Such namespaces are never filtered by the policy. */
export function isControlNamespace(namespace: string): boolean {
  return namespaceCovers(CONTROL_NAMESPACE, namespace);
}

/** Whether a namespace is reserved: ordinary clients cannot register in it. `rules.ts` defines which callers can register there. */
export function isReservedNamespace(namespace: string): boolean {
  return isControlNamespace(namespace) || namespace === NODE_NAMESPACE;
}

const DOT = 46;
const HYPHEN = 45;

/** Character sets: each one has a bit in the table. */
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
 * Whether a string has at most `maxLength` characters, all of which are in `chars`. True for the empty string. HOT: a loop is three times as fast as
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

/** Whether a string consists of 1 to `maxLength` characters of `[A-Za-z0-9._:/@+-]`. */
export function isName(text: string, maxLength: number): boolean {
  return text.length > 0 && consistsOf(text, CHARS.NAME, maxLength);
}

export function isNamespace(text: string, bounds: EntryBounds): boolean {
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

/** Formats a value for an error message: the value is quoted and shortened, and control characters are escaped. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

/** Added after a limit that is higher than the limits in the contract and in most nodes' settings. */
const OF_ANY_NODE = " (the highest limit that a node can configure)";

/** Returns the rule that a name violates, as text for an error message. `bounds` is given if `maxLength` is one of its fields. */
export function nameRule(text: string, maxLength: number, bounds?: EntryBounds): string {
  const isOfAnyNode = bounds?.isOfAnyNode === true && (maxLength === bounds.maxNameLength || maxLength === bounds.maxIdLength);
  const rule = `1 to ${maxLength} characters of [A-Za-z0-9._:/@+-]${isOfAnyNode ? OF_ANY_NODE : ""}`;
  return text === "" ? `is required: ${rule}` : `${quoted(text)} (${counted(text.length, "character")}) must be ${rule}`;
}

export function namespaceRule(text: string, bounds: EntryBounds): string {
  if (text === "") return "is required: dot-separated labels of [a-z0-9-]";
  return `${quoted(text)} (${counted(text.length, "character")}) must be dot-separated labels of [a-z0-9-], not starting or ending with a hyphen, at most ${bounds.maxLabelLength} characters per label and ${bounds.maxNamespaceLength} in total${bounds.isOfAnyNode === true ? OF_ANY_NODE : ""}`;
}

// Collects the problems found in one message, and provides basic checks for the generated code of the contract's rules (`gen/…_rules.ts`).

const NANOS_PER_SECOND = 1_000_000_000;
/** End of the year 9999, the latest time that a Timestamp can contain. */
const MAX_TIMESTAMP_SECONDS = 253_402_300_799;

// The host is a name, an IPv4 literal, or an IPv6 literal in brackets.
const ADDRESS = /^(?:[A-Za-z0-9._-]{1,253}|\[(?=[^\]]{1,253}\])[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):(\d{1,5})$/;

export class FieldProblems {
  readonly bounds: EntryBounds;
  /** Number of problems. Only the first few are stored. */
  count = 0;
  readonly #violations: FieldViolation[] = [];
  readonly #isOfRecord: boolean;
  /** The last namespace that was found valid. HOT: most entries in a request have the same namespace (bench/register.ts). */
  #goodNamespace: string | undefined;

  /** If `isOfRecord` is set, an unknown enum value is accepted, because it comes from a newer version. The value is stored and passed on. */
  constructor(bounds: EntryBounds, isOfRecord = false) {
    this.bounds = bounds;
    this.#isOfRecord = isOfRecord;
  }

  add(field: string, description: string): void {
    this.count++;
    if (this.#violations.length < MAX_VIOLATIONS) this.#violations.push({ field, description });
  }

  /** Prepends `prefix` to the field paths of all problems that were added after `count` was `before`. */
  under(before: number, prefix: string): void {
    for (let i = before; i < this.#violations.length; i++) {
      const violation = this.#violations[i];
      if (violation !== undefined) this.#violations[i] = { ...violation, field: prefix + violation.field };
    }
  }

  /** If there are problems, throws `invalid_argument` with all of them and clears the list. `prefix` is prepended to every field path. */
  throwIfAny(prefix = ""): void {
    if (this.count === 0) return;
    this.under(0, prefix);
    const violations = this.#violations.splice(0);
    const more = this.count > 1 ? ` (and ${this.count - 1} more)` : "";
    this.count = 0;
    throw new WaymarkError("invalid_argument", `${violations[0]?.field}: ${violations[0]?.description}${more}`, { violations });
  }

  /** The string must have 1 to `maxLength` characters of `[A-Za-z0-9._:/@+-]`. */
  name(text: string, maxLength: number, field: string): void {
    if (text.length === 0 || !consistsOf(text, CHARS.NAME, maxLength)) this.add(field, nameRule(text, maxLength, this.bounds));
  }

  namespace(text: string, _maxLength: number, field: string): void {
    if (text === this.#goodNamespace) return;
    if (isNamespace(text, this.bounds)) this.#goodNamespace = text;
    else this.add(field, namespaceRule(text, this.bounds));
  }

  host(text: string, maxLength: number, field: string): void {
    if (findHostForm(text, maxLength) === undefined)
      this.add(field, `${quoted(text)} must be an IPv4 or IPv6 literal or a DNS name, at most ${maxLength} characters`);
  }

  /** The string must be `host:port` with a port from 1 to 65535. */
  address(text: string, maxLength: number, field: string): void {
    const port = text.length <= maxLength ? Number(ADDRESS.exec(text)?.[1] ?? 0) : 0;
    if (port < 1 || port > 65_535) this.add(field, `${quoted(text)} must be host:port, with an IPv6 host in brackets`);
  }

  alias(text: string, maxLength: number, field: string): void {
    if (text.length === 0 || !consistsOf(text, CHARS.ALIAS, maxLength))
      this.add(field, `${quoted(text)} must be 1 to ${maxLength} characters of [A-Za-z0-9._-]`);
  }

  /** The string must be well-formed and have 1 to `maxLength` characters (code points). */
  text(text: string, maxLength: number, field: string): void {
    if (text === "") this.add(field, "is empty");
    else if (text.length > maxLength && codePointsOf(text) > maxLength) {
      this.add(field, `must have at most ${maxLength} characters, got ${codePointsOf(text)}`);
    } else if (!text.isWellFormed()) this.add(field, "is not well-formed Unicode");
  }

  /** The string must be well-formed and have at most this many bytes in UTF-8. */
  bytes(text: string, maxBytes: number, field: string): void {
    // A UTF-16 unit has at most three bytes in UTF-8, so short values need not be counted.
    if (text.length * 3 > maxBytes && utf8Size(text) > maxBytes)
      this.add(field, `must have at most ${maxBytes} bytes, got ${utf8Size(text)}`);
    else if (!text.isWellFormed()) this.add(field, "is not well-formed Unicode");
  }

  /** The string must match the pattern; `rule` describes the pattern for the error message. */
  pattern(text: string, { pattern, rule }: { readonly pattern: RegExp; readonly rule: string }, field: string): void {
    if (!pattern.test(text)) this.add(field, `${quoted(text)} must be ${rule}`);
  }

  items(count: number, max: number, field: string): void {
    if (count > max) this.add(field, `must have at most ${max} items, got ${count}`);
  }

  unique(items: readonly string[], field: string): void {
    const { length } = items;
    if (length < 2) return;
    // HOT: most entries have few tags, and a Set is faster only if there are about ten or more.
    if (length <= 8) {
      for (let i = 1; i < length; i++) {
        for (let j = 0; j < i; j++) if (items[i] === items[j]) this.add(`${field}[${i}]`, `${quoted(items[i] ?? "")} is listed twice`);
      }
      return;
    }
    const seen = new Set<string>();
    for (let i = 0; i < length; i++) {
      const item = items[i] ?? "";
      if (seen.has(item)) this.add(`${field}[${i}]`, `${quoted(item)} is listed twice`);
      seen.add(item);
    }
  }

  /** The value must be from `min` to `max`; NaN is rejected. An absent number is 0. */
  range(value: number, min: number, max: number, field: string): void {
    if (value === 0 && min >= 1) this.add(field, `is required: ${min} to ${max}`);
    else if (!(value >= min && value <= max)) this.add(field, `${value} must be ${min} to ${max}`);
  }

  /** The value must be one of the numbers 0 to `last` of an enum. */
  known(value: number, last: number, noun: string, field: string): void {
    if (!(value >= 0 && value <= last) && !this.#isOfRecord) this.add(field, `${value} is not ${noun}: the highest value is ${last}`);
  }

  time({ seconds, nanos }: TimeFields, field: string): void {
    const isWithin = seconds >= 0 && seconds <= MAX_TIMESTAMP_SECONDS;
    if (!isWithin || nanos < 0 || nanos >= NANOS_PER_SECOND) this.add(field, "must be a time between the years 1970 and 9999");
  }

  /** The duration must be a whole number of seconds from `minMs` to `maxMs`. */
  duration(duration: TimeFields, maxMs: number, field: string, minMs = 0): void {
    const [minSeconds, maxSeconds] = [minMs / 1000, maxMs / 1000];
    const [seconds, { nanos }] = [Number(duration.seconds), duration];
    const isWithin = seconds >= minSeconds && nanos >= 0 && (seconds < maxSeconds || (seconds === maxSeconds && nanos === 0));
    if (!isWithin || nanos >= NANOS_PER_SECOND)
      this.add(field, `must be from ${minSeconds} s to ${maxSeconds} s, got ${seconds + nanos / 1e9} s`);
  }
}

function codePointsOf(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

// The forms that `Target.host` can have: an IPv4 literal, an IPv6 literal, or a DNS name.

const MAX_DNS_LABEL_LENGTH = 63;
const COLON = 58;
const ZERO = 48;
const NINE = 57;

type HostForm = "ipv4" | "ipv6" | "name";

/** Returns the form that a host has. Undefined for any other string, such as `host:port` or four numbers out of range. */
export function findHostForm(host: string, maxLength: number): HostForm | undefined {
  const length = host.length;
  if (length === 0 || !consistsOf(host, CHARS.HOST, maxLength)) return undefined;
  let labelStart = 0;
  let isNumeric = true; // True while the current label has only digits.
  for (let i = 0; i <= length; i++) {
    const unit = i < length ? host.charCodeAt(i) : DOT;
    if (unit === COLON) return parseAddress(host) !== undefined ? "ipv6" : undefined;
    if (unit !== DOT) {
      if (unit < ZERO || unit > NINE) isNumeric = false;
      continue;
    }
    const labelLength = i - labelStart;
    // A name may end with a dot, which makes it fully qualified.
    if (labelLength === 0) return i === length && i > 1 && host.charCodeAt(i - 2) !== DOT ? "name" : undefined;
    if (labelLength > MAX_DNS_LABEL_LENGTH) return undefined;
    // No top-level domain consists of digits only, so this is an invalid address or a typing error (RFC 3696, section 2).
    if (i >= length - 1 && isNumeric) return isIpv4(host) ? "ipv4" : undefined;
    labelStart = i + 1;
    isNumeric = true;
  }
  return "name";
}
