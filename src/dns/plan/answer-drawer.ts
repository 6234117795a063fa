/**
 * Draws the records of a group, by their places in it: all in a random order, or a sample. The gateway and DnsService both draw with it, so that the same numbers
 * give the same answer. A record is drawn when it is needed, because few of a large group fit into a message.
 */

/** The weight with which the record at a place is drawn into a sample. */
export type WeightOf = (place: number) => number;

// HOT: once a record of each answer (`bench/dns.ts`). An array of its own for each group would cost more than the drawing.
export class AnswerDrawer {
  readonly #random: () => number;
  /** For each place of a group the record that stands there. Between groups each stands in its own. */
  #order = new Uint32Array(0);
  /** Of the group: how many are drawn in all, and how many were. */
  #wanted = 0;
  #drawn = 0;
  /** So many places at the front may hold another record than their own. */
  #moved = 0;

  /** `random` gives numbers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** Begins a group of `count` records. Where fewer are wanted, each next one of the sample is drawn by weight, or evenly where no weight is left. */
  begin(count: number, wanted: number, weightOf?: WeightOf): void {
    if (this.#order.length < count) this.#order = Uint32Array.from({ length: 2 * count }, (_, i) => i);
    this.#wanted = wanted;
    this.#drawn = 0;
    this.#moved = 0;
    if (wanted < count) this.#sample(count, wanted, weightOf);
  }

  /** The next record in a random order (Fisher and Yates). To be called at most once for each that is wanted. */
  next(): number {
    return this.#draw(this.#drawn++, this.#wanted);
  }

  /** Puts all records in their own place again. Only what was drawn left it. */
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

  /** Puts a sample to the front. */
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
