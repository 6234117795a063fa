/** This node's own records between being asked for and being durable: numbered, and visible to nobody. */
import type { Cell } from "./cell.ts";
import type { KeyText } from "./record.ts";

export class Staging {
  #lastSeq: number;
  readonly #cells: Cell[] = [];
  readonly #byKey = new Map<KeyText, Cell>();

  /** Goes on after the highest seq ever handed out. */
  constructor(lastSeq: number) {
    this.#lastSeq = lastSeq;
  }

  /** Highest seq handed out; one that was refused stays used. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Oldest first. */
  get cells(): readonly Cell[] {
    return this.#cells;
  }

  nextSeq(): number {
    this.#lastSeq += 1;
    return this.#lastSeq;
  }

  /** The newest staged record of a key. */
  find(key: KeyText): Cell | undefined {
    return this.#byKey.get(key);
  }

  add(cell: Cell): void {
    this.#cells.push(cell);
    this.#byKey.set(cell.key, cell);
  }

  /** Takes out the records up to a seq, oldest first. */
  take(through: number): readonly Cell[] {
    const after = this.#cells.findIndex((cell) => cell.seq > through);
    const taken = this.#cells.splice(0, after < 0 ? this.#cells.length : after);
    for (const cell of taken) if (this.#byKey.get(cell.key) === cell) this.#byKey.delete(cell.key);
    return taken;
  }
}
