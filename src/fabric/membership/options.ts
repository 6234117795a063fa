/** Times and bounds of membership. */

import { MAX_PROBE_REQUEST_UPDATES, MAX_PUSH_PULL_REQUEST_MEMBERS } from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";

export interface MembershipOptions {
  /** SWIM's protocol period: one probe in each; longer by the local health score. */
  readonly intervalMs: number;
  /** A direct probe fails after this, longer by the local health score. */
  readonly pingTimeoutMs: number;
  /** Others asked to probe for us after a direct probe failed. */
  readonly indirectCount: number;
  /** Members told in a round of gossip. */
  readonly fanout: number;
  /** Time between two rounds of gossip while there is news; without news there are none. */
  readonly gossipMs: number;
  /** News is gathered this long before the first round. */
  readonly gossipDelayMs: number;
  /** An update is sent this times ⌈log10(n + 1)⌉ times by a node. */
  readonly retransmitMult: number;
  readonly suspicionMult: number;
  readonly suspicionMaxMult: number;
  /** Gossip reaches everybody well before this; longer suspicion would only delay deaths. */
  readonly suspicionCapMs: number;
  readonly suspicionFloorMs: number;
  /** Least suspicion, however many members there are. */
  readonly suspicionMinMs: number;
  /** Own facts are told anew after this, though nothing changed; 0 never. */
  readonly refreshMs: number;
  /** Members that check a suspicion they hear of at once, in the whole group. */
  readonly verifyCount: number;
  /** Time between two exchanges of tables; longer above 32 members. */
  readonly pushPullMs: number;
  readonly pushPullTimeoutMs: number;
  /** Time between two attempts to reach dead members and unlisted seeds. */
  readonly reconnectMs: number;
  /** Bounds of the wait between attempts to join while nobody is known. */
  readonly joinBaseMs: number;
  readonly joinMaxMs: number;
  /** Dead and left members are remembered for this long. */
  readonly deadForgetMs: number;
  /** In an exchange of tables a death is told for this long. */
  readonly deadTellMs: number;
  /** A change of the own health score is told at most so often. */
  readonly healthTellMs: number;
  /** Members remembered, whatever their state; more are refused. */
  readonly maxMembers: number;
  /** Bytes of updates in one probe, roughly. */
  readonly maxUpdatesBytes: number;
  /** Updates read from one probe. */
  readonly maxUpdatesRead: number;
  /** Newcomers that wait because another member has their address. */
  readonly maxConflicts: number;
  /** A newcomer waits at most so long. */
  readonly conflictMs: number;
  /** Probes for others at a time; more are answered with "no". */
  readonly maxRelays: number;
  readonly maxSeeds: number;
  /** Input later than this after its deadline: the process was frozen, and silence meanwhile proves nothing. */
  readonly lagMs: number;
  /** A clock that differs by more is off. */
  readonly maxClockSkewMs: number;
}

/** The values below are for this time between two probes. `node/fabric/options.ts` scales those that depend on it. */
export const BASE_INTERVAL_MS = 1_000;

/** What is not a setting. */
export const MEMBERSHIP_FIXED = {
  indirectCount: 3,
  gossipMs: 200,
  gossipDelayMs: 10,
  suspicionMaxMult: 6,
  suspicionCapMs: 5_000,
  suspicionFloorMs: 5_000,
  verifyCount: 3,
  pushPullMs: 30_000,
  pushPullTimeoutMs: 5_000,
  reconnectMs: 10_000,
  joinBaseMs: 500,
  joinMaxMs: 5_000,
  deadForgetMs: 86_400_000,
  deadTellMs: 3_600_000,
  healthTellMs: 30_000,
  maxMembers: MAX_PUSH_PULL_REQUEST_MEMBERS,
  maxUpdatesBytes: 4_096,
  maxUpdatesRead: MAX_PROBE_REQUEST_UPDATES,
  maxConflicts: 256,
  conflictMs: 60_000,
  maxRelays: 64,
  maxSeeds: NODE_BOUNDS.maxSeeds,
  lagMs: 500,
} as const satisfies Partial<MembershipOptions>;
