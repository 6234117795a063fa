/** What a row of the table of metrics says. */

export type MetricType = "counter" | "gauge" | "histogram";

/** A label's whole set of values, or the most distinct values it may take (those after that are counted as `other`). */
export type LabelBound = readonly string[] | number;

export interface MetricRow {
  readonly type: MetricType;
  /** Unit of a value: `entries`, `ms`, `bytes`, … */
  readonly unit: string;
  readonly help: string;
  readonly labels: Readonly<Record<string, LabelBound>>;
  /** Histogram: ascending upper bounds of the buckets; +Inf is added. */
  readonly buckets?: readonly number[];
}

/** Value of a bounded label once its bound is reached. */
export const OTHER = "other";
