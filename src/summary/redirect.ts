/** Chooses the cluster to which a caller is sent whose name has nothing to choose here (docs/design/summaries.md, Reading). */
import { SCOPE } from "../catalog/entry/scope.ts";
import { fnv64, hashFraction } from "../lib/hash64.ts";
import type { Summary } from "./summary.ts";

/** A summary that the caller may see, and what this node knows of its source. */
export interface RedirectCandidate extends Pick<Summary, "band" | "channel" | "endpointCount" | "latency" | "source"> {
  /** The region of the source, as it is configured here. */
  readonly region: string;
  readonly isStale: boolean;
  /** Where the source takes calls of other clusters. */
  readonly urls: readonly string[];
}

export interface RedirectOptions {
  /** What is looked for. Names are spread over clusters that are equally good, each name always the same way. */
  readonly name: string;
  /** The cluster of this node. Nobody is sent to where he is. */
  readonly clusterId: string;
  /** Clusters that the caller has tried. */
  readonly visited: readonly string[];
  /** The preferred region. Empty prefers none. */
  readonly region: string;
}

/**
 * The best candidate: fresh before stale, then by band, latency, the preferred region, and a rendezvous hash. Of the summaries of one cluster that are
 * equal so far it is the one on the narrower channel, which may be kept for a shorter time. A cluster that tells no URL is none, because nobody could
 * follow; so is one without endpoints. The order is the same at every node that knows the same.
 */
export function chooseRedirect<C extends RedirectCandidate>(candidates: readonly C[], options: RedirectOptions): C | undefined {
  let best: C | undefined;
  for (const candidate of candidates)
    if (canFollow(candidate, options) && (best === undefined || compare(candidate, best, options) < 0)) best = candidate;
  return best;
}

function canFollow({ source, channel, endpointCount, urls }: RedirectCandidate, { clusterId, visited }: RedirectOptions): boolean {
  return channel !== SCOPE.ZONE && source !== clusterId && !visited.includes(source) && endpointCount > 0 && urls.length > 0;
}

function compare(a: RedirectCandidate, b: RedirectCandidate, { region, name }: RedirectOptions): number {
  return (
    Number(a.isStale) - Number(b.isStale) ||
    a.band - b.band ||
    bySize(latencyOf(a), latencyOf(b)) ||
    bySize(a.latency.minMs, b.latency.minMs) ||
    Number(b.region === region) - Number(a.region === region) ||
    bySize(scoreOf(a, name), scoreOf(b, name)) ||
    a.channel - b.channel
  );
}

/** The 90th percentile. What reports none comes last. */
function latencyOf({ latency: { maxMs } }: RedirectCandidate): number {
  return maxMs === 0 ? Number.POSITIVE_INFINITY : maxMs;
}

function scoreOf({ source }: RedirectCandidate, name: string): number {
  return hashFraction(fnv64(`${name}\0${source}`));
}

function bySize(a: number, b: number): number {
  return Number(a > b) - Number(a < b);
}
