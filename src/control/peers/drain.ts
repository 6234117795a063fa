/**
 * The steps of a drain. A drain goes to the next step when nothing is left of the current one. After its deadline it is stuck, and continues, unless
 * it is forced. The steps of kubectl's drain are cordon and evict; this one also moves entries and leaderships.
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { DrainTerms } from "./records.ts";

export const DRAIN_STEPS = ["leaders", "leases", "static_entries", "addresses", "watches", "drained"] as const;
export type DrainStep = (typeof DRAIN_STEPS)[number];

/** The kinds of things that can be left on a node. `seconds`: the time for which its addresses can be in caches. */
export const DRAIN_KINDS = ["leaders", "owners", "leases", "static_entries", "seconds", "watches"] as const;
/** Numbers of things that are left on a node, by kind. */
export type DrainLeft = Readonly<Partial<Record<(typeof DRAIN_KINDS)[number], number>>>;

export interface DrainProgress {
  readonly step: DrainStep;
  readonly sinceMs: number;
  readonly isStuck: boolean;
  readonly left: readonly { readonly kind: (typeof DRAIN_KINDS)[number]; readonly count: number }[];
}

/** The work of one step. */
export interface DrainTask {
  begin(time: Time): void;
  /** Continues the work. Returns the numbers of things that are left; the step is done when all numbers are 0. */
  advance(time: Time): DrainLeft;
  /** Ends everything that is left, because the drain is forced and its deadline has passed. */
  end(time: Time): void;
  /** Undoes the changes of the step on this node, because the node is active again. Entries that have moved stay on other nodes. */
  cancel(time: Time): void;
}

/** Time (ms) between two looks at a step. */
const STEP_MS = 200;

export class Drain {
  readonly #tasks: readonly DrainTask[];
  #terms: DrainTerms | undefined;
  /** Number of steps that are done. */
  #doneCount = 0;
  #hasBegun = false;
  #left: DrainLeft = {};
  #isStuck = false;
  #nextMonoMs = NEVER;

  /** The tasks of the steps before `drained`, in their order. */
  constructor(tasks: readonly DrainTask[]) {
    this.#tasks = tasks;
  }

  /** Undefined if there is no drain. */
  get progress(): DrainProgress | undefined {
    if (this.#terms === undefined) return undefined;
    const left = DRAIN_KINDS.flatMap((kind) => {
      const count = this.#left[kind] ?? 0;
      return count === 0 ? [] : { kind, count };
    });
    return { step: DRAIN_STEPS[this.#doneCount] ?? "drained", sinceMs: this.#terms.sinceWallMs, isStuck: this.#isStuck, left };
  }

  nextDeadlineMs(): number {
    return this.#nextMonoMs;
  }

  /** Begins, changes or cancels the drain. A drain that is cancelled stops before its next step. */
  follow(terms: DrainTerms | undefined, time: Time): void {
    if (terms === undefined && this.#terms !== undefined) {
      const begunCount = this.#doneCount + (this.#hasBegun ? 1 : 0);
      for (const task of this.#tasks.slice(0, begunCount).toReversed()) task.cancel(time);
      [this.#doneCount, this.#hasBegun, this.#left, this.#isStuck] = [0, false, {}, false];
    }
    this.#terms = terms;
    this.#nextMonoMs = terms === undefined ? NEVER : time.monoMs;
  }

  /** Continues the drain if it is due. Returns whether it was. */
  look(time: Time): boolean {
    if (this.#terms === undefined || time.monoMs < this.#nextMonoMs) return false;
    const isLate = time.wallMs >= this.#terms.deadlineWallMs;
    for (let task = this.#tasks[this.#doneCount]; task !== undefined; task = this.#tasks[this.#doneCount]) {
      if (!this.#hasBegun) task.begin(time);
      this.#hasBegun = true;
      if (isLate && this.#terms.isForced) task.end(time);
      this.#left = task.advance(time);
      if (Object.values(this.#left).some((count) => count > 0)) break;
      this.#doneCount += 1;
      this.#hasBegun = false;
    }
    const isOver = this.#doneCount === this.#tasks.length;
    this.#isStuck = isLate && !isOver && !this.#terms.isForced;
    this.#nextMonoMs = isOver ? NEVER : time.monoMs + STEP_MS;
    return true;
  }
}
