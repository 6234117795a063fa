/** METRICS and their values, with those of the process, as the text a Prometheus server scrapes. */
import { collectDefaultMetrics, type Metric, type MetricValueWithName, Registry, type RegistryContentType } from "prom-client";
import { type Histogram, METRICS, type MetricName, type Metrics } from "../lib/metrics/metrics.ts";

export interface Scrape {
  readonly contentType: string;
  readonly body: string;
}

/** Renders the metrics; `accept` is the scraper's header. */
export type Scraper = (accept: string) => Promise<Scrape>;

/**
 * Opens the scrape of one process. The values of `metrics` are read when asked for; the process's own (`process_*`,
 * `nodejs_*`) are kept by prom-client from the first scrape of each format on.
 */
export function openScraper(metrics: Metrics): Scraper {
  const registries = new Map<RegistryContentType, Registry<RegistryContentType>>();
  return async (accept) => {
    // One registry a format: prom-client renames counters for good when it writes OpenMetrics.
    const contentType = accept.includes("application/openmetrics-text")
      ? Registry.OPENMETRICS_CONTENT_TYPE
      : Registry.PROMETHEUS_CONTENT_TYPE;
    const registry = registries.get(contentType) ?? buildRegistry(contentType, metrics);
    registries.set(contentType, registry);
    return { contentType, body: await registry.metrics() };
  };
}

function buildRegistry(contentType: RegistryContentType, metrics: Metrics): Registry<RegistryContentType> {
  const registry = new Registry<RegistryContentType>();
  registry.setContentType(contentType);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the registry only calls `get`, which its types cannot say (its own Histogram cannot be given counts).
  for (const family of families(metrics)) registry.registerMetric(family as unknown as Metric);
  collectDefaultMetrics({ register: registry });
  return registry;
}

/** What prom-client's registry reads of a metric. */
interface FamilyOutput {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly values: readonly MetricValueWithName<string>[];
  readonly aggregator: "sum";
}

class FamilySource {
  /** Written by prom-client, which takes `_total` off for OpenMetrics. */
  name: string;
  readonly type: string;
  readonly #help: string;
  readonly #values: (name: string) => readonly MetricValueWithName<string>[];

  constructor(name: MetricName, values: (name: string) => readonly MetricValueWithName<string>[]) {
    this.name = name;
    this.type = METRICS[name].type;
    this.#help = METRICS[name].help;
    this.#values = values;
  }

  get(): Promise<FamilyOutput> {
    return Promise.resolve({ name: this.name, help: this.#help, type: this.type, values: this.#values(this.name), aggregator: "sum" });
  }
}

function families(metrics: Metrics): readonly FamilySource[] {
  let first: FamilySource | undefined;
  let now = metrics.collect();
  return now.map((family, at) => {
    const source: FamilySource = new FamilySource(family.name, (name) => {
      // The registry asks all families in one turn, in order: the first gathers for all.
      if (source === first) now = metrics.collect();
      const current = now[at];
      if (current === undefined) return [];
      if ("histograms" in current) return [...current.histograms.values()].flatMap((histogram) => histogramValues(name, histogram));
      return [...current.series.values()].map(({ labels, value }) => ({ labels, value, metricName: name }));
    });
    first ??= source;
    return source;
  });
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
