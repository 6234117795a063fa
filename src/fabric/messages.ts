/** What nodes say to each other, as plain values; `codec.ts` knows the bytes. */
import type { Frame } from "../catalog/frames.ts";
import type { VersionPlace } from "../policy/version-order.ts";

/** A node in one life of its journal. */
export interface NodeRef {
  readonly nodeId: string;
  readonly generation: number;
}

/** What a member says of itself. */
export interface MemberFacts extends NodeRef {
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

/** Asked by unary calls: a shell sends it and hands the response back, or that there was none in time. */
export type CallRequest =
  | { readonly kind: "probe"; readonly from: NodeRef; readonly targetNodeId: string; readonly updates: readonly MemberUpdate[] }
  | {
      readonly kind: "probeIndirect";
      readonly from: NodeRef;
      readonly targetNodeId: string;
      readonly targetAddress: string;
      readonly timeoutMs: number;
      readonly updates: readonly MemberUpdate[];
    }
  | {
      readonly kind: "pushPull";
      readonly from: NodeRef;
      readonly isJoin: boolean;
      readonly members: readonly MemberUpdate[];
      /** Of the asker's whole table, 64 bits: an equal one is answered with nothing. Absent: `members` is all that it has. */
      readonly digest?: bigint;
    };

export type CallResponse =
  | { readonly kind: "probe"; readonly from: NodeRef; readonly updates: readonly MemberUpdate[] }
  | { readonly kind: "probeIndirect"; readonly isAcknowledged: boolean; readonly updates: readonly MemberUpdate[] }
  | { readonly kind: "pushPull"; readonly from: NodeRef; readonly members: readonly MemberUpdate[] };

/** First frame both ways. */
export interface Hello extends NodeRef {
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
}

export interface VectorEntry extends NodeRef {
  /** All of its newest records up to here are held. */
  readonly seq: number;
  /** Tombstones at or below this may be missing. */
  readonly floor: number;
  /** The speaker hides its records: a newcomer is not to show them for a grace of its own. */
  readonly isHidden?: boolean;
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

/** What replication says on a link. */
export type ReplicationFrame =
  | {
      readonly kind: "vector";
      readonly entries: readonly VectorEntry[];
      /** Of the whole vector as this link may carry it. */
      readonly digest: bigint;
      /** Only what changed since the sender's last vector on this link. Unset on the last frame of a whole vector: what was not named is at 0. */
      readonly isPartial: boolean;
      /**
       * The sender asks. Without entries: for the receiver's whole vector. With entries, and partial: for the records of these origins
       * after these numbers, as a whole transfer where the floor is above the number; the digest is not set then.
       */
      readonly isWanted: boolean;
    }
  | RecordsFrame
  | { readonly kind: "linked"; readonly nodeIds: readonly string[] }
  | { readonly kind: "digests"; readonly origins: readonly OriginDigest[] };

export type PolicyFrame =
  | { readonly kind: "policyHead"; readonly head: PolicyHead }
  | { readonly kind: "policyWanted"; readonly number: number }
  | {
      readonly kind: "policyPart";
      readonly head: PolicyHead;
      readonly part: Uint8Array;
      readonly offset: number;
      readonly sizeBytes: number;
    };

/** What travels on a link. */
export type LinkFrame =
  | { readonly kind: "hello"; readonly hello: Hello }
  | { readonly kind: "goodbye"; readonly reason: Goodbye; readonly detail: string }
  /** A newer peer's frame: skipped and counted. */
  | { readonly kind: "unknown" }
  | ReplicationFrame
  | PolicyFrame;

/** What a transport knows of the other side of a call or link, without asking it. */
export interface PeerProof {
  /** `host:port` of the socket's other end. */
  readonly address: string;
  readonly isLoopback: boolean;
  /** The verified certificate's identity; undefined on a plain connection. */
  readonly certificate: { readonly nodeId: string; readonly clusterId: string } | undefined;
  /** Token that came with the call, or empty. */
  readonly clusterToken: string;
}
