/** IP addresses, blocks of them (CIDR), and hosts with ports. By hand, because pure rooms may not import `node:net`. */

/** The port of the gRPC listener of a node, and of a server that is named without one. */
export const GRPC_PORT = 17_420;

/** `host:port`, with brackets around an IPv6 literal. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

const MAPPED = "::ffff:";

/** The IPv4 address of `::ffff:192.0.2.1`, which is how a socket for both families shows an IPv4 peer. Other hosts are returned unchanged. */
export function withoutMapping(host: string): string {
  return host.startsWith(MAPPED) && host.includes(".") ? host.slice(MAPPED.length) : host;
}

/** Addresses that share their first `prefixBits` bits with `bytes`: 4 of them for IPv4, 16 for IPv6. */
export interface AddressBlock {
  readonly bytes: readonly number[];
  readonly prefixBits: number;
}

const BLOCK = /^([0-9a-fA-F:.]{2,45})(?:\/(\d{1,3}))?$/;
const IPV6_GROUPS = 8;
/** `::ffff:0:0/96`: how a socket that speaks both families shows an IPv4 peer. */
const MAPPED_BYTES = 12;

/** An address, or a block of addresses such as `10.0.0.0/8` or `fd00::/8`; undefined for anything else, and for a block with bits set after its prefix. */
export function parseBlock(text: string): AddressBlock | undefined {
  const match = BLOCK.exec(text);
  const bytes = match === null ? undefined : parseIp(match[1] ?? "");
  if (match === null || bytes === undefined) return undefined;
  const prefixBits = match[2] === undefined ? bytes.length * 8 : Number(match[2]);
  if (prefixBits > bytes.length * 8) return undefined;
  return bytes.every((byte, i) => (byte & ~maskOf(prefixBits, i) & 0xff) === 0) ? { bytes, prefixBits } : undefined;
}

/** Whether one of the blocks holds the address; false for text that is not an address. An IPv4 address mapped into IPv6 is the IPv4 address. */
export function isWithin(blocks: readonly AddressBlock[], address: string): boolean {
  const parsed = parseIp(address);
  if (parsed === undefined) return false;
  const bytes = isMapped(parsed) ? parsed.slice(MAPPED_BYTES) : parsed;
  return blocks.some(
    (block) =>
      block.bytes.length === bytes.length && block.bytes.every((byte, i) => ((byte ^ (bytes[i] ?? 0)) & maskOf(block.prefixBits, i)) === 0),
  );
}

const LOOPBACK: readonly AddressBlock[] = [
  { bytes: [127, 0, 0, 0], prefixBits: 8 },
  { bytes: [...Array.from({ length: 15 }, () => 0), 1], prefixBits: 128 },
];

/** Whether a listener on this host can only be reached from its own machine. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" || isWithin(LOOPBACK, host);
}

/** The bits of byte `i` that belong to a prefix. */
function maskOf(prefixBits: number, i: number): number {
  const bits = Math.min(8, Math.max(0, prefixBits - 8 * i));
  return (0xff << (8 - bits)) & 0xff;
}

function isMapped(bytes: readonly number[]): boolean {
  return bytes.length === 16 && bytes.every((byte, i) => i >= MAPPED_BYTES || byte === (i < 10 ? 0 : 0xff));
}

function parseIp(text: string): readonly number[] | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): readonly number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part))) return undefined;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : undefined;
}

function parseIpv6(text: string): readonly number[] | undefined {
  const lastColon = text.lastIndexOf(":");
  const v4 = text.includes(".") ? parseIpv4(text.slice(lastColon + 1)) : undefined;
  if (text.includes(".") && v4 === undefined) return undefined;
  // The dotted end stands for two groups.
  const hex = v4 === undefined ? text : `${text.slice(0, lastColon + 1)}${groupText(v4, 0)}:${groupText(v4, 2)}`;
  const halves = hex.split("::");
  if (halves.length > 2) return undefined;
  const [head = [], tail = []] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const missing = IPV6_GROUPS - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array.from({ length: missing }, () => "0"), ...tail];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return undefined;
  return groups.flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function groupText(bytes: readonly number[], at: number): string {
  return (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16);
}
