/**
 * Draws the records of a group, by index: all of them in random order, or a sample. The gateway and DnsService share this class, so that the same random
 * numbers give the same answer. Each record is drawn when it is needed, because only a few records from a large group fit into a message.
 */

/** Returns the sampling weight of the record at an index. */
export type WeightOf = (place: number) => number;

// HOT: runs per record in each response (`bench/dns.ts`). Allocating an array for each group would cost more than drawing the records.
export class AnswerSampler {
  readonly #random: () => number;
  /** A permutation of record indexes. Between groups, this is the identity permutation. */
  #order = new Uint32Array(0);
  /** Number of records to draw from the group, and number of records drawn so far. */
  #wanted = 0;
  #drawn = 0;
  /** After sampling, the number of positions at the front that may contain an index other than their own. */
  #moved = 0;

  /** `random` returns numbers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /**
   * Starts a group of `count` records. If fewer records are wanted, a sample is drawn record by record: by weight, or uniformly when no weight is
   * left.
   */
  begin(count: number, wanted: number, weightOf?: WeightOf): void {
    if (this.#order.length < count) this.#order = Uint32Array.from({ length: 2 * count }, (_, i) => i);
    this.#wanted = wanted;
    this.#drawn = 0;
    this.#moved = 0;
    if (wanted < count) this.#sample(count, wanted, weightOf);
  }

  /** Returns the next record in random order (Fisher–Yates shuffle). Must be called at most once per wanted record. */
  next(): number {
    return this.#draw(this.#drawn++, this.#wanted);
  }

  /** Restores the identity permutation. Only drawn records were moved. */
  end(): void {
    const order = this.#order;
    const moved = Math.max(this.#moved, this.#drawn);
    for (let i = 0; i < moved; i++) {
      const record = order[i] ?? 0;
      if (record >= moved) order[record] = record;
    }
    for (let i = 0; i < moved; i++) order[i] = i;
  }

  #draw(i: number, end: number): number {
    return this.#swap(i, end - 1 - Math.floor(this.#random() * (end - i)));
  }

  #swap(i: number, j: number): number {
    const order = this.#order;
    const record = order[j] ?? 0;
    order[j] = order[i] ?? 0;
    order[i] = record;
    return record;
  }

  /** Moves the sampled records to the front. */
  #sample(count: number, wanted: number, weightOf: WeightOf = () => 0): void {
    const weightAt = (place: number) => weightOf(this.#order[place] ?? 0);
    this.#moved = wanted;
    let total = 0;
    for (let i = 0; i < count; i++) total += weightAt(i);
    for (let i = 0; i < wanted; i++) {
      if (total === 0) {
        this.#draw(i, count);
        continue;
      }
      let left = Math.floor(this.#random() * total);
      let j = i;
      while (j < count - 1 && left >= weightAt(j)) left -= weightAt(j++);
      total -= weightAt(j);
      this.#swap(i, j);
    }
  }
}
