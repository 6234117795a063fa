/** Answers of Resolve that name another cluster, because nothing here can be chosen (docs/design/summaries.md, Reading). */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { HealthBand } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { type Redirect, RedirectSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { CatalogRecord, EntryKey } from "../../catalog/record/record.ts";
import type { SummaryReads } from "../../discovery/summaries/summary-reads.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { summaryIn } from "../../summary/codec.ts";
import { chooseRedirect, type RedirectCandidate } from "../../summary/redirect.ts";
import { BAND, type Band } from "../../summary/summary.ts";

const BANDS: Readonly<Record<Band, HealthBand>> = {
  [BAND.HEALTHY]: HealthBand.HEALTHY,
  [BAND.DEGRADED]: HealthBand.DEGRADED,
  [BAND.CRITICAL]: HealthBand.CRITICAL,
};
/** Most URLs that a redirect names. */
const MAX_URLS = 16;

export interface RedirectRequest {
  readonly caller: Caller;
  readonly name: Pick<EntryKey, "kind" | "name" | "namespace">;
  readonly visited: readonly string[];
  /** The preferred region. */
  readonly region: string;
  readonly time: Time;
}

interface Candidate extends RedirectCandidate {
  readonly ttlMs: number;
}

export class Redirects {
  readonly #summaries: SummaryReads;

  constructor(summaries: SummaryReads) {
    this.#summaries = summaries;
  }

  /** Undefined where no cluster is known that the caller may see and follow. Cost: a decoding for each cluster that has the name. */
  find({ caller, name, visited, region, time }: RedirectRequest): Redirect | undefined {
    const { clusterId } = this.#summaries.reads.node;
    const isOther = ({ traits, scope }: CatalogRecord) => scope !== SCOPE.ZONE && !visited.includes(traits.clusterId);
    const candidates = this.#summaries.named(caller, name).filter(isOther);
    const text = `${name.kind}\0${name.namespace}\0${name.name}`;
    const options = { name: text, clusterId, visited, region };
    const best = chooseRedirect(
      candidates.map((record) => this.#candidateOf(record, time)),
      options,
    );
    if (best === undefined) return undefined;
    const { source, urls, band, isStale } = best;
    const ttl = durationFromMs(best.ttlMs);
    return create(RedirectSchema, {
      clusterId: source,
      urls: urls.slice(0, MAX_URLS),
      region: best.region,
      band: BANDS[band],
      ttl,
      stale: isStale,
    });
  }

  #candidateOf(record: CatalogRecord, { wallMs }: Time): Candidate {
    const { reads, sources } = this.#summaries;
    const { ttlMs, notAfterWallMs = Number.POSITIVE_INFINITY, ...said } = summaryIn(reads.replica.slab.view(record.at, record.sizeBytes));
    return {
      ...said,
      region: record.traits.region,
      isStale: sources.isStale(record),
      urls: [...new Set(sources.ingressOf(said.source).flatMap(({ urls }) => urls))],
      ttlMs: Math.max(0, Math.min(ttlMs, Math.floor(notAfterWallMs - wallMs))),
    };
  }
}
