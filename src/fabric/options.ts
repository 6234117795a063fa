/** What the room's machine is made of, and its options. */
import type { EntryStamper } from "../catalog/entry/codec.ts";
import type { Bounds } from "../catalog/entry/names.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Hlc } from "../lib/hlc.ts";
import type { Rng } from "../lib/rng.ts";
import type { PeerAuthSettings } from "./links/foreigners.ts";
import { LINKS_DEFAULTS, type LinksOptions } from "./links/options.ts";
import type { AcceptedStart } from "./membership/node-starts.ts";
import { MEMBERSHIP_DEFAULTS, type MembershipOptions } from "./membership/options.ts";
import { ORIGIN_LIFECYCLE_DEFAULTS, type OriginLifecycleOptions } from "./origin-lifecycle-options.ts";
import { POLICY_EXCHANGE_DEFAULTS, type PolicyExchangeOptions } from "./policy-sync.ts";
import { READINESS_DEFAULTS, type ReadinessOptions } from "./readiness.ts";
import { REPLICATION_DEFAULTS, type ReplicationOptions } from "./replication/options.ts";
import type { MemberFacts } from "./wire/messages.ts";

export interface FabricOptions {
  readonly membership: MembershipOptions;
  readonly links: LinksOptions;
  readonly replication: ReplicationOptions;
  readonly lifecycle: OriginLifecycleOptions;
  readonly readiness: ReadinessOptions;
  readonly policy: PolicyExchangeOptions;
  /** A stop ends at the latest after so long, said goodbye or not. */
  readonly stopTimeoutMs: number;
  /** For so long, or half of a stop that is shorter, a peer that is to have the policy before the last records is not told goodbye yet. */
  readonly heldGoodbyeMs: number;
}

export const FABRIC_DEFAULTS: FabricOptions = {
  membership: MEMBERSHIP_DEFAULTS,
  links: LINKS_DEFAULTS,
  replication: REPLICATION_DEFAULTS,
  lifecycle: ORIGIN_LIFECYCLE_DEFAULTS,
  readiness: READINESS_DEFAULTS,
  policy: POLICY_EXCHANGE_DEFAULTS,
  stopTimeoutMs: 5000,
  heldGoodbyeMs: 1000,
};

export interface FabricParts {
  /** What this node says of itself; its generation is the replica's. */
  readonly self: MemberFacts;
  readonly replica: Replica;
  readonly stamper: EntryStamper;
  readonly bounds: Bounds;
  readonly hlc: Hlc;
  readonly rng: Rng;
  /** Fabric addresses to join by; this node's own is passed over. */
  readonly seeds: readonly string[];
  /** Empty: none is asked for, and certificates or the loopback are the proof. */
  readonly clusterToken: string;
  readonly isInsecure: boolean;
  /** Clusters beside our own whose policy is taken; none when absent. */
  readonly policyFrom?: readonly string[];
  /** Peers prove nothing: neither token nor certificates. Then no policy is taken from them. */
  readonly isOpen?: boolean;
  /** Which other clusters are let in; every one of the region when absent. */
  readonly peerAuth?: PeerAuthSettings;
  /** How old the snapshot is that the replica started with; undefined without one. */
  readonly startAgeMs: number | undefined;
  /** What earlier starts of this node were called; none without a disk. */
  readonly earlierBoots?: readonly string[] | undefined;
  /** Starts of others that were accepted before this node was restarted. */
  readonly acceptedStarts?: readonly AcceptedStart[] | undefined;
  /** The members of its own cluster before this node was restarted (`Roster`). */
  readonly remembered?: readonly string[] | undefined;
}

/** What was not taken from others, since the start. */
export interface Refusals {
  /** Links whose peer is not trusted, or broke the protocol. */
  readonly peer: number;
  /** Links beyond as many as are allowed. */
  readonly link: number;
  /** Calls of strangers. */
  readonly call: number;
  /** Frames and entries of vectors, of an origin not taken here. */
  readonly origin: number;
  /** Heads that are none, and versions that are not what their head says. */
  readonly policy: number;
  /** Frames of newer peers, skipped. */
  readonly unknownFrame: number;
}
