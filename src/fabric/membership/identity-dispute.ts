/** Tracks whether other nodes accept this node's updates about itself, and whether this process instance is the one accepted under its id. */
import { NEVER, type Time } from "../../lib/machine.ts";
import { eventOutput } from "../io-types.ts";
import type { HeldInstance, MemberUpdate } from "../wire/messages.ts";
import { isListed } from "./members.ts";
import { UPDATE_REFUSALS } from "./update-rules.ts";

/** Another process instance is accepted under this node's id. */
export interface IdentityConflict {
  /** The nodes that reported the other instance. If the other instance itself answered, the list contains this node's own id. */
  readonly nodeIds: readonly string[];
  /** The address of the other instance. Empty when it is unknown. */
  readonly otherAddress: string;
}

interface DisputeReport {
  readonly held: HeldInstance;
  /** The address of the reporting node, which is used for further requests. */
  readonly address: string;
  readonly sinceMonoMs: number;
  askMonoMs: number;
}

/**
 * For this time, an accepted node ignores reports that other nodes still have an earlier instance of it, because its update may not have reached
 * those nodes yet.
 */
const MAX_DISPUTE_MS = 5000;
/** A node that has accepted another instance is queried again after this time, because it may still be probing the earlier instance. */
const FIRST_ASK_MS = 100;
const ASK_MS = 1000;
/** Minimum time between two events about a conflict of this node's id. A second node that has called is considered present for this time. */
const CONFLICT_EVENT_MS = 60_000;
/** Minimum and maximum number of confirmations that a node needs after a pause. If there are fewer members than the minimum, all must confirm. */
const MIN_CONFIRMERS = 3;
const MAX_CONFIRMERS = 20;

/**
 * Returns more than half of the number of others, up to the maximum. In a large group, that many random members are very unlikely to all belong to the smaller
 * half.
 */
function mostOf(listedCount: number): number {
  return Math.min(MAX_CONFIRMERS, Math.floor(listedCount / 2) + 1);
}

/** A pending confirmation of this node's identity. During a pause, other nodes may have accepted another process instance under this node's id. */
interface PendingConfirmation {
  readonly sinceMonoMs: number;
  /** The nodes that were queried and do not know another instance. */
  readonly confirmers: Set<string>;
  askMonoMs: number;
}

export class IdentityDispute {
  readonly #earlierBoots: ReadonlySet<string>;
  /** Reports, keyed by reporting node. There are at most as many as nodes that this node queries. */
  readonly #reports = new Map<string, DisputeReport>();
  /** Other nodes that refuse this node's updates about itself, each with its reason. There are at most as many as members. */
  readonly #refusers = new Map<string, string>();
  /** Whether a node accepted this process instance while no node was reporting another one. */
  #isAccepted = false;
  #conflictLoggedMs = Number.NEGATIVE_INFINITY;
  #isConflictGone = false;
  #waking: PendingConfirmation | undefined;
  #second: { readonly address: string; readonly atMonoMs: number } | undefined;

  /** `earlierBoots`: the boot names of earlier process instances with this data directory. */
  constructor(earlierBoots: readonly string[]) {
    this.#earlierBoots = new Set(earlierBoots);
  }

  /** Returns whether an earlier process instance with this data directory used that boot name. */
  isEarlier(boot: string): boolean {
    return this.#earlierBoots.has(boot);
  }

  /**
   * Handles another node's response. `held` is the process instance that the node has accepted for this id, if it differs from this instance. Returns
   * whether to query that node immediately.
   */
  receive(
    from: { readonly nodeId: string; readonly boot?: string; readonly address: string },
    held: HeldInstance | undefined,
    time: Time,
  ): boolean {
    const { nodeId, address } = from;
    const before = this.#reports.get(nodeId);
    if (held === undefined) {
      this.#reports.delete(nodeId);
      // A node that does not send a boot name does not track process instances.
      if (from.boot !== undefined && this.#reports.size === 0) this.#isAccepted = true;
      return false;
    }
    const sinceMonoMs = before?.sinceMonoMs ?? time.monoMs;
    const askMonoMs = Math.max(before?.askMonoMs ?? 0, time.monoMs + (before === undefined ? FIRST_ASK_MS : 0));
    this.#reports.set(nodeId, { held, address, sinceMonoMs, askMonoMs });
    return before?.held.boot !== held.boot;
  }

  /** Discards the reports of a node that is no longer a member or no longer answers. */
  forget(nodeId: string): void {
    this.#reports.delete(nodeId);
    this.#refusers.delete(nodeId);
  }

  /** Discards a report from the other instance itself, which did not answer at its address. */
  unanswered(nodeId: string, address: string): void {
    if (this.#reports.get(nodeId)?.address === address) this.#reports.delete(nodeId);
  }

  /** Returns the nodes to query now because they have accepted another process instance, and that instance. */
  takeDue({ monoMs }: Time): readonly { readonly address: string; readonly held: HeldInstance }[] {
    const due: DisputeReport[] = [];
    for (const report of this.#reports.values()) {
      if (report.askMonoMs > monoMs) continue;
      report.askMonoMs = monoMs + (monoMs - report.sinceMonoMs < ASK_MS ? FIRST_ASK_MS : ASK_MS);
      due.push(report);
    }
    return due;
  }

  nextDeadlineMs(): number {
    let next = NEVER;
    for (const { askMonoMs } of this.#reports.values()) next = Math.min(next, askMonoMs);
    return next;
  }

  /** Returns why this node must not operate under its id. `counts` selects the nodes whose reports are used. */
  dispute(counts: (nodeId: string) => boolean, { monoMs }: Time): IdentityConflict | undefined {
    if (this.#reports.size === 0) return undefined;
    const counted = [...this.#reports].filter(([nodeId, { held, sinceMonoMs }]) => {
      const isPatient = this.#isAccepted && this.isEarlier(held.boot) && monoMs - sinceMonoMs < MAX_DISPUTE_MS;
      return counts(nodeId) && !isPatient;
    });
    const otherAddress = counted.find(([, { held }]) => held.address !== "")?.[1].held.address ?? "";
    return counted.length === 0 ? undefined : { nodeIds: counted.map(([nodeId]) => nodeId), otherAddress };
  }

  /**
   * Starts a confirmation, because the process was paused for so long that other nodes may have declared it dead and accepted another process
   * instance.
   */
  onWake({ monoMs }: Time): void {
    this.#waking = { sinceMonoMs: monoMs, confirmers: new Set(), askMonoMs: monoMs };
  }

  /** Notes that a node that was queried after the pause answered and does not have another instance. */
  confirmed(nodeId: string, sentMonoMs: number): void {
    if (this.#waking !== undefined && sentMonoMs >= this.#waking.sinceMonoMs) this.#waking.confirmers.add(nodeId);
  }

  /**
   * Returns whether this node must not acknowledge writes yet. Writes may be acknowledged when more than half of the `listedCount` other nodes have
   * confirmed this instance, and at least three of them (or all, if there are fewer). After `roundMs`, it is enough if more than half have confirmed.
   * After `MAX_DISPUTE_MS`, no confirmation is needed, because an isolated node must not block.
   */
  isUnconfirmed(listedCount: number, roundMs: number, { monoMs }: Time): boolean {
    if (this.#waking === undefined) return false;
    const { sinceMonoMs, confirmers } = this.#waking;
    const waitedMs = monoMs - sinceMonoMs;
    const least = waitedMs >= roundMs ? 0 : Math.min(MIN_CONFIRMERS, listedCount);
    return listedCount > 0 && waitedMs < MAX_DISPUTE_MS && confirmers.size < Math.max(least, mostOf(listedCount));
  }

  /** Returns how many other nodes to query in one round. Some of these nodes may be down. */
  static askedOf(listedCount: number): number {
    return mostOf(listedCount) + MIN_CONFIRMERS;
  }

  /** Time at which to ask other nodes whether this process instance is still accepted. `asked` sets the next time. */
  get confirmMonoMs(): number {
    return this.#waking?.askMonoMs ?? NEVER;
  }

  asked(nextMonoMs: number): void {
    if (this.#waking !== undefined) this.#waking.askMonoMs = nextMonoMs;
  }

  /** Ends the confirmation. */
  settle(): void {
    this.#waking = undefined;
  }

  /** Notes that a second node with this id called. */
  second(address: string, { monoMs }: Time): void {
    this.#second = { address, atMonoMs: monoMs };
  }

  /** Returns the address from which a second node with this id recently called. Undefined when there was no such call. */
  secondAddress({ monoMs }: Time): string | undefined {
    const second = this.#second;
    return second === undefined || monoMs - second.atMonoMs >= CONFLICT_EVENT_MS ? undefined : second.address;
  }

  /** Creates an event for the operator when another node uses this id, at most once per `CONFLICT_EVENT_MS`. */
  conflict(
    { nodeId, generation, address, status }: MemberUpdate,
    own: { readonly address: string; readonly toldBy: string },
    { monoMs }: Time,
  ): ReturnType<typeof eventOutput> | undefined {
    // Log again when the other node has stopped, because this node's generation must then be above the other node's.
    const isGone = !isListed(status);
    if (monoMs - this.#conflictLoggedMs < CONFLICT_EVENT_MS && (!isGone || this.#isConflictGone)) return undefined;
    this.#conflictLoggedMs = monoMs;
    this.#isConflictGone = isGone;
    const detail = { nodeId, generation, address, status, ownAddress: own.address, toldBy: own.toldBy };
    return eventOutput("own_id_used_by_another", "error", detail, { isAudited: true });
  }

  /**
   * Notes another node's response to this node's update about itself. An empty `why` means that the other node accepted the update. Returns an event
   * when the response differs from the last one.
   */
  refusedBy(nodeId: string, why: string): ReturnType<typeof eventOutput> | undefined {
    const before = this.#refusers.get(nodeId) ?? "";
    if (why === "") this.#refusers.delete(nodeId);
    else this.#refusers.set(nodeId, why);
    if (why === before) return undefined;
    return why === "" ? eventOutput("own_update_taken", "info", { nodeId }) : eventOutput("own_update_refused", "error", { nodeId, why });
  }

  /**
   * Returns why another node refused this node's update, if the refusal is likely to last. If the node refused because this process instance does not
   * follow `heldStart`, the refusal is ignored when `heldStart` is an earlier instance of this node. This node then names that instance immediately,
   * and a dispute is reported until the update is accepted.
   */
  lastingRefusal({ ownUpdateRefused = "", heldStart }: { readonly ownUpdateRefused?: string; readonly heldStart?: HeldInstance }): string {
    const isBehind = ownUpdateRefused === UPDATE_REFUSALS.start && heldStart !== undefined && this.isEarlier(heldStart.boot);
    return isBehind ? "" : ownUpdateRefused;
  }

  /** Returns the listed members that refuse this node's updates about itself, each with the reason. */
  refusers(counts: (nodeId: string) => boolean): readonly { readonly nodeId: string; readonly why: string }[] {
    if (this.#refusers.size === 0) return [];
    return [...this.#refusers].map(([nodeId, why]) => ({ nodeId, why })).filter(({ nodeId }) => counts(nodeId));
  }
}
