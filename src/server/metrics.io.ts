/** Renders the METRICS and the metrics of the process as text for a Prometheus server. */
import type * as Library from "prom-client";
import type { Metric, MetricValueWithName, Registry, RegistryContentType } from "prom-client";
import type { Histogram, MetricFamily, Metrics } from "../lib/metrics/metrics.ts";
import type { MetricsSum } from "../lib/metrics/sum.ts";

export interface ScrapeResult {
  readonly contentType: string;
  readonly body: string;
}

/** Renders the metrics. `accept` is the scraper's `Accept` header. */
export type MetricsScraper = (accept: string) => Promise<ScrapeResult>;

/** The metrics to scrape: the metrics of one thread, or the sum over several threads. */
type ScrapedMetrics = Pick<Metrics | MetricsSum, "collect">;

/**
 * Returns a function that renders the metrics of one process for a scrape. The values of `metrics` are read for each scrape, after `refresh` has
 * completed. Starting with the first scrape in each format, prom-client collects the metrics of the process (`process_*`, `nodejs_*`). The library is
 * loaded on the first scrape, because it accounts for an eighth of a node's modules, including its dependencies.
 */
export function openScraper(metrics: ScrapedMetrics, refresh?: () => Promise<void>): MetricsScraper {
  const registries = new Map<RegistryContentType, Registry<RegistryContentType>>();
  return async (accept) => {
    const library = await import("prom-client");
    // Each format has its own registry, because prom-client permanently renames counters when it writes OpenMetrics.
    const contentType = accept.includes("application/openmetrics-text")
      ? library.Registry.OPENMETRICS_CONTENT_TYPE
      : library.Registry.PROMETHEUS_CONTENT_TYPE;
    const registry = registries.get(contentType) ?? buildRegistry(library, contentType, metrics);
    registries.set(contentType, registry);
    await refresh?.();
    return { contentType, body: await registry.metrics() };
  };
}

function buildRegistry({ Registry, collectDefaultMetrics }: typeof Library, contentType: RegistryContentType, metrics: ScrapedMetrics) {
  const registry = new Registry<RegistryContentType>();
  registry.setContentType(contentType);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the registry calls only `get`, which its types cannot express (prom-client's Histogram does not accept counts).
  for (const family of families(metrics)) registry.registerMetric(family as unknown as Metric);
  collectDefaultMetrics({ register: registry });
  return registry;
}

/** Returns the metrics as prom-client's registry reads them. The registry modifies `name`: for OpenMetrics, it removes `_total`. */
function families(metrics: ScrapedMetrics) {
  let now = metrics.collect();
  return now.map(({ name, row }, at) => ({
    name,
    type: row.type,
    get() {
      // The registry reads all families in order in one turn, so the first family collects the values for all.
      if (at === 0) now = metrics.collect();
      const current = now[at];
      const values = current === undefined ? [] : valuesOf(this.name, current);
      return Promise.resolve({ name: this.name, help: row.help, type: row.type, values, aggregator: "sum" });
    },
  }));
}

function valuesOf(name: string, family: MetricFamily): readonly MetricValueWithName<string>[] {
  if ("histograms" in family) return [...family.histograms.values()].flatMap((histogram) => histogramValues(name, histogram));
  return [...family.series.values()].map(({ labels, value }) => ({ labels, value, metricName: name }));
}

function histogramValues(name: string, histogram: Histogram): readonly MetricValueWithName<string>[] {
  let total = 0;
  const values: MetricValueWithName<string>[] = [...histogram.counts].map((count, at) => {
    total += count;
    const le = histogram.buckets[at] ?? "+Inf";
    return { labels: { ...histogram.labels, le }, value: total, metricName: `${name}_bucket` };
  });
  values.push({ labels: histogram.labels, value: histogram.sum, metricName: `${name}_sum` });
  values.push({ labels: histogram.labels, value: total, metricName: `${name}_count` });
  return values;
}
