/** Times and bounds of origins' lives, and what they rest on. */
import type { Origin } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Time } from "../lib/machine.ts";
import type { FabricEvent } from "./io-types.ts";
import type { MemberUpdate } from "./wire/messages.ts";

export interface OriginLifecycleOptions {
  /** Orphans are served, ranked last, for so long. */
  readonly orphanGraceMs: number;
  /** An origin gone for so long is forgotten with its records. */
  readonly originForgetMs: number;
  /** When more than this part of a cluster's origins vanishes at once, nothing of it is hidden. */
  readonly orphanProtectRatio: number;
  /** … and at least so many: a cluster's only node is believed to be dead. */
  readonly orphanProtectMinCount: number;
  /** What "at once" is: the longest suspicion. */
  readonly suspicionWindowMs: number;
  /**
   * A node that said it restarts is taken for away so long, unless it greets before; and a generation that is news for live, unless its node says
   * that it lives in it.
   */
  readonly restartMs: number;
  /** Records visited a tick, so that a large origin does not hold up the loop. */
  readonly maxTouches: number;
}

/** What is not a setting. */
export const ORIGIN_LIFECYCLE_FIXED = {
  orphanProtectMinCount: 2,
  suspicionWindowMs: 30_000,
  restartMs: 30_000,
  maxTouches: 250,
} as const satisfies Partial<OriginLifecycleOptions>;

export interface OriginLifecyclePorts {
  readonly replica: Replica;
  readonly clusterId: string;
  /** The members of the own cluster before this node was restarted, and as many as are remembered. */
  readonly remembered?: readonly string[] | undefined;
  readonly maxMembers?: number;
  readonly findMember: (nodeId: string) => MemberUpdate | undefined;
  /** Who keeps the version vector forgets with the replica. */
  readonly forgetOrigin: (origin: Origin, time: Time, isOver: boolean) => void;
  /** Whether a peer hid an origin before it was known here. */
  readonly wasHidden?: (id: string) => boolean;
  /** All that a whole transfer did not list is gone, and the number of its origin has moved. */
  readonly closed?: (origin: Origin, time: Time, events: FabricEvent[]) => void;
  /** A slice of what is owed to many records was done. */
  readonly swept?: (time: Time) => void;
  /** Whether somebody has told who the members are. */
  readonly hasTable?: () => boolean;
  readonly readmit: (nodeId: string, generation: number) => void;
}
