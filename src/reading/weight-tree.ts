/** Weights by index, from which an index is drawn in proportion to its weight. */

const START_CAPACITY = 4;

/** A binary indexed tree (Fenwick, 1994): a change and a draw cost O(log n). Weights are whole numbers, so sums are exact. */
export class WeightTree {
  /** `#sums[i]`, for i from 1, is the sum of the weights of the `i & -i` indices that end with i - 1. The length is a power of two and one. */
  #sums = new Float64Array(START_CAPACITY + 1);
  #total = 0;

  get total(): number {
    return this.#total;
  }

  /** Adds to the weight of an index, which is 0 at first. */
  add(index: number, weight: number): void {
    while (index >= this.#sums.length - 1) this.#grow();
    this.#total += weight;
    for (let i = index + 1; i < this.#sums.length; i += i & -i) this.#sums[i] = (this.#sums[i] ?? 0) + weight;
  }

  /** The index that a number in [0, 1) falls on, when the indices take parts of that range by their weights. */
  draw(drawn: number): number {
    // HOT: twice a choice.
    let left = drawn * this.#total;
    let index = 0;
    for (let step = this.#sums.length - 1; step > 0; step >>>= 1) {
      const sum = this.#sums[index + step];
      if (sum === undefined || sum > left) continue;
      left -= sum;
      index += step;
    }
    return index;
  }

  /** Like `draw`, but never returns this index. `weight` is the weight of the index. */
  drawOther(drawn: number, index: number, weight: number): number {
    let before = 0;
    for (let i = index; i > 0; i -= i & -i) before += this.#sums[i] ?? 0;
    const left = drawn * (this.#total - weight);
    return this.draw((left < before ? left : left + weight) / this.#total);
  }

  #grow(): void {
    const sums = new Float64Array((this.#sums.length - 1) * 2 + 1);
    sums.set(this.#sums);
    sums[sums.length - 1] = this.#total;
    this.#sums = sums;
  }
}
