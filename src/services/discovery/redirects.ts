/** Answers of Resolve that name another cluster, because nothing here can be chosen (docs/design/summaries.md, Reading). */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { HealthBand } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { type Redirect, RedirectSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { BestClusters, type ClusterRequest } from "../../discovery/summaries/best-clusters.ts";
import type { SummaryReads } from "../../discovery/summaries/summary-reads.ts";
import { BAND, type Band } from "../../summary/summary.ts";

const BANDS: Readonly<Record<Band, HealthBand>> = {
  [BAND.HEALTHY]: HealthBand.HEALTHY,
  [BAND.DEGRADED]: HealthBand.DEGRADED,
  [BAND.CRITICAL]: HealthBand.CRITICAL,
};
/** Most URLs that a redirect names. */
const MAX_URLS = 16;

export class Redirects {
  readonly #clusters: BestClusters;

  constructor(summaries: SummaryReads) {
    this.#clusters = new BestClusters(summaries);
  }

  /** Undefined where no cluster is known that the caller may see and follow. */
  find(request: ClusterRequest): Redirect | undefined {
    const { best } = this.#clusters.find(request);
    if (best === undefined) return undefined;
    const { source, urls, region, band, isStale } = best;
    const ttl = durationFromMs(best.ttlMs);
    return create(RedirectSchema, { clusterId: source, urls: urls.slice(0, MAX_URLS), region, band: BANDS[band], ttl, stale: isStale });
  }
}
