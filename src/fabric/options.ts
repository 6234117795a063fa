/** The parts of the fabric's state machine, and its options. */
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
  /** A stop ends after this time at the latest, even if some goodbyes were not sent. */
  readonly stopTimeoutMs: number;
  /**
   * Longest delay of the goodbye to a peer that must receive the policy before the last records. The delay is at most half of the time for the stop.
   */
  readonly heldGoodbyeMs: number;
}

/** Constants of the fabric as a whole, which are not settings. */
export const FABRIC_FIXED = { heldGoodbyeMs: 1000 } as const satisfies Partial<FabricOptions>;

export interface FabricParts {
  /** The facts that this node announces about itself, except for the generation, which the replica determines. */
  readonly self: MemberFacts;
  readonly replica: Replica;
  readonly stamper: EntryStamper;
  readonly bounds: EntryBounds;
  readonly hlc: Hlc;
  readonly rng: Rng;
  /** Fabric addresses of the seeds. This node's own address is skipped. */
  readonly seeds: readonly string[];
  /** Channels of other modules, which send after all channels of the fabric. Absent: none. */
  readonly channels?: readonly LinkChannel[];
  /** The clusters of other regions that the settings name. Absent: none. */
  readonly borders?: readonly Border[];
  /** The channels of border links. Absent: none. */
  readonly borderChannels?: readonly LinkChannel[];
  /** The parts for the summary replica. Absent on a node without one. */
  readonly summaries?: SummaryParts | undefined;
  /** If it is empty, no token is required, and certificates or a loopback connection serve as proof. */
  readonly clusterToken: string;
  /** A second token that peers may present while the token is being changed. */
  readonly otherToken?: string | undefined;
  readonly isInsecure: boolean;
  /** Other clusters whose policy is accepted. Absent: none. */
  readonly policyFrom?: readonly string[];
  /** Whether peers need neither a token nor a certificate as proof. If so, no policy is accepted from them. */
  readonly isOpen?: boolean;
  /** Whether this node runs checks and takes over entries with checks. */
  readonly runsChecks?: boolean;
  /** The other clusters that are allowed to connect. Defaults to all clusters of the region. */
  readonly peerAuth?: PeerAuthSettings;
  /** Monotonic time (ms) at which the snapshot that the replica started with was current. Undefined without a snapshot. */
  readonly asOfMonoMs: number | undefined;
  /** The boot names of earlier process instances of this node. Absent without a disk. */
  readonly earlierBoots?: readonly string[] | undefined;
  /** The process instances of other nodes that were accepted before this node was restarted. */
  readonly acceptedStarts?: readonly AcceptedInstance[] | undefined;
  /** The members of this node's cluster that were known before this node was restarted (`MemberRoster`). */
  readonly remembered?: readonly string[] | undefined;
}
