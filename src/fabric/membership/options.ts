/** Times and limits of membership. */

import { MAX_PROBE_REQUEST_UPDATES, MAX_PUSH_PULL_REQUEST_MEMBERS } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import type { OptionsOf } from "../../lib/machine.ts";

/** The values below apply to this interval between two probes. `node/fabric/options.ts` scales the values that depend on it. */
export const BASE_INTERVAL_MS = 1_000;

/** Constants that are not settings. */
export const MEMBERSHIP_FIXED = {
  /** Number of helpers of an indirect probe after a direct probe failed. */
  indirectCount: 3,
  /** Time between two gossip rounds while updates are queued. Without updates there are no rounds. */
  gossipMs: 200,
  /** Updates are collected for this time before the first round. */
  gossipDelayMs: 10,
  /** The longest suspicion is this many times the shortest one. */
  suspicionMaxMult: 6,
  /**
   * Upper limit of the shortest suspicion. Gossip reaches all members well within this time, so a longer suspicion would only delay the
   * detection of deaths.
   */
  suspicionCapMs: 5_000,
  /** Shortest suspicion with fewer than five members. */
  suspicionFloorMs: 5_000,
  /** Number of members in the whole group that verify a received suspicion immediately. */
  verifyCount: 3,
  /** Time between two push-pulls. It is longer with more than 32 members. */
  pushPullMs: 30_000,
  pushPullTimeoutMs: 5_000,
  /** Time between two attempts to reach dead members and unlisted seeds. */
  reconnectMs: 10_000,
  /** Limits of the backoff between attempts to join while no other member is known. */
  joinBaseMs: 500,
  joinMaxMs: 5_000,
  /** Dead and left members are remembered for this long. */
  deadForgetMs: 86_400_000,
  /** A death is included in push-pull tables for this time. */
  deadGossipMs: 3_600_000,
  /** Minimum time between two updates of this node's own health score. */
  healthUpdateMs: 30_000,
  /** Maximum number of remembered members of any status. More are refused. */
  maxMembers: MAX_PUSH_PULL_REQUEST_MEMBERS,
  /** Approximate maximum size of the updates in one probe. */
  maxUpdatesBytes: 4_096,
  /** Maximum number of updates that are read from one probe. */
  maxUpdatesRead: MAX_PROBE_REQUEST_UPDATES,
  /** Maximum number of newcomers that wait because another member has their address or id. */
  maxConflicts: 256,
  /** Maximum time that a newcomer waits. */
  conflictMs: 60_000,
  /** Maximum number of concurrent probes on behalf of others. Further requests get a nack. */
  maxRelays: 64,
  maxSeeds: NODE_BOUNDS.maxSeeds,
  /** An input this long after its deadline shows that the process was paused. Missing responses during the pause prove nothing. */
  lagMs: 500,
} as const;

export interface MembershipOptions extends OptionsOf<typeof MEMBERSHIP_FIXED> {
  /** SWIM's protocol period, with one probe in each. It is longer with a worse local health score. */
  readonly intervalMs: number;
  /** Timeout of a direct probe. It is longer with a worse local health score. */
  readonly pingTimeoutMs: number;
  /** Number of members to which a gossip round sends. */
  readonly fanout: number;
  /** Each node sends an update this number times ⌈log10(n + 1)⌉ times. */
  readonly retransmitMult: number;
  /** The shortest suspicion is this number times log10 of the number of members, in intervals. */
  readonly suspicionMult: number;
  /** The shortest suspicion for any number of members. */
  readonly suspicionMinMs: number;
  /** Interval at which this node sends its own facts again, even without a change. 0 means never. */
  readonly refreshMs: number;
  /** A clock that differs by more than this is off. */
  readonly maxClockSkewMs: number;
}
