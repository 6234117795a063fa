/** What keeps a node from taking writes, or from being ready: its clock, another start under its id, and refusals of other nodes. */
import type { Fabric } from "../../fabric/fabric.ts";
import type { Membership } from "../../fabric/membership/membership.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { OwnClock } from "./own-clock.ts";
import { OwnStart, type StartLook } from "./own-start.ts";

const RETRY_MS = 1000;

/** The parts of a fabric that a node's standing is read from. */
export interface Seen {
  readonly membership: Pick<Membership, "askClocks" | "clock" | "counts" | "dispute" | "hasJoined" | "isUnconfirmed" | "refusers">;
  readonly isReady: Fabric["isReady"];
  readiness(time: Time): Pick<ReturnType<Fabric["readiness"]>, "reason" | "detail">;
}

export interface StandingLook extends StartLook {
  /** An event about the clock, for people. */
  readonly clockEvent?: ReturnType<OwnClock["look"]>;
}

export class Standing {
  readonly #clock: OwnClock;
  readonly #start: OwnStart;
  #joinFault = "";
  #isRefused = false;
  /** Whether a write waits for other nodes to confirm this start. */
  #isAwaited = false;

  /** `hasSeeds`: this node is to meet others. A node that stands alone never has a fault. */
  constructor(nodeId: string, hasSeeds: boolean) {
    this.#clock = new OwnClock(hasSeeds);
    this.#start = new OwnStart(nodeId);
  }

  /** To be called after each input. `address`: where other nodes reach this one. `isReady`: it was ready once. */
  look(fabric: Seen, { address, isReady }: { readonly address: string; readonly isReady: boolean }, time: Time): StandingLook {
    const { membership } = fabric;
    const clockEvent = this.#clock.look(membership, isReady, time);
    const start = this.#start.look(membership.dispute(time), address, time);
    this.#isRefused = isRefusedByMost(membership);
    this.#joinFault = joinFaultOf(fabric, time);
    return clockEvent === undefined ? start : { ...start, clockEvent };
  }

  /**
   * After a standstill of this process other nodes may have accepted another start. Until they have answered, no write is taken or acknowledged.
   * A caller that gets true has to wait until `takeConfirmed` says so.
   */
  mustConfirm({ membership }: Seen, time: Time): boolean {
    const isUnconfirmed = membership.isUnconfirmed(time);
    this.#isAwaited ||= isUnconfirmed;
    return isUnconfirmed;
  }

  /** Whether the writes that wait are to be answered now, because others accept this start or hold another one. True once for each wait. */
  takeConfirmed({ membership }: Seen, time: Time): boolean {
    if (!this.#isAwaited || (this.#start.fault === "" && membership.isUnconfirmed(time))) return false;
    this.#isAwaited = false;
    return true;
  }

  get clockFault(): string {
    return this.#clock.fault;
  }

  /** Whether a start has to wait, for the clocks of others or because another start goes under its id. */
  get isWaiting(): boolean {
    return this.#clock.isComparing || this.#start.fault !== "";
  }

  /** What makes a node unready although it has caught up. Empty when nothing does. */
  get fault(): string {
    return this.#clock.fault || this.fabricFault;
  }

  /** As `fault`, without the clock, which has a line of its own. */
  get fabricFault(): string {
    return this.#start.fault || (this.#isRefused ? "most other nodes refuse what this one says of itself" : "");
  }

  /** Why a durable write may not be acknowledged. Undefined when it may. */
  get refusal(): WaymarkError | undefined {
    return this.#start.refusal;
  }

  /** Throws `not_ready` while another start goes under this node's id. */
  checkStart(): void {
    const { refusal } = this.#start;
    if (refusal !== undefined) throw refusal;
  }

  /** Throws `clock_skew` or `not_ready` while this node is to take no writes. */
  checkWrites(): void {
    this.checkStart();
    if (this.#joinFault !== "") throw new WaymarkError("not_ready", this.#joinFault, { retryMs: RETRY_MS });
    this.#clock.check();
  }
}

/** Whether most others refuse what this node says of itself. It is then no member, and nobody finds what is registered with it. */
function isRefusedByMost(membership: Pick<Membership, "refusers" | "counts">): boolean {
  const refuserCount = membership.refusers().length;
  if (refuserCount === 0) return false;
  const { alive, suspect } = membership.counts();
  return refuserCount * 2 > alive + suspect;
}

/** Why this node takes no writes: it was turned away where it was to join. Empty when it was not, or has been ready. */
function joinFaultOf(fabric: Pick<Seen, "isReady" | "readiness">, time: Time): string {
  if (fabric.isReady) return "";
  const { reason, detail } = fabric.readiness(time);
  return reason === "refused" ? detail : "";
}

/** Throws `not_ready` unless the node was ready once. */
export function checkCaughtUp(isReady: boolean): void {
  if (isReady) return;
  throw new WaymarkError("not_ready", "this node has not caught up yet: it may hold only a part of the catalog", { retryMs: RETRY_MS });
}

/** Throws `not_ready` unless the node is ready now. */
export function checkSound({ isReady, isSound }: { readonly isReady: boolean; readonly isSound: boolean }): void {
  checkCaughtUp(isReady);
  if (isSound) return;
  throw new WaymarkError("not_ready", "this node is not ready any more, and may not know all that others do: `/readyz` says why", {
    retryMs: RETRY_MS,
  });
}
