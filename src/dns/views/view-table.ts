/**
 * Which view an address has: the prefixes of `dns.views[]` as a binary tree, in which the longest prefix that holds an address decides. A walk
 * ends where everybody below has the same view, so it also tells how far a view reaches (semantics.md, DNS).
 */
import type { AddressBlock } from "../../lib/addresses.ts";

/** The view of a network. */
export interface FoundView {
  readonly index: number;
  /** Length of the prefix of the network within which everybody has this view. */
  readonly scopePrefix: number;
}

interface TrieNode {
  /** The view of addresses that no longer prefix holds. Undefined: that of the node above. */
  own: number | undefined;
  readonly below: [TrieNode | undefined, TrieNode | undefined];
  /** The view of all addresses below; undefined where they have several. */
  whole: number | undefined;
}

/** The prefixes of one family. Those of IPv4 have 4 bytes and those of IPv6 have 16. */
export class ViewTable {
  readonly #root: TrieNode = newNode();
  readonly #otherwise: number;

  /** `otherwise`: the view of addresses without a prefix. Of two equal prefixes the last one counts. */
  constructor(prefixes: readonly { readonly block: AddressBlock; readonly index: number }[], otherwise: number) {
    this.#otherwise = otherwise;
    for (const { block, index } of prefixes) this.#add(block, index);
    settle(this.#root, otherwise);
  }

  /**
   * The view that everybody has whose address begins with the first `bits` bits of `address`; that of the longest prefix which holds them all, if they have
   * several views. Cost: at most one step for each bit.
   */
  find(address: Uint8Array, bits: number, addressBits: number): FoundView {
    let node = this.#root;
    /** What addresses have that no longer prefix holds: of those that hold the whole network, and of all. */
    let [index, inherited] = [this.#otherwise, this.#otherwise];
    for (let depth = 0; ; depth++) {
      inherited = node.own ?? inherited;
      if (depth <= bits) index = inherited;
      const next = node.whole === undefined ? node.below[bitOf(address, depth)] : undefined;
      if (next !== undefined) {
        node = next;
        continue;
      }
      // Everybody from here on has one view. If it is another than that of the network, the network was too wide to be answered for all.
      const [whole, scopePrefix] = node.whole === undefined ? [inherited, depth + 1] : [node.whole, depth];
      if (scopePrefix <= bits) return { index: whole, scopePrefix };
      return { index, scopePrefix: whole === index ? scopePrefix : addressBits };
    }
  }

  #add({ bytes, prefixBits }: AddressBlock, index: number): void {
    let node = this.#root;
    for (let depth = 0; depth < prefixBits; depth++) node = node.below[bitOf(bytes, depth)] ??= newNode();
    node.own = index;
  }
}

function newNode(): TrieNode {
  return { own: undefined, below: [undefined, undefined], whole: undefined };
}

/** Bits after the end of the bytes are 0. */
function bitOf(bytes: Uint8Array, at: number): 0 | 1 {
  return (((bytes[at >> 3] ?? 0) >> (7 - (at & 7))) & 1) === 0 ? 0 : 1;
}

/** Fills in `whole`. Returns it. */
function settle(node: TrieNode, above: number): number | undefined {
  const own = node.own ?? above;
  const [zeros, ones] = node.below.map((each) => (each === undefined ? own : settle(each, own)));
  node.whole = zeros === ones ? zeros : undefined;
  return node.whole;
}
