/** What nodes say to each other, as plain values. `fabric.proto` says what each field means; `codec.ts` and `call-codec.ts` know the bytes. */
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
import type { VersionPlace } from "../../policy/versions/version.ts";

/** A node in one life of its journal. */
export type NodeRef = Pick<OriginFields, "nodeId" | "generation">;

/** The start a node is in, and the earlier one that it says it follows; absent of nodes without a disk. */
export type ProcessInstance = Pick<OriginFields, "boot" | "bootBefore">;

/** The start that goes under an id at the speaker, and where; the address is empty when it is gone. */
export type HeldInstance = HeldStartFields;

export const MEMBER_STATUSES = ["alive", "suspect", "left", "dead"] as const;
export type MemberStatus = (typeof MEMBER_STATUSES)[number];

/** What is told of a member. */
export interface MemberUpdate extends MemberUpdateFields {
  readonly status: MemberStatus;
}

/** What a neighbour exports to the cluster of a member, as far as the member heard. */
export type HeardRule = HeardRuleFields;

/** What a region holds of others. */
export type Reach = ReachFields;

/** What a member says of itself. */
export type MemberFacts = Omit<MemberUpdate, "status" | "incarnation" | "accuser">;

/** What nodes tell each other of an origin that was forgotten although it has not left (`catalog/replica/lost-origins.ts`). */
export type LostWord = LostOriginFields;

/** The message of a call. Members whose status this version does not know are left out. */
type CallMessage<Kind, Message> = { readonly kind: Kind } & {
  readonly [F in keyof Message]: Message[F] extends readonly MemberUpdateFields[] ? readonly MemberUpdate[] : Message[F];
};

/** What unary calls ask. A shell sends the request, and gives the response to the machine, or that none came in time. */
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

/** What is asked of another node. */
export type MaintenanceCall = Pick<MaintainRequest, "keys" | "isOn" | "reason" | "untilMs" | "principal" | "isForAll">;

/** What came of that. Undefined `response`: it is not known what the node has done, if anything. `refusal`: the node is there, and takes no orders. */
export interface MaintenanceResult {
  readonly response: MaintainResponse | undefined;
  readonly refusal?: string;
}

/** The first frame that each side sends. */
export type Hello = HelloFrameFields;

export type VectorEntry = VectorEntryFields;

/** A `VectorEntry` of an origin whose full name was sent on the same link before. */
export interface ShortEntry {
  /** `shortHash` of the origin's id. */
  readonly hash: number;
  readonly seq: number;
}

/** How long ago it was so that the sender held all that an origin had written. */
export interface Heartbeat {
  /** `shortHash` of the origin's id. */
  readonly hash: number;
  readonly ageMs: number;
  /** The number of the origin at that time was at most this. Only for origins of other clusters than the receiver's. */
  readonly seq?: number;
}

export type OriginDigest = OriginDigestFields;

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

/** Records of one origin, and its cluster and region. */
export interface RecordsFrame {
  readonly kind: "records";
  readonly frame: OriginFrame;
  readonly clusterId: string;
  readonly region: string;
}

/** When a vector was made, in times that only its link knows; whole milliseconds (`LinkClock`). */
export interface VectorTimes {
  /** When the vector was made, by the sender's clock. Above 0. */
  readonly atMs: number;
  /** Since when what it says has been so, by the receiver's times: its newest `atMs` that the sender has, and for how long the sender had that. */
  readonly asOfMs?: number;
}

/** What replication says on a link. */
export type ReplicationFrame =
  | ({
      readonly kind: "vector";
      /** More entries, of origins that were named on this link before. */
      readonly short?: readonly ShortEntry[];
      /** Of origins that the receiver has no link to; since a receiver with a link hears them itself. */
      readonly heartbeats?: readonly Heartbeat[];
      /** Of a vector, not of a question or an offer. */
      readonly said?: VectorTimes;
    } & Pick<VectorFrameFields, "entries" | "digest" | "isPartial" | "isWanted" | "isOffer">)
  | RecordsFrame
  | ({ readonly kind: "linked" } & LinkedFrameFields)
  | ({ readonly kind: "digests" } & DigestFrameFields);

export type PolicyFrame =
  | { readonly kind: "policyHead"; readonly head: PolicyHead }
  | { readonly kind: "policyWanted"; readonly number: number }
  /** The newest head of the receiver, which the sender does not accept. */
  | { readonly kind: "policySettled"; readonly head: PolicyHead }
  | {
      readonly kind: "policyPart";
      readonly head: PolicyHead;
      readonly part: Uint8Array;
      readonly offset: number;
      readonly sizeBytes: number;
    };

/** What a leaving node says. Without numbers: that it leaves. With numbers: which of its records the receiver is asked to take over. `isRefused` is the answer that the receiver takes none. */
export type HandOverFrame = { readonly kind: "handOver" } & HandOverFrameFields;

/** Replication of the summary replica, between nodes that have one. */
export interface SummariesFrame {
  readonly kind: "summaries";
  readonly frame: ReplicationFrame;
}

/** For how long the sender's region has had the beacons of others. */
export type SourceAgesFrame = { readonly kind: "sourceAges" } & SourceAgesFrameFields;

/** What is said on a link between regions. */
export type BorderFrame =
  | ({ readonly kind: "borderRules" } & BorderRulesFields)
  | ({ readonly kind: "borderBatch" } & BorderBatchFields)
  | ({ readonly kind: "borderDigest" } & BorderDigestFields)
  | ({ readonly kind: "borderHave" } & BorderHaveFields);

/** What travels on a link. */
export type LinkFrame =
  | { readonly kind: "hello"; readonly hello: Hello }
  | { readonly kind: "goodbye"; readonly reason: Goodbye; readonly detail: string }
  /** A newer peer's frame: skipped and counted. */
  | { readonly kind: "unknown" }
  | ReplicationFrame
  | PolicyFrame
  | HandOverFrame
  | SummariesFrame
  | SourceAgesFrame
  | BorderFrame;

/** What a transport knows of the other side of a call or link, without asking it. */
export interface PeerIdentity {
  /** `host:port` of the socket's other end. */
  readonly address: string;
  readonly isLoopback: boolean;
  /** The verified certificate's identity; undefined on a plain connection. */
  readonly certificate: { readonly nodeId: string; readonly clusterId: string } | undefined;
  /** The certificate is of the authority of the border with this cluster, and counts for links with it and for nothing else. Absent: of the fabric's own. */
  readonly border?: string;
  /** Token that came with the call, or empty. */
  readonly clusterToken: string;
}

// What a message from another node may be, beyond its shape: the rules of `fabric.proto`, and what they leave to its reader.
/** Bounds of `fabric.proto` that senders know too: no honest node passes them. */
export const MESSAGE_BOUNDS = {
  /** Of a cluster token, in characters. */
  maxTokenLength: 1_024,
  /** Longest wait one may ask of another, in ms. */
  maxTimeoutMs: 60_000,
  /** Of what a peer tells people, in characters; more is cut. */
  maxDetailLength: 256,
  /** Of the records of a frame, unless it has one alone: the most that any version sends. */
  maxRecordsBytes: 65_536,
  /** Of what one frame between regions carries, unless that is one summary, beacon or key alone. */
  maxBatchBytes: 262_144,
} as const;

/** Gives back what breaks no rule. Throws `invalid_argument` naming the fields of what does. */
export function checked<Message>(message: Message, check: (message: Message, problems: FieldProblems) => void): Message {
  const problems = new FieldProblems(PROTOCOL_BOUNDS);
  check(message, problems);
  problems.throwIfAny();
  return message;
}

/** What a peer says to people: cut, and without surprises for a terminal; never a reason to refuse. */
export function detailField(text: string): string {
  return text.slice(0, MESSAGE_BOUNDS.maxDetailLength).replaceAll(/[^\x20-\x7e]/g, "?");
}
