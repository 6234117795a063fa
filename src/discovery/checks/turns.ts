/** Which checks turn, and when: a turn waits a moment for others, because the node doubts itself when most of its checks turn at once. */
import { NEVER } from "../../lib/machine.ts";
import type { Outcome } from "./outcome.ts";
import { SelfDoubt } from "./self-doubt.ts";
import type { Watch } from "./watched.ts";

/** How long a turn waits for others that turn at once with it, in ms. */
const GATHER_MS = 1000;

const NONE: readonly Watch[] = [];

export class Turns {
  readonly doubt = new SelfDoubt();
  /** In the order in which they became due. */
  readonly #due = new Set<Watch>();
  #checkCount = 0;
  #swayingCount = 0;

  /** The evidence for a doubt: see `Evidence`. */
  get evidence(): { readonly checkCount: number; readonly swayingCount: number } {
    return { checkCount: this.#checkCount, swayingCount: this.#swayingCount };
  }

  added(watch: Watch): void {
    this.#count(watch, 1);
  }

  dropped(watch: Watch): void {
    this.#due.delete(watch);
    this.#count(watch, -1);
  }

  conclude(watch: Watch, outcome: Outcome, monoMs: number): void {
    this.#count(watch, -1);
    watch.threshold.conclude(outcome);
    this.#count(watch, 1);
    this.doubt.look(this.evidence, monoMs);
    if (watch.threshold.due === undefined) {
      watch.dueMonoMs = undefined;
      this.#due.delete(watch);
      return;
    }
    watch.dueMonoMs ??= monoMs;
    this.#due.add(watch);
  }

  /** Lets checks turn, and returns them. */
  turn(monoMs: number): readonly Watch[] {
    if (this.#due.size === 0 && !this.doubt.isDoubting) return NONE;
    this.doubt.look(this.evidence, monoMs);
    const ready = [...this.#due].filter(({ dueMonoMs = NEVER }) => monoMs >= dueMonoMs + GATHER_MS);
    if (ready.length === 0 || !this.doubt.mayTurn(this.evidence, monoMs)) return NONE;
    for (const watch of ready) {
      const wasKnown = watch.threshold.isKnown && saysOfNode(watch);
      this.#due.delete(watch);
      this.#count(watch, -1);
      watch.threshold.turn();
      this.#count(watch, 1);
      watch.dueMonoMs = undefined;
      if (wasKnown) this.doubt.turned(monoMs);
    }
    return ready;
  }

  nextDeadlineMs(): number {
    if (this.doubt.isDoubting) return this.doubt.untilMonoMs;
    // HOT: once an input of the node, and mostly nothing is due.
    if (this.#due.size === 0) return NEVER;
    // A set keeps the order in which its items came, so the first one is due first.
    const [first] = this.#due;
    return first?.dueMonoMs === undefined ? NEVER : first.dueMonoMs + GATHER_MS;
  }

  #count(watch: Watch, by: 1 | -1): void {
    if (!saysOfNode(watch) || !watch.threshold.isKnown) return;
    this.#checkCount += by;
    if (watch.threshold.isSwaying) this.#swayingCount += by;
  }
}

/** An alias turns with the other entry, so it says nothing of this node. */
function saysOfNode({ check }: Watch): boolean {
  return check.probe.case !== "alias";
}
