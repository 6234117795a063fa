/** What keeps a node from taking writes, or from being ready: its clock, another start under its id, and refusals of other nodes. */
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

/** The parts of a fabric that a node's standing is read from. */
export interface FabricView {
  readonly membership: Pick<Membership, "askClocks" | "clock" | "counts" | "dispute" | "hasJoined" | "isUnconfirmed" | "refusers">;
  readonly readiness: { readonly isReady: boolean; read(time: Time): Pick<ReadyState, "reason" | "detail"> };
}

export interface EligibilityLook extends InstanceLook {
  /** An event about the clock, for people. */
  readonly clockEvent?: ReturnType<OwnClock["look"]>;
}

export class WriteEligibility {
  readonly #clock: OwnClock;
  readonly #start: OwnInstance;
  #joinFault = "";
  #isRefused = false;
  /** Whether a write waits for other nodes to confirm this start. */
  #isAwaited = false;

  /** `hasSeeds`: this node is to meet others. A node that stands alone never has a fault. */
  constructor(nodeId: string, hasSeeds: boolean) {
    this.#clock = new OwnClock(hasSeeds);
    this.#start = new OwnInstance(nodeId);
  }

  /** To be called after each input. `address`: where other nodes reach this one. `isReady`: it was ready once. */
  look(fabric: FabricView, { address, isReady }: { readonly address: string; readonly isReady: boolean }, time: Time): EligibilityLook {
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
  mustConfirm({ membership }: FabricView, time: Time): boolean {
    const isUnconfirmed = membership.isUnconfirmed(time);
    this.#isAwaited ||= isUnconfirmed;
    return isUnconfirmed;
  }

  /** Whether the writes that wait are to be answered now, because others accept this start or hold another one. True once for each wait. */
  takeConfirmed({ membership }: FabricView, time: Time): boolean {
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
function joinFaultOf({ readiness }: Pick<FabricView, "readiness">, time: Time): string {
  if (readiness.isReady) return "";
  const { reason, detail } = readiness.read(time);
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

// A node whose clock is off takes no writes and is not ready (semantics.md, Several origins for one key).
/** Time between two comparisons of the clocks; the second while a start waits for one. */
const CLOCK_MS = 1000;
const HURRIED_CLOCK_MS = 20;
/** How long a start waits for other nodes to say what their clocks are. */
const COMPARE_MS = 3000;

type ClockSources = Pick<Membership, "clock" | "askClocks" | "hasJoined">;

/** Why: writes of a node whose clock is off would win over later writes of other nodes, or be hidden by earlier ones. */
export class OwnClock {
  readonly #hasSeeds: boolean;
  #fault: string;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  /** The wait of a start, until it is known whether this clock is right or the time for the wait is over. Undefined when there is no wait any more. */
  #comparing: { readonly untilMonoMs: number | undefined } | undefined = { untilMonoMs: undefined };
  #isOff = false;

  /** `hasSeeds`: this node is to meet others, who will see its stamps. */
  constructor(hasSeeds: boolean) {
    this.#hasSeeds = hasSeeds;
    this.#fault = hasSeeds ? COMPARING : "";
  }

  /** Why this node takes no writes: its clock is off, or nobody has said that it is right. Else empty. */
  get fault(): string {
    return this.#fault;
  }

  /** Whether a start waits for the clocks of other nodes. */
  get isComparing(): boolean {
    return this.#fault === COMPARING;
  }

  /** To be called after each input. `isReady`: the node was ready once, so it waits no more. Returns the event to tell of, if there is one. */
  look(membership: ClockSources, isReady: boolean, time: Time): ReturnType<typeof eventOutput> | undefined {
    if (isReady) this.#comparing = undefined;
    if (time.monoMs < this.#lookedMonoMs + (this.#comparing === undefined ? CLOCK_MS : HURRIED_CLOCK_MS)) return undefined;
    this.#lookedMonoMs = time.monoMs;
    const clock = membership.clock(time);
    const off = isStamp(stampOf(time.wallMs)) ? clockFaultOf(clock) : BEYOND_STAMPS;
    this.#fault = off === "" && this.#mustCompare(membership, clock, time) ? COMPARING : off;
    if (this.#isOff === (off !== "")) return undefined;
    this.#isOff = off !== "";
    const { aheadMs, offCount, knownCount } = clock;
    const detail = { ahead_ms: Math.round(aheadMs), off: offCount, known: knownCount };
    return eventOutput(this.#isOff ? "own_clock_off" : "own_clock_right", this.#isOff ? "error" : "info", detail, { isAudited: true });
  }

  /** Throws while this node is to take no writes: `not_ready` while nothing is known of its clock, `clock_skew` where it is off. */
  check(): void {
    if (this.#fault === "") return;
    throw new WaymarkError(this.isComparing ? "not_ready" : "clock_skew", this.#fault, { retryMs: RETRY_MS });
  }

  /** Whether a start still waits: other nodes that could say that its clock is wrong exist, or may exist, and too few of them have told their clocks. */
  #mustCompare(membership: ClockSources, { isUnheard }: ClockState, { monoMs }: Time): boolean {
    if (this.#comparing === undefined) return false;
    const { untilMonoMs = monoMs + COMPARE_MS } = this.#comparing;
    this.#comparing = monoMs < untilMonoMs ? { untilMonoMs } : undefined;
    if (isUnheard) membership.askClocks();
    return this.#comparing !== undefined && (isUnheard || (this.#hasSeeds && !membership.hasJoined));
  }
}

const COMPARING = `this node takes no writes before it has heard the clocks of other nodes, for which it waits at most ${COMPARE_MS / 1000} s`;
const BEYOND_STAMPS = "this node's clock stands in the year 2100 or later: set it right; until then it takes no writes";

/** What is wrong with the clock, for people. Empty while it agrees with those of others. */
function clockFaultOf({ isOff, aheadMs, offCount, knownCount }: ClockState): string {
  if (!isOff) return "";
  const by = `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
  return `this node's clock is ${by} those of ${offCount} of ${knownCount} other nodes: set it right; until then it takes no writes`;
}

// While another start goes under its id, a node takes no writes and is not ready (semantics.md, Two nodes with one id).

/** People are told after this. A node that only moved is accepted well before. */
const TELL_MS = 2000;
/** After a dispute of this length both starts may have written under the same numbers, so this node takes new ones. */
const CONTESTED_MS = 5000;

/** The name of a start, and the names of the earlier starts on the same disk; `earlierBoots` is undefined without a disk. */
export interface NamedInstance {
  readonly boot: string;
  readonly earlierBoots: readonly string[] | undefined;
}

/** What this node tells others of its start: nothing without a disk, where each start is a new generation. */
export function instanceOfNode({ boot, earlierBoots }: NamedInstance): ProcessInstance {
  if (earlierBoots === undefined) return {};
  const [bootBefore] = earlierBoots;
  return { boot, ...(bootBefore !== undefined && { bootBefore }) };
}

/** The result of a look. */
interface InstanceLook {
  /** An event for people. */
  readonly event?: ReturnType<typeof eventOutput>;
  /** Another start goes under this id since the last look. */
  readonly isLost?: boolean;
  /** Other nodes accept this start again, and may have accepted another one meanwhile. */
  readonly isContested?: boolean;
}

const NOTHING: InstanceLook = {};

export class OwnInstance {
  readonly #nodeId: string;
  #fault = "";
  #sinceMonoMs: number | undefined;
  #isTold = false;

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  /** Why this node takes no writes: another start goes under its id. Else empty. */
  get fault(): string {
    return this.#fault;
  }

  /** Why a write is refused. Undefined while other nodes accept this start. */
  get refusal(): WaymarkError | undefined {
    return this.#fault === "" ? undefined : new WaymarkError("not_ready", this.#fault, { retryMs: RETRY_MS });
  }

  /** To be called after each input. `address`: where other nodes reach this one. */
  look(dispute: IdentityConflict | undefined, address: string, time: Time): InstanceLook {
    if (dispute === undefined) return this.#sinceMonoMs === undefined ? NOTHING : this.#ended(time.monoMs - this.#sinceMonoMs);
    this.#fault = disputeText({ nodeId: this.#nodeId, address }, dispute);
    if (this.#sinceMonoMs === undefined) {
      this.#sinceMonoMs = time.monoMs;
      return { isLost: true };
    }
    if (this.#isTold || time.monoMs - this.#sinceMonoMs < TELL_MS) return NOTHING;
    this.#isTold = true;
    const { otherAddress, nodeIds } = dispute;
    const detail = { nodeId: this.#nodeId, address, otherAddress, toldBy: nodeIds.join(" "), fault: this.#fault };
    return { event: eventOutput("own_start_refused", "error", detail, { isAudited: true }) };
  }

  #ended(lastedMs: number): InstanceLook {
    const isTold = this.#isTold;
    this.#sinceMonoMs = undefined;
    this.#fault = "";
    this.#isTold = false;
    return {
      isContested: lastedMs >= CONTESTED_MS,
      ...(isTold && { event: eventOutput("own_start_accepted", "info", {}, { isAudited: true }) }),
    };
  }
}

/** The dispute in words for people. A start that is remembered at this node's own address is not called a second node. */
function disputeText(
  { nodeId, address }: { readonly nodeId: string; readonly address: string },
  { nodeIds, otherAddress }: IdentityConflict,
): string {
  const where = otherAddress === "" ? "" : ` at ${otherAddress}`;
  const [first = ""] = nodeIds;
  const who = first === nodeId ? "it answers there" : `${first}${nodeIds.length > 1 ? ` and ${nodeIds.length - 1} more` : ""} accepted it`;
  if (otherAddress !== "" && otherAddress === address && first !== nodeId)
    return (
      `another start of ${nodeId} at this same address goes under its id (${who}): this one takes no writes; if that lasts and no other node ` +
      "runs with this id, its directory is older than that start, as a backup is: start it with --new-generation"
    );
  return (
    `another start of ${nodeId}${where} goes under its id (${who}): this one takes no writes; stop one of the two, ` +
    "and if this one is to go on, start it with --new-generation when the other one is gone"
  );
}

// How a node notices that its process stood still, so that nobody could be heard (semantics.md, Deadlines and standstills).
/** The shell looks at the clock this often. */
export const CLOCK_CHECK_MS = 125;
/** Two looks of a process that runs are at most this far apart. */
const APART_MS = 2 * CLOCK_CHECK_MS;
/** A shorter standstill does not count. */
const LEAST_MS = 50;

export class PauseDetector {
  #lookedMonoMs: number | undefined;

  /** To be called at each look. Returns how long the process stood still; undefined when it did not. */
  looked({ monoMs }: Time): number | undefined {
    const lagMs = monoMs - (this.#lookedMonoMs ?? monoMs) - APART_MS;
    this.#lookedMonoMs = monoMs;
    return lagMs >= LEAST_MS ? lagMs : undefined;
  }
}
