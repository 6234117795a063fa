/** The metrics of a gateway. Each series is looked up once and cached, because every question updates several. */
import type { Histogram, LabelsOf, MetricSeries, Metrics } from "../../lib/metrics/metrics.ts";
import type { ResponderReply } from "./responder.ts";

/** The reason why input was dropped without a response. */
export type DropReason = LabelsOf<"dns_dropped_total">["reason"];
type QueryTransport = LabelsOf<"dns_queries_total">["transport"];

export class DnsCounts {
  readonly #metrics: Metrics;
  readonly #latency: Histogram;
  readonly #truncated: MetricSeries;
  readonly #limited: MetricSeries;
  readonly #queries: Record<QueryTransport, Map<ResponderReply["qtype"], Map<ResponderReply["rcode"], MetricSeries>>> = {
    udp: new Map(),
    tcp: new Map(),
    dot: new Map(),
    doh: new Map(),
  };

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    this.#latency = metrics.histogram("dns_query_latency_ms", {});
    this.#truncated = metrics.counter("dns_truncated_total", {});
    this.#limited = metrics.counter("dns_rate_limited_total", {});
  }

  // HOT: runs per question.
  answered({ qtype, rcode, isTruncated, rate }: ResponderReply, transport: QueryTransport, latencyMs: number): void {
    this.#series(qtype, rcode, transport).value += 1;
    if (isTruncated) this.#truncated.value += 1;
    if (rate === "cut") this.#limited.value += 1;
    this.#latency.observe(latencyMs);
  }

  dropped(reason: DropReason): void {
    this.#metrics.inc("dns_dropped_total", { reason });
  }

  #series(qtype: ResponderReply["qtype"], rcode: ResponderReply["rcode"], transport: QueryTransport): MetricSeries {
    const byType = this.#queries[transport];
    let byCode = byType.get(qtype);
    if (byCode === undefined) byType.set(qtype, (byCode = new Map<ResponderReply["rcode"], MetricSeries>()));
    let series = byCode.get(rcode);
    if (series === undefined) byCode.set(rcode, (series = this.#metrics.counter("dns_queries_total", { qtype, rcode, transport })));
    return series;
  }
}
