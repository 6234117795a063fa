/**
 * IP addresses, address blocks (CIDR), their DNS names, and hosts with ports. They are implemented in this file because pure modules must not import
 * `node:net`.
 */

/** The port of a node's gRPC listener, and the default port of a server address. */
export const GRPC_PORT = 17_420;

/** `host:port`, with brackets around an IPv6 literal. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The parts of `host:port`, without brackets around an IPv6 literal. */
export function splitHostPort(text: string): { readonly host: string; readonly port: number } {
  const colon = text.lastIndexOf(":");
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(text.slice(colon + 1)) };
}

const MAPPED = "::ffff:";

/**
 * The IPv4 address of `::ffff:192.0.2.1`, which is the form in which a socket for both families shows an IPv4 peer. Other hosts are returned
 * unchanged.
 */
export function withoutMapping(host: string): string {
  return host.startsWith(MAPPED) && host.includes(".") ? host.slice(MAPPED.length) : host;
}

/** An address of 4 bytes (IPv4) or 16 bytes (IPv6), in network order. */
export type IpAddress = Uint8Array;

const ZERO = 48;
const DOT = 46;
const IPV6_GROUPS = 8;
const IPV6_GROUP = /^[0-9a-fA-F]{1,4}$/;

/** Parses an address. Undefined for other texts, such as host names, zone ids (`fe80::1%eth0`) and `010.0.0.1`. */
export function parseAddress(text: string): IpAddress | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

/** Parses four numbers from 0 to 255 without leading zeros (RFC 3986, `IPv4address`), separated by the character `separator`. */
export function parseIpv4(text: string, separator = DOT): IpAddress | undefined {
  const bits = ipv4Bits(text, separator);
  if (bits === undefined) return undefined;
  const bytes = new Uint8Array(4);
  // An array item stores the low 8 bits of a number.
  for (let i = 0; i < 4; i++) bytes[i] = bits >>> (24 - 8 * i);
  return bytes;
}

/** Whether the text is an IPv4 address. Allocates nothing. */
export function isIpv4(text: string): boolean {
  return ipv4Bits(text, DOT) !== undefined;
}

// HOT: runs for every target with an IPv4 address, and for each of them in a DNS answer that is not cached. Splitting the text costs 0.3 µs, whereas
// this function costs 30 ns (bench/codec.ts).
function ipv4Bits(text: string, separator: number): number | undefined {
  let bits = 0;
  let count = 0;
  let value = -1;
  for (let i = 0; i <= text.length; i++) {
    const unit = i < text.length ? text.charCodeAt(i) : separator;
    if (unit === separator) {
      if (value < 0 || count === 4) return undefined;
      bits = (bits << 8) | value;
      count++;
      value = -1;
      continue;
    }
    const digit = unit - ZERO;
    // A leading zero must not be followed by another digit.
    if (digit < 0 || digit > 9 || value === 0) return undefined;
    value = value < 0 ? digit : value * 10 + digit;
    if (value > 255) return undefined;
  }
  return count === 4 ? bits >>> 0 : undefined;
}

/** Parses an IPv6 address without a zone (RFC 4291, section 2.2). */
function parseIpv6(text: string): IpAddress | undefined {
  const gap = text.indexOf("::");
  const groups: number[] = [];
  if (gap < 0) return pushGroups(text, true, groups) && groups.length === IPV6_GROUPS ? addressOf(groups) : undefined;
  if (!pushGroups(text.slice(0, gap), false, groups)) return undefined;
  const tail: number[] = [];
  if (!pushGroups(text.slice(gap + 2), true, tail)) return undefined;
  // `::` replaces at least one group.
  if (groups.length + tail.length >= IPV6_GROUPS) return undefined;
  while (groups.length + tail.length < IPV6_GROUPS) groups.push(0);
  return addressOf([...groups, ...tail]);
}

/** Appends the groups between colons. At the end of the text, a dotted IPv4 address may replace the last two groups. */
function pushGroups(text: string, isEnd: boolean, groups: number[]): boolean {
  if (text === "") return true;
  const parts = text.split(":");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] ?? "";
    if (IPV6_GROUP.test(part)) {
      groups.push(Number.parseInt(part, 16));
      continue;
    }
    const bits = isEnd && i === parts.length - 1 ? ipv4Bits(part, DOT) : undefined;
    if (bits === undefined) return false;
    groups.push(bits >>> 16, bits & 0xffff);
  }
  return true;
}

/** The IPv6 address with these groups of 16 bits. */
export function addressOf(groups: readonly number[]): IpAddress {
  const bytes = new Uint8Array(2 * groups.length);
  groups.forEach((group, i) => {
    bytes[2 * i] = group >> 8;
    bytes[2 * i + 1] = group;
  });
  return bytes;
}

/** A block of addresses that share their first `prefixBits` bits with `bytes`, which has 4 bytes for IPv4 and 16 for IPv6. */
export interface AddressBlock {
  readonly bytes: IpAddress;
  readonly prefixBits: number;
}

const BLOCK = /^([0-9a-fA-F:.]{2,45})(?:\/(\d{1,3}))?$/;
/** Bytes of the prefix of `::ffff:0:0/96`, in which a socket for both families shows an IPv4 peer. */
export const MAPPED_BYTES = 12;

/**
 * Parses an address, or a block of addresses such as `10.0.0.0/8` or `fd00::/8`. Undefined for all other text, and for a block with bits
 * set after its prefix.
 */
export function parseBlock(text: string): AddressBlock | undefined {
  const match = BLOCK.exec(text);
  const bytes = match === null ? undefined : parseAddress(match[1] ?? "");
  if (match === null || bytes === undefined) return undefined;
  const prefixBits = match[2] === undefined ? bytes.length * 8 : Number(match[2]);
  if (prefixBits > bytes.length * 8) return undefined;
  return bytes.every((byte, i) => (byte & ~maskOf(prefixBits, i) & 0xff) === 0) ? { bytes, prefixBits } : undefined;
}

/** Like `parseBlock`, but a block of IPv4-mapped IPv6 addresses is returned as a block of IPv4 addresses. */
export function parsePlainBlock(text: string): AddressBlock | undefined {
  const block = parseBlock(text);
  if (block === undefined || block.prefixBits < 8 * MAPPED_BYTES || !isMapped(block.bytes)) return block;
  return { bytes: block.bytes.slice(MAPPED_BYTES), prefixBits: block.prefixBits - 8 * MAPPED_BYTES };
}

/**
 * Whether one of the blocks contains the address. Returns false for text that is not an address. An IPv4-mapped IPv6 address is treated as its IPv4
 * address.
 */
export function isWithin(blocks: readonly AddressBlock[], address: string): boolean {
  const plain = parsePlainAddress(address);
  return plain !== undefined && blocks.some((block) => blockHolds(block, plain));
}

/** Like `parseAddress`, but an IPv4-mapped IPv6 address is returned as the IPv4 address. */
function parsePlainAddress(text: string): IpAddress | undefined {
  const parsed = parseAddress(text);
  return parsed !== undefined && isMapped(parsed) ? parsed.slice(MAPPED_BYTES) : parsed;
}

/** Whether a block contains an address of its own family. Unlike `isWithin`, it treats an IPv4-mapped IPv6 address as an IPv6 address. */
export function blockHolds(block: AddressBlock, address: IpAddress): boolean {
  return (
    block.bytes.length === address.length &&
    block.bytes.every((byte, i) => ((byte ^ (address[i] ?? 0)) & maskOf(block.prefixBits, i)) === 0)
  );
}

const LOOPBACK: readonly AddressBlock[] = [
  { bytes: Uint8Array.of(127, 0, 0, 0), prefixBits: 8 },
  { bytes: addressOf([0, 0, 0, 0, 0, 0, 0, 1]), prefixBits: 128 },
];

/** Whether a listener on this host can only be reached from its own machine. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" || isWithin(LOOPBACK, host);
}

const NOWHERE: readonly AddressBlock[] = [
  { bytes: Uint8Array.of(0, 0, 0, 0), prefixBits: 8 },
  // This includes IPv4-compatible IPv6 addresses, which preceded the mapped ones (RFC 4291, 2.5.5.1).
  { bytes: addressOf([0, 0, 0, 0, 0, 0, 0, 0]), prefixBits: 96 },
];
const LINK_LOCAL: readonly AddressBlock[] = [
  { bytes: Uint8Array.of(169, 254, 0, 0), prefixBits: 16 },
  { bytes: addressOf([0xfe80, 0, 0, 0, 0, 0, 0, 0]), prefixBits: 10 },
];

/**
 * Blocks of IPv6 in which an IPv4 address follows the prefix: compatible, mapped, translated, NAT64 and 6to4 (RFC 4291, 2765, 6052, 3056).
 */
export const IPV4_EMBEDDING_BLOCKS: readonly AddressBlock[] = [
  { bytes: addressOf([0, 0, 0, 0, 0, 0, 0, 0]), prefixBits: 96 },
  { bytes: addressOf([0, 0, 0, 0, 0, 0xffff, 0, 0]), prefixBits: 96 },
  { bytes: addressOf([0, 0, 0, 0, 0xffff, 0, 0, 0]), prefixBits: 96 },
  { bytes: addressOf([0x64, 0xff9b, 0, 0, 0, 0, 0, 0]), prefixBits: 96 },
  { bytes: addressOf([0x2002, 0, 0, 0, 0, 0, 0, 0]), prefixBits: 16 },
];

/** A block of IPv4 addresses, and the same block in each of its IPv6 forms. */
export function ipv4Forms(block: AddressBlock): readonly AddressBlock[] {
  const inIpv6 = IPV4_EMBEDDING_BLOCKS.map((aliasOwner) => {
    const bytes = aliasOwner.bytes.slice();
    bytes.set(block.bytes, aliasOwner.prefixBits / 8);
    return { bytes, prefixBits: aliasOwner.prefixBits + block.prefixBits };
  });
  return [block, ...inIpv6];
}

function uncallableIpv4(reason: string, bytes: readonly number[], prefixBits: number) {
  return ipv4Forms({ bytes: Uint8Array.from(bytes), prefixBits }).map((block) => ({ reason, block }));
}

/**
 * Addresses that no client can connect to (IANA special-purpose registries, RFC 6890). The first block that contains an address determines the
 * reason.
 */
const UNCALLABLE: readonly { readonly reason: string | undefined; readonly block: AddressBlock }[] = [
  // This is loopback, not the IPv4-compatible form of 0.0.0.1.
  { reason: undefined, block: { bytes: addressOf([0, 0, 0, 0, 0, 0, 0, 1]), prefixBits: 128 } },
  ...uncallableIpv4("an unspecified address", [0, 0, 0, 0], 8),
  ...uncallableIpv4("a multicast address", [224, 0, 0, 0], 4),
  { reason: "a multicast address", block: { bytes: addressOf([0xff00, 0, 0, 0, 0, 0, 0, 0]), prefixBits: 8 } },
  ...uncallableIpv4("the broadcast address", [255, 255, 255, 255], 32),
  ...uncallableIpv4("a reserved address", [240, 0, 0, 0], 4),
  { reason: "a link-local address without a zone", block: { bytes: addressOf([0xfe80, 0, 0, 0, 0, 0, 0, 0]), prefixBits: 10 } },
];

/** Why no client can connect to this host: a phrase such as `a multicast address`. Undefined for all other addresses, and for names. */
export function uncallableReason(host: string): string | undefined {
  const address = parseAddress(host);
  if (address === undefined) return endsInNumber(host) ? "an ambiguous spelling of an IPv4 address" : undefined;
  return UNCALLABLE.find(({ block }) => blockHolds(block, address))?.reason;
}

/** Names that resolve to loopback addresses in hosts files and resolvers. */
const OWN_NAMES = /^(?:(?:.+\.)?localhost|localhost[46]?(?:\.localdomain[46]?)?|ip6-(?:localhost|loopback))$/;

/**
 * Why a client must not connect to a host name or address that a server sent: either no client can connect to it, or it is a loopback or link-local
 * host and the server is not. Undefined if the host is acceptable.
 */
export function unsafeHostReason(host: string, from: string): string | undefined {
  const reason = uncallableReason(host);
  if (reason !== undefined) return reason;
  if (isOwnMachine(host) && !isOwnMachine(from)) return "at loopback";
  return isWithin(LINK_LOCAL, host) && !isWithin(LINK_LOCAL, from.replace(/%.*/, "")) ? "link-local" : undefined;
}

/**
 * Like `unsafeHostReason`, for a host that a listener on `listening` returns to all of its callers. A listener on all addresses of its machine also
 * has remote callers, so it is not treated as local.
 */
export function unsafeHostReasonForCallers(host: string, listening: string): ReturnType<typeof unsafeHostReason> {
  return unsafeHostReason(host, isWithin(NOWHERE, listening) && !isLoopbackHost(listening) ? "" : listening);
}

function isOwnMachine(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, "");
  return isLoopbackHost(name) || OWN_NAMES.test(name) || isWithin(NOWHERE, name);
}

/**
 * Whether a host is an IPv4 address, or cannot be a name because the system parses it as an address, such as `0x7f.1`, `127.1`, or `2130706433`
 * (WHATWG URL, "ends in a number").
 */
function endsInNumber(host: string): boolean {
  return !host.includes(":") && /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/i.test(host);
}

/** Whether the text is a name, or an address in its usual form. */
export function isHost(text: string): boolean {
  if (text.includes(":") || endsInNumber(text)) return parseAddress(text) !== undefined;
  return text
    .replace(/\.$/, "")
    .split(".")
    .every((label) => /^[A-Za-z0-9_-]{1,63}$/.test(label));
}

/** The bits of the byte at index `i` that belong to a prefix. */
function maskOf(prefixBits: number, i: number): number {
  const bits = Math.min(8, Math.max(0, prefixBits - 8 * i));
  return (0xff << (8 - bits)) & 0xff;
}

/** Whether an address is in `::ffff:0:0/96`. */
export function isMapped(bytes: IpAddress): boolean {
  return bytes.length > 4 && bytes.every((byte, i) => i >= MAPPED_BYTES || byte === (i < 10 ? 0 : 0xff));
}

// DNS names of addresses and address blocks are below in-addr.arpa (RFC 1035, 3.5) and ip6.arpa (RFC 3596, 2.5). They are in lower case and without
// the final dot.
const V4_SUFFIX = "in-addr.arpa";
const V6_SUFFIX = "ip6.arpa";
const V4_LABEL = /^(?:0|[1-9]\d{0,2})$/;
const V6_LABEL = /^[0-9a-f]$/;
const V4_LABELS = 4;
const V6_LABELS = 32;

/** A block of addresses, and the zone that contains its names. */
export interface ReverseZone {
  readonly zone: string;
  readonly block: AddressBlock;
}

/**
 * The zone of a block such as `10.0.0.0/8`. Undefined unless its prefix ends at a label: 8, 16 or 24 bits for IPv4, or 4 to 124 bits in steps of 4
 * for IPv6.
 */
export function parseReverseZone(text: string): ReverseZone | undefined {
  const block = parsePlainBlock(text);
  if (block === undefined) return undefined;
  const { bytes, prefixBits } = block;
  const perLabel = bytes.length === V4_LABELS ? 8 : 4;
  // In a zone of one address, the only name would be the zone's own name.
  if (prefixBits === 0 || prefixBits === 8 * bytes.length || prefixBits % perLabel !== 0) return undefined;
  const labels = labelsOf(bytes).slice(0, prefixBits / perLabel);
  return { zone: [...labels.toReversed(), bytes.length === V4_LABELS ? V4_SUFFIX : V6_SUFFIX].join("."), block };
}

/** The blocks of a gateway's reverse zones. There are none if the gateway is disabled. */
export function reverseBlocks(dns: { readonly enabled: boolean; readonly reverseZones: readonly string[] }): readonly AddressBlock[] {
  return dns.enabled ? dns.reverseZones.flatMap((text) => parseReverseZone(text)?.block ?? []) : [];
}

/** The names of a gateway's reverse zones. */
export function reverseZoneNames({ reverseZones }: { readonly reverseZones: readonly string[] }): readonly string[] {
  return reverseZones.flatMap((text) => parseReverseZone(text)?.zone ?? []);
}

/** The name of an address in a reverse zone. */
export function reverseName(address: IpAddress): string {
  return [...labelsOf(address).toReversed(), address.length === V4_LABELS ? V4_SUFFIX : V6_SUFFIX].join(".");
}

/** The address for a name, or `above` if it is the name of a block of addresses. Undefined for other names. */
export function parseReverseName(name: string): IpAddress | "above" | undefined {
  const v4 = labelsBelow(name, V4_SUFFIX);
  if (v4 !== undefined) {
    if (v4.length > V4_LABELS || !v4.every((label) => V4_LABEL.test(label) && Number(label) <= 255)) return undefined;
    return v4.length < V4_LABELS ? "above" : Uint8Array.from(v4, Number);
  }
  const v6 = labelsBelow(name, V6_SUFFIX);
  if (v6 === undefined || v6.length > V6_LABELS || !v6.every((label) => V6_LABEL.test(label))) return undefined;
  if (v6.length < V6_LABELS) return "above";
  return Uint8Array.from({ length: V6_LABELS / 2 }, (_, i) => Number.parseInt(`${v6[2 * i]}${v6[2 * i + 1]}`, 16));
}

/** The labels before the suffix, in the same order as in the address. Undefined if there are none. */
function labelsBelow(name: string, suffix: string): readonly string[] | undefined {
  return name.endsWith(`.${suffix}`)
    ? name
        .slice(0, -suffix.length - 1)
        .split(".")
        .toReversed()
    : undefined;
}

function labelsOf(bytes: IpAddress): readonly string[] {
  if (bytes.length === V4_LABELS) return [...bytes].map(String);
  return [...bytes].flatMap((byte) => [(byte >> 4).toString(16), (byte & 15).toString(16)]);
}

/**
 * The part of an address that a client cannot choose freely. This is all of an IPv4 address, and the first 64 bits of an IPv6 address, because one
 * customer gets all addresses below them.
 */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped?.[1] !== undefined) return mapped[1];
  if (!address.includes(":")) return address;
  const [head = "", tail] = (address.split("%")[0] ?? "").split("::");
  const first = head === "" ? [] : head.split(":");
  const last = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array.from({ length: zeros }, () => "0"), ...last];
  const network = groups.slice(0, 4).map((group) => group.toLowerCase().replace(/^0+(?=.)/, ""));
  return `${network.join(":")}::/64`;
}
