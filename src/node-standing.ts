/** What it means for a node that another start goes under its id: it takes no writes, and is not ready (semantics.md, Two nodes with one id). */
import type { Start } from "./fabric/messages.ts";
import type { Dispute } from "./fabric/own-standing.ts";
import type { FabricEvent } from "./fabric/seam.ts";
import { WaymarkError } from "./lib/errors.ts";
import type { Time } from "./lib/machine.ts";
import { checkClock } from "./node-clock.ts";
import type { NodeCore } from "./node-core.ts";
import type { Journal } from "./store/journal.ts";

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

  constructor(core: Pick<NodeCore, "identity" | "state" | "hooks" | "fanout">, parts: OwnStartParts) {
    this.#core = core;
    this.#parts = parts;
  }

  look(membership: { dispute(time: Time): Dispute | undefined }, time: Time): void {
    const dispute = membership.dispute(time);
    if (dispute === undefined) {
      if (this.#sinceMonoMs !== undefined) this.#ended(time.monoMs - this.#sinceMonoMs);
      return;
    }
    const { identity, state } = this.#core;
    const fault = disputeText(identity.nodeId, dispute);
    state.startFault = fault;
    if (this.#sinceMonoMs === undefined) this.#began(time);
    if (this.#isTold || time.monoMs - (this.#sinceMonoMs ?? 0) < TELL_MS) return;
    this.#isTold = true;
    const address = identity.listeners["fabric"] ?? "";
    const detail = { nodeId: identity.nodeId, address, otherAddress: dispute.otherAddress, toldBy: dispute.nodeIds.join(" "), fault };
    this.#parts.tell({ name: "own_start_refused", severity: "error", isAudited: true, detail });
  }

  #began({ monoMs }: Time): void {
    const { state, hooks, fanout } = this.#core;
    this.#sinceMonoMs = monoMs;
    hooks.onFault();
    // What they are told next may not be what others see: each resumes at another node from where it stands.
    if (state.isReady) for (const watcher of Array.from(fanout.watchers())) watcher.stop();
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

/** In words for people. */
function disputeText(nodeId: string, { nodeIds, otherAddress }: Dispute): string {
  const where = otherAddress === "" ? "" : ` at ${otherAddress}`;
  const [first = ""] = nodeIds;
  const who = first === nodeId ? "it answers there" : `${first}${nodeIds.length > 1 ? ` and ${nodeIds.length - 1} more` : ""} accepted it`;
  return (
    `another start of ${nodeId}${where} goes under its id (${who}): this one takes no writes; stop one of the two, ` +
    "and if this one is to go on, start it with --new-generation when the other one is gone"
  );
}

/** Whether nothing keeps this node from taking writes. */
export function isFaultless({ clockFault, startFault }: NodeCore["state"]): boolean {
  return clockFault === "" && startFault === "";
}

/** Throws `not_ready` while another start goes under this node's id. */
export function checkStart({ startFault }: { readonly startFault: string }): void {
  if (startFault !== "") throw new WaymarkError("not_ready", startFault, { retryMs: RETRY_MS });
}

/** Throws `clock_skew` or `not_ready` while this node is to take no writes. */
export function checkWrites(state: NodeCore["state"]): void {
  checkStart(state);
  checkClock(state);
}
