/** Merges the metrics of a node's threads. */
import { assert } from "../errors.ts";
import {
  type CounterName,
  type GaugeName,
  Histogram,
  type HistogramName,
  isMetricName,
  METRICS,
  type MetricFamily,
  type MetricName,
  MetricSeries,
  Metrics,
} from "./metrics.ts";
import type { MetricRow } from "./row.ts";

/** The values from one thread, as sent to another thread. */
export interface MetricsValues {
  /** For each value, the name of its metric, and its labels in the order of the row. */
  readonly texts: readonly string[];
  /** For each value, a number. For a histogram, the count of each bucket, followed by the sum. */
  readonly numbers: Float64Array<ArrayBuffer>;
}

/** The current values of `metrics`. */
export function valuesOf(metrics: Pick<Metrics, "collect">): MetricsValues {
  const texts: string[] = [];
  const numbers: number[] = [];
  const name = (of: MetricFamily, labels: Readonly<Record<string, string>>) => {
    texts.push(of.name);
    for (const label in of.row.labels) texts.push(labels[label] ?? "");
  };
  for (const family of metrics.collect()) {
    if ("histograms" in family) {
      for (const { labels, counts, sum } of family.histograms.values()) {
        name(family, labels);
        numbers.push(...counts, sum);
      }
    } else {
      for (const { labels, value } of family.series.values()) {
        name(family, labels);
        numbers.push(value);
      }
    }
  }
  return { texts, numbers: Float64Array.from(numbers) };
}

/** Another thread's contribution to the sum. */
export interface OtherMetrics {
  /** Replaces all of the thread's values. */
  set(values: MetricsValues): void;
  /** The thread has ended. Its counters remain in the sum, but its gauges do not. Values that arrive later are ignored. */
  end(): void;
}

type SummedMetric = MetricSeries | Histogram;

interface PlacedValue {
  readonly row: MetricRow;
  /** The series or histogram to which the value is added. */
  readonly place: SummedMetric;
  readonly numbers: Float64Array;
}

/**
 * The sum of this thread's values and of the values received from other threads. Counters never decrease between scrapes, even if a thread's latest
 * values are missing or the thread has ended. The limits on label values apply to the sum, and the label of a value never changes.
 */
export class MetricsSum {
  readonly #own: Metrics;
  readonly #ownPlaces = new Map<string, SummedMetric>();
  /** Counts from ended threads, with every label of the sum. */
  readonly #ended = new Metrics();
  readonly #others = new Map<OtherMetrics, readonly PlacedValue[]>();
  /** Sums of histograms at the last scrape. They are needed because adding in a different order rounds differently, so a sum could decrease. */
  readonly #shownSums = new Map<SummedMetric, number>();

  constructor(own: Metrics) {
    this.#own = own;
  }

  /** Adds a new thread. All of its values are zero. */
  begin(): OtherMetrics {
    const places = new Map<string, SummedMetric>();
    const other: OtherMetrics = {
      set: (values) => {
        if (this.#others.has(other)) this.#others.set(other, this.#placed(values, places));
      },
      end: () => this.#end(other),
    };
    this.#others.set(other, []);
    return other;
  }

  /** All metrics with their current values, in the order of the table. */
  collect(): readonly MetricFamily[] {
    const own = this.#placed(valuesOf(this.#own), this.#ownPlaces);
    const sums = new Map<SummedMetric, SummedMetric>();
    const families = this.#ended.collect().map((family) => copyOf(family, sums));
    for (const value of own) addAt(sums, value);
    for (const values of this.#others.values()) for (const value of values) if (value.row.across !== "own") addAt(sums, value);
    for (const [place, sum] of sums) if (sum instanceof Histogram) this.#keepSum(place, sum);
    return families;
  }

  /** All series of a counter or gauge so far, as copies. */
  seriesOf(name: CounterName | GaugeName): Iterable<MetricSeries> {
    const family = this.collect().find((each) => each.name === name);
    return family !== undefined && "series" in family ? family.series.values() : [];
  }

  /** All series of a histogram so far, as copies. */
  histogramsOf(name: HistogramName): Iterable<Histogram> {
    const family = this.collect().find((each) => each.name === name);
    return family !== undefined && "histograms" in family ? family.histograms.values() : [];
  }

  #end(other: OtherMetrics): void {
    for (const { row, place, numbers } of this.#others.get(other) ?? []) if (row.type !== "gauge") add(place, row, numbers);
    this.#others.delete(other);
  }

  #keepSum(place: SummedMetric, histogram: Histogram): void {
    histogram.sum = Math.max(histogram.sum, this.#shownSums.get(place) ?? 0);
    this.#shownSums.set(place, histogram.sum);
  }

  /**
   * `places`: the positions to which the thread's earlier values were added, by metric and labels. This way, a label above its limit is counted only
   * once.
   */
  #placed({ texts, numbers }: MetricsValues, places: Map<string, SummedMetric>): readonly PlacedValue[] {
    const values: PlacedValue[] = [];
    let textAt = 0;
    let numberAt = 0;
    while (textAt < texts.length) {
      const name = metricName(texts[textAt]);
      const row: MetricRow = METRICS[name];
      const labels = Object.keys(row.labels);
      const said = texts.slice(textAt + 1, textAt + 1 + labels.length);
      const key = [name, ...said].join("\0");
      const place = places.get(key) ?? this.#ended.at(name, Object.fromEntries(labels.map((label, at) => [label, said[at] ?? ""])));
      places.set(key, place);
      const count = place instanceof Histogram ? place.counts.length + 1 : 1;
      values.push({ row, place, numbers: numbers.subarray(numberAt, numberAt + count) });
      textAt += 1 + labels.length;
      numberAt += count;
    }
    return values;
  }
}

function metricName(text: string | undefined): MetricName {
  assert(text !== undefined && isMetricName(text), "a thread sent an unknown metric", { text });
  return text;
}

/** Copies all values of a metric, and adds each copy to `copies`. */
function copyOf(family: MetricFamily, copies: Map<SummedMetric, SummedMetric>): MetricFamily {
  const { name, row } = family;
  if ("histograms" in family) {
    const histograms = new Map<string, Histogram>();
    for (const [key, histogram] of family.histograms) {
      const copy = new Histogram(histogram.labels, histogram.buckets);
      add(copy, row, [...histogram.counts, histogram.sum]);
      histograms.set(key, copy);
      copies.set(histogram, copy);
    }
    return { name, row, histograms };
  }
  const series = new Map<string, MetricSeries>();
  for (const [key, each] of family.series) {
    const copy = new MetricSeries(each.labels);
    copy.set(each.value);
    series.set(key, copy);
    copies.set(each, copy);
  }
  return { name, row, series };
}

function addAt(sums: ReadonlyMap<SummedMetric, SummedMetric>, { row, place, numbers }: PlacedValue): void {
  const sum = sums.get(place);
  if (sum !== undefined) add(sum, row, numbers);
}

function add(to: SummedMetric, row: MetricRow, numbers: ArrayLike<number>): void {
  if (to instanceof MetricSeries) {
    const value = numbers[0] ?? 0;
    to.set(row.across === "largest" ? Math.max(to.value, value) : to.value + value);
    return;
  }
  const { counts } = to;
  for (let at = 0; at < counts.length; at++) counts[at] = (counts[at] ?? 0) + (numbers[at] ?? 0);
  to.sum += numbers[counts.length] ?? 0;
}
