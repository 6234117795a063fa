/** What services and feeds need to know of the mesh: which nodes are there, and how old the data of this node may be. */
import type { UnreachableNodes } from "../catalog/unreachable-nodes.ts";
import type { Time } from "../lib/machine.ts";

/** A node that this node believes to be alive or suspects. */
export interface Presence {
  readonly status: "alive" | "suspect";
  readonly lastSeenWallMs: number;
}

export interface PeerDirectory {
  /** Whether there is another node of this cluster. Nodes of other clusters hold no data for it. */
  readonly hasPeers: () => boolean;
  /** Whether readers may be told that they have everything. False while many records are being shown or hidden. */
  readonly isWhole: () => boolean;
  /** How old the data of this node may be, in ms. 0 if the node hears of every change at once, or holds only its own data. */
  readonly ageMs: (time: Time) => number;
  /** Nodes that may accept writes that this node does not receive, whatever the age. Undefined when there are none. */
  readonly unreachable: (time: Time) => UnreachableNodes | undefined;
  /** Undefined for a node that left, died or was never a member. */
  readonly presence: (nodeId: string, time: Time) => Presence | undefined;
}

/** The directory of a node without a fabric. */
export function lonePeerDirectory(nodeId: string): PeerDirectory {
  return {
    hasPeers: () => false,
    isWhole: () => true,
    ageMs: () => 0,
    unreachable: () => undefined,
    presence: (asked, time) => (asked === nodeId ? { status: "alive", lastSeenWallMs: time.wallMs } : undefined),
  };
}
