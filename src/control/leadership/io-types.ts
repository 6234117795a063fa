/** The inputs and outputs of the leadership machine. They are its entire interface to the node and to the simulator. */
import type { StoreChanges, StoreCondition, StoreWrite, TransactResult } from "../../store/control/store.ts";
import type { LeaderRecord } from "./records.ts";

/** Number of a request to the store. Each request is answered once. */
export type RequestId = number;
/** Number of an operator's order, assigned by the shell. */
export type OrderId = number;

export type LeadershipInput =
  | { readonly kind: "tick" }
  /** The answer to `transact`. Undefined if the outcome is unknown: the request failed, but can have had its effect or can still have it. */
  | { readonly kind: "transacted"; readonly request: RequestId; readonly result: TransactResult | undefined }
  /** A step of the watch on a prefix. Undefined if the watch is interrupted; it continues without another order. */
  | { readonly kind: "changed"; readonly prefix: string; readonly changes: StoreChanges | undefined }
  /** Whether this node may be a leader. If not, `fault` says why, for operators. */
  | { readonly kind: "eligible"; readonly fault: string }
  /** Whether this node leads no further scope on its own behalf. */
  | { readonly kind: "cordoned"; readonly isCordoned: boolean }
  /** Whether the events of this node have readers. If so, the node watches all sessions and reports renewals. */
  | { readonly kind: "follow"; readonly isFollowed: boolean }
  /** Whether this node needs a session even if it is no candidate. */
  | { readonly kind: "useSession"; readonly isUsed: boolean }
  /** This node is a candidate for a scope from now on, on behalf of a holder. */
  | { readonly kind: "stand"; readonly scope: string; readonly holderId: string }
  /** This node gives up a scope, and is no candidate for it any more. */
  | { readonly kind: "withdraw"; readonly scope: string; readonly reason: string }
  /**
   * The holder with this number of a fence acts until this monotonic time (ms), even if this node gives up the scope earlier. The record is not changed
   * before. A later input for the same or a later holder replaces the time.
   */
  | { readonly kind: "granted"; readonly scope: string; readonly number: number; readonly untilMs: number }
  /** An operator asks the leader of a scope to resign. Answered by `ordered`. */
  | { readonly kind: "resign"; readonly order: OrderId; readonly scope: string; readonly reason: string }
  /** An operator raises the epoch of the store. Answered by `ordered`. */
  | { readonly kind: "raiseEpoch"; readonly order: OrderId }
  /** Gives up all scopes and ends the session. Answered by `stopped`. */
  | { readonly kind: "stop" };

export type LeadershipOutput =
  | {
      readonly kind: "transact";
      readonly request: RequestId;
      readonly conditions: readonly StoreCondition[];
      readonly changes: readonly StoreWrite[];
    }
  /** Watches all keys with the prefix, from the beginning. */
  | { readonly kind: "watch"; readonly prefix: string }
  | { readonly kind: "unwatch"; readonly prefix: string }
  /** The store may forget all changes up to this revision. */
  | { readonly kind: "compact"; readonly revision: number }
  | { readonly kind: "ordered"; readonly order: OrderId; readonly refusal: OrderRefusal | undefined }
  /** A change of a leader that all nodes see, or that concerns only this node. */
  | { readonly kind: "event"; readonly event: LeadershipEvent }
  | { readonly kind: "stopped" };

/** Why an order was not carried out. */
export interface OrderRefusal {
  readonly reason:
    | "discovery_access_denied"
    | "invalid_argument"
    | "last_ready_node"
    | "no_leader"
    | "not_found"
    | "quota_exceeded"
    | "version_conflict"
    | "store_unavailable";
  readonly message: string;
}

export type LeadershipEventKind = "elected" | "renewed" | "stepped_down" | "expired" | "lost";

export interface LeadershipEvent {
  readonly kind: LeadershipEventKind;
  readonly scope: string;
  readonly leader: LeaderRecord;
  /** The revision of the change. 0 for events that not all nodes report: `expired`, and `lost`, which only the deposed holder reports. */
  readonly revision: number;
}
