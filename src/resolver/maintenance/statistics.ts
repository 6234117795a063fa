/** Counters for a resolver's answers, and the statistics that it reports. The counters start at zero when the process starts. */
import type { Time } from "../../lib/machine.ts";
import type { CacheCapacityParts } from "../cache/cache-capacity.ts";
import { RECORD_BYTES } from "../fetching/fetched-cache.ts";
import type { UpstreamLiveness } from "../upstream-liveness.ts";
import type { UpstreamFault, UpstreamSet } from "../upstreams.ts";
import type { ResyncReason } from "./resync-notes.ts";

/** Counts answers by their source. */
export class AnswerCounts {
  hitCount = 0;
  missCount = 0;
  staleCount = 0;
  negativeCount = 0;

  /** Counts an answer from the cache. `isNegative` is true for a fetched answer that no entry exists. */
  hit({ isStale, isNegative = false }: { readonly isStale: boolean; readonly isNegative?: boolean }): void {
    this.hitCount += 1;
    if (isStale) this.staleCount += 1;
    if (isNegative) this.negativeCount += 1;
  }

  /** Counts a lookup that must wait or is refused. */
  miss(): void {
    this.missCount += 1;
  }
}

export interface ResolverStatistics {
  /** Followed and fetched entries. */
  readonly entryCount: number;
  /** Followed prefixes. */
  readonly followedCount: number;
  readonly hitCount: number;
  readonly missCount: number;
  /** Number of answers that were marked as stale. */
  readonly staleCount: number;
  /** Cached negative answers (no entry exists). */
  readonly negativeCount: number;
  /** Age of the oldest entry, in ms. Undefined if there are no entries or the age is unknown. */
  readonly ageMs: number | undefined;
  /** Portable cursor up to which all followed entries are present. Empty without one. */
  readonly cursor: string;
  /** Time since the followed entries last matched the upstream, in ms, or 0 while they match. Undefined if they have never matched. */
  readonly lagMs: number | undefined;
  /** Number of times complete namespaces were fetched again, by reason. */
  readonly resyncs: Readonly<Record<ResyncReason, number>>;
  readonly heldCount: number;
  /** Number of entries whose hold ended early or did not begin because there was no room. */
  readonly unheldCount: number;
  /** Approximate memory used by entries and bookkeeping. */
  readonly sizeBytes: number;
  /** Number of names evicted to make room for others. */
  readonly evictedCount: number;
  /** Current upstream. Empty while no upstream can be reached. */
  readonly upstream: string;
  /** Number of times another upstream was chosen. */
  readonly upstreamChangeCount: number;
  /** Number of times an upstream sent a malformed message or began to be refused, by fault. */
  readonly upstreamFaults: Readonly<Record<UpstreamFault, number>>;
}

/** Returns the fraction of answers that came from the cache, from 0 to 1, or 0 if there were no answers. */
export function hitRatio({ hitCount, missCount }: Pick<ResolverStatistics, "hitCount" | "missCount">): number {
  return hitCount === 0 ? 0 : hitCount / (hitCount + missCount);
}

export interface StatisticsParts extends CacheCapacityParts {
  readonly upstreams: UpstreamSet;
  readonly liveness: UpstreamLiveness;
  readonly counts: AnswerCounts;
}

export interface ReportedStatistics extends Pick<ResolverStatistics, "resyncs" | "upstreamChangeCount"> {
  /** Monotonic time at which all followed entries last matched a bookmark of the upstream. Undefined if they have never matched. */
  readonly wholeMonoMs: number | undefined;
}

export function statisticsOf(
  parts: StatisticsParts,
  { wholeMonoMs, resyncs, upstreamChangeCount }: ReportedStatistics,
  time: Time,
): ResolverStatistics {
  const { replica, fetched, held, cache, counts, following, watches, upstreams, liveness } = parts;
  const [followedCount, fetchedCount, heldCount] = [replica.lookup.size, fetched.lookup.size, held.lookup.size];
  const { hitCount, missCount, staleCount, negativeCount } = counts;
  const oldestMs = Math.max(
    followedCount === 0 ? Number.NEGATIVE_INFINITY : liveness.freshness.ageMs(time),
    time.monoMs - fetched.oldestMonoMs,
  );
  const recordBytes = RECORD_BYTES * (followedCount + fetchedCount + held.keptCount);
  return {
    hitCount,
    missCount,
    staleCount,
    negativeCount,
    heldCount,
    unheldCount: held.unheldCount,
    entryCount: followedCount + fetchedCount,
    followedCount: following.prefixes.list.length,
    ageMs: Number.isFinite(oldestMs) ? oldestMs : undefined,
    cursor: watches.place?.text ?? "",
    lagMs: lagMs(parts, wholeMonoMs, time),
    resyncs: { ...resyncs },
    sizeBytes: replica.slab.stats().usedBytes + recordBytes + cache.bookkeepingBytes,
    evictedCount: cache.evictedCount,
    upstream: upstreams.current ?? "",
    upstreamChangeCount,
    upstreamFaults: { ...upstreams.faults },
  };
}

function lagMs(
  { watches, bookmarks, following, upstreams, liveness }: StatisticsParts,
  wholeMonoMs: number | undefined,
  time: Time,
): number | undefined {
  const isCurrent = watches.isOpen ? bookmarks.isAtBookmark && !liveness.freshness.isSilent(time) : following.prefixes.list.length === 0;
  if (isCurrent && !upstreams.isCutOff) return 0;
  return wholeMonoMs === undefined ? undefined : time.monoMs - wholeMonoMs;
}
