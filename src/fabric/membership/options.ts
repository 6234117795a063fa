/** Times and limits of membership. */

import { MAX_PROBE_REQUEST_UPDATES, MAX_PUSH_PULL_REQUEST_MEMBERS } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import type { OptionsOf } from "../../lib/machine.ts";

/** The values below are meant for this interval between two probes. `node/fabric/options.ts` scales the values that depend on it. */
export const BASE_INTERVAL_MS = 1_000;

/** Constants that are not settings. */
export const MEMBERSHIP_FIXED = {
  /** Number of helpers for an indirect probe after a direct probe has failed. */
  indirectCount: 3,
  /** Time between two gossip rounds while updates are queued. Without updates there are no rounds. */
  gossipMs: 200,
  /** Updates are collected for this time before the first round. */
  gossipDelayMs: 10,
  /** The longest suspicion lasts this many times as long as the shortest one. */
  suspicionMaxMult: 6,
  /**
   * Upper limit of the shortest suspicion. Gossip reaches all members well within this time, so a longer suspicion would only delay the
   * detection of deaths.
   */
  suspicionCapMs: 5_000,
  /** Shortest suspicion with fewer than five members. */
  suspicionFloorMs: 5_000,
  /** Number of members, in the whole group, that verify a received suspicion immediately. */
  verifyCount: 3,
  /** Time between two push-pulls. It is longer if there are more than 32 members. */
  pushPullMs: 30_000,
  pushPullTimeoutMs: 5_000,
  /** Time between two attempts to reach dead members and unlisted seeds. */
  reconnectMs: 10_000,
  /** Limits of the backoff between attempts to join while this node does not know any other member. */
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
  /** Maximum number of newcomers that are waiting because another member has their address or id. */
  maxConflicts: 256,
  /** Maximum time that a newcomer waits. */
  conflictMs: 60_000,
  /** Maximum number of concurrent probes on behalf of others. Further requests get a nack. */
  maxRelays: 64,
  maxSeeds: NODE_BOUNDS.maxSeeds,
  /**
   * An input that is handled this long after its deadline shows that the process was paused. Responses that are missing because of the pause prove
   * nothing.
   */
  lagMs: 500,
} as const;

export interface MembershipOptions extends OptionsOf<typeof MEMBERSHIP_FIXED> {
  /** SWIM's protocol period, which contains one probe. It is longer when the local health score is worse. */
  readonly intervalMs: number;
  /** Timeout of a direct probe. It is longer when the local health score is worse. */
  readonly pingTimeoutMs: number;
  /** Number of members to which a gossip round sends. */
  readonly fanout: number;
  /** Factor for the number of times that each node sends an update: this number times ⌈log10(n + 1)⌉. */
  readonly retransmitMult: number;
  /** The shortest suspicion, in intervals, is this number times log10 of the number of members. */
  readonly suspicionMult: number;
  /** The minimum duration of a suspicion for any number of members. */
  readonly suspicionMinMs: number;
  /** Interval at which this node sends its own facts again, even if they have not changed. 0 disables this. */
  readonly refreshMs: number;
  /** A clock that differs by more than this is considered wrong. */
  readonly maxClockSkewMs: number;
}
