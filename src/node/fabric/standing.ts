/**
 * What others' view of a node means for it: where they accepted another start of its id it takes no writes and is not ready (semantics.md, Two
 * nodes with one id); where most refuse what it says of itself it is not ready (Names and bounds).
 */

import type { FabricEvent } from "../../fabric/io-types.ts";
import type { Membership } from "../../fabric/membership/membership.ts";
import type { Dispute } from "../../fabric/membership/own-standing.ts";
import type { Start } from "../../fabric/wire/messages.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Journal } from "../../store/journal/journal.ts";
import type { NodeCore, NodeState } from "../rooms.io.ts";
import { checkClock } from "./clock.ts";

const RETRY_MS = 1000;
/** A node that only moved is taken well before this. */
const TELL_MS = 2000;
/** After so long this node and the other one may have written under the same numbers: it goes on under new ones. */
const CONTESTED_MS = 5000;

/** What this node tells others of its start: nothing without a disk, where each start is a new generation. */
export function startOfNode({ restored: { boot, earlierBoots } }: Pick<Journal, "restored">): Start {
  if (earlierBoots === undefined) return {};
  const [bootBefore] = earlierBoots;
  return { boot, ...(bootBefore !== undefined && { bootBefore }) };
}

/** How this node stands with others: a `Membership`. */
export interface Standing {
  dispute(time: Time): Dispute | undefined;
  isUnconfirmed(time: Time): boolean;
}

export interface OwnStartParts {
  readonly tell: (event: FabricEvent) => void;
  /** This node is the one again, and another may have been it meanwhile. */
  readonly onWon: () => void;
}

export class OwnStart {
  readonly #core: Pick<NodeCore, "identity" | "state" | "hooks" | "fanout">;
  readonly #parts: OwnStartParts;
  #sinceMonoMs: number | undefined;
  #isTold = false;
  /** Writes that are durable, and not acknowledged yet. */
  readonly #waiting: { readonly resolve: () => void; readonly reject: (error: WaymarkError) => void }[] = [];

  constructor(core: Pick<NodeCore, "identity" | "state" | "hooks" | "fanout">, parts: OwnStartParts) {
    this.#core = core;
    this.#parts = parts;
  }

  /**
   * For a write, when it comes and when it is durable: undefined at once, but after a standstill of this process, in which others may have taken another start,
   * a promise. It resolves when others have answered, and rejects with `not_ready` when another start goes under this id.
   */
  confirmed(membership: Standing, time: Time): Promise<void> | undefined {
    if (!membership.isUnconfirmed(time)) {
      // Nobody heard of a standstill: nothing but a known dispute is in the way.
      if (this.#core.state.startFault === "") return undefined;
      return Promise.reject(refused(this.#core.state));
    }
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  look(membership: Standing, time: Time): void {
    const dispute = membership.dispute(time);
    this.#note(dispute, time);
    if (this.#waiting.length === 0 || (dispute === undefined && membership.isUnconfirmed(time))) return;
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (dispute === undefined) resolve();
      else reject(refused(this.#core.state));
    }
  }

  #note(dispute: Dispute | undefined, time: Time): void {
    if (dispute === undefined) {
      if (this.#sinceMonoMs !== undefined) this.#ended(time.monoMs - this.#sinceMonoMs);
      return;
    }
    const { identity, state } = this.#core;
    const address = identity.listeners["fabric"] ?? "";
    const fault = disputeText({ nodeId: identity.nodeId, address }, dispute);
    state.startFault = fault;
    if (this.#sinceMonoMs === undefined) this.#began(time);
    if (this.#isTold || time.monoMs - (this.#sinceMonoMs ?? 0) < TELL_MS) return;
    this.#isTold = true;
    const detail = { nodeId: identity.nodeId, address, otherAddress: dispute.otherAddress, toldBy: dispute.nodeIds.join(" "), fault };
    this.#parts.tell({ name: "own_start_refused", severity: "error", isAudited: true, detail });
  }

  #began({ monoMs }: Time): void {
    const { state, hooks, fanout } = this.#core;
    this.#sinceMonoMs = monoMs;
    hooks.onFault();
    // What they are told next may not be what others see: each resumes at another node from where it stands.
    if (state.isReady) fanout.end();
  }

  #ended(lastedMs: number): void {
    this.#sinceMonoMs = undefined;
    this.#core.state.startFault = "";
    this.#core.hooks.onFault();
    if (this.#isTold) this.#parts.tell({ name: "own_start_accepted", severity: "info", isAudited: true, detail: {} });
    this.#isTold = false;
    if (lastedMs >= CONTESTED_MS) this.#parts.onWon();
  }
}

/** In words for people. Of what is remembered at this node's own address nobody says that it is a second node. */
function disputeText(
  { nodeId, address }: { readonly nodeId: string; readonly address: string },
  { nodeIds, otherAddress }: Dispute,
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

type Refusals = Pick<Membership, "refusers" | "counts">;

/** Whether most others refuse what this node says of itself: then it is no member, and nobody finds what is registered with it. */
function isRefusedByMost(membership: Refusals): boolean {
  const refuserCount = membership.refusers().length;
  if (refuserCount === 0) return false;
  const { alive, suspect } = membership.counts();
  return refuserCount * 2 > alive + suspect;
}

export function lookAtRefusers({ state, hooks }: Pick<NodeCore, "state" | "hooks">, membership: Refusals): void {
  const isRefused = isRefusedByMost(membership);
  if (isRefused === state.isRefused) return;
  state.isRefused = isRefused;
  hooks.onFault();
}

/** What makes a node unready that knows the catalog; empty when nothing does. */
export function faultOf({ clockFault, startFault, isRefused }: NodeState): string {
  return clockFault || startFault || (isRefused ? "most other nodes refuse what this one says of itself" : "");
}

export function isFaultless(state: NodeState): boolean {
  return faultOf(state) === "";
}

/** Throws `not_ready` while another start goes under this node's id. */
export function checkStart({ startFault }: { readonly startFault: string }): void {
  if (startFault !== "") throw refused({ startFault });
}

/** Throws `clock_skew` or `not_ready` while this node is to take no writes. */
export function checkWrites(state: NodeState): void {
  checkStart(state);
  if (state.joinFault !== "") throw new WaymarkError("not_ready", state.joinFault, { retryMs: RETRY_MS });
  checkClock(state);
}

function refused({ startFault }: { readonly startFault: string }): WaymarkError {
  return new WaymarkError("not_ready", startFault, { retryMs: RETRY_MS });
}
