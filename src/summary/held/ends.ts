/** The instants from which summaries are not shown, by this node's wall clock (docs/design/summaries.md, Sources). */
import type { KeyText } from "../../catalog/record/record.ts";
import { assert } from "../../lib/errors.ts";
import { DeadlineHeap } from "../../lib/heap.ts";
import { NEVER, type Time } from "../../lib/machine.ts";

/** Keys that a call turns: some 1 ms. */
const SLICE = 1000;
/** After some ends came, the next ones are waited for together: a source may have thousands of them, each at another time. */
const TOGETHER_MS = 20;

export class Ends {
  /** Each key that has an end has a number, by which the heaps call it. */
  readonly #ids = new Map<KeyText, number>();
  readonly #keys: KeyText[] = [];
  readonly #free: number[] = [];
  /** Ends that are to come, the earliest first. */
  readonly #coming = new DeadlineHeap();
  /** Ends that came, below 0, so that the latest is first: it is the first one that a clock which goes back shows again. */
  readonly #over = new DeadlineHeap();
  /** More has turned than a call turns. */
  hasMore = false;
  #togetherMonoMs = Number.NEGATIVE_INFINITY;

  /** From this instant on the summary of the key is not shown. Undefined: it has no end. */
  set(key: KeyText, wallMs: number | undefined, now: Time): void {
    if (wallMs === undefined) return this.#forget(key);
    const id = this.#ids.get(key) ?? this.#free.pop() ?? this.#keys.length;
    this.#ids.set(key, id);
    this.#keys[id] = key;
    this.#place(id, wallMs, wallMs <= now.wallMs);
  }

  isOver(key: KeyText): boolean {
    const id = this.#ids.get(key);
    return id !== undefined && this.#over.has(id);
  }

  /** A slice of the keys that are shown or hidden from this instant on. A clock that goes back shows them again. Cost: the keys that turn. */
  advance({ monoMs, wallMs }: Time): readonly KeyText[] {
    const turned: KeyText[] = [];
    const turn = (id: number | undefined, endWallMs: number, isOver: boolean): void => {
      const key = id === undefined ? undefined : this.#keys[id];
      assert(id !== undefined && key !== undefined, "a number in a heap has no key", { id: id ?? -1 });
      this.#place(id, endWallMs, isOver);
      turned.push(key);
    };
    for (let end = -this.#over.nextDeadlineMs(); end > wallMs && turned.length < SLICE; end = -this.#over.nextDeadlineMs())
      turn(this.#over.nextId(), end, false);
    const isWaiting = monoMs < this.#togetherMonoMs && !this.hasMore;
    const untilWallMs = isWaiting ? Number.NEGATIVE_INFINITY : wallMs;
    for (let end = this.#coming.nextDeadlineMs(); end <= untilWallMs && turned.length < SLICE; end = this.#coming.nextDeadlineMs())
      turn(this.#coming.nextId(), end, true);
    this.hasMore = turned.length === SLICE;
    if (turned.length > 0) this.#togetherMonoMs = monoMs + TOGETHER_MS;
    return turned;
  }

  /** When the next one comes, or several together. */
  nextEndMonoMs({ monoMs, wallMs }: Time): number {
    const endWallMs = this.#coming.nextDeadlineMs();
    return endWallMs === NEVER ? NEVER : Math.max(monoMs + endWallMs - wallMs, this.#togetherMonoMs);
  }

  #place(id: number, wallMs: number, isOver: boolean): void {
    const [to, from] = isOver ? [this.#over, this.#coming] : [this.#coming, this.#over];
    from.remove(id);
    to.set(id, isOver ? -wallMs : wallMs);
  }

  #forget(key: KeyText): void {
    const id = this.#ids.get(key);
    if (id === undefined) return;
    this.#ids.delete(key);
    this.#coming.remove(id);
    this.#over.remove(id);
    this.#free.push(id);
  }
}
