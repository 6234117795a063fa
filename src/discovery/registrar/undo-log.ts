/** The steps to undo changes that are not durable yet. */

type UndoStep = () => void;

/** Steps in the order of the changes. The steps of a batch are dropped when it is on disk; when it is refused, all are undone. */
export class UndoLog {
  #open: UndoStep[] = [];
  #sealed: { readonly through: number; readonly steps: UndoStep[] }[] = [];

  push(step: UndoStep): void {
    this.#open.push(step);
  }

  /** The position to which the steps of one call can be undone. */
  get mark(): number {
    return this.#open.length;
  }

  /** Undoes the steps since the mark, newest first: those of one failed call. */
  undoTo(mark: number): void {
    for (const step of this.#open.splice(mark).toReversed()) step();
  }

  /** The steps so far belong to the batch that ends at this seq. */
  seal(through: number): void {
    this.#sealed.push({ through, steps: this.#open });
    this.#open = [];
  }

  /** The batch that ends at this seq is durable. */
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
