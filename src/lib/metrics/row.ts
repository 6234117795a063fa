/** The row of a metric in the table. */

export type MetricType = "counter" | "gauge" | "histogram";

/** All values of a label, or the most different values that it may have. Further values are counted as `other`. */
export type LabelBound = readonly string[] | number;

export interface MetricRow {
  readonly type: MetricType;
  /** Unit of a value: `entries`, `ms`, `bytes`, … */
  readonly unit: string;
  readonly help: string;
  readonly labels: Readonly<Record<string, LabelBound>>;
  /** Of a histogram: upper bounds of the buckets, ascending. +Inf is added. */
  readonly buckets?: readonly number[];
}

/** The value of a bounded label after its bound is reached. */
export const OTHER = "other";
