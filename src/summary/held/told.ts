/** How many summaries the own cluster exports of each namespace, and when it last said something of it, for people. */

/** What is known of a namespace. */
export interface ToldNamespace {
  /** Summaries that are in force, on all channels. */
  readonly count: number;
  /** When one was last made or taken back, by the clock of its exporter. */
  readonly lastWallMs: number;
}

interface Row {
  count: number;
  /** Keys of which anything is known, withdrawals too. */
  known: number;
  lastWallMs: number;
}

export class ToldNamespaces {
  readonly #rows = new Map<string, Row>();

  find(namespace: string): ToldNamespace | undefined {
    return this.#rows.get(namespace);
  }

  /** What is known of one key has changed. Values are as in `Source.keys`, and 0 for nothing. A namespace of which nothing is known any more is forgotten. */
  note(namespace: string, before: number, value: number, saidWallMs: number): void {
    const row = this.#rows.get(namespace) ?? { count: 0, known: 0, lastWallMs: 0 };
    row.count += Number(value > 0) - Number(before > 0);
    row.known += Number(value !== 0) - Number(before !== 0);
    row.lastWallMs = Math.max(row.lastWallMs, saidWallMs);
    if (row.known > 0) this.#rows.set(namespace, row);
    else this.#rows.delete(namespace);
  }
}
