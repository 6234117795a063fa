/** What nodes say to each other, as plain values; `codec.ts` knows the bytes. */
import type { Frame } from "../../catalog/replica/frames.ts";
import type { VersionPlace } from "../../policy/versions/version.ts";

/** A node in one life of its journal. */
export interface NodeRef {
  readonly nodeId: string;
  readonly generation: number;
}

/** The start a node is in, as its data directory names it; absent of nodes without a disk and of older ones. */
export interface Start {
  readonly boot?: string;
  /** The earlier start that this one says it follows. */
  readonly bootBefore?: string;
}

/** The start that goes under an id at the speaker, and where; the address is empty when it is gone. */
export interface HeldStart {
  readonly boot: string;
  readonly address: string;
}

/** Who asks or answers a call, and where it is at home; older nodes do not say that. */
export interface Speaker extends NodeRef, Start {
  readonly clusterId?: string;
  readonly region?: string;
}

/** What a member says of itself. */
export interface MemberFacts extends NodeRef, Start {
  /** Fabric address others reach it at, `host:port`. */
  readonly address: string;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  /** Version of its program. */
  readonly version: string;
  /** Fabric protocol versions it speaks. */
  readonly protocolVersions: readonly number[];
  readonly transports: readonly string[];
  readonly roles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Lifeguard's local health score: 0 is well, 8 is worst. */
  readonly healthScore: number;
  /** It stops, and nobody took its static entries: they stand while it is away. */
  readonly keepsEntries?: boolean;
}

export const MEMBER_STATUSES = ["alive", "suspect", "left", "dead"] as const;
export type MemberStatus = (typeof MEMBER_STATUSES)[number];

/** What is told of a member. */
export interface MemberUpdate extends MemberFacts {
  readonly status: MemberStatus;
  /** The member's own counter of refutations. */
  readonly incarnation: number;
  /** Of a suspicion: who accused it. Else empty. */
  readonly accuser: string;
}

/** What is told of an origin that was forgotten and has not left (`catalog/replica/lost-origins.ts`). */
export interface LostWord extends NodeRef {
  readonly through: number;
  readonly mark: number;
  /** The speaker knows its keys when it stood there. Absent: it does not, or is older. */
  readonly keysThrough?: number;
  /** Those keys (`catalog/replica/lost-keys.ts`), for an asker that takes them and has none as new. */
  readonly keys?: Uint8Array;
}

/** Asked by unary calls: a shell sends it and hands the response back, or that there was none in time. */
export type CallRequest =
  | { readonly kind: "probe"; readonly from: Speaker; readonly targetNodeId: string; readonly updates: readonly MemberUpdate[] }
  | {
      readonly kind: "probeIndirect";
      readonly from: Speaker;
      readonly targetNodeId: string;
      readonly targetAddress: string;
      readonly timeoutMs: number;
      readonly updates: readonly MemberUpdate[];
    }
  | {
      readonly kind: "pushPull";
      readonly from: Speaker;
      readonly isJoin: boolean;
      readonly members: readonly MemberUpdate[];
      /** Of the asker's whole table, 64 bits: an equal one is answered with nothing. Absent: `members` is all that it has. */
      readonly digest?: bigint;
      /** Absent: none, or an older peer. */
      readonly lost?: readonly LostWord[];
      /** The asker takes keys of lost origins. */
      readonly takesLostKeys?: boolean;
    };

export type CallResponse =
  | {
      readonly kind: "probe";
      readonly from: Speaker;
      readonly updates: readonly MemberUpdate[];
      /** The answerer's clock. Absent: an older peer's, which does not say. */
      readonly wallMs?: number;
      /** Goes under the asker's id here, and is not the start that asked. */
      readonly heldStart?: HeldStart;
    }
  | { readonly kind: "probeIndirect"; readonly isAcknowledged: boolean; readonly updates: readonly MemberUpdate[] }
  | {
      readonly kind: "pushPull";
      readonly from: Speaker;
      readonly members: readonly MemberUpdate[];
      /** Why the answerer does not take what the asker says of itself, for people; absent when it does. */
      readonly ownUpdateRefused?: string;
      readonly lost?: readonly LostWord[];
      readonly heldStart?: HeldStart;
    };

/** First frame both ways. */
export interface Hello extends NodeRef, Start {
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  /** Fabric address others reach the speaker at. */
  readonly address: string;
  readonly version: string;
  readonly protocolVersions: readonly number[];
  readonly capabilities: readonly string[];
  /** Empty where a certificate is the proof. */
  readonly clusterToken: string;
  /** Clusters beside its own whose policy it takes; of a peer with the capability `POLICY_FROM`. */
  readonly policyFrom?: readonly string[];
}

export interface VectorEntry extends NodeRef {
  /** All of its newest records up to here are held. */
  readonly seq: number;
  /** Tombstones at or below this may be missing. */
  readonly floor: number;
  /** The speaker hides its records: a newcomer is not to show them for a grace of its own. */
  readonly isHidden?: boolean;
  /** The speaker refused some of its records, and passes none of them on: then `seq` is 0. */
  readonly isLacking?: boolean;
  /** Of one that is lacking: the speaker has heard of its changes up to here. Older peers do not say. */
  readonly lackingThrough?: number;
  /** Of one that is lacking: it is of another cluster than the speaker. Older peers do not say. */
  readonly isOfOtherCluster?: boolean;
}

/** As a `VectorEntry`, of an origin that was named in full on the same link before. */
export interface ShortEntry {
  /** Of its id (`shortHash`). */
  readonly hash: number;
  readonly seq: number;
}

/** How long ago the sender's number of an origin was known to be all that this had written. */
export interface Heartbeat {
  /** Of its id (`shortHash`). */
  readonly hash: number;
  readonly ageMs: number;
  /** The number that it had not passed by then; said of origins of other clusters than the receiver's. */
  readonly seq?: number;
}

export interface OriginDigest extends NodeRef {
  readonly through: number;
  readonly liveCount: number;
  /** Order-independent, 64 bits. */
  readonly digest: bigint;
}

/** Which policy version is in force; `isNewer` says which of two wins. */
export type PolicyHead = VersionPlace;

export const GOODBYES = [
  "leave",
  "restart",
  "duplicate_link",
  "duplicate_node",
  "wrong_cluster",
  "wrong_token",
  "wrong_identity",
  "incompatible",
  "too_many_links",
  "bad_frame",
  "not_needed",
  "other_region",
] as const;
/** Why a link ends in good order. */
export type Goodbye = (typeof GOODBYES)[number];

/** Records of one origin, and where that is at home. */
export interface RecordsFrame {
  readonly kind: "records";
  readonly frame: Frame;
  readonly clusterId: string;
  readonly region: string;
}

/** When a vector was made, in times that only its link knows; whole milliseconds (`SaidTimes`). */
export interface Said {
  /** By the sender's clock; above 0. */
  readonly atMs: number;
  /** Since when what it says has been so, by the receiver's times: its newest `atMs` that the sender has, and for how long the sender had that. */
  readonly asOfMs?: number;
}

/** What replication says on a link. */
export type ReplicationFrame =
  | {
      readonly kind: "vector";
      readonly entries: readonly VectorEntry[];
      /** More entries; only between peers with the capability `offers`. */
      readonly short?: readonly ShortEntry[];
      /** Of the whole vector as this link may carry it; between peers with the capability `offers`, of all that was said on the link. */
      readonly digest: bigint;
      /** Only what changed since the sender's last vector on this link. Unset on the last frame of a whole vector: what was not named is at 0. */
      readonly isPartial: boolean;
      /**
       * The sender asks. Without entries: for the receiver's whole vector. With entries, and partial: for the records of these origins
       * after these numbers, as a whole transfer where the floor is above the number; the digest is not set then.
       */
      readonly isWanted: boolean;
      /** News between two vectors, without a digest: the receiver asks for what it lacks. */
      readonly isOffer?: boolean;
      /** Of origins that the receiver has no link to; only between peers with the capability `heartbeats`. */
      readonly heartbeats?: readonly Heartbeat[];
      /** Of a vector, not of a question or an offer; nor of one that a peer of an older version sent. */
      readonly said?: Said;
    }
  | RecordsFrame
  | { readonly kind: "linked"; readonly nodeIds: readonly string[] }
  | { readonly kind: "digests"; readonly origins: readonly OriginDigest[] };

export type PolicyFrame =
  | { readonly kind: "policyHead"; readonly head: PolicyHead }
  | { readonly kind: "policyWanted"; readonly number: number }
  /** The newest head of the receiver, which the sender does not take; only between peers with the capability `policy_first`. */
  | { readonly kind: "policySettled"; readonly head: PolicyHead }
  | {
      readonly kind: "policyPart";
      readonly head: PolicyHead;
      readonly part: Uint8Array;
      readonly offset: number;
      readonly sizeBytes: number;
    };

/** From a node that leaves: without numbers that it does, with them its own records that the receiver is to take. `isRefused`: it takes none. */
export interface HandOverFrame {
  readonly kind: "handOver";
  readonly seqs: readonly number[];
  readonly isRefused: boolean;
}

/** What travels on a link. */
export type LinkFrame =
  | { readonly kind: "hello"; readonly hello: Hello }
  | { readonly kind: "goodbye"; readonly reason: Goodbye; readonly detail: string }
  /** A newer peer's frame: skipped and counted. */
  | { readonly kind: "unknown" }
  | ReplicationFrame
  | PolicyFrame
  | HandOverFrame;

/** What a transport knows of the other side of a call or link, without asking it. */
export interface PeerIdentity {
  /** `host:port` of the socket's other end. */
  readonly address: string;
  readonly isLoopback: boolean;
  /** The verified certificate's identity; undefined on a plain connection. */
  readonly certificate: { readonly nodeId: string; readonly clusterId: string } | undefined;
  /** Token that came with the call, or empty. */
  readonly clusterToken: string;
}
