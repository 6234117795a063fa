/** The forms of `Target.host`: an IPv4 or IPv6 literal, or a DNS name. */
import { isIpv4, parseAddress } from "../../lib/addresses.ts";
import { CHARS, consistsOf } from "./names.ts";

const MAX_DNS_LABEL_LENGTH = 63;
const DOT = 46;
const COLON = 58;
const ZERO = 48;
const NINE = 57;

export type HostForm = "ipv4" | "ipv6" | "name";

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
