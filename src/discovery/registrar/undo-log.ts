/** The steps to undo changes that are not durable yet. */

type UndoStep = () => void;

/** Undo steps in the order of the changes. When a batch is on disk, its steps are dropped. If a batch fails, all steps are undone. */
export class UndoLog {
  #open: UndoStep[] = [];
  #sealed: { readonly through: number; readonly steps: UndoStep[] }[] = [];

  push(step: UndoStep): void {
    this.#open.push(step);
  }

  /** The position at which the next step will be added. If a call fails, it is undone back to the position at which it started. */
  get mark(): number {
    return this.#open.length;
  }

  /** Undoes the steps since `mark`, newest first, because their call failed. */
  undoTo(mark: number): void {
    for (const step of this.#open.splice(mark).toReversed()) step();
  }

  /** Assigns all unassigned steps to the batch that ends at this seq. */
  seal(through: number): void {
    this.#sealed.push({ through, steps: this.#open });
    this.#open = [];
  }

  /** Drops the steps of the batch that ends at this seq, because it is durable. */
  forget(through: number): void {
    while ((this.#sealed[0]?.through ?? Number.POSITIVE_INFINITY) <= through) this.#sealed.shift();
  }

  /** Undoes every remaining step, newest first. */
  undo(): void {
    for (let i = this.#open.length - 1; i >= 0; i--) this.#open[i]?.();
    for (let b = this.#sealed.length - 1; b >= 0; b--) {
      const steps = this.#sealed[b]?.steps ?? [];
      for (let i = steps.length - 1; i >= 0; i--) steps[i]?.();
    }
    this.#open = [];
    this.#sealed = [];
  }
}
