/** The row of a metric in the table. */

export type MetricType = "counter" | "gauge" | "histogram";

/** All values of a label, or the most different values that it may have. Further values are counted as `other`. */
export type LabelBound = readonly string[] | number;

type LabelBounds = Readonly<Record<string, LabelBound>>;

export interface MetricRow<T extends MetricType = MetricType, L extends LabelBounds = LabelBounds> {
  readonly type: T;
  /** Unit of a value: `entries`, `ms`, `bytes`, … */
  readonly unit: string;
  readonly help: string;
  readonly labels: L;
  /** Of a histogram: upper bounds of the buckets, ascending. +Inf is added. */
  readonly buckets?: readonly number[];
}

/** The row of a metric that only grows. */
export function counter<const L extends LabelBounds>(unit: string, labels: L, help: string): MetricRow<"counter", L> {
  return { type: "counter", unit, help, labels };
}

/** The row of a metric that goes up and down. */
export function gauge<const L extends LabelBounds>(unit: string, labels: L, help: string): MetricRow<"gauge", L> {
  return { type: "gauge", unit, help, labels };
}

/** The row of a metric that counts observations by bucket. */
export function histogram<const L extends LabelBounds>(
  unit: string,
  buckets: readonly number[],
  labels: L,
  help: string,
): MetricRow<"histogram", L> {
  return { type: "histogram", unit, help, labels, buckets };
}

/** The value of a bounded label after its bound is reached. */
export const OTHER = "other";
