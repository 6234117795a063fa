/** Collects the faults of one message, and has the small checks that the contract's rules consist of (`gen/…_rules.ts` calls them). */

import { isIpv4, parseAddress } from "../../lib/addresses.ts";
import { type FieldViolation, MAX_VIOLATIONS, WaymarkError } from "../../lib/errors.ts";
import { type TimeFields, utf8Size } from "../../lib/protowire.ts";
import { type Bounds, CHARS, consistsOf, isNamespace, nameRule, namespaceRule, quoted } from "./names.ts";

const NANOS_PER_SECOND = 1_000_000_000;
/** End of the year 9999, the highest time of a Timestamp. */
const MAX_TIMESTAMP_SECONDS = 253_402_300_799;

// A host as a name, an IPv4 literal, or an IPv6 literal in brackets.
const ADDRESS = /^(?:[A-Za-z0-9._-]{1,253}|\[(?=[^\]]{1,253}\])[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):(\d{1,5})$/;

export class Problems {
  readonly bounds: Bounds;
  /** Number of faults. Only the first of them are kept. */
  count = 0;
  readonly #violations: FieldViolation[] = [];
  readonly #isOfRecord: boolean;
  /** The namespace that was found good last. HOT: entries of one request mostly have one namespace (bench/register.ts). */
  #goodNamespace: string | undefined;

  /** `isOfRecord`: an unknown enum value comes from a newer version, and is kept and passed on. */
  constructor(bounds: Bounds, isOfRecord = false) {
    this.bounds = bounds;
    this.#isOfRecord = isOfRecord;
  }

  add(field: string, description: string): void {
    this.count++;
    if (this.#violations.length < MAX_VIOLATIONS) this.#violations.push({ field, description });
  }

  /** Puts `prefix` before the fields of all faults that were added since `count` was `before`. */
  under(before: number, prefix: string): void {
    for (let i = before; i < this.#violations.length; i++) {
      const violation = this.#violations[i];
      if (violation !== undefined) this.#violations[i] = { ...violation, field: prefix + violation.field };
    }
  }

  /** Throws `invalid_argument` with all faults, if there are any, and clears them. `prefix` goes before every field. */
  throwIfAny(prefix = ""): void {
    if (this.count === 0) return;
    this.under(0, prefix);
    const violations = this.#violations.splice(0);
    const more = this.count > 1 ? ` (and ${this.count - 1} more)` : "";
    this.count = 0;
    throw new WaymarkError("invalid_argument", `${violations[0]?.field}: ${violations[0]?.description}${more}`, { violations });
  }

  /** 1 to the bound of `[A-Za-z0-9._:/@+-]`. */
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

  /** `host:port` with a port from 1. */
  address(text: string, maxLength: number, field: string): void {
    const port = text.length <= maxLength ? Number(ADDRESS.exec(text)?.[1] ?? 0) : 0;
    if (port < 1 || port > 65_535) this.add(field, `${quoted(text)} must be host:port, an IPv6 host in brackets`);
  }

  alias(text: string, maxLength: number, field: string): void {
    if (text.length === 0 || !consistsOf(text, CHARS.ALIAS, maxLength))
      this.add(field, `${quoted(text)} must be 1 to ${maxLength} of [A-Za-z0-9._-]`);
  }

  /** 1 to the bound of characters (code points). The text must be well-formed. */
  text(text: string, maxLength: number, field: string): void {
    if (text === "") this.add(field, "is empty");
    else if (text.length > maxLength && codePointsOf(text) > maxLength) {
      this.add(field, `has ${codePointsOf(text)} characters, at most ${maxLength}`);
    } else if (!text.isWellFormed()) this.add(field, "is not well-formed Unicode");
  }

  /** At most this many bytes. The text must be well-formed. */
  bytes(text: string, maxBytes: number, field: string): void {
    // A character has at most three bytes, so short values need no count.
    if (text.length * 3 > maxBytes && utf8Size(text) > maxBytes) this.add(field, `has ${utf8Size(text)} bytes, at most ${maxBytes}`);
    else if (!text.isWellFormed()) this.add(field, "is not well-formed Unicode");
  }

  /** `rule` is the pattern in words. */
  pattern(text: string, { pattern, rule }: { readonly pattern: RegExp; readonly rule: string }, field: string): void {
    if (!pattern.test(text)) this.add(field, `${quoted(text)} must be ${rule}`);
  }

  items(count: number, max: number, field: string): void {
    if (count > max) this.add(field, `has ${count} items, at most ${max}`);
  }

  unique(items: readonly string[], field: string): void {
    const { length } = items;
    if (length < 2) return;
    // HOT: most entries have few tags; a Set pays off only from about ten on.
    if (length <= 8) {
      for (let i = 1; i < length; i++) {
        for (let j = 0; j < i; j++) if (items[i] === items[j]) this.add(`${field}[${i}]`, `${quoted(items[i] ?? "")} is there twice`);
      }
      return;
    }
    const seen = new Set<string>();
    for (let i = 0; i < length; i++) {
      const item = items[i] ?? "";
      if (seen.has(item)) this.add(`${field}[${i}]`, `${quoted(item)} is there twice`);
      seen.add(item);
    }
  }

  /** min ≤ value ≤ max; NaN is refused. */
  range(value: number, min: number, max: number, field: string): void {
    if (!(value >= min && value <= max)) this.add(field, `${value} must be ${min} to ${max}`);
  }

  /** A value of an enum with the numbers 0 to `last`. */
  known(value: number, last: number, noun: string, field: string): void {
    if (!(value >= 0 && value <= last) && !this.#isOfRecord) this.add(field, `${value} is not ${noun}`);
  }

  time({ seconds, nanos }: TimeFields, field: string): void {
    const isWithin = seconds >= 0 && seconds <= MAX_TIMESTAMP_SECONDS;
    if (!isWithin || nanos < 0 || nanos >= NANOS_PER_SECOND) this.add(field, "must be a time from 1970 to 9999");
  }

  /** From `minMs`, whole seconds, to the bound. */
  duration(duration: TimeFields, maxMs: number, field: string, minMs = 0): void {
    const [minSeconds, maxSeconds] = [minMs / 1000, maxMs / 1000];
    const [seconds, { nanos }] = [Number(duration.seconds), duration];
    const isWithin = seconds >= minSeconds && nanos >= 0 && (seconds < maxSeconds || (seconds === maxSeconds && nanos === 0));
    if (!isWithin || nanos >= NANOS_PER_SECOND) this.add(field, `${seconds + nanos / 1e9} s must be ${minSeconds} s to ${maxSeconds} s`);
  }
}

function codePointsOf(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

// The forms of `Target.host`: an IPv4 or IPv6 literal, or a DNS name.

const MAX_DNS_LABEL_LENGTH = 63;
const DOT = 46;
const COLON = 58;
const ZERO = 48;
const NINE = 57;

type HostForm = "ipv4" | "ipv6" | "name";

/** The form of a host, or undefined for other text, such as `host:port` or four numbers out of range. */
export function findHostForm(host: string, maxLength: number): HostForm | undefined {
  const length = host.length;
  if (length === 0 || !consistsOf(host, CHARS.HOST, maxLength)) return undefined;
  let labelStart = 0;
  let isNumeric = true; // Of the current label.
  for (let i = 0; i <= length; i++) {
    const unit = i < length ? host.charCodeAt(i) : DOT;
    if (unit === COLON) return parseAddress(host) !== undefined ? "ipv6" : undefined;
    if (unit !== DOT) {
      if (unit < ZERO || unit > NINE) isNumeric = false;
      continue;
    }
    const labelLength = i - labelStart;
    // A dot may end a name, which is then absolute.
    if (labelLength === 0) return i === length && i > 1 && host.charCodeAt(i - 2) !== DOT ? "name" : undefined;
    if (labelLength > MAX_DNS_LABEL_LENGTH) return undefined;
    // No top-level domain is a number, so this is an address or a typing error (RFC 3696, section 2).
    if (i >= length - 1 && isNumeric) return isIpv4(host) ? "ipv4" : undefined;
    labelStart = i + 1;
    isNumeric = true;
  }
  return "name";
}
