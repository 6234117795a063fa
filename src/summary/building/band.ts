/** What a summary says of how well a service is, and which differences are worth a new summary (docs/design/summaries.md, Building). */
import { BAND, type Band, type SummaryFacts } from "../summary.ts";

/** Least share of healthy entries, in percent. */
const HEALTHY_PERCENT = 80;
const DEGRADED_PERCENT = 30;
/** So much more it takes to leave a worse band, so that a share that swings around an edge turns the band once. */
const UP_PERCENT = 5;

/** A latency is shown as a power of two between these. */
const MAX_LATENCY_EXPONENT = 31;

/** The entries of a service by their health. */
export interface HealthCounts {
  readonly healthyCount: number;
  /** Entries that are neither in MAINTENANCE nor ORPHANED. */
  readonly fitCount: number;
}

/** The band of a service that was shown in the band `before`. Without entries that say anything it stays; a service that was not shown is critical then. */
export function bandOf({ healthyCount, fitCount }: HealthCounts, before: Band | undefined): Band {
  if (fitCount === 0) return before ?? BAND.CRITICAL;
  const reaches = (percent: number, band: Band) =>
    healthyCount * 100 >= fitCount * (percent + (before !== undefined && before > band ? UP_PERCENT : 0));
  if (reaches(HEALTHY_PERCENT, BAND.HEALTHY)) return BAND.HEALTHY;
  return reaches(DEGRADED_PERCENT, BAND.DEGRADED) ? BAND.DEGRADED : BAND.CRITICAL;
}

/**
 * A latency as it is shown: a power of two, or 0 when there is none. It stays as it was until the measured one is twice or half of it, because one that swings around
 * an edge would be a new summary each time.
 */
export function shownLatencyMs(measuredMs: number, beforeMs: number): number {
  if (measuredMs <= 0) return 0;
  if (measuredMs > beforeMs / 2 && measuredMs < beforeMs * 2) return beforeMs;
  return 2 ** Math.min(MAX_LATENCY_EXPONENT, Math.max(0, Math.round(Math.log2(measuredMs))));
}

/** How a summary differs from the one sent last: not at all, only in measures, which may wait, or in what readers act upon. */
export type Difference = "none" | "measures" | "substance";

/** `sent` is live. The policy's label, number and rule say under what it was exported, and are no difference. */
export function differenceOf(sent: SummaryFacts, now: SummaryFacts): Difference {
  if (sent.band !== now.band || sent.notAfterWallMs !== now.notAfterWallMs || sent.noStale !== now.noStale) return "substance";
  if (sent.regions.length !== now.regions.length || sent.regions.some((region, i) => region !== now.regions[i])) return "substance";
  if (Math.abs(now.endpointCount - sent.endpointCount) * 4 > sent.endpointCount) return "measures";
  const isSameLatency = sent.latency.minMs === now.latency.minMs && sent.latency.maxMs === now.latency.maxMs;
  return isSameLatency ? "none" : "measures";
}
