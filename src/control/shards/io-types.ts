/** The inputs and outputs of the shard machine that the leadership machine does not have. */

import type { FenceToken } from "../../lib/fence.ts";
import type { CampaignAnswer } from "../leadership/campaigns.ts";
import type { LeadershipOutput, OrderId } from "../leadership/io-types.ts";
import type { ShardRow } from "./maps.ts";
import type { OwnerRecord, PlanRecord, ShardSettings } from "./records.ts";

/** Who asks for a change, and why. */
export interface ChangeOrigin {
  /** The operator or the node. */
  readonly actor: string;
  readonly reason: string;
  readonly ticket: string;
}

/** An operator's change of a set. */
export type ShardOrder = ChangeOrigin & {
  readonly namespace: string;
  /** The order is refused with `version_conflict` unless the set has this epoch. Undefined: any. */
  readonly expectedEpoch: number | undefined;
} & (
    | { readonly kind: "apply"; readonly settings: ShardSettings }
    /** Undefined values stay as they are. */
    | {
        readonly kind: "setShard";
        readonly id: number;
        readonly mode: ShardRow["mode"] | undefined;
        readonly weight: number | undefined;
        readonly hint: string | undefined;
      }
    /** Removes the set, which must have no owners. */
    | { readonly kind: "delete" }
    /** Moves no shard of the set until this wall time (ms), unless its owner ends. 0: the set is not frozen. */
    | { readonly kind: "freeze"; readonly untilWallMs: number }
    /** Makes a plan with this id of the moves that the set needs. */
    | { readonly kind: "propose"; readonly planId: string; readonly isForced: boolean }
    /** Starts a plan that has this checksum. */
    | { readonly kind: "approve"; readonly planId: string; readonly checksum: string }
    /** The plan starts no further move. */
    | { readonly kind: "cancel"; readonly planId: string }
  );

/** The facts that an owner reports about itself. */
export const OWNER_FACTS = ["health", "isLeaving", "principal", "region", "slots", "target", "weight", "zone"] as const;
export type OwnerFacts = Pick<OwnerRecord, (typeof OWNER_FACTS)[number]>;

/** Receives the news of an attached owner, and identifies the attachment. */
export type OwnerSink = (news: OwnerNews) => void;

/** The state of a shard for its owner, or for its next owner. */
export type OwnedState =
  /** The owner gets ready to own the shard. */
  | "preparing"
  | "owned"
  /** The owner finishes its work and accepts no new work, but keeps the shard. */
  | "paused"
  /** The owner finishes its work, accepts no new work, and then reports that it has dropped the shard. */
  | "draining"
  /** The owner stops immediately. Its last validity still holds. */
  | "lost"
  /** The shard no longer concerns the owner. */
  | "released";

export interface OwnedShard {
  readonly id: number;
  readonly state: OwnedState;
  /** Undefined for `preparing` and `released`. */
  readonly fence: FenceToken | undefined;
  /** The epoch of the row. */
  readonly epoch: number;
  readonly isThrottled: boolean;
}

/** The load of a shard since the last report of its owner. */
export interface ShardReport {
  readonly id: number;
  /** Number of items that wait. */
  readonly depth: number;
  /** Mean time (ms) to process an item. */
  readonly latencyMs: number;
  readonly errorRatio: number;
  /** Processed items per second. */
  readonly rate: number;
}

export interface OwnerNews {
  /** The owner can act for its shards until this time (ms) after the sending of its last message. 0: it cannot act. */
  readonly validForMs: number;
  /** The shards whose state has changed since the last news. */
  readonly shards: readonly OwnedShard[];
  /** Why the owner is not attached yet. Empty if it is. */
  readonly waitsFor: string;
}

export type ShardInput =
  /** A message of an owner. The first one attaches it. */
  | {
      readonly kind: "owner";
      readonly owner: OwnerSink;
      readonly namespace: string;
      readonly instance: string;
      readonly facts: OwnerFacts;
      /** The shards for which the owner is ready, and the shards that it has dropped, since the last message. */
      readonly prepared: readonly number[];
      readonly dropped: readonly number[];
      /** Empty if the message is no report. */
      readonly reports: readonly ShardReport[];
    }
  /** The stream of an owner has ended. The owner can act until its last validity is over, unless it has stopped acting. */
  | { readonly kind: "ownerEnded"; readonly owner: OwnerSink; readonly hasStopped: boolean }
  /** Answered by `ordered`. */
  | { readonly kind: "changeShards"; readonly order: OrderId; readonly change: ShardOrder };

export type ShardOutput =
  | LeadershipOutput
  | CampaignAnswer
  | { readonly kind: "ownerNews"; readonly owner: OwnerSink; readonly news: OwnerNews }
  /** The map of a namespace, or its owners, can have changed. */
  | { readonly kind: "shardsChanged"; readonly namespace: string }
  /** A shard has changed its owner or the phase of its hand-over. Only the controller reports it. */
  | { readonly kind: "moved"; readonly namespace: string; readonly before: ShardRow; readonly after: ShardRow }
  /** A plan was made, or has ended. Only the controller reports it, unless an operator has done it. */
  | { readonly kind: "planned"; readonly id: string; readonly plan: PlanRecord };
