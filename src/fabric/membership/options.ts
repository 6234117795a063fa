/** Times and bounds of membership. */

import { MAX_PROBE_REQUEST_UPDATES, MAX_PUSH_PULL_REQUEST_MEMBERS } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import type { OptionsOf } from "../../lib/machine.ts";

/** The values below are for this time between two probes. `node/fabric/options.ts` scales those that depend on it. */
export const BASE_INTERVAL_MS = 1_000;

/** What is not a setting. */
export const MEMBERSHIP_FIXED = {
  /** Others asked to probe for us after a direct probe failed. */
  indirectCount: 3,
  /** Time between two rounds of gossip while there is news; without news there are none. */
  gossipMs: 200,
  /** News is gathered this long before the first round. */
  gossipDelayMs: 10,
  /** Longest suspicion is this many times the least. */
  suspicionMaxMult: 6,
  /** Gossip reaches everybody well before this; longer suspicion would only delay deaths. */
  suspicionCapMs: 5_000,
  /** Least suspicion with fewer than five members. */
  suspicionFloorMs: 5_000,
  /** Members that check a suspicion they hear of at once, in the whole group. */
  verifyCount: 3,
  /** Time between two exchanges of tables; longer above 32 members. */
  pushPullMs: 30_000,
  pushPullTimeoutMs: 5_000,
  /** Time between two attempts to reach dead members and unlisted seeds. */
  reconnectMs: 10_000,
  /** Bounds of the wait between attempts to join while nobody is known. */
  joinBaseMs: 500,
  joinMaxMs: 5_000,
  /** Dead and left members are remembered for this long. */
  deadForgetMs: 86_400_000,
  /** In an exchange of tables a death is told for this long. */
  deadTellMs: 3_600_000,
  /** A change of the own health score is told at most so often. */
  healthTellMs: 30_000,
  /** Members remembered, whatever their state; more are refused. */
  maxMembers: MAX_PUSH_PULL_REQUEST_MEMBERS,
  /** Bytes of updates in one probe, roughly. */
  maxUpdatesBytes: 4_096,
  /** Updates read from one probe. */
  maxUpdatesRead: MAX_PROBE_REQUEST_UPDATES,
  /** Newcomers that wait because another member has their address. */
  maxConflicts: 256,
  /** A newcomer waits at most so long. */
  conflictMs: 60_000,
  /** Probes for others at a time; more are answered with "no". */
  maxRelays: 64,
  maxSeeds: NODE_BOUNDS.maxSeeds,
  /** Input later than this after its deadline: the process was frozen, and silence meanwhile proves nothing. */
  lagMs: 500,
} as const;

export interface MembershipOptions extends OptionsOf<typeof MEMBERSHIP_FIXED> {
  /** SWIM's protocol period: one probe in each; longer by the local health score. */
  readonly intervalMs: number;
  /** A direct probe fails after this, longer by the local health score. */
  readonly pingTimeoutMs: number;
  /** Members told in a round of gossip. */
  readonly fanout: number;
  /** An update is sent this times ⌈log10(n + 1)⌉ times by a node. */
  readonly retransmitMult: number;
  /** Least suspicion is this times log10 of the members, in intervals. */
  readonly suspicionMult: number;
  /** Least suspicion, however many members there are. */
  readonly suspicionMinMs: number;
  /** Own facts are told anew after this, though nothing changed; 0 never. */
  readonly refreshMs: number;
  /** A clock that differs by more is off. */
  readonly maxClockSkewMs: number;
}
