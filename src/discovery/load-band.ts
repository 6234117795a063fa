/** When a load report is worth telling other nodes (semantics.md, Load). */
import type { LoadView } from "../catalog/entry-view.ts";

const LATENCY_BANDS = 64;

/** Quarters of utilisation and powers of two of latency: a report in the same band says nothing new. */
export function loadBand(load: LoadView): number {
  const quarter = Math.min(3, Math.floor(load.utilization * 4));
  const octave = load.latencyMs < 1 ? 0 : Math.min(LATENCY_BANDS - 1, 1 + Math.floor(Math.log2(load.latencyMs)));
  return quarter * LATENCY_BANDS + octave;
}
