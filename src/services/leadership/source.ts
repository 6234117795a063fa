/** The interface of the leadership service to its node, which implements it with its leadership machine and its control store. */
import type { CampaignInput } from "../../control/leadership/campaigns.ts";
import type { LeaderEvents } from "../../control/leadership/events.ts";
import type { LeadershipEvent } from "../../control/leadership/io-types.ts";
import type { LeaderRecord, SessionRecord } from "../../control/leadership/records.ts";
import type { Time } from "../../lib/machine.ts";

export interface LeaderRow {
  readonly scope: string;
  /** Undefined if the record in the store cannot be read. The scope counts as held. */
  readonly record: LeaderRecord | undefined;
  /** Wall time (ms) at which the leader loses the scope if it does not renew its session. Undefined if this node does not know it. */
  readonly expiresWallMs: number | undefined;
}

export interface SessionRow {
  /** The name of the session: `<node>/<n>`. */
  readonly name: string;
  readonly version: number;
  /** Undefined if the record in the store cannot be read. */
  readonly record: SessionRecord | undefined;
}

export interface StoreStatus {
  readonly kind: "embedded" | "etcd";
  /** Empty until this node has read the store. */
  readonly id: string;
  /** 0 until this node has read the store. */
  readonly epoch: number;
  readonly revision: number;
  /** Time (ms) since the store last answered. 0 while it is available. */
  readonly ageMs: number;
  /** Why this node cannot be a leader. Empty if it can. */
  readonly fault: string;
}

/** This node has found another control store in its cluster. */
export interface SplitBrain {
  readonly kind: "split_brain";
  /** The other node and its store, for operators. */
  readonly detail: string;
}

export interface LeadershipSource {
  /** All leaders that this node knows, in no particular order. */
  leaders(time: Time): readonly LeaderRow[];
  /** Reads the sessions from the store. Rejects with `store_unavailable` if it does not answer. */
  sessions(): Promise<readonly SessionRow[]>;
  store(time: Time): StoreStatus;
  /** The leaders in the order of their events, and the recent events. */
  readonly events: Pick<LeaderEvents, "after" | "current" | "revision">;
  /** Calls `onEvent` with each event, until the returned function is called. */
  follow(onEvent: (event: LeadershipEvent | SplitBrain) => void): () => void;
  /** Asks the leader to resign. Rejects with `no_leader`, `version_conflict` or `store_unavailable`. */
  resign(scope: string, reason: string): Promise<void>;
  /** Raises the epoch of the store. Returns the new epoch. Rejects like `resign`. */
  raiseEpoch(): Promise<number>;
  /** Passes a message of a campaign, or its end, to the node. */
  input(input: CampaignInput): void;
}
