/** What is asked for by how much it is liked: the chance of the one of rank r goes with 1 / r. */
import type { Rng } from "../../src/lib/rng.ts";

export class Zipf {
  readonly #sums: number[] = [];
  readonly #rng: Rng;

  constructor(count: number, rng: Rng) {
    this.#rng = rng;
    let sum = 0;
    for (let rank = 1; rank <= count; rank++) this.#sums.push((sum += 1 / rank));
  }

  /** The share of all asks that the most asked ones get. */
  share(count: number): number {
    return (this.#sums[count - 1] ?? 0) / (this.#sums.at(-1) ?? 1);
  }

  /** A rank, from 0. */
  draw(): number {
    const wanted = this.#rng.next() * (this.#sums.at(-1) ?? 0);
    let [low, high] = [0, this.#sums.length - 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sums[middle] ?? 0) >= wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
