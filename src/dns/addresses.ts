/** IPv4 and IPv6 addresses as text, as bytes, and as one DNS label. By hand, because pure files may not import `node:net`. */

/** 4 bytes (IPv4) or 16 bytes (IPv6), network order. */
export type Address = Uint8Array;

const ZERO = 48;
const DOT = 46;
const HYPHEN = 45;
const IPV6_GROUP = /^[0-9a-f]{1,4}$/;
const LABEL_GROUP = /^(?:0|[1-9a-f][0-9a-f]{0,3})$/;
const IPV6_GROUPS = 8;

/** Parses an address; undefined for other texts, such as host names, zone ids (`fe80::1%eth0`) and `010.0.0.1`. */
export function parseAddress(text: string): Address | undefined {
  return text.includes(":") ? parseIpv6(text.toLowerCase()) : parseIpv4(text);
}

/** The label of an address: `10-0-0-1`, or all eight groups, `2001-db8-0-0-0-0-0-1`. */
export function addressLabel(address: Address): string {
  if (address.length === 4) return address.join("-");
  return groupsOf(address)
    .map((group) => group.toString(16))
    .join("-");
}

/** The reverse of `addressLabel`; undefined for every label that `addressLabel` does not make. */
export function parseAddressLabel(label: string): Address | undefined {
  const v4 = parseIpv4(label, HYPHEN);
  if (v4 !== undefined) return v4;
  const parts = label.split("-");
  if (parts.length !== IPV6_GROUPS || !parts.every((part) => LABEL_GROUP.test(part))) return undefined;
  return bytesOf(parts.map((part) => Number.parseInt(part, 16)));
}

/** Four numbers of 0 to 255 without leading zeros (RFC 3986, `IPv4address`), with `separator` between. */
// HOT: runs for every IP target of an answer that is not kept. Splitting and regular expressions cost a quarter of planning the answer.
function parseIpv4(text: string, separator = DOT): Address | undefined {
  const bytes = new Uint8Array(4);
  let part = 0;
  let value = -1;
  for (let i = 0; i <= text.length; i++) {
    const unit = i < text.length ? text.charCodeAt(i) : separator;
    if (unit === separator) {
      if (value < 0 || part === 4) return undefined;
      bytes[part++] = value;
      value = -1;
      continue;
    }
    const digit = unit - ZERO;
    // No digit may follow a leading zero.
    if (digit < 0 || digit > 9 || value === 0) return undefined;
    value = value < 0 ? digit : value * 10 + digit;
    if (value > 255) return undefined;
  }
  return part === 4 ? bytes : undefined;
}

function parseIpv6(text: string): Address | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = IPV6_GROUPS - head.length - tail.length;
  // `::` stands for at least one group (RFC 4291, 2.2).
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  return bytesOf([...head, ...Array.from({ length: missing }, () => 0), ...tail]);
}

/** Parses the groups between colons. At the end of the text, a dotted IPv4 may stand for the last two. */
function parseGroups(text: string, isEnd: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const last = parts.at(-1) ?? "";
  const groups: number[] = [];
  if (isEnd && last.includes(".")) {
    const v4 = parseIpv4(last);
    if (v4 === undefined) return undefined;
    parts.pop();
    groups.push(...groupsOf(v4));
  }
  if (!parts.every((part) => IPV6_GROUP.test(part))) return undefined;
  return [...parts.map((part) => Number.parseInt(part, 16)), ...groups];
}

function groupsOf(bytes: Uint8Array): number[] {
  const groups: number[] = [];
  for (let i = 0; i < bytes.length; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  return groups;
}

function bytesOf(groups: readonly number[]): Address {
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}
