/** What goes into the room's machine and what comes out of it: all that the shell and the simulator need to know of it. */
import type { Machine, Time } from "../lib/machine.ts";
import type { PolicyVia } from "../policy/versions/version.ts";
import type { CallRequest, CallResponse, LinkFrame, MemberFacts, MemberUpdate, PeerIdentity, PolicyHead } from "./wire/messages.ts";

/** Names a link for as long as its stream lives; given by whoever opens it: even from here, odd from the shell (`-1, -3, …` count too). */
export type LinkId = number;
/** Names a unary call; given by whoever starts it. */
export type CallId = number;

export type FabricInput =
  | { readonly kind: "tick" }
  /** Another node asks; answered by an `answer` of the same id. */
  | { readonly kind: "asked"; readonly call: CallId; readonly request: CallRequest; readonly identity: PeerIdentity }
  /** The response to a `call` of ours; undefined when it failed or took too long. `refusal`: somebody is there and turned us away, and why. */
  | { readonly kind: "answered"; readonly call: CallId; readonly response: CallResponse | undefined; readonly refusal?: string }
  /** A stream is open. `isIncoming`: the other side opened it, and `link` is new here. */
  | { readonly kind: "opened"; readonly link: LinkId; readonly isIncoming: boolean; readonly identity: PeerIdentity }
  | { readonly kind: "received"; readonly link: LinkId; readonly frame: LinkFrame }
  /** The stream is gone, or was never opened. */
  | { readonly kind: "closed"; readonly link: LinkId; readonly detail: string }
  /** The event loop was late by so much. */
  | { readonly kind: "lagged"; readonly lagMs: number }
  /** What this node says of itself is another now: a new generation, other labels. */
  | { readonly kind: "facts"; readonly facts: MemberFacts }
  /** The policy in force here is another now. */
  | { readonly kind: "policy"; readonly head: PolicyHead }
  /** The encoded policy version that `readPolicy` asked for. */
  | { readonly kind: "policyRead"; readonly number: number; readonly bytes: Uint8Array | undefined }
  /** What `adoptPolicy` offered cannot be put in force here: it is not asked for again. */
  | { readonly kind: "policyRefused"; readonly head: PolicyHead; readonly detail: string }
  /** This node will leave: it says so, and takes nothing over any more. */
  | { readonly kind: "leaving" }
  /** Asks another node to take own records over, by their numbers. */
  | { readonly kind: "offer"; readonly nodeId: string; readonly seqs: readonly number[] }
  /** Says goodbye to everybody within `withinMs`, or else in its own time; `Fabric.isStopped` when nothing is left to send. */
  | { readonly kind: "stop"; readonly reason: "leave" | "restart"; readonly withinMs?: number };

export type StopInput = Extract<FabricInput, { readonly kind: "stop" }>;

export type FabricOutput =
  | { readonly kind: "call"; readonly call: CallId; readonly to: string; readonly request: CallRequest; readonly timeoutMs: number }
  /** Undefined refuses; `why` is told to the asker. */
  | { readonly kind: "answer"; readonly call: CallId; readonly response: CallResponse | undefined; readonly why?: string }
  /** Open a stream to the address; answered by `opened` or `closed`. */
  | { readonly kind: "open"; readonly link: LinkId; readonly to: string }
  /** There is something to send on the link: call `pull` while its stream takes more. */
  | { readonly kind: "send"; readonly link: LinkId }
  /** What `pull` still has may be sent, then the stream ends. */
  | { readonly kind: "close"; readonly link: LinkId }
  /** The replica changed by what was received. */
  | { readonly kind: "changed" }
  /** Own live records that another origin's `unregistered`, or a mark, hides: whoever drives this ends them at once (`Endings.superseded`). */
  | { readonly kind: "superseded"; readonly keys: readonly string[] }
  /**
   * A peer knows more of our own generation than our journal does: take a new generation. All that is held goes on under it (`startNewGeneration`), and
   * nothing is written again. `above`: others know that generation already.
   */
  | { readonly kind: "generationLost"; readonly peerNodeId: string; readonly seq: number; readonly above?: number }
  /** A node that leaves offers records of its own: to be taken over, unless somebody has written or taken out their keys since. */
  | { readonly kind: "offered"; readonly nodeId: string; readonly generation: number; readonly seqs: readonly number[] }
  | { readonly kind: "readPolicy"; readonly number: number }
  | { readonly kind: "adoptPolicy"; readonly head: PolicyHead; readonly bytes: Uint8Array; readonly via: PolicyVia }
  | { readonly kind: "memberChanged"; readonly update: MemberUpdate }
  /** It went so long ago that nothing is known of it any more. */
  | { readonly kind: "memberForgotten"; readonly nodeId: string }
  /** For the log, and with `isAudited` for the audit. */
  | { readonly kind: "event"; readonly event: FabricEvent };

/** Something an operator may want to know, with what it concerns. */
export interface FabricEvent {
  readonly name: string;
  readonly severity: "debug" | "info" | "warn" | "error";
  readonly isAudited: boolean;
  readonly detail: Readonly<Record<string, string | number>>;
}

/** An event as it goes out; not for the audit unless said so. */
export function eventOutput(
  name: string,
  severity: FabricEvent["severity"],
  detail: FabricEvent["detail"],
  { isAudited }: Pick<FabricEvent, "isAudited"> = { isAudited: false },
): Extract<FabricOutput, { readonly kind: "event" }> {
  return { kind: "event", event: { name, severity, isAudited, detail } };
}

export type FabricMachine = Machine<FabricInput, FabricOutput> & {
  /** The next frame for a link; undefined when there is nothing now. At most `maxFrameBytes` unless one record is larger. */
  pull(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined;
  readonly calls: {
    /** Whether calls of who proves this are refused, whatever they ask: little is read of them. */
    isStranger(identity: PeerIdentity): boolean;
  };
};
