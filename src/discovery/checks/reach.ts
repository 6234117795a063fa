/**
 * Which addresses the checks of this node may connect to. Addresses of special meaning need a block of their own, because a check that reached
 * them would let a client look behind the node: at its own machine, at the metadata service of a cloud, at a whole network.
 */
import { type Address, type AddressBlock, addressOf, blockHolds, parseAddress, parseBlock, uncallableReason } from "../../lib/addresses.ts";

/** IANA's special-purpose registries (RFC 6890), as far as they are dangerous to reach; then metadata services outside of 169.254.0.0/16. */
const SPECIAL_IPV4 = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "192.0.0.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "100.100.100.200/32",
  "168.63.129.16/32",
];
/** As above; then the blocks in which an IPv6 address stands for an IPv4 address: compatible, mapped, translated, NAT64, Teredo, 6to4. */
const SPECIAL_IPV6 = [
  "::/128",
  "::1/128",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
  "fd00:ec2::254/128",
  "fd20:ce::254/128",
  "::/96",
  "::ffff:0:0/96",
  "::ffff:0:0:0/96",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "2001::/32",
  "2002::/16",
];
/** The first 96 bits of the blocks whose last 32 bits are an IPv4 address. */
const CARRIERS = ["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::"];
const CARRIER_BITS = 96;
/** 6to4 has the IPv4 address behind its first 16 bits (RFC 3056). */
const SIX_TO_FOUR = 0x2002;

/** Every special block, and every special block of IPv4 in each form that it has in IPv6. */
const SPECIAL: readonly AddressBlock[] = [
  ...blocksOf(SPECIAL_IPV4),
  ...blocksOf(SPECIAL_IPV6),
  ...blocksOf(SPECIAL_IPV4).flatMap(({ bytes, prefixBits }) => [
    ...CARRIERS.map((carrier) => carried(carrier, bytes, prefixBits)),
    { bytes: addressOf([SIX_TO_FOUR, word(bytes, 0), word(bytes, 2), 0, 0, 0, 0, 0]), prefixBits: 16 + prefixBits },
  ]),
];

export class Reach {
  readonly #allowed: readonly AddressBlock[];

  /** Texts that are no blocks allow nothing. */
  constructor(allowed: readonly string[]) {
    this.#allowed = blocksOf(allowed);
  }

  /**
   * Whether a check may connect to this address. It may when an allowed block holds the address and lies within each special block that holds it
   * too. False for text that is not an address, such as a name or an address with a zone, and for addresses that no client can call.
   */
  allows(address: string): boolean {
    const bytes = parseAddress(address);
    if (bytes === undefined || uncallableReason(address) !== undefined) return false;
    const special = SPECIAL.filter((block) => blockHolds(block, bytes));
    return this.#allowed.some((block) => blockHolds(block, bytes) && special.every((outer) => isInside(block, outer)));
  }
}

function isInside(inner: AddressBlock, outer: AddressBlock): boolean {
  return inner.prefixBits >= outer.prefixBits && blockHolds(outer, inner.bytes);
}

function blocksOf(texts: readonly string[]): readonly AddressBlock[] {
  return texts.map((text) => parseBlock(text)).filter((block) => block !== undefined);
}

function carried(carrier: string, ipv4: Address, prefixBits: number): AddressBlock {
  const bytes = new Uint8Array(parseAddress(carrier) ?? []);
  bytes.set(ipv4, CARRIER_BITS / 8);
  return { bytes, prefixBits: CARRIER_BITS + prefixBits };
}

function word(bytes: Address, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
