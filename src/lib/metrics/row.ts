/** The row of a metric in the table. */

export type MetricType = "counter" | "gauge" | "histogram";

/** All values of a label, or the maximum number of values. Further values are counted as `other`. */
export type LabelBound = readonly string[] | number;

type LabelBounds = Readonly<Record<string, LabelBound>>;

/**
 * The value of a scrape if several threads have one: the sum, the maximum, or the value of the scraped thread. The last is for values that
 * every thread has for the node as a whole.
 */
export type ThreadAggregation = "sum" | "largest" | "own";

export interface MetricRow<T extends MetricType = MetricType, L extends LabelBounds = LabelBounds> {
  readonly type: T;
  /** Unit of a value: `entries`, `ms`, `bytes`, … */
  readonly unit: string;
  readonly help: string;
  readonly labels: L;
  /** Of a histogram: upper bounds of the buckets, ascending. +Inf is added. */
  readonly buckets?: readonly number[];
  readonly across: ThreadAggregation;
}

/** The row of a metric that only grows. */
export function counter<const L extends LabelBounds>(unit: string, labels: L, help: string): MetricRow<"counter", L> {
  return { type: "counter", unit, help, labels, across: "sum" };
}

/** The row of a metric that goes up and down. */
export function gauge<const L extends LabelBounds>(
  unit: string,
  labels: L,
  help: string,
  across: ThreadAggregation = "sum",
): MetricRow<"gauge", L> {
  return { type: "gauge", unit, help, labels, across };
}

/** The row of a metric that counts observations by bucket. */
export function histogram<const L extends LabelBounds>(
  unit: string,
  buckets: readonly number[],
  labels: L,
  help: string,
): MetricRow<"histogram", L> {
  return { type: "histogram", unit, help, labels, buckets, across: "sum" };
}

/** The value of a bounded label after its bound is reached. */
export const OTHER = "other";
