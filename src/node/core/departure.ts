/**
 * The departure of a node before its process ends: the node ends its leased entries, hands over its static entries, and announces its departure
 * (semantics.md, Stop).
 */
import type { CommitCycle } from "../../discovery/registrar/commit-cycle.ts";
import { NOTHING_TO_WAIT_FOR } from "../../discovery/registrar/commit-cycle.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import type { FabricInput } from "../../fabric/io-types.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { SnapshotScheduler } from "./snapshots.ts";

/** Maximum number of own entries that are ended in one batch. */
const BATCH_COUNT = 1000;
/** Interval at which the node checks whether others have accepted the offered entries, in ms. */
const STEP_MS = 20;
/** Share of the departure's time for the hand-over. The remaining time is for the announcement. */
const HAND_OVER_SHARE = 0.5;
/** Share of the remaining time in which the fabric announces the departure. The remaining time is for the last snapshot. */
const GOODBYE_SHARE = 0.5;

export type DepartureReason = "leave" | "restart";

export interface DepartureParts {
  readonly registrar: Pick<Registrar, "endOwn" | "handOver">;
  readonly commits: Pick<CommitCycle, "durable">;
  readonly fabric: Pick<Fabric, "isStopped" | "leaving">;
  readonly snapshots: Pick<SnapshotScheduler, "isOver" | "last">;
}

/** Result of the hand-over of own static entries. */
export interface HandedOver {
  /** Number of entries that other nodes serve from now on. */
  readonly takenCount: number;
  /** Number of entries that no node is known to have accepted. These entries remain with this node, which announces a restart. */
  readonly leftCount: number;
  /** Number of remaining entries that were offered to a node that did not respond. That node may accept them later. */
  readonly unansweredCount: number;
  /** Number of LOCAL entries. Other nodes do not know them, and they end with this node. */
  readonly localEndedCount: number;
}

type DepartureState =
  | { readonly kind: "serving" }
  /** Own entries up to the change number `after` have ended. If `after` is undefined, all of them have. */
  | {
      readonly kind: "ending";
      readonly after: number | undefined;
      /** Start time of the last batch. */
      readonly before: number | undefined;
      readonly nextMonoMs: number;
      readonly untilMonoMs: number;
    }
  | { readonly kind: "handing"; readonly nextMonoMs: number; readonly untilMonoMs: number }
  | { readonly kind: "goodbye"; readonly reason: DepartureReason; readonly untilMonoMs: number }
  /** The departure is announced, but the last snapshot is not written yet. */
  | { readonly kind: "saving"; readonly reason: DepartureReason }
  | { readonly kind: "gone"; readonly reason: DepartureReason };

/** Orders from one step. */
export interface DepartureOrders {
  /** Inputs for the fabric, in this order. */
  readonly inputs: readonly FabricInput[];
  /** The hand-over has ended, and the announcement follows. */
  readonly handedOver?: HandedOver | undefined;
  /** The node has stopped sending. */
  readonly gone?: DepartureReason | undefined;
}

const NOTHING: DepartureOrders = { inputs: [] };

export class NodeDeparture {
  readonly #parts: DepartureParts;
  #state: DepartureState = { kind: "serving" };
  #endMonoMs = 0;

  constructor(parts: DepartureParts) {
    this.#parts = parts;
  }

  /** Whether the departure has begun. After that, the node neither accepts entries from other nodes nor starts a new generation. */
  get hasBegun(): boolean {
    return this.#state.kind !== "serving";
  }

  /**
   * `isLeaving`: other nodes will serve this node's entries. A node without peers keeps all entries, because no other node could take them over.
   * Idempotent.
   */
  begin(isLeaving: boolean, withinMs: number, time: Time): DepartureOrders {
    if (this.hasBegun) return NOTHING;
    this.#endMonoMs = time.monoMs + withinMs;
    if (!isLeaving) return this.#announce("restart", time);
    this.#state = { kind: "ending", after: 0, before: 0, nextMonoMs: time.monoMs, untilMonoMs: time.monoMs + withinMs * HAND_OVER_SHARE };
    return { inputs: [{ kind: "leaving" }] };
  }

  /** Must be called when the disk refused a batch. The entries in the batch have not ended, and the node will end them again. */
  refused({ monoMs }: Time): void {
    if (this.#state.kind === "ending") this.#state = { ...this.#state, after: this.#state.before, nextMonoMs: monoMs + STEP_MS };
  }

  /** Performs the next step if it is due. Must be called after each input. */
  step(time: Time): DepartureOrders {
    switch (this.#state.kind) {
      case "serving":
      case "gone":
        return NOTHING;
      case "ending":
      case "handing":
        // Each step must be durable before the next one. A disk that does not respond delays the stop, but not beyond its deadline.
        if (!this.#isDurable) return time.monoMs < this.#endMonoMs ? NOTHING : this.#go("restart");
        if (time.monoMs < this.#state.nextMonoMs) return NOTHING;
        return this.#state.kind === "ending" ? this.#end(this.#state, time) : this.#handOver(this.#state, time);
      case "goodbye":
        if (!this.#parts.fabric.isStopped(time) && time.monoMs < this.#state.untilMonoMs) return NOTHING;
        this.#state = { kind: "saving", reason: this.#state.reason };
        return this.#save(this.#state, time);
      case "saving":
        return this.#save(this.#state, time);
    }
  }

  nextDeadlineMs(): number {
    switch (this.#state.kind) {
      case "serving":
      case "gone":
        return NEVER;
      case "ending":
      case "handing":
        return this.#isDurable ? this.#state.nextMonoMs : this.#endMonoMs;
      case "goodbye":
        return this.#state.untilMonoMs;
      case "saving":
        return this.#endMonoMs;
    }
  }

  get #isDurable(): boolean {
    return this.#parts.commits.durable() === NOTHING_TO_WAIT_FOR;
  }

  #end({ after, untilMonoMs }: Extract<DepartureState, { kind: "ending" }>, time: Time): DepartureOrders {
    const { registrar } = this.#parts;
    if (after === undefined || time.monoMs >= untilMonoMs) {
      registrar.handOver.begin(time);
      this.#state = { kind: "handing", nextMonoMs: time.monoMs, untilMonoMs };
    } else {
      const next = registrar.endOwn(after, BATCH_COUNT, time);
      this.#state = { kind: "ending", after: next, before: after, nextMonoMs: time.monoMs, untilMonoMs };
    }
    return NOTHING;
  }

  #handOver({ untilMonoMs }: Extract<DepartureState, { kind: "handing" }>, time: Time): DepartureOrders {
    const { registrar, fabric } = this.#parts;
    if (time.monoMs >= untilMonoMs) return this.#handedOver(time);
    const { offers, isOver } = registrar.handOver.step(fabric.leaving.takers(), time);
    if (isOver) return this.#handedOver(time);
    this.#state = { kind: "handing", nextMonoMs: time.monoMs + STEP_MS, untilMonoMs };
    return { inputs: offers.map(({ nodeId, seqs }) => ({ kind: "offer", nodeId, seqs })) };
  }

  #handedOver(time: Time): DepartureOrders {
    const { takenCount, localEndedCount } = this.#parts.registrar.handOver;
    const { leftCount, unansweredCount } = this.#parts.registrar.handOver.untaken();
    const goodbye = this.#announce(leftCount > 0 ? "restart" : "leave", time);
    return { ...goodbye, handedOver: { takenCount, leftCount, unansweredCount, localEndedCount } };
  }

  #announce(reason: DepartureReason, time: Time): DepartureOrders {
    const withinMs = Math.max(0, this.#endMonoMs - time.monoMs) * GOODBYE_SHARE;
    this.#state = { kind: "goodbye", reason, untilMonoMs: time.monoMs + withinMs };
    // The age of the snapshot is set now, while messages from other nodes still arrive.
    this.#parts.snapshots.last(time);
    return { inputs: [{ kind: "stop", reason, withinMs }] };
  }

  #save({ reason }: Extract<DepartureState, { kind: "saving" }>, time: Time): DepartureOrders {
    return !this.#parts.snapshots.isOver && time.monoMs < this.#endMonoMs ? NOTHING : this.#go(reason);
  }

  #go(reason: DepartureReason): DepartureOrders {
    this.#state = { kind: "gone", reason };
    return { inputs: [], gone: reason };
  }
}
