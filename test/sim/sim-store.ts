/**
 * The control store as a party of a world: a process gives it orders and gets its answers later. It may be slow, lose an answer after or before it did what was asked,
 * and be down for a while. A request whose answer is lost fails with `store_unavailable`, as the contract of `Store` has it.
 */
import { WaymarkError } from "../../src/lib/errors.ts";
import type { StoreRequest, TaskAnswer } from "../../src/policy/task.ts";
import { answerOf } from "../fakes/policy-tasks.ts";
import type { SimProcess } from "./sim-node.ts";

/** How a store misbehaves. Nothing is drawn for a store that does not. */
export interface StoreFault {
  /** Answers come later by at most this. */
  readonly slowMs: number;
  /** The share of answers that are lost. Half of these requests were carried out. */
  readonly loss: number;
  readonly isDown: boolean;
}

export class SimStore {
  fault: StoreFault | undefined;
  /** On its way to the disk. */
  swap: StoreRequest | undefined;
  readonly #process: SimProcess;

  constructor(process: SimProcess) {
    this.#process = process;
  }

  ask(request: StoreRequest, answered: (answer: TaskAnswer) => void): void {
    if (request.kind === "swap") this.swap = request;
    this.#later(() => {
      this.swap = undefined;
      answered(this.#answer(request));
    });
  }

  /** Answers when the audit log is on disk. */
  audited(answered: (answer: TaskAnswer) => void): void {
    this.#process.afterDisk(() => answered(this.#process.isDiskFull ? failed("the disk is full") : { kind: "over" }));
  }

  /** A batch that is kept at a crash has the swap that was on its way. */
  crashed(): void {
    if (this.swap !== undefined) answerOf(this.#process.node.disk.store, this.swap);
  }

  #later(run: () => void): void {
    const { fault } = this;
    const { rng } = this.#process.node.parts;
    if (fault === undefined || fault.slowMs === 0) return this.#process.afterDisk(run);
    this.#process.pause(rng.int(fault.slowMs), () => this.#process.afterDisk(run));
  }

  #answer(request: StoreRequest): TaskAnswer {
    const { node, isDiskFull } = this.#process;
    const { fault } = this;
    if (isDiskFull && request.kind === "swap") return failed("the disk is full");
    const isLost = fault !== undefined && (fault.isDown || node.parts.rng.next() < fault.loss);
    if (!isLost) return answerOf(node.disk.store, request);
    node.parts.watching.event(node, { name: "store_fault", severity: "debug", isAudited: false, detail: {} });
    if (!fault.isDown && node.parts.rng.int(2) === 0) answerOf(node.disk.store, request);
    return failed(fault.isDown ? "the store is down" : "the answer is lost");
  }
}

function failed(why: string): TaskAnswer {
  return { kind: "failed", error: new WaymarkError("store_unavailable", why) };
}
