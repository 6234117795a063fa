/** What will happen in a simulation, said up front: a list of timed steps that can be replayed, and cut down when it fails. */
import type { Scope } from "../../src/catalog/entry/scope.ts";

export interface Place {
  readonly clusterId: string;
  readonly region: string;
}

/** What the clients do. Clients and nodes by index. */
export type WorkStep =
  | {
      readonly kind: "register";
      readonly client: number;
      readonly node: number;
      readonly variant: number;
      readonly scope: Scope;
      readonly ttlMs: number;
    }
  | { readonly kind: "unregister"; readonly client: number; readonly node: number }
  | { readonly kind: "abandon"; readonly client: number }
  | { readonly kind: "report"; readonly client: number; readonly health: 1 | 2 | 3 }
  | { readonly kind: "policy"; readonly node: number; readonly variant: number }
  /** The stream is cut and goes on at a node from its best cursor. */
  | { readonly kind: "watchMove"; readonly watch: number; readonly node: number }
  /** The stream is cut, and its cursors and content go to who asks for something else. */
  | { readonly kind: "watchElse"; readonly watch: number; readonly asked: number }
  | { readonly kind: "read"; readonly node: number };

/** What goes wrong; each undoes itself, so that any can be left out. */
export type FaultStep =
  | { readonly kind: "partition"; readonly side: readonly number[]; readonly forMs: number }
  | { readonly kind: "oneWay"; readonly from: number; readonly to: number; readonly forMs: number }
  | {
      readonly kind: "crash";
      readonly nodes: readonly number[];
      readonly isSilent: boolean;
      readonly isBatchKept: boolean;
      readonly isDiskLost: boolean;
      /** Undefined: for good. */
      readonly downMs: number | undefined;
    }
  | { readonly kind: "stop"; readonly node: number; readonly reason: "leave" | "restart"; readonly downMs: number | undefined }
  | { readonly kind: "freeze"; readonly node: number; readonly forMs: number }
  | { readonly kind: "skew"; readonly node: number; readonly byMs: number; readonly forMs: number }
  | {
      readonly kind: "weather";
      readonly loss: number;
      readonly duplicate: number;
      readonly reorder: number;
      readonly delayMs: number;
      readonly forMs: number;
    }
  | { readonly kind: "slow"; readonly from: number; readonly to: number; readonly bytesPerSecond: number; readonly forMs: number }
  | { readonly kind: "breakLinks"; readonly a: number; readonly b: number }
  /** The node runs with room for so few records of an origin; restarted before and after. */
  | { readonly kind: "tight"; readonly node: number; readonly records: number; readonly forMs: number }
  | { readonly kind: "diskFull"; readonly node: number; readonly forMs: number }
  /** A copy of the disk is taken, and some time later the node runs from it. */
  | { readonly kind: "backup"; readonly node: number; readonly afterMs: number };

export type Step = { readonly atMs: number } & (WorkStep | FaultStep);

export interface WatchPlan {
  readonly node: number;
  readonly filter: number;
  /** Time between two looks at the stream. */
  readonly everyMs: number;
  readonly budgetBytes: number;
}

export interface Plan {
  readonly seed: string;
  readonly places: readonly Place[];
  /** Indexes of the nodes that each one is told to join by. */
  readonly seeds: readonly (readonly number[])[];
  /** When each one starts first. */
  readonly startMs: readonly number[];
  readonly clientCount: number;
  readonly watches: readonly WatchPlan[];
  readonly steps: readonly Step[];
  /** Faults and work end here; what is still down is started, what is cut is healed. */
  readonly activeMs: number;
  /** By then everything must have come to rest. */
  readonly settleMs: number;
  readonly isUnruly: boolean;
  /** Messages cross as bytes. */
  readonly isEncoded: boolean;
  readonly delayMs: number;
  /** Each node's journal answers after this long, up to twice as long. */
  readonly commitMs: readonly number[];
  /** Time between two snapshots for a warm start; 0: none. */
  readonly snapshotMs: number;
  /** Links a node wants: with fewer than there are others, news takes more than one. */
  readonly maxLinks: number;
  /** Bytes of records in a frame. */
  readonly frameBytes: number;
  readonly tombstoneTtlMs: number;
  readonly minTombstones: number;
  /** Some entries are LOCAL. */
  readonly hasLocal: boolean;
}

/** One line a step, for people. */
export function wordsOf(step: Step): string {
  const { atMs, kind, ...rest } = step;
  return `${(atMs / 1000).toFixed(3).padStart(9)} ${kind} ${JSON.stringify(rest)}`;
}
