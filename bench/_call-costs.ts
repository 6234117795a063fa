/** What a call of some hundred nanoseconds costs. */

/** Calls between two looks at the clock: a look costs as much as some calls. */
const BATCH = 20;
const BATCHES = 20_000;
/** Number of calls that are measured. */
export const CALLS = BATCH * BATCHES;

export interface CallCosts {
  readonly p50: number;
  readonly p99: number;
}

/** Median and 99th percentile of the mean cost of a call in batches of 20, in µs. `call` is given its number, from 0. */
export function callCosts(call: (i: number) => unknown): CallCosts {
  const costs = new Float64Array(BATCHES);
  for (let batch = 0; batch < BATCHES; batch++) {
    const start = performance.now();
    for (let i = 0; i < BATCH; i++) call(batch * BATCH + i);
    costs[batch] = ((performance.now() - start) * 1000) / BATCH;
  }
  costs.sort();
  const us = (share: number) => Math.round((costs[Math.floor(share * BATCHES)] ?? 0) * 1000) / 1000;
  return { p50: us(0.5), p99: us(0.99) };
}

/** Rows of a table of such costs. */
export function costRows(costs: Readonly<Record<string, CallCosts>>): readonly Readonly<Record<string, unknown>>[] {
  return Object.entries(costs).map(([what, { p50, p99 }]) => ({ what, "p50 µs": p50, "p99 µs": p99 }));
}

export const costsNote = `${CALLS.toLocaleString("en-US")} calls, timed in batches of ${BATCH}, after as many calls that do not count: the percentiles are percentiles of the mean of each ${BATCH}. One thread without other work.`;
