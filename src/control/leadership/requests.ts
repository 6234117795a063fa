/** The requests of a process to its control store that are not answered yet. */
import type { Time } from "../../lib/machine.ts";
import type { StoreCondition, StoreWrite, TransactResult } from "../../store/control/store.ts";
import type { LeadershipOutput, RequestId } from "./io-types.ts";

/** Called with the answer. Undefined if the outcome is unknown. */
export type Answered = (result: TransactResult | undefined, time: Time, out: LeadershipOutput[]) => void;

/** The outputs of a machine that sends requests. */
export interface RequestSink {
  push(request: Extract<LeadershipOutput, { readonly kind: "transact" }>): unknown;
}

export class StoreRequests {
  readonly #asked = new Map<RequestId, Answered>();
  #last = 0;

  get size(): number {
    return this.#asked.size;
  }

  transact(conditions: readonly StoreCondition[], changes: readonly StoreWrite[], out: RequestSink, answered: Answered): void {
    const request = ++this.#last;
    this.#asked.set(request, answered);
    out.push({ kind: "transact", request, conditions, changes });
  }

  answered(request: RequestId, result: TransactResult | undefined, time: Time, out: LeadershipOutput[]): void {
    const answered = this.#asked.get(request);
    this.#asked.delete(request);
    answered?.(result, time, out);
  }
}
