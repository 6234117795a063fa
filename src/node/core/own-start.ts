/** While another start goes under its id, a node takes no writes and is not ready (semantics.md, Two nodes with one id). */
import { eventOutput } from "../../fabric/io-types.ts";
import type { Dispute } from "../../fabric/membership/own-standing.ts";
import type { Start } from "../../fabric/wire/messages.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";

const RETRY_MS = 1000;
/** People are told after this. A node that only moved is accepted well before. */
const TELL_MS = 2000;
/** After a dispute of this length both starts may have written under the same numbers, so this node takes new ones. */
const CONTESTED_MS = 5000;

/** The name of a start, and the names of the earlier starts on the same disk; `earlierBoots` is undefined without a disk. */
export interface NamedStart {
  readonly boot: string;
  readonly earlierBoots: readonly string[] | undefined;
}

/** What this node tells others of its start: nothing without a disk, where each start is a new generation. */
export function startOfNode({ boot, earlierBoots }: NamedStart): Start {
  if (earlierBoots === undefined) return {};
  const [bootBefore] = earlierBoots;
  return { boot, ...(bootBefore !== undefined && { bootBefore }) };
}

/** The result of a look. */
export interface StartLook {
  /** An event for people. */
  readonly event?: ReturnType<typeof eventOutput>;
  /** Another start goes under this id since the last look. */
  readonly isLost?: boolean;
  /** Other nodes accept this start again, and may have accepted another one meanwhile. */
  readonly isContested?: boolean;
}

const NOTHING: StartLook = {};

export class OwnStart {
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
  look(dispute: Dispute | undefined, address: string, time: Time): StartLook {
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

  #ended(lastedMs: number): StartLook {
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
