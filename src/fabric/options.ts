/** What the room's machine is made of, and its options. */
import type { EntryStamper } from "../catalog/entry/codec.ts";
import type { EntryBounds } from "../catalog/entry/names.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Hlc } from "../lib/hlc.ts";
import type { Rng } from "../lib/rng.ts";
import type { Border, BorderLinksOptions } from "./borders/border.ts";
import type { LinkChannel } from "./links/channel.ts";
import type { PeerAuthSettings } from "./links/foreign-peers.ts";
import type { LinksOptions } from "./links/options.ts";
import type { MembershipOptions } from "./membership/options.ts";
import type { AcceptedInstance } from "./membership/process-instances.ts";
import type { OriginLifecycleOptions } from "./origin-lifecycle.ts";
import type { PolicyExchangeOptions } from "./policy-sync.ts";
import type { ReadinessOptions } from "./readiness.ts";
import type { ReplicationOptions } from "./replication/options.ts";
import type { SummaryParts } from "./summaries/channel.ts";
import type { MemberFacts } from "./wire/messages.ts";

export interface FabricOptions {
  readonly membership: MembershipOptions;
  readonly links: LinksOptions;
  readonly borders: BorderLinksOptions;
  readonly replication: ReplicationOptions;
  readonly lifecycle: OriginLifecycleOptions;
  readonly readiness: ReadinessOptions;
  readonly policy: PolicyExchangeOptions;
  /** A stop ends at the latest after so long, said goodbye or not. */
  readonly stopTimeoutMs: number;
  /** For so long, or half of a stop that is shorter, a peer that is to have the policy before the last records is not told goodbye yet. */
  readonly heldGoodbyeMs: number;
}

/** What is not a setting, of the fabric as a whole. */
export const FABRIC_FIXED = { heldGoodbyeMs: 1000 } as const satisfies Partial<FabricOptions>;

export interface FabricParts {
  /** What this node says of itself; its generation is the replica's. */
  readonly self: MemberFacts;
  readonly replica: Replica;
  readonly stamper: EntryStamper;
  readonly bounds: EntryBounds;
  readonly hlc: Hlc;
  readonly rng: Rng;
  /** Fabric addresses to join by; this node's own is passed over. */
  readonly seeds: readonly string[];
  /** What rooms above this one say on links, after all that the fabric says itself; nothing when absent. */
  readonly channels?: readonly LinkChannel[];
  /** The clusters of other regions that the settings name; none when absent. */
  readonly borders?: readonly Border[];
  /** What is said on border links; nothing when absent. */
  readonly borderChannels?: readonly LinkChannel[];
  /** What this node has of summaries. Absent of a node without a summary replica. */
  readonly summaries?: SummaryParts | undefined;
  /** Empty: none is asked for, and certificates or the loopback are the proof. */
  readonly clusterToken: string;
  /** A second token that peers may show, while the token is changed. */
  readonly otherToken?: string | undefined;
  readonly isInsecure: boolean;
  /** Clusters beside our own whose policy is taken; none when absent. */
  readonly policyFrom?: readonly string[];
  /** Peers prove nothing: neither token nor certificates. Then no policy is taken from them. */
  readonly isOpen?: boolean;
  /** This node runs checks, and takes over entries that have some. */
  readonly runsChecks?: boolean;
  /** Which other clusters are let in; every one of the region when absent. */
  readonly peerAuth?: PeerAuthSettings;
  /** Monotonic ms at which the snapshot that the replica started with was right. Undefined without one. */
  readonly asOfMonoMs: number | undefined;
  /** What earlier starts of this node were called; none without a disk. */
  readonly earlierBoots?: readonly string[] | undefined;
  /** Starts of others that were accepted before this node was restarted. */
  readonly acceptedStarts?: readonly AcceptedInstance[] | undefined;
  /** The members of its own cluster before this node was restarted (`Roster`). */
  readonly remembered?: readonly string[] | undefined;
}
