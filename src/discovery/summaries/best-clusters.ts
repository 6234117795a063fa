/**
 * Chooses the cluster to which a caller is redirected if a name has no suitable instance in this cluster: finds the clusters that advertise the name,
 * and selects the best one (docs/design/summaries.md, Reading).
 */
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { CatalogRecord, EntryKey } from "../../catalog/record/record.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { summaryIn } from "../../summary/codec.ts";
import { chooseRedirect, type RedirectCandidate } from "../../summary/redirect.ts";
import type { SummaryReads } from "./summary-reads.ts";

/**
 * As in DNS, an answer may be cached for at least one second, regardless of a summary's ttl, so that clients do not retry in a loop.
 */
const MIN_TTL_MS = 1000;

export interface ClusterRequest {
  readonly caller: Caller;
  readonly name: Pick<EntryKey, "kind" | "name" | "namespace">;
  /** Clusters that the caller has already tried. */
  readonly visited: readonly string[];
  /** The preferred region. */
  readonly region: string;
  readonly time: Time;
}

export interface BestCluster extends RedirectCandidate {
  /** Time for which the answer may be cached, within `notAfterWallMs`. */
  readonly ttlMs: number;
  /** Infinite if the summary does not expire. */
  readonly notAfterWallMs: number;
}

export interface FoundClusters {
  /** Undefined if there is no cluster that the caller may see and follow. */
  readonly best: BestCluster | undefined;
  /** All considered sources. The choice may change when a source sends another heartbeat or becomes lost. */
  readonly sources: readonly string[];
}

export class BestClusters {
  readonly #summaries: SummaryReads;
  readonly #mayUse: (url: string) => boolean;

  /** `mayUse`: whether a redirected caller can use a given URL. */
  constructor(summaries: SummaryReads, mayUse: (url: string) => boolean = () => true) {
    this.#summaries = summaries;
    this.#mayUse = mayUse;
  }

  /** Finds the best cluster for a caller. Cost: decodes one summary for each cluster that has the name. */
  find({ caller, name, visited, region, time }: ClusterRequest): FoundClusters {
    const { clusterId } = this.#summaries.reads.node;
    const isOther = ({ traits, scope }: CatalogRecord) => scope !== SCOPE.ZONE && !visited.includes(traits.clusterId);
    const candidates = this.#summaries
      .named(caller, name)
      .filter(isOther)
      .map((record) => this.#candidateOf(record, time))
      .filter(({ ttlMs }) => ttlMs > 0);
    const text = `${name.kind}\0${name.namespace}\0${name.name}`;
    const best = chooseRedirect(candidates, { name: text, clusterId, visited, region });
    return { best, sources: [...new Set(candidates.map(({ source }) => source))] };
  }

  #candidateOf(record: CatalogRecord, { wallMs }: Time): BestCluster {
    const { reads, sources } = this.#summaries;
    const {
      ttlMs,
      notAfterWallMs = Number.POSITIVE_INFINITY,
      ...summary
    } = summaryIn(reads.replica.slab.view(record.at, record.sizeBytes));
    const urls = new Set(sources.ingressOf(summary.source).flatMap((node) => node.urls));
    return {
      ...summary,
      region: record.traits.region,
      isStale: sources.isStale(record),
      urls: [...urls].filter(this.#mayUse),
      ttlMs: Math.max(0, Math.min(Math.max(ttlMs, MIN_TTL_MS), Math.floor(notAfterWallMs - wallMs))),
      notAfterWallMs,
    };
  }
}
