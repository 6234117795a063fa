/** What a resolver counts of its answers, and what it tells of itself. Counts start with the process. */
import type { Time } from "../../lib/machine.ts";
import type { CacheCapacityParts } from "../cache/cache-capacity.ts";
import { RECORD_BYTES } from "../fetching/fetched-cache.ts";
import type { UpstreamLiveness } from "../upstream-liveness.ts";
import type { UpstreamFault, UpstreamSet } from "../upstreams.ts";
import type { ResyncReason } from "./resync-notes.ts";

/** Answers, by where they came from. */
export class AnswerCounts {
  hitCount = 0;
  missCount = 0;
  staleCount = 0;
  negativeCount = 0;

  /** An answer that waited for nobody. `isNegative`: it was fetched, and says that nothing exists. */
  hit({ isStale, isNegative = false }: { readonly isStale: boolean; readonly isNegative?: boolean }): void {
    this.hitCount += 1;
    if (isStale) this.staleCount += 1;
    if (isNegative) this.negativeCount += 1;
  }

  /** Somebody has to wait, or is refused. */
  miss(): void {
    this.missCount += 1;
  }
}

export interface ResolverStatistics {
  /** Followed and fetched. */
  readonly entryCount: number;
  /** Prefixes that are followed. */
  readonly followedCount: number;
  readonly hitCount: number;
  readonly missCount: number;
  /** Answers that were marked stale. */
  readonly staleCount: number;
  /** Fetched answers, served again, that nothing exists. */
  readonly negativeCount: number;
  /** Age of the oldest entry, in ms. Undefined without entries, and while it is unknown. */
  readonly ageMs: number | undefined;
  /** Portable cursor of the place up to which everything that is followed is held. Empty without one. */
  readonly cursor: string;
  /** How long ago what is followed was last as it is at the upstream, in ms; 0 if it is so now. Undefined: never. */
  readonly lagMs: number | undefined;
  /** Number of times that namespaces which were there were fetched whole again. */
  readonly resyncs: Readonly<Record<ResyncReason, number>>;
  readonly heldCount: number;
  /** Entries that were to be held and were let go before their time, because there was no room. */
  readonly unheldCount: number;
  /** Memory of entries and bookkeeping, about. */
  readonly sizeBytes: number;
  /** Names that went to make room for others. */
  readonly evictedCount: number;
  /** Empty while none can be reached. */
  readonly upstream: string;
  /** Number of times that another upstream was chosen. */
  readonly upstreamChangeCount: number;
  /** Number of times that an upstream sent what cannot be right, or began to be refused. */
  readonly upstreamFaults: Readonly<Record<UpstreamFault, number>>;
}

/** The part of the answers that waited for nobody, from 0 to 1; 0 without any answer. */
export function hitRatio({ hitCount, missCount }: Pick<ResolverStatistics, "hitCount" | "missCount">): number {
  return hitCount === 0 ? 0 : hitCount / (hitCount + missCount);
}

export interface StatisticsParts extends CacheCapacityParts {
  readonly upstreams: UpstreamSet;
  readonly upstreamLiveness: UpstreamLiveness;
  readonly counts: AnswerCounts;
}

export interface ReportedStatistics extends Pick<ResolverStatistics, "resyncs" | "upstreamChangeCount"> {
  /** When everything that is followed was as it was at the upstream's bookmark. Undefined: never. */
  readonly wholeMonoMs: number | undefined;
}

export function statisticsOf(
  parts: StatisticsParts,
  { wholeMonoMs, resyncs, upstreamChangeCount }: ReportedStatistics,
  time: Time,
): ResolverStatistics {
  const { replica, fetched, held, cache, counts, following, watches, upstreams, upstreamLiveness } = parts;
  const [followedCount, fetchedCount, heldCount] = [replica.lookup.size, fetched.lookup.size, held.lookup.size];
  const { hitCount, missCount, staleCount, negativeCount } = counts;
  const oldestMs = Math.max(
    followedCount === 0 ? Number.NEGATIVE_INFINITY : upstreamLiveness.freshness.ageMs(time),
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
  { watches, bookmarks, following, upstreams, upstreamLiveness }: StatisticsParts,
  wholeMonoMs: number | undefined,
  time: Time,
): number | undefined {
  const isCurrent = watches.isOpen
    ? bookmarks.isAtBookmark && !upstreamLiveness.freshness.isSilent(time)
    : following.prefixes.list.length === 0;
  if (isCurrent && !upstreams.isCutOff) return 0;
  return wholeMonoMs === undefined ? undefined : time.monoMs - wholeMonoMs;
}
