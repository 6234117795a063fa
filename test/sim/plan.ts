/** A plan says up front what will happen in a simulation. It is a list of timed steps that can be replayed, and shortened when the run fails. */

import type { Scope } from "../../src/catalog/entry/scope.ts";
import type { StoreFault } from "./sim-store.ts";

export interface Place {
  readonly clusterId: string;
  readonly region: string;
}

/** What the clients do. Clients and nodes are named by index. */
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
  /** The stream is cut, and resumes at a node from its best cursor. */
  | { readonly kind: "watchMove"; readonly watch: number; readonly node: number }
  /** The stream is cut, and a stream with another filter or viewer takes over its cursors and content. */
  | { readonly kind: "watchElse"; readonly watch: number; readonly asked: number }
  | { readonly kind: "read"; readonly node: number }
  | OperatorStep;

/** An operator asks the node `by` for a change of a node, and does not force it. */
export interface OperatorStep {
  readonly kind: "operate";
  readonly operation: "cordon" | "drain" | "forget" | "uncordon";
  readonly node: number;
  readonly by: number;
  /** Of a drain. */
  readonly deadlineMs?: number;
}

/** What goes wrong. Each fault ends by itself, so that any of them can be left out. */
export type FaultStep =
  | { readonly kind: "partition"; readonly side: readonly number[]; readonly forMs: number }
  | { readonly kind: "oneWay"; readonly from: number; readonly to: number; readonly forMs: number }
  | {
      readonly kind: "crash";
      readonly nodes: readonly number[];
      readonly isSilent: boolean;
      readonly isBatchKept: boolean;
      readonly isDiskLost: boolean;
      /** Undefined: the nodes never come back. */
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
  /** The node runs with room for only this many records of an origin. It restarts before and after. */
  | { readonly kind: "tight"; readonly node: number; readonly records: number; readonly forMs: number }
  | { readonly kind: "diskFull"; readonly node: number; readonly forMs: number }
  /** The control store of a node is slow, loses answers, or is down. */
  | ({ readonly kind: "store"; readonly node: number; readonly forMs: number } & StoreFault)
  /** A copy of the disk is made, and later the node runs from it. */
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
  /** For each node, the indexes of the nodes that it joins by. */
  readonly seeds: readonly (readonly number[])[];
  /** When each node starts for the first time. */
  readonly startMs: readonly number[];
  readonly clientCount: number;
  readonly watches: readonly WatchPlan[];
  readonly steps: readonly Step[];
  /** Faults and work end at this time: nodes that are down are started, and cuts are healed. */
  readonly activeMs: number;
  /** Within this time after that, everything must have come to rest. */
  readonly settleMs: number;
  readonly isUnruly: boolean;
  /** Messages cross as bytes. */
  readonly isEncoded: boolean;
  readonly delayMs: number;
  /** For each node, the least time until its journal answers; the most is twice as long. */
  readonly commitMs: readonly number[];
  /** Time between two snapshots for a warm start; 0: none. */
  readonly snapshotMs: number;
  /** Links that a node wants. With fewer links than other nodes, news travels over several. */
  readonly maxLinks: number;
  /** Bytes of records in a frame. */
  readonly frameBytes: number;
  readonly tombstoneTtlMs: number;
  readonly minTombstones: number;
  /** Some entries are LOCAL. */
  readonly hasLocal: boolean;
}

/** A step as one line for people. */
export function wordsOf(step: Step): string {
  const { atMs, kind, ...rest } = step;
  return `${(atMs / 1000).toFixed(3).padStart(9)} ${kind} ${JSON.stringify(rest)}`;
}
