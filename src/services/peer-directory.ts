/** What services and feeds ask of the mesh: who is there, and how old what this node holds may be. */
import type { Time } from "../lib/machine.ts";

/** A node that is alive or suspected, so far as this one knows. */
export interface Presence {
  readonly status: "alive" | "suspect";
  readonly lastSeenWallMs: number;
}

export interface PeerDirectory {
  /** Whether there is another node of this cluster: nodes of others hold nothing for it. */
  readonly hasPeers: () => boolean;
  /** Whether readers may be told that they have everything: not while many records are being shown or hidden. */
  readonly isWhole: () => boolean;
  /** How old what is held may be, in ms; 0 where this node hears of everything as it happens, or is the source of all it holds. */
  readonly ageMs: (time: Time) => number;
  /** Undefined for a node that left, died or was never a member. */
  readonly presence: (nodeId: string, time: Time) => Presence | undefined;
}

/** Of a node that stands alone. */
export function lonePeerDirectory(nodeId: string): PeerDirectory {
  return {
    hasPeers: () => false,
    isWhole: () => true,
    ageMs: () => 0,
    presence: (asked, time) => (asked === nodeId ? { status: "alive", lastSeenWallMs: time.wallMs } : undefined),
  };
}
