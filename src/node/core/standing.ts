/** What keeps a node from taking writes, or from being ready: its clock, another start under its id, and what others refuse. */
import type { Fabric } from "../../fabric/fabric.ts";
import type { Membership } from "../../fabric/membership/membership.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { OwnClock } from "./own-clock.ts";
import { OwnStart, type StartLook } from "./own-start.ts";

const RETRY_MS = 1000;

/** Of a fabric, what a node's standing is read from. */
export interface Seen {
  readonly membership: Pick<Membership, "askClocks" | "clock" | "counts" | "dispute" | "hasJoined" | "isUnconfirmed" | "refusers">;
  readonly isReady: Fabric["isReady"];
  readiness(time: Time): Pick<ReturnType<Fabric["readiness"]>, "reason" | "detail">;
}

export interface StandingLook extends StartLook {
  /** Of the clock. */
  readonly clockEvent?: ReturnType<OwnClock["look"]>;
}

export class Standing {
  readonly #clock: OwnClock;
  readonly #start: OwnStart;
  #joinFault = "";
  #isRefused = false;
  /** Somebody waits to be told whether this start is still the one. */
  #isAwaited = false;

  /** `hasSeeds`: others are to be met. Of a node that stands alone nothing is ever wrong. */
  constructor(nodeId: string, hasSeeds: boolean) {
    this.#clock = new OwnClock(hasSeeds);
    this.#start = new OwnStart(nodeId);
  }

  /** To be called after each input. `address`: where others reach this node; `isReady`: it was ready once. */
  look(fabric: Seen, { address, isReady }: { readonly address: string; readonly isReady: boolean }, time: Time): StandingLook {
    const { membership } = fabric;
    const clockEvent = this.#clock.look(membership, isReady, time);
    const start = this.#start.look(membership.dispute(time), address, time);
    this.#isRefused = isRefusedByMost(membership);
    this.#joinFault = joinFaultOf(fabric, time);
    return clockEvent === undefined ? start : { ...start, clockEvent };
  }

  /**
   * After a standstill of this process others may have taken another start: until they have answered, nothing is taken or acknowledged.
   * Whoever asks has to wait when it says so, until `isConfirmed`.
   */
  mustConfirm({ membership }: Seen, time: Time): boolean {
    const isUnconfirmed = membership.isUnconfirmed(time);
    this.#isAwaited ||= isUnconfirmed;
    return isUnconfirmed;
  }

  /** Whether those who wait are to be told now, that this start is the one or that another is. Says so once. */
  takeConfirmed({ membership }: Seen, time: Time): boolean {
    if (!this.#isAwaited || (this.#start.fault === "" && membership.isUnconfirmed(time))) return false;
    this.#isAwaited = false;
    return true;
  }

  get clockFault(): string {
    return this.#clock.fault;
  }

  /** Whether a start has to wait: for others' clocks, or since another start goes under its id. */
  get isWaiting(): boolean {
    return this.#clock.isComparing || this.#start.fault !== "";
  }

  /** What makes a node unready that knows the catalog; empty when nothing does. */
  get fault(): string {
    return this.#clock.fault || this.fabricFault;
  }

  /** As `fault`, apart from the clock, which has a line of its own. */
  get fabricFault(): string {
    return this.#start.fault || (this.#isRefused ? "most other nodes refuse what this one says of itself" : "");
  }

  /** Why what is durable may not be acknowledged; undefined when it may. */
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

/** Whether most others refuse what this node says of itself: then it is no member, and nobody finds what is registered with it. */
function isRefusedByMost(membership: Pick<Membership, "refusers" | "counts">): boolean {
  const refuserCount = membership.refusers().length;
  if (refuserCount === 0) return false;
  const { alive, suspect } = membership.counts();
  return refuserCount * 2 > alive + suspect;
}

/** Why this node is to take no writes, for being turned away where it was to join; empty when it was not, or has been ready. */
function joinFaultOf(fabric: Pick<Seen, "isReady" | "readiness">, time: Time): string {
  if (fabric.isReady) return "";
  const { reason, detail } = fabric.readiness(time);
  return reason === "refused" ? detail : "";
}
