/** Messages between nodes, as plain values. `fabric.proto` defines each field, and `codec.ts` and `call-codec.ts` encode and decode the messages. */
import type {
  BorderBatchFields,
  BorderDigestFields,
  BorderHaveFields,
  BorderRulesFields,
  DigestFrameFields,
  HandOverFrameFields,
  HeardRuleFields,
  HeldStartFields,
  HelloFrameFields,
  LinkedFrameFields,
  LostOriginFields,
  MaintainRequestFields,
  MaintainResponseFields,
  MemberUpdateFields,
  OriginDigestFields,
  OriginFields,
  ProbeIndirectRequestFields,
  ProbeIndirectResponseFields,
  ProbeRequestFields,
  ProbeResponseFields,
  PushPullRequestFields,
  PushPullResponseFields,
  ReachFields,
  SourceAgesFrameFields,
  VectorEntryFields,
  VectorFrameFields,
} from "../../../gen/waymark/fabric/v1/fabric_codec.ts";
import { FieldProblems, PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import type { OriginFrame } from "../../catalog/replica/frames.ts";
import type { RevocableCertificate } from "../../lib/certificates/revocations.ts";
import type { VersionPlace } from "../../policy/versions/version.ts";

/** A node in one generation of its journal. */
export type NodeRef = Pick<OriginFields, "nodeId" | "generation">;

/** A node's process instance, and the instance that it reports as its predecessor. Absent for nodes without a disk. */
export type ProcessInstance = Pick<OriginFields, "boot" | "bootBefore">;

/** The instance that the sender has accepted for a node id, and its address. The address is empty when the instance is gone. */
export type HeldInstance = HeldStartFields;

export const MEMBER_STATUSES = ["alive", "suspect", "left", "dead"] as const;
export type MemberStatus = (typeof MEMBER_STATUSES)[number];

/** Report about a member. */
export interface MemberUpdate extends MemberUpdateFields {
  readonly status: MemberStatus;
}

/** A neighbour's exports to the cluster of a member, to the extent that the member has received them. */
export type HeardRule = HeardRuleFields;

/** A region's data about other regions. */
export type Reach = ReachFields;

/** A member's report about itself. */
export type MemberFacts = Omit<MemberUpdate, "status" | "incarnation" | "accuser">;

/** Report about an origin that was forgotten although its node has not left (`catalog/replica/lost-origins.ts`). */
export type LostWord = LostOriginFields;

/** The message of a membership call. Members with a status that this version does not know are omitted. */
type CallMessage<Kind, Message> = { readonly kind: Kind } & {
  readonly [F in keyof Message]: Message[F] extends readonly MemberUpdateFields[] ? readonly MemberUpdate[] : Message[F];
};

/**
 * Requests of unary calls. The transport sends a request and then passes the response to the state machine, or reports that no response arrived in
 * time.
 */
export type FabricCallRequest =
  | CallMessage<"probe", ProbeRequestFields>
  | CallMessage<"probeIndirect", Omit<ProbeIndirectRequestFields, "timeout"> & { readonly timeoutMs: number }>
  | CallMessage<"pushPull", PushPullRequestFields>
  | CallMessage<"maintain", MaintainRequestFields>;

export type FabricCallResponse =
  | CallMessage<"probe", ProbeResponseFields>
  | CallMessage<"probeIndirect", ProbeIndirectResponseFields>
  | CallMessage<"pushPull", PushPullResponseFields>
  | CallMessage<"maintain", MaintainResponseFields>;

export type MaintainRequest = Extract<FabricCallRequest, { readonly kind: "maintain" }>;
export type MaintainResponse = Extract<FabricCallResponse, { readonly kind: "maintain" }>;

/** A request to change maintenance overrides on another node. */
export type MaintenanceCall = Pick<MaintainRequest, "keys" | "isOn" | "reason" | "untilMs" | "principal" | "isForAll">;

/**
 * The result. If there is no `response`, it is unknown whether the node applied the request. `refusal`: the node is reachable but rejected the
 * request.
 */
export interface MaintenanceResult {
  readonly response: MaintainResponse | undefined;
  readonly refusal?: string;
}

/** The first frame from each side. */
export type Hello = HelloFrameFields;

export type VectorEntry = VectorEntryFields;

/** A `VectorEntry` for an origin whose full id was sent before on the same link. */
export interface ShortEntry {
  /** `shortHash` of the origin's id. */
  readonly hash: number;
  readonly seq: number;
}

/** How long ago the sender had everything that the origin had written. */
export interface Heartbeat {
  /** `shortHash` of the origin's id. */
  readonly hash: number;
  readonly ageMs: number;
  /** Upper bound of the origin's seq at that time. Used only for origins of clusters other than the receiver's. */
  readonly seq?: number;
}

export type OriginDigest = OriginDigestFields;

/** The policy version in force. `isNewer` decides which of two versions wins. */
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
/** The reason for an orderly end of a link. */
export type Goodbye = (typeof GOODBYES)[number];

/** Records of one origin, together with the origin's cluster and region. */
export interface RecordsFrame {
  readonly kind: "records";
  readonly frame: OriginFrame;
  readonly clusterId: string;
  readonly region: string;
}

/** Times of a vector in whole milliseconds. They are comparable only within one link (`LinkClock`). */
export interface VectorTimes {
  /** Time at which the vector was made, according to the sender's clock. Above 0. */
  readonly atMs: number;
  /**
   * The earliest time at which the vector's content was valid, on the receiver's clock: the newest `atMs` from the receiver that the sender has, plus
   * the time since the sender received it.
   */
  readonly asOfMs?: number;
}

/** Replication frames on a link. */
export type ReplicationFrame =
  | ({
      readonly kind: "vector";
      /** Additional entries, for origins that were named on this link before. */
      readonly short?: readonly ShortEntry[];
      /** Heartbeats of origins that the receiver has no link to. A receiver that has a link to an origin gets the origin's heartbeats directly. */
      readonly heartbeats?: readonly Heartbeat[];
      /** Present in vectors, absent in requests and offers. */
      readonly times?: VectorTimes;
    } & Pick<VectorFrameFields, "entries" | "digest" | "isPartial" | "isWanted" | "isOffer">)
  | RecordsFrame
  | ({ readonly kind: "linked" } & LinkedFrameFields)
  | ({ readonly kind: "digests" } & DigestFrameFields);

export type PolicyFrame =
  | { readonly kind: "policyHead"; readonly head: PolicyHead }
  | { readonly kind: "policyWanted"; readonly number: number }
  /** The receiver's newest head, which the sender rejects. */
  | { readonly kind: "policySettled"; readonly head: PolicyHead }
  | {
      readonly kind: "policyPart";
      readonly head: PolicyHead;
      readonly part: Uint8Array;
      readonly offset: number;
      readonly sizeBytes: number;
    };

/**
 * A hand-over frame from a leaving node. Without numbers, it announces that the node is leaving. With numbers it names the records that the receiver
 * should take over. `isRefused` is the answer from a receiver that does not take over any records.
 */
export type HandOverFrame = { readonly kind: "handOver" } & HandOverFrameFields;

/** Replication of the summary replica, between nodes that have such a replica. */
export interface SummariesFrame {
  readonly kind: "summaries";
  readonly frame: ReplicationFrame;
}

/** Time since the sender's region last received the beacons of other regions. */
export type SourceAgesFrame = { readonly kind: "sourceAges" } & SourceAgesFrameFields;

/** Frames on a link between regions. */
export type BorderFrame =
  | ({ readonly kind: "borderRules" } & BorderRulesFields)
  | ({ readonly kind: "borderBatch" } & BorderBatchFields)
  | ({ readonly kind: "borderDigest" } & BorderDigestFields)
  | ({ readonly kind: "borderHave" } & BorderHaveFields);

/** All frames of links. */
export type LinkFrame =
  | { readonly kind: "hello"; readonly hello: Hello }
  | { readonly kind: "goodbye"; readonly reason: Goodbye; readonly detail: string }
  /** A frame from a newer peer. The frame is skipped and counted. */
  | { readonly kind: "unknown" }
  | ReplicationFrame
  | PolicyFrame
  | HandOverFrame
  | SummariesFrame
  | SourceAgesFrame
  | BorderFrame;

/** Facts about the peer that are proved by the connection. */
export interface PeerIdentity {
  /** `host:port` of the remote end of the socket. */
  readonly address: string;
  readonly isLoopback: boolean;
  /** Identity from the verified certificate. Undefined on a plaintext connection. */
  readonly certificate: { readonly nodeId: string; readonly clusterId: string } | undefined;
  /** The fields of this certificate that decide whether it was revoked. */
  readonly revocable?: RevocableCertificate;
  /**
   * Cluster of the border whose CA signed the certificate. The identity is valid only for links with that border. Absent when the certificate was
   * signed by the fabric's own CA.
   */
  readonly border?: string;
  /** The token that was sent with the call, or an empty text. */
  readonly clusterToken: string;
}

// Checks message contents against the rules of `fabric.proto` and against rules that it leaves to the receiver.
/** Limits from `fabric.proto` that senders also apply. A correct node never exceeds them. */
export const MESSAGE_BOUNDS = {
  /** Maximum length of a cluster token, in characters. */
  maxTokenLength: 1_024,
  /** Longest wait that a node may request from another node, in ms. */
  maxTimeoutMs: 60_000,
  /** Maximum length of a text that a peer sends for operators, in characters. Longer texts are truncated. */
  maxDetailLength: 256,
  /** Maximum number of bytes of records in a frame with more than one record. No version sends more. */
  maxRecordsBytes: 65_536,
  /** Maximum number of bytes of content in one frame between regions, unless the content is a single summary, beacon, or key. */
  maxBatchBytes: 262_144,
} as const;

/** Returns the message if it does not break any rule. Otherwise, throws `invalid_argument` with the names of the invalid fields. */
export function checked<Message>(message: Message, check: (message: Message, problems: FieldProblems) => void): Message {
  const problems = new FieldProblems(PROTOCOL_BOUNDS);
  check(message, problems);
  problems.throwIfAny();
  return message;
}

/**
 * Sanitizes a text that a peer sends for operators: truncates it and replaces characters that a terminal might interpret. Such a text never makes a
 * message invalid.
 */
export function detailField(text: string): string {
  return text.slice(0, MESSAGE_BOUNDS.maxDetailLength).replaceAll(/[^\x20-\x7e]/g, "?");
}
