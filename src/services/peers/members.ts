/** The members and the state of replication, as services read them from the fabric. */
import type { OriginStatus } from "../../catalog/record/record.ts";
import type { LinkRow } from "../../fabric/links/link-state.ts";
import type { MemberEvidence } from "../../fabric/membership/members.ts";
import type { MemberUpdate } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";

/** A member, with this node's measurements of it. */
export interface MemberRow extends MemberUpdate {
  readonly lastSeenWallMs: number | undefined;
  readonly rttMs: number | undefined;
  readonly isSelf: boolean;
  readonly isLinked: boolean;
}

export interface MemberExplanation {
  /** Oldest first. */
  readonly events: readonly MemberEvidence[];
  /** Time after which a suspected member is declared dead. */
  readonly suspicionEndsWallMs: number | undefined;
  readonly confirmedBy: readonly string[];
}

export interface OriginLagRow {
  readonly nodeId: string;
  readonly generation: number;
  /** "unknown" if this node has no records of the origin. */
  readonly life: OriginStatus | "unknown";
  /** The value is 0 while this node lacks records from the origin because it refused some of them. */
  readonly through: number;
  /** The highest seq that a peer is known to have or that this node received. The value is at least `through`. */
  readonly known: number;
  readonly floor: number;
  /** Number of records refused since the origin was last complete on this node. */
  readonly refused: number;
  /** The reason why the origin is partial. Empty if it is not partial. */
  readonly whyPartial: string;
}

export interface LinkLagRow {
  readonly nodeId: string;
  readonly address: string;
  readonly state: LinkRow["state"];
  readonly isIncoming: boolean;
  readonly isCaughtUp: boolean;
  readonly framesSent: number;
  readonly framesReceived: number;
  /** Number of changes that the peer has and this node lacks. */
  readonly behind: number;
  /** How long the peer has been ahead. 0 if it is not ahead. */
  readonly behindMs: number;
}

export interface LagReport {
  readonly isReady: boolean;
  readonly isCaughtUp: boolean;
  /** Whether this node has stopped hiding origins, because too many of them vanished at the same time. */
  readonly isProtected: boolean;
  readonly detail: string;
  readonly ageMs: number;
  readonly origins: readonly OriginLagRow[];
  readonly links: readonly LinkLagRow[];
}

/** The members and the state of their replication, read from the fabric. */
export interface MemberDirectory {
  /** Returns every member, including this node, in no particular order. */
  members(time: Time): readonly MemberRow[];
  member(nodeId: string, time: Time): MemberRow | undefined;
  story(nodeId: string, time: Time): MemberExplanation;
  lag(time: Time): LagReport;
  /** Calls `onChange` with each member that changes, until the returned function is called. */
  follow(onChange: (nodeId: string) => void): () => void;
}

/** The serving node. */
export interface ServingNode {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  /** Id of this process instance of the node. */
  readonly boot: string;
}
