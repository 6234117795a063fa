/** The inputs and outputs of this room's machine. The shell and the simulator need to know nothing else of it. */
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

/** Names a link for as long as its stream lives. The side that opens it gives the number: even from this room (negative ones are of borders), odd from the shell (`-1, -3, …` too). */
export type LinkId = number;
/** Names a unary call. The side that starts it gives the number. */
export type CallId = number;

export type FabricInput =
  | { readonly kind: "tick" }
  /** Another node asks. The answer is an `answer` with the same id. */
  | { readonly kind: "asked"; readonly call: CallId; readonly request: FabricCallRequest; readonly identity: PeerIdentity }
  /** The response to a `call` of ours. Undefined when it failed or took too long. `refusal`: why a node that is there turned us away. */
  | { readonly kind: "answered"; readonly call: CallId; readonly response: FabricCallResponse | undefined; readonly refusal?: string }
  /** A stream is open. `isIncoming`: the other side opened it, and `link` is new here. */
  | { readonly kind: "opened"; readonly link: LinkId; readonly isIncoming: boolean; readonly identity: PeerIdentity }
  | { readonly kind: "received"; readonly link: LinkId; readonly frame: LinkFrame }
  /** The stream is gone, or was never opened. */
  | { readonly kind: "closed"; readonly link: LinkId; readonly detail: string }
  /** The event loop was late by this time. */
  | { readonly kind: "lagged"; readonly lagMs: number }
  /** The facts of this node changed: a new generation, other labels. */
  | { readonly kind: "facts"; readonly facts: MemberFacts }
  /** Another policy is in force here now. */
  | { readonly kind: "policy"; readonly head: PolicyHead }
  /** The encoded policy version that `readPolicy` asked for. */
  | { readonly kind: "policyRead"; readonly number: number; readonly bytes: Uint8Array | undefined }
  /** The policy of an `adoptPolicy` cannot be put in force here. It is not asked for again. */
  | { readonly kind: "policyRefused"; readonly head: PolicyHead; readonly detail: string }
  /** This node will leave. It tells the others, and takes nothing over any more. */
  | { readonly kind: "leaving" }
  /** Asks another node to take over records of this node, by their numbers. */
  | { readonly kind: "offer"; readonly nodeId: string; readonly seqs: readonly number[] }
  /** Gives another node an order about entries that are registered with it. `maintained` follows with the same number, which is above 0 and new. */
  | { readonly kind: "maintain"; readonly order: number; readonly nodeId: string; readonly maintain: MaintenanceCall }
  /** Says goodbye to all peers within `withinMs`, or within the bound of the options. `Fabric.isStopped` tells when nothing is left to send. */
  | { readonly kind: "stop"; readonly reason: "leave" | "restart"; readonly withinMs?: number };

export type StopInput = Extract<FabricInput, { readonly kind: "stop" }>;

export type FabricOutput =
  | { readonly kind: "call"; readonly call: CallId; readonly to: string; readonly request: FabricCallRequest; readonly timeoutMs: number }
  /** An undefined response refuses the call. `why` is sent to the asker. */
  | { readonly kind: "answer"; readonly call: CallId; readonly response: FabricCallResponse | undefined; readonly why?: string }
  /** Open a stream to the address. The answer is `opened` or `closed`. `border`: to a node of the border with this cluster, with what goes with that. */
  | { readonly kind: "open"; readonly link: LinkId; readonly to: string; readonly border?: string }
  /** The link has something to send: call `pull` while its stream takes more. */
  | { readonly kind: "send"; readonly link: LinkId }
  /** Send what `pull` still has, then end the stream. */
  | { readonly kind: "close"; readonly link: LinkId }
  /** More came over the link than this node takes: it is not read for so long. */
  | { readonly kind: "rest"; readonly link: LinkId; readonly forMs: number }
  /** Received data changed the replica. */
  | { readonly kind: "changed" }
  /** Own live records that an `unregistered` of another origin, or a mark, hides, or about which another node has a newer order. The driver looks at them at once (`Registrar.hear`). */
  | { readonly kind: "superseded"; readonly keys: readonly string[] }
  /**
   * A peer knows more of our own generation than our journal does: take a new generation. All records continue under it (`startNewGeneration`), and
   * none is written again. `above`: others know that generation already.
   */
  | { readonly kind: "generationLost"; readonly peerNodeId: string; readonly seq: number; readonly above?: number }
  /** A node that leaves offers records of its own. They are taken over, unless their keys were written or removed since. */
  | { readonly kind: "offered"; readonly nodeId: string; readonly generation: number; readonly seqs: readonly number[] }
  /** Another node gives an order about entries that are registered here. Answered by an `answer` with that number. */
  | { readonly kind: "ordered"; readonly call: CallId; readonly request: MaintainRequest }
  /** What came of `maintain`. */
  | { readonly kind: "maintained"; readonly order: number; readonly maintained: MaintenanceResult }
  | { readonly kind: "readPolicy"; readonly number: number }
  | { readonly kind: "adoptPolicy"; readonly head: PolicyHead; readonly bytes: Uint8Array; readonly via: PolicyVia }
  | { readonly kind: "memberChanged"; readonly update: MemberUpdate }
  /** A member went so long ago that nothing is known of it any more. */
  | { readonly kind: "memberForgotten"; readonly nodeId: string }
  /** For the log, and with `isAudited` for the audit. */
  | { readonly kind: "event"; readonly event: FabricEvent };

/** Something that an operator may want to know, with its details. */
export interface FabricEvent {
  readonly name: string;
  readonly severity: "debug" | "info" | "warn" | "error";
  readonly isAudited: boolean;
  readonly detail: Readonly<Record<string, string | number>>;
}

/** An event as an output. It does not go into the audit unless `isAudited` is set. */
export function eventOutput(
  name: string,
  severity: FabricEvent["severity"],
  detail: FabricEvent["detail"],
  { isAudited }: Pick<FabricEvent, "isAudited"> = { isAudited: false },
): Extract<FabricOutput, { readonly kind: "event" }> {
  return { kind: "event", event: { name, severity, isAudited, detail } };
}

export type FabricMachine = Machine<FabricInput, FabricOutput> & {
  /** The next frame for a link. Undefined when there is none now. It has at most `maxFrameBytes`, unless one record is larger. */
  pull(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined;
  readonly calls: {
    /** Whether calls with this identity are refused, whatever they ask. Only little of such a call is read. */
    isStranger(identity: PeerIdentity): boolean;
  };
};
