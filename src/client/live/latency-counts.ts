/** Latencies counted in ranges, as a histogram of Prometheus has them. */

/** Upper ends of the ranges in ms. One more range has what is slower. */
const LATENCY_ENDS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;

export interface LatencyHistogram {
  readonly count: number;
  readonly sumMs: number;
  /** For each range its upper end in ms, and how many latencies are in it and in those below. The last one has no end. */
  readonly ranges: readonly { readonly endMs: number; readonly count: number }[];
}

export class LatencyCounts {
  readonly #counts = new Float64Array(LATENCY_ENDS_MS.length + 1);
  #sumMs = 0;

  add(latencyMs: number): void {
    const at = LATENCY_ENDS_MS.findIndex((endMs) => latencyMs <= endMs);
    const range = at === -1 ? LATENCY_ENDS_MS.length : at;
    this.#counts[range] = (this.#counts[range] ?? 0) + 1;
    this.#sumMs += latencyMs;
  }

  histogram(): LatencyHistogram {
    let count = 0;
    const ranges = [...this.#counts].map((own, i) => {
      count += own;
      return { endMs: LATENCY_ENDS_MS[i] ?? Number.POSITIVE_INFINITY, count };
    });
    return { count, sumMs: this.#sumMs, ranges };
  }
}
