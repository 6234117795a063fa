/** Calls to an ingress of a named cluster. The ingress is found in service summaries. */

import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceSummary } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { SummaryCallOptions } from "../calls.ts";
import type { Client } from "../client.ts";
import { absentFailure } from "../request-error.ts";
import { AnswerCache, askedOf } from "./answer-cache.ts";
import type { ClusterAddress } from "./other-clusters.ts";
import type { RedirectParts } from "./redirect-cache.ts";

const PAGE_LIMIT = 1000;
const MAX_PAGES = 200;
const INGRESS_LIMIT = 16;
/** Minimum time for which an ingress is cached, even if its summary's TTL is shorter, so that not every call has to query it again. */
const MIN_TTL_MS = 1000;

export class IngressCalls {
  readonly #parts: RedirectParts;
  readonly #known = new AnswerCache<ClusterAddress | undefined>();
  /** Queries in progress, one per cluster and filter. */
  readonly #asking = new Map<string, Promise<ClusterAddress | undefined>>();

  constructor(parts: RedirectParts) {
    this.#parts = parts;
  }

  /**
   * Runs the function once. Throws the function's errors, or a `RequestError` with NOT_FOUND if no summary contains an ingress of the cluster.
   */
  async run<T>(cluster: string, fn: (client: Client) => Promise<T>, options: SummaryCallOptions): Promise<T> {
    const { home, own, clusters } = this.#parts;
    if ((await own.id()) === cluster) return fn(home);
    const located = await this.#locate(cluster, options);
    if (located === undefined) throw absentFailure(`no service summary contains an ingress address for cluster ${cluster}`, home.server);
    const { client, thrown } = clusters.at(located);
    try {
      return await fn(client);
    } catch (error) {
      return thrown(error);
    }
  }

  #locate(cluster: string, options: SummaryCallOptions): Promise<ClusterAddress | undefined> {
    const id = JSON.stringify([cluster, options.namespace, options.service]);
    const found = this.#known.find(id, this.#parts.nowMs());
    if (found?.isFresh) return Promise.resolve(found.value);
    let asking = this.#asking.get(id);
    if (asking === undefined) {
      asking = this.#ask(id, cluster, options).finally(() => this.#asking.delete(id));
      this.#asking.set(id, asking);
    }
    return asking;
  }

  async #ask(
    id: string,
    cluster: string,
    { namespace = "", service = "", signal }: SummaryCallOptions,
  ): Promise<ClusterAddress | undefined> {
    const { home, nowMs, lookupTtlMs } = this.#parts;
    const filter = { namespace, serviceId: service, includeIngress: true, ingressLimit: INGRESS_LIMIT, limit: PAGE_LIMIT };
    let pageToken = "";
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const request = { ...filter, pageToken };
      const answered = await askedOf(home, DiscoveryService.method.summaryQuery, request, signal && { signal });
      if (answered === undefined) break;
      const { items, ingress, nextPageToken } = answered.answer;
      const urls = ingress[cluster]?.urls ?? [];
      if (urls.length > 0) {
        const located = { clusterId: cluster, urls, from: answered.from };
        const ofCluster = items.filter(({ sourceCluster }) => sourceCluster === cluster);
        this.#known.set(id, located, nowMs() + keptMsOf(ofCluster));
        return located;
      }
      pageToken = nextPageToken;
      if (pageToken === "") break;
    }
    this.#known.set(id, undefined, nowMs() + lookupTtlMs);
    return undefined;
  }
}

/**
 * Time for which the ingress from these summaries may be used: the shortest TTL, as long as at least one summary is valid. When one service's summary
 * expires, the ingress of the other services must remain usable.
 */
function keptMsOf(summaries: readonly ServiceSummary[]): number {
  const ttlMs = Math.min(...summaries.map(({ ttl }) => (ttl === undefined ? 0 : durationMs(ttl))));
  const leftMs = Math.max(
    ...summaries.map(({ notAfter }) => (notAfter === undefined ? Number.POSITIVE_INFINITY : timestampMs(notAfter) - Date.now())),
  );
  return summaries.length === 0 ? 0 : Math.min(Math.max(ttlMs, MIN_TTL_MS), leftMs);
}
