/**
 * Maps addresses to views: the prefixes of `dns.views[]` as a binary trie with longest-prefix match. A lookup stops where all addresses below have the same
 * view, so it also returns the scope of the view (semantics.md, DNS).
 */
import type { AddressBlock } from "../../lib/addresses.ts";

/** The view of a network. */
export interface FoundView {
  readonly index: number;
  /** Length of the network prefix in which all addresses have this view. */
  readonly scopePrefix: number;
}

interface TrieNode {
  /** The view for addresses whose longest matching prefix is this one. If undefined, the view is inherited from the parent. */
  own: number | undefined;
  readonly below: [TrieNode | undefined, TrieNode | undefined];
  /** The view of all addresses below this node. Undefined when these addresses have several views. */
  whole: number | undefined;
}

/** The prefixes of one address family: 4 bytes for IPv4, 16 for IPv6. */
export class ViewTable {
  readonly #root: TrieNode = newNode();
  readonly #otherwise: number;

  /** `otherwise` is the view for addresses that do not match any prefix. If two prefixes are equal, the last one is used. */
  constructor(prefixes: readonly { readonly block: AddressBlock; readonly index: number }[], otherwise: number) {
    this.#otherwise = otherwise;
    for (const { block, index } of prefixes) this.#add(block, index);
    settle(this.#root, otherwise);
  }

  /**
   * Returns the view of all addresses that start with the first `bits` bits of `address`. If they have several views, returns the view of the longest prefix
   * that contains all of them. The cost is at most one step per bit.
   */
  find(address: Uint8Array, bits: number, addressBits: number): FoundView {
    let node = this.#root;
    // The view of the longest matching prefix so far, both among the prefixes that contain the whole network and among all prefixes on the path.
    let [index, inherited] = [this.#otherwise, this.#otherwise];
    for (let depth = 0; ; depth++) {
      inherited = node.own ?? inherited;
      if (depth <= bits) index = inherited;
      const next = node.whole === undefined ? node.below[bitOf(address, depth)] : undefined;
      if (next !== undefined) {
        node = next;
        continue;
      }
      // All addresses below this node have one view. If this view differs from the network's view, the network was too wide for one answer.
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

/** Returns 0 for bits after the end of the bytes. */
function bitOf(bytes: Uint8Array, at: number): 0 | 1 {
  return (((bytes[at >> 3] ?? 0) >> (7 - (at & 7))) & 1) === 0 ? 0 : 1;
}

/** Computes `whole` for a subtree and returns it. */
function settle(node: TrieNode, above: number): number | undefined {
  const own = node.own ?? above;
  const [zeros, ones] = node.below.map((each) => (each === undefined ? own : settle(each, own)));
  node.whole = zeros === ones ? zeros : undefined;
  return node.whole;
}
