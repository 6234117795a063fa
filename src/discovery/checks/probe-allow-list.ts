/**
 * Decides which addresses the checks of this node may connect to. A special-purpose address is allowed only by a configured block that lies within
 * its special-purpose block. Without this rule, a client could use checks to reach private services through the node: on the node's own machine, in a
 * cloud's metadata service, or in a whole network.
 */
import {
  type AddressBlock,
  blockHolds,
  IPV4_EMBEDDING_BLOCKS,
  ipv4Forms,
  parseAddress,
  parseBlock,
  uncallableReason,
} from "../../lib/addresses.ts";

/** Dangerous blocks of IANA's special-purpose registries (RFC 6890), followed by metadata services outside 169.254.0.0/16. */
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
/** The IPv6 counterparts, and two IPv6 blocks whose addresses contain an IPv4 address, but not at a fixed position: local NAT64 and Teredo. */
const SPECIAL_IPV6 = [
  "::/128",
  "::1/128",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
  "fd00:ec2::254/128",
  "fd20:ce::254/128",
  "64:ff9b:1::/48",
  "2001::/32",
];

/** Every special block. Every IPv4 block is also listed in each of its IPv6 forms. */
const SPECIAL: readonly AddressBlock[] = [
  ...blocksOf(SPECIAL_IPV4).flatMap(ipv4Forms),
  ...blocksOf(SPECIAL_IPV6),
  ...IPV4_EMBEDDING_BLOCKS,
];

export class ProbeAllowList {
  readonly #allowed: readonly AddressBlock[];

  /** Texts that are not address blocks are ignored. */
  constructor(allowed: readonly string[]) {
    this.#allowed = blocksOf(allowed);
  }

  /**
   * Whether a check may connect to this address: an allowed block must contain the address, and must lie within each special block that
   * contains the address. False for text that is not an address, such as a name or an address with a zone, and for addresses to which clients cannot
   * connect.
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
