/** Divides the links between two regions among the border nodes of one of them: rendezvous hashing, so that all of these choose alike. */
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import { type Border, type BorderNode, MAX_PAIR_LINKS } from "./border.ts";

/** Fewest links that are wanted between two regions, so that one may be lost. */
const MIN_PAIR_LINKS = 2;

/** One of the links that a node is to open to a region. */
export interface Slot {
  readonly index: number;
  /** Where it is to lead, best first: to the slot's own cluster, and else to another one. */
  readonly targets: readonly Target[];
}

export interface Target {
  readonly address: string;
  readonly border: Border;
}

export interface Share {
  /** Links that the pair of regions is to have. */
  readonly wantedCount: number;
  readonly slots: readonly Slot[];
}

/** The part of one node in the links to a region. `others`: the other nodes of its region that have borders with it. `borders`: its own ones. */
export function shareOf(
  self: Pick<BorderNode, "nodeId" | "clusterId">,
  others: readonly Pick<BorderNode, "nodeId" | "clusterId">[],
  region: string,
  borders: readonly Border[],
): Share {
  const ranked = ranking([self, ...others], ({ nodeId }) => `${region}\0${nodeId}`);
  const far = ranking(borders, ({ clusterId }) => `${region}\0${clusterId}`);
  const clusterCount = Math.max(new Set(ranked.map(({ clusterId }) => clusterId)).size, far.length);
  const wantedCount = Math.min(MAX_PAIR_LINKS, Math.max(MIN_PAIR_LINKS, clusterCount));
  const chosen = oneOfEachFirst(ranked).slice(0, wantedCount);
  const slots: Slot[] = [];
  for (let index = 0; index < wantedCount; index++) {
    if (chosen[index % chosen.length] !== self) continue;
    const first = index % far.length;
    const inOrder = [...far.slice(first), ...far.slice(0, first)];
    slots.push({ index, targets: inOrder.flatMap((border) => targetsOf(self.nodeId, border)) });
  }
  return { wantedCount, slots };
}

/** The addresses of a border in the order of this node. Other nodes have other orders, so that their links are spread. */
function targetsOf(nodeId: string, border: Border): readonly Target[] {
  return ranking(border.addresses, (address) => `${nodeId}\0${address}`).map((address) => ({ address, border }));
}

/** The best of each cluster, in their order, and then the rest. */
function oneOfEachFirst<N extends { readonly clusterId: string }>(ranked: readonly N[]): readonly N[] {
  const seen = new Set<string>();
  const first = new Set(ranked.filter(({ clusterId }) => !seen.has(clusterId) && seen.add(clusterId)));
  return [...first, ...ranked.filter((node) => !first.has(node))];
}

function ranking<T>(items: readonly T[], keyOf: (item: T) => string): readonly T[] {
  const scored = items.map((item) => ({ item, key: keyOf(item), score: hashFraction(fnv64(keyOf(item))) }));
  // Equal keys keep their order.
  return scored.toSorted((a, b) => a.score - b.score).map(({ item }) => item);
}
