/** The row of a metric in the table. */

export type MetricType = "counter" | "gauge" | "histogram";

/** All values of a label, or the maximum number of its values. Further values are counted as `other`. */
export type LabelBound = readonly string[] | number;

type LabelBounds = Readonly<Record<string, LabelBound>>;

/**
 * How a scrape combines the values of several threads: by their sum, by their maximum, or by using the value of the scraped thread. The last option
 * is for values that are the same in every thread because they describe the node as a whole.
 */
export type ThreadAggregation = "sum" | "largest" | "own";

export interface MetricRow<T extends MetricType = MetricType, L extends LabelBounds = LabelBounds> {
  readonly type: T;
  /** Unit of a value: `entries`, `ms`, `bytes`, … */
  readonly unit: string;
  readonly help: string;
  readonly labels: L;
  /** Upper bounds of a histogram's buckets, in ascending order. +Inf is added. */
  readonly buckets?: readonly number[];
  readonly across: ThreadAggregation;
}

/** Returns the row of a metric whose value only increases. */
export function counter<const L extends LabelBounds>(unit: string, labels: L, help: string): MetricRow<"counter", L> {
  return { type: "counter", unit, help, labels, across: "sum" };
}

/** Returns the row of a metric whose value can increase and decrease. */
export function gauge<const L extends LabelBounds>(
  unit: string,
  labels: L,
  help: string,
  across: ThreadAggregation = "sum",
): MetricRow<"gauge", L> {
  return { type: "gauge", unit, help, labels, across };
}

/** Returns the row of a metric that counts observations by bucket. */
export function histogram<const L extends LabelBounds>(
  unit: string,
  buckets: readonly number[],
  labels: L,
  help: string,
): MetricRow<"histogram", L> {
  return { type: "histogram", unit, help, labels, buckets, across: "sum" };
}

/** The value of a bounded label after its bound has been reached. */
export const OTHER = "other";
