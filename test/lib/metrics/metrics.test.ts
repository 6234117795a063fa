import fc from "fast-check";
import { expect, test } from "vitest";
import { Histogram, METRICS, type MetricName, Metrics } from "../../../src/lib/metrics/metrics.ts";

const rows = Object.entries<{ readonly type: string; readonly help: string; readonly buckets?: readonly number[] }>(METRICS);

/** Label sets and values of one metric's series. */
function seriesOf(metrics: Metrics, name: MetricName): readonly (readonly [Readonly<Record<string, string>>, number])[] {
  const family = metrics.collect().find((candidate) => candidate.name === name);
  return family === undefined || "histograms" in family ? [] : [...family.series.values()].map(({ labels, value }) => [labels, value]);
}

test.each(rows)("%s: counters end in _total, histograms have ascending buckets, help is a sentence", (name, row) => {
  expect(name.endsWith("_total")).toBe(row.type === "counter");
  expect(row.help).toMatch(/^[A-Z0-9].*\.$/);
  const buckets = row.buckets ?? [];
  expect(buckets.length > 0).toBe(row.type === "histogram");
  expect(buckets.toSorted((a, b) => a - b)).toEqual(buckets);
});

test("the names fixed by the contract that this version can fill are there", () => {
  expect(Object.keys(METRICS)).toEqual(
    expect.arrayContaining([
      "waymark_catalog_entries",
      "waymark_catalog_revision",
      "waymark_watch_streams",
      "waymark_watch_lag_revisions",
      "waymark_register_total",
      "discovery_query_latency_ms",
      "discovery_delta_lag_ms",
      "discovery_delta_dropped_total",
      "discovery_policy_denials_total",
      "discovery_rate_limited_total",
      "dns_queries_total",
      "dns_query_latency_ms",
      "dns_truncated_total",
      "dns_policy_denials_total",
      "rpc_requests_total",
      "rpc_latency_ms",
    ]),
  );
});

test("what has few label values is there from the start, at zero", () => {
  expect(seriesOf(new Metrics(), "waymark_register_total")).toEqual([
    [{ outcome: "ok" }, 0],
    [{ outcome: "refused" }, 0],
    [{ outcome: "failed" }, 0],
  ]);
  expect(seriesOf(new Metrics(), "waymark_watch_streams")).toEqual([[{}, 0]]);
});

test("a handle and the calls by name count into the same number", () => {
  const metrics = new Metrics();
  const handle = metrics.counter("waymark_register_total", { outcome: "ok" });
  handle.inc();
  metrics.inc("waymark_register_total", { outcome: "ok" }, 4);
  expect(handle.value).toBe(5);
  metrics.set("waymark_watch_streams", {}, 7);
  expect(metrics.gauge("waymark_watch_streams", {}).value).toBe(7);
});

test("labels are one series whatever order they are given in", () => {
  const metrics = new Metrics();
  metrics.inc("dns_queries_total", { qtype: "A", rcode: "NOERROR", transport: "udp" });
  metrics.inc("dns_queries_total", { transport: "udp", rcode: "NOERROR", qtype: "A" });
  expect(seriesOf(metrics, "dns_queries_total")).toEqual([[{ qtype: "A", rcode: "NOERROR", transport: "udp" }, 2]]);
});

test("values beyond a label's bound are counted as `other`, and that they were is counted too", () => {
  const metrics = new Metrics();
  for (let at = 0; at < 130; at++) metrics.inc("discovery_rate_limited_total", { tenant: `tenant-${at}` });
  const series = seriesOf(metrics, "discovery_rate_limited_total");
  expect(series).toHaveLength(101);
  expect(series.find(([labels]) => labels["tenant"] === "other")?.[1]).toBe(30);
  expect(seriesOf(metrics, "waymark_metric_label_overflow_total")).toEqual([[{ metric: "discovery_rate_limited_total" }, 30]]);
});

test("label values of strangers never grow a metric beyond its bound", () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { maxLength: 300 }), (tenants) => {
      const metrics = new Metrics();
      for (const tenant of tenants) metrics.inc("discovery_rate_limited_total", { tenant });
      const series = seriesOf(metrics, "discovery_rate_limited_total");
      expect(series.length).toBeLessThanOrEqual(101);
      expect(series.reduce((sum, [, value]) => sum + value, 0)).toBe(tenants.length);
    }),
  );
});

test("a histogram counts as a scan over all observations would", () => {
  const buckets = [1, 5, 10];
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 20, noNaN: true })), (values) => {
      const histogram = new Histogram({}, buckets);
      for (const value of values) histogram.observe(value);
      const bounds = [Number.NEGATIVE_INFINITY, ...buckets, Number.POSITIVE_INFINITY];
      const want = bounds.slice(1).map((upper, at) => values.filter((value) => value <= upper && value > (bounds[at] ?? 0)).length);
      expect([...histogram.counts]).toEqual(want);
      expect(histogram.count).toBe(values.length);
      expect(histogram.sum).toBeCloseTo(values.reduce((sum, value) => sum + value, 0));
    }),
  );
});

test("gauges that are asked for are filled before values are read", () => {
  const metrics = new Metrics();
  let streams = 3;
  metrics.onCollect(() => metrics.set("waymark_watch_streams", {}, streams));
  expect(seriesOf(metrics, "waymark_watch_streams")).toEqual([[{}, 3]]);
  streams = 4;
  expect(seriesOf(metrics, "waymark_watch_streams")).toEqual([[{}, 4]]);
});
