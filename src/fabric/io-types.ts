/** The inputs and outputs of the fabric's state machine. They are its entire interface to the shell and the simulator. */
import type { Machine, Time } from "../lib/machine.ts";
import type { PolicyVia } from "../policy/versions/version.ts";
import type {
  FabricCallRequest,
  FabricCallResponse,
  LinkFrame,
  MaintainRequest,
  MaintenanceCall,
  MaintenanceResult,
  MemberFacts,
  MemberUpdate,
  PeerIdentity,
  PolicyHead,
} from "./wire/messages.ts";

/**
 * Identifies a link for as long as its stream exists. The side that opens the link assigns the number: even from the machine (negative numbers are
 * border links), odd from the shell (`-1, -3, …` too).
 */
export type LinkId = number;
/** Identifies a unary call. The side that starts the call assigns the number. */
export type CallId = number;

export type FabricInput =
  | { readonly kind: "tick" }
  /** A call from another node. The machine replies with an `answer` that has the same id. */
  | { readonly kind: "asked"; readonly call: CallId; readonly request: FabricCallRequest; readonly identity: PeerIdentity }
  /**
   * The response to a `call` that this node made. Undefined when the call failed or timed out. `refusal`: the reason, when the other node is up and
   * refused the call. `hasEnded`: the other node was reached, and a certificate has ended, so that the call shows nothing about the other node.
   */
  | {
      readonly kind: "answered";
      readonly call: CallId;
      readonly response: FabricCallResponse | undefined;
      readonly refusal?: string;
      readonly hasEnded?: boolean;
    }
  /** A stream is open. `isIncoming`: the other side opened the link, and `link` is a number that the machine has not seen before. */
  | { readonly kind: "opened"; readonly link: LinkId; readonly isIncoming: boolean; readonly identity: PeerIdentity }
  | { readonly kind: "received"; readonly link: LinkId; readonly frame: LinkFrame }
  /** The stream ended or could not be opened. */
  | { readonly kind: "closed"; readonly link: LinkId; readonly detail: string }
  /** The event loop was blocked for this time. */
  | { readonly kind: "lagged"; readonly lagMs: number }
  /** This node's facts have changed, such as its generation or its labels. */
  | { readonly kind: "facts"; readonly facts: MemberFacts }
  /** Operators want a node to be forgotten that is dead or has left. Its entries are dropped immediately. Ignored for a node that is alive. */
  | { readonly kind: "forget"; readonly nodeId: string }
  /** Another policy is now in force on this node. */
  | { readonly kind: "policy"; readonly head: PolicyHead }
  /** The encoded policy version that `readPolicy` requested. */
  | { readonly kind: "policyRead"; readonly number: number; readonly bytes: Uint8Array | undefined }
  /** The policy in an `adoptPolicy` cannot be put in force on this node. The policy is not requested again. */
  | { readonly kind: "policyRefused"; readonly head: PolicyHead; readonly detail: string }
  /** This node will leave. It announces the leave to its peers and no longer takes over entries. */
  | { readonly kind: "leaving" }
  /** Asks another node to take over this node's records with the given seqs. */
  | { readonly kind: "offer"; readonly nodeId: string; readonly seqs: readonly number[] }
  /**
   * Sends another node a maintenance override for entries that are registered with it. `maintained` follows with the same `order` number,
   * which must be new and above 0.
   */
  | { readonly kind: "maintain"; readonly order: number; readonly nodeId: string; readonly maintain: MaintenanceCall }
  /**
   * Sends a goodbye to all peers within `withinMs`, or within the timeout of the options. `Fabric.isStopped` reports when everything has been sent.
   */
  | { readonly kind: "stop"; readonly reason: "leave" | "restart"; readonly withinMs?: number };

export type StopInput = Extract<FabricInput, { readonly kind: "stop" }>;

export type FabricOutput =
  | { readonly kind: "call"; readonly call: CallId; readonly to: string; readonly request: FabricCallRequest; readonly timeoutMs: number }
  /** An undefined response refuses the call. `why` is sent to the caller. */
  | { readonly kind: "answer"; readonly call: CallId; readonly response: FabricCallResponse | undefined; readonly why?: string }
  /**
   * Opens a stream to the address. The shell replies with `opened` or `closed`. `border`: the cluster id of the border, for a stream to another
   * region. The stream uses the credentials of that border.
   */
  | { readonly kind: "open"; readonly link: LinkId; readonly to: string; readonly border?: string }
  /** The link has something to send: call `pull` for as long as its stream accepts more. */
  | { readonly kind: "send"; readonly link: LinkId }
  /** Sends the frames that `pull` still returns, then ends the stream. */
  | { readonly kind: "close"; readonly link: LinkId }
  /** The peer sent more on the link than this node accepts: stop reading from the link for this time. */
  | { readonly kind: "rest"; readonly link: LinkId; readonly forMs: number }
  /** The received data has changed the replica. */
  | { readonly kind: "changed" }
  /**
   * This node's own live records that are hidden by another origin's `unregistered` or by a lost-origin watermark, or for which another node has a
   * newer maintenance override. The driver checks them immediately (`Registrar.hear`).
   */
  | { readonly kind: "superseded"; readonly keys: readonly string[] }
  /**
   * A peer has later changes of this node's own generation than this node's journal: start a new generation. All records continue under the new
   * generation (`startNewGeneration`) without being written again. `above`: a generation that other nodes already know. The new generation must be
   * higher.
   */
  | { readonly kind: "generationLost"; readonly peerNodeId: string; readonly seq: number; readonly above?: number }
  /** A leaving node offers some of its records to this node. This node takes them over, unless their keys were written or removed in the meantime. */
  | { readonly kind: "offered"; readonly nodeId: string; readonly generation: number; readonly seqs: readonly number[] }
  /** Another node sends a maintenance override for entries that are registered on this node. The reply is an `answer` with this call's number. */
  | { readonly kind: "ordered"; readonly call: CallId; readonly request: MaintainRequest }
  /** The result of `maintain`. */
  | { readonly kind: "maintained"; readonly order: number; readonly maintained: MaintenanceResult }
  | { readonly kind: "readPolicy"; readonly number: number }
  | { readonly kind: "adoptPolicy"; readonly head: PolicyHead; readonly bytes: Uint8Array; readonly via: PolicyVia }
  | { readonly kind: "memberChanged"; readonly update: MemberUpdate }
  /** This node's own facts, status or incarnation changed. */
  | { readonly kind: "selfChanged" }
  /** The link to a member came up or went down. */
  | { readonly kind: "linkChanged"; readonly nodeId: string }
  /** A member has been gone for so long that this node has forgotten it. */
  | { readonly kind: "memberForgotten"; readonly nodeId: string }
  /** An event for the log and, if `isAudited` is true, for the audit log. */
  | { readonly kind: "event"; readonly event: FabricEvent };

/** An event of interest to operators, with its details. */
export interface FabricEvent {
  readonly name: string;
  readonly severity: "debug" | "info" | "warn" | "error";
  readonly isAudited: boolean;
  readonly detail: Readonly<Record<string, string | number>>;
  /** The entries that the record in the audit log lists, in addition to the entry or node in `detail`. */
  readonly subjects?: readonly string[] | undefined;
}

/** Creates an output for an event. The event is audited only if `isAudited` is set. */
export function eventOutput(
  name: string,
  severity: FabricEvent["severity"],
  detail: FabricEvent["detail"],
  audit: Pick<FabricEvent, "isAudited" | "subjects"> = { isAudited: false },
): Extract<FabricOutput, { readonly kind: "event" }> {
  return { kind: "event", event: { name, severity, detail, ...audit } };
}

export type FabricMachine = Machine<FabricInput, FabricOutput> & {
  /**
   * Returns the next frame for a link, or undefined when there is none now. A frame has at most `maxFrameBytes` bytes, unless a single record is
   * larger.
   */
  pull(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined;
  readonly calls: {
    /** Returns whether every call from this identity is refused. In that case, the transport reads only a small part of the call. */
    isStranger(identity: PeerIdentity): boolean;
  };
};
