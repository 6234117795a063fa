/** Orders about maintenance that other nodes give this one: staged, and answered when their changes are durable. */
import type { BatchNumber } from "../../discovery/registrar/commit-cycle.ts";
import type { OrderOutcome } from "../../discovery/registrar/maintenance.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import type { CallId, FabricOutput } from "../../fabric/io-types.ts";
import { keysOf } from "../../fabric/maintenance-calls.ts";
import type { MaintainRequest } from "../../fabric/wire/messages.ts";
import { type Reason, rethrowBroken, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";

type Ordered = Extract<FabricOutput, { readonly kind: "ordered" }>;
type Answer = Extract<FabricOutput, { readonly kind: "answer" }>;

export interface MaintenanceOrdersParts {
  readonly registrar: Pick<Registrar, "orderMaintenance">;
  /** This node, as it names itself in calls. */
  readonly self: () => MaintainRequest["from"];
  /** The batch that has what is staged by now, or 0. */
  readonly durable: () => BatchNumber;
  /** Throws while this node takes no writes. */
  readonly checkWrites: (time: Time) => void;
}

interface Waiting {
  readonly batch: BatchNumber;
  readonly call: CallId;
  readonly count: number;
  readonly outcomes: readonly OrderOutcome[];
}

/** What is told to another node when a bug or a disk is to blame. */
const NOT_WRITTEN = "the journal does not take writes";

export class MaintenanceOrders {
  readonly #parts: MaintenanceOrdersParts;
  #waiting: Waiting[] = [];

  constructor(parts: MaintenanceOrdersParts) {
    this.#parts = parts;
  }

  /** Returns the answer, if nothing is to be written. */
  ordered({ call, request }: Ordered, time: Time): Answer | undefined {
    const keys = keysOf(request);
    if (keys === undefined) return { kind: "answer", call, response: undefined, why: "a key without kind or cluster" };
    const { isOn, reason, untilMs, principal, isForAll } = request;
    let outcomes: readonly OrderOutcome[];
    try {
      this.#parts.checkWrites(time);
      outcomes = this.#parts.registrar.orderMaintenance(keys, { isOn, reason, untilMs, giver: principal, isOperator: isForAll }, time);
    } catch (error) {
      rethrowBroken(error);
      if (!(error instanceof WaymarkError)) throw error;
      return this.#answer(call, refusedAll(keys.length, error.reason, error.message));
    }
    const batch = this.#parts.durable();
    if (batch === 0 || outcomes.every(({ kind }) => kind === "refused")) return this.#answer(call, outcomes);
    this.#waiting.push({ batch, call, count: keys.length, outcomes });
    return undefined;
  }

  /** Batches up to this one are durable, or `isRefused`. Returns the answers of orders in them. */
  settled(through: BatchNumber, isRefused: boolean): readonly Answer[] {
    if (this.#waiting.length === 0) return [];
    const settled = this.#waiting.filter(({ batch }) => batch <= through);
    this.#waiting = this.#waiting.filter(({ batch }) => batch > through);
    return settled.map(({ call, count, outcomes }) =>
      this.#answer(call, isRefused ? refusedAll(count, "store_unavailable", NOT_WRITTEN) : outcomes),
    );
  }

  #answer(call: CallId, outcomes: readonly OrderOutcome[]): Answer {
    const refusals = outcomes.flatMap((outcome, index) =>
      outcome.kind === "refused" ? [{ index, reason: outcome.reason, detail: outcome.detail }] : [],
    );
    const changed = outcomes.filter(({ kind }) => kind === "changed").length;
    return { kind: "answer", call, response: { kind: "maintain", from: this.#parts.self(), changed, refusals } };
  }
}

function refusedAll(count: number, reason: Reason, detail: string): readonly OrderOutcome[] {
  return Array.from({ length: count }, () => ({ kind: "refused", reason, detail }) as const);
}
