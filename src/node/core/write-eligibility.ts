/**
 * Decides whether a node may accept writes and be ready. The decision depends on its clock, other process instances with its id, and rejections by
 * other nodes.
 */
import { eventOutput } from "../../fabric/io-types.ts";
import type { ClockState } from "../../fabric/membership/clock-watch.ts";
import type { IdentityConflict } from "../../fabric/membership/identity-dispute.ts";
import type { Membership } from "../../fabric/membership/membership.ts";
import type { ReadyState } from "../../fabric/readiness.ts";
import type { ProcessInstance } from "../../fabric/wire/messages.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { isStamp, stampOf } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";

const RETRY_MS = 1000;

/** The parts of the fabric that this file reads. */
export interface FabricView {
  readonly membership: Pick<Membership, "askClocks" | "clock" | "counts" | "dispute" | "hasJoined" | "isUnconfirmed" | "refusers">;
  readonly readiness: { readonly isReady: boolean; read(time: Time): Pick<ReadyState, "reason" | "detail"> };
}

export interface EligibilityLook extends InstanceLook {
  /** An event about the clock, for operators. */
  readonly clockEvent?: ReturnType<OwnClock["look"]>;
}

export class WriteEligibility {
  readonly #clock: OwnClock;
  readonly #instance: OwnInstance;
  #joinFault = "";
  #isRefused = false;
  /** Whether writes must wait until other nodes have confirmed this process instance. */
  #isAwaited = false;

  /** `hasSeeds`: whether this node joins others. A standalone node is never at fault. */
  constructor(nodeId: string, hasSeeds: boolean) {
    this.#clock = new OwnClock(hasSeeds);
    this.#instance = new OwnInstance(nodeId);
  }

  /**
   * Must be called after each input. `address`: the address at which other nodes reach this one. `isReady`: whether this node has been ready once.
   */
  look(fabric: FabricView, { address, isReady }: { readonly address: string; readonly isReady: boolean }, time: Time): EligibilityLook {
    const { membership } = fabric;
    const clockEvent = this.#clock.look(membership, isReady, time);
    const start = this.#instance.look(membership.dispute(time), address, time);
    this.#isRefused = isRefusedByMost(membership);
    this.#joinFault = joinFaultOf(fabric, time);
    return clockEvent === undefined ? start : { ...start, clockEvent };
  }

  /**
   * While this process was paused, other nodes may have accepted another process instance. Until they have answered, this node neither accepts nor
   * acknowledges writes. If the result is true, the caller must wait until `takeConfirmed` returns true.
   */
  mustConfirm({ membership }: FabricView, time: Time): boolean {
    const isUnconfirmed = membership.isUnconfirmed(time);
    this.#isAwaited ||= isUnconfirmed;
    return isUnconfirmed;
  }

  /** Whether to answer the waiting writes now, because other nodes accept this process instance or another one. True only once per wait. */
  takeConfirmed({ membership }: FabricView, time: Time): boolean {
    if (!this.#isAwaited || (this.#instance.fault === "" && membership.isUnconfirmed(time))) return false;
    this.#isAwaited = false;
    return true;
  }

  get clockFault(): string {
    return this.#clock.fault;
  }

  /** The line for the clock in `/readyz`. */
  get clockDetail(): string {
    return this.#clock.fault || (this.#clock.isCompared ? "in sync with peers" : "no peer clocks to compare with");
  }

  /** Whether the start must wait, either for the clocks of other nodes or because another process uses this node's id. */
  get isWaiting(): boolean {
    return this.#clock.isComparing || this.#instance.fault !== "";
  }

  /** The reason why a node is not ready although it has caught up. Empty if there is no such reason. */
  get fault(): string {
    return this.#clock.fault || this.fabricFault;
  }

  /** Like `fault`, but without faults of the clock, which has its own line in `/readyz`. */
  get fabricFault(): string {
    return this.#instance.fault || (this.#isRefused ? "most other nodes reject this node's member record" : "");
  }

  /** The reason why a durable write must not be acknowledged. Undefined if it may be acknowledged. */
  get refusal(): WaymarkError | undefined {
    return this.#instance.refusal;
  }

  /** Throws `not_ready` while another process uses this node's id. */
  checkStart(): void {
    const { refusal } = this.#instance;
    if (refusal !== undefined) throw refusal;
  }

  /** Throws `clock_skew` or `not_ready` while this node refuses writes. */
  checkWrites(): void {
    this.checkStart();
    if (this.#joinFault !== "") throw new WaymarkError("not_ready", this.#joinFault, { retryMs: RETRY_MS });
    this.#clock.check();
  }
}

/**
 * Whether most other nodes reject this node's member record. If so, this node is not a member, and clients cannot find the entries that are
 * registered on it.
 */
function isRefusedByMost(membership: Pick<Membership, "refusers" | "counts">): boolean {
  const refuserCount = membership.refusers().length;
  if (refuserCount === 0) return false;
  const { alive, suspect } = membership.counts();
  return refuserCount * 2 > alive + suspect;
}

/** Returns why this node was refused when it tried to join. Empty if it was not refused, or has been ready once. */
function joinFaultOf({ readiness }: Pick<FabricView, "readiness">, time: Time): string {
  if (readiness.isReady) return "";
  const { reason, detail } = readiness.read(time);
  return reason === "refused" ? detail : "";
}

/** Throws `not_ready` unless the node has been ready once. */
export function checkCaughtUp(isReady: boolean): void {
  if (isReady) return;
  throw new WaymarkError("not_ready", "this node is still catching up and may have only part of the catalog", { retryMs: RETRY_MS });
}

/** Throws `not_ready` unless the node is ready now. */
export function checkSound({ isReady, isSound }: { readonly isReady: boolean; readonly isSound: boolean }): void {
  checkCaughtUp(isReady);
  if (isSound) return;
  throw new WaymarkError("not_ready", "this node is no longer ready and may lack recent changes: see `/readyz` for the reason", {
    retryMs: RETRY_MS,
  });
}

// A node whose clock is wrong refuses writes and is not ready (semantics.md, Several origins for one key).
/** Time between two comparisons of the clocks, in ms. The second value applies while a start is waiting for a comparison. */
const CLOCK_MS = 1000;
const HURRIED_CLOCK_MS = 20;
/** How long a start waits for the clocks of other nodes, in ms. */
const COMPARE_MS = 3000;

type ClockSources = Pick<Membership, "clock" | "askClocks" | "hasJoined">;

/**
 * Compares this node's clock with its peers. With a wrong clock, this node's writes would override later writes by other nodes, or lose to earlier
 * ones.
 */
export class OwnClock {
  readonly #hasSeeds: boolean;
  #fault: string;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  /**
   * The wait for a clock comparison during the start. `untilMonoMs` is the deadline of the wait, which the first check sets. Undefined when the wait
   * is over.
   */
  #comparing: { readonly untilMonoMs: number | undefined } | undefined = { untilMonoMs: undefined };
  #isOff = false;
  /** Number of peer clocks in the last comparison. */
  #knownCount = 0;

  /** `hasSeeds`: this node will connect to other nodes, which will see its timestamps. */
  constructor(hasSeeds: boolean) {
    this.#hasSeeds = hasSeeds;
    this.#fault = hasSeeds ? COMPARING : "";
  }

  /** Why this node refuses writes: its clock is wrong, or has not been verified yet. Otherwise empty. */
  get fault(): string {
    return this.#fault;
  }

  /** Whether the clock of at least one peer is known. */
  get isCompared(): boolean {
    return this.#knownCount > 0;
  }

  /** Whether a start is waiting for the clocks of other nodes. */
  get isComparing(): boolean {
    return this.#fault === COMPARING;
  }

  /**
   * Must be called after each input. `isReady`: the node has been ready once, so it no longer waits for clocks. Returns an event when the state has
   * changed.
   */
  look(membership: ClockSources, isReady: boolean, time: Time): ReturnType<typeof eventOutput> | undefined {
    if (isReady) this.#comparing = undefined;
    if (time.monoMs < this.#lookedMonoMs + (this.#comparing === undefined ? CLOCK_MS : HURRIED_CLOCK_MS)) return undefined;
    this.#lookedMonoMs = time.monoMs;
    const clock = membership.clock(time);
    this.#knownCount = clock.knownCount;
    const off = isStamp(stampOf(time.wallMs)) ? clockFaultOf(clock) : BEYOND_STAMPS;
    this.#fault = off === "" && this.#mustCompare(membership, clock, time) ? COMPARING : off;
    if (this.#isOff === (off !== "")) return undefined;
    this.#isOff = off !== "";
    const { aheadMs, offCount, knownCount } = clock;
    const detail = { ahead_ms: Math.round(aheadMs), off: offCount, known: knownCount };
    return eventOutput(this.#isOff ? "own_clock_off" : "own_clock_right", this.#isOff ? "error" : "info", detail, { isAudited: true });
  }

  /** Throws while this node refuses writes: `not_ready` while its clock is not verified, `clock_skew` if the clock is wrong. */
  check(): void {
    if (this.#fault === "") return;
    throw new WaymarkError(this.isComparing ? "not_ready" : "clock_skew", this.#fault, { retryMs: RETRY_MS });
  }

  /**
   * Whether the start must continue to wait: other nodes that could find the clock wrong exist or may exist, and too few of them have reported their
   * clocks.
   */
  #mustCompare(membership: ClockSources, { isUnheard }: ClockState, { monoMs }: Time): boolean {
    if (this.#comparing === undefined) return false;
    const { untilMonoMs = monoMs + COMPARE_MS } = this.#comparing;
    this.#comparing = monoMs < untilMonoMs ? { untilMonoMs } : undefined;
    if (isUnheard) membership.askClocks();
    return this.#comparing !== undefined && (isUnheard || (this.#hasSeeds && !membership.hasJoined));
  }
}

const COMPARING = `this node refuses writes until it has compared its clock with other nodes, for at most ${COMPARE_MS / 1000} s`;
const BEYOND_STAMPS = "this node refuses writes because its clock is in the year 2100 or later: correct the clock";

/** Describes the clock fault for operators. Empty while the clock agrees with other nodes. */
function clockFaultOf({ isOff, aheadMs, offCount, knownCount }: ClockState): string {
  if (!isOff) return "";
  const by = `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
  return `this node refuses writes because its clock is ${by} ${offCount} of ${knownCount} other nodes: correct the clock`;
}

// While another process instance uses its id, a node refuses writes and is not ready (semantics.md, Two nodes with one id).

/** Delay before operators are informed, in ms. A node that only moved to another address is accepted well before this delay ends. */
const REPORT_MS = 2000;
/** After a dispute of this length, in ms, both process instances may have used the same sequence numbers, so this node starts a new generation. */
const CONTESTED_MS = 5000;

/** The id of a process instance, and the ids of earlier instances on the same disk. `earlierBoots` is undefined without a disk. */
export interface NamedInstance {
  readonly boot: string;
  readonly earlierBoots: readonly string[] | undefined;
}

/**
 * Returns the instance data that this node announces. A node without a disk does not announce any, because each of its process instances is a new
 * generation.
 */
export function instanceOfNode({ boot, earlierBoots }: NamedInstance): ProcessInstance {
  if (earlierBoots === undefined) return {};
  const [bootBefore] = earlierBoots;
  return { boot, ...(bootBefore !== undefined && { bootBefore }) };
}

/** The result of `look`. */
interface InstanceLook {
  /** An event for operators. */
  readonly event?: ReturnType<typeof eventOutput>;
  /** Another process has used this id since the last call. */
  readonly isLost?: boolean;
  /** Other nodes accept this process instance again, but may have accepted another one in between. */
  readonly isContested?: boolean;
}

const NOTHING: InstanceLook = {};

export class OwnInstance {
  readonly #nodeId: string;
  #fault = "";
  #sinceMonoMs: number | undefined;
  #isReported = false;

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  /** Why this node refuses writes: another process uses its id. Otherwise empty. */
  get fault(): string {
    return this.#fault;
  }

  /** Why a write is refused. Undefined while other nodes accept this process instance. */
  get refusal(): WaymarkError | undefined {
    return this.#fault === "" ? undefined : new WaymarkError("not_ready", this.#fault, { retryMs: RETRY_MS });
  }

  /** Must be called after each input. `address`: the address at which other nodes reach this one. */
  look(dispute: IdentityConflict | undefined, address: string, time: Time): InstanceLook {
    if (dispute === undefined) return this.#sinceMonoMs === undefined ? NOTHING : this.#ended(time.monoMs - this.#sinceMonoMs);
    this.#fault = disputeText({ nodeId: this.#nodeId, address }, dispute);
    if (this.#sinceMonoMs === undefined) {
      this.#sinceMonoMs = time.monoMs;
      return { isLost: true };
    }
    if (this.#isReported || time.monoMs - this.#sinceMonoMs < REPORT_MS) return NOTHING;
    this.#isReported = true;
    const { otherAddress, nodeIds } = dispute;
    const detail = { nodeId: this.#nodeId, address, otherAddress, toldBy: nodeIds.join(" "), fault: this.#fault };
    return { event: eventOutput("own_start_refused", "error", detail, { isAudited: true }) };
  }

  #ended(lastedMs: number): InstanceLook {
    const isReported = this.#isReported;
    this.#sinceMonoMs = undefined;
    this.#fault = "";
    this.#isReported = false;
    return {
      isContested: lastedMs >= CONTESTED_MS,
      ...(isReported && { event: eventOutput("own_start_accepted", "info", {}, { isAudited: true }) }),
    };
  }
}

/** Describes the dispute for operators. An instance that other nodes remember at this node's own address is not described as a second node. */
function disputeText(
  { nodeId, address }: { readonly nodeId: string; readonly address: string },
  { nodeIds, otherAddress }: IdentityConflict,
): string {
  const [first = ""] = nodeIds;
  const accepted = `was accepted by ${first}${nodeIds.length > 1 ? ` and ${nodeIds.length - 1} more` : ""}`;
  if (otherAddress !== "" && otherAddress === address && first !== nodeId)
    return (
      `another process instance of ${nodeId} at the same address ${accepted}, so this one refuses writes; if this persists and no other node ` +
      "runs with this id, the data directory is older than that instance, for example restored from a backup: start this node with --new-generation"
    );
  const where = otherAddress === "" ? "" : ` at ${otherAddress}`;
  return (
    `another process with node id ${nodeId}${where} ${first === nodeId ? "answers" : accepted}, so this one refuses writes: stop one of the two; ` +
    "to keep this one, start it with --new-generation after the other has stopped"
  );
}

// Detects that this process was paused and could not receive messages (semantics.md, Deadlines and standstills).
/** Interval at which the driver checks the clock, in ms. */
export const CLOCK_CHECK_MS = 125;
/** Maximum time between two checks while the process runs, in ms. */
const MAX_INTERVAL_MS = 2 * CLOCK_CHECK_MS;
/** Pauses shorter than this are ignored, in ms. */
const LEAST_MS = 50;

export class PauseDetector {
  #lookedMonoMs: number | undefined;

  /** Must be called at each check. Returns the length of the pause in ms, or undefined if the process was not paused. */
  looked({ monoMs }: Time): number | undefined {
    const lagMs = monoMs - (this.#lookedMonoMs ?? monoMs) - MAX_INTERVAL_MS;
    this.#lookedMonoMs = monoMs;
    return lagMs >= LEAST_MS ? lagMs : undefined;
  }
}
