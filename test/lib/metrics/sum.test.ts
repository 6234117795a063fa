/** One scrape over the metrics of several threads. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Histogram, METRICS, type MetricFamily, type MetricName, Metrics } from "../../../src/lib/metrics/metrics.ts";
import { MetricsSum, valuesOf } from "../../../src/lib/metrics/sum.ts";
import { runs } from "../../fakes/effort.ts";

/** Every number that a scrape says, by its metric and labels. A histogram has one for each bucket, and its sum. */
function scraped(of: { collect(): readonly MetricFamily[] }): ReadonlyMap<string, number> {
  const numbers = new Map<string, number>();
  for (const family of of.collect()) {
    if ("histograms" in family) {
      for (const [key, { counts, sum }] of family.histograms)
        for (const [at, number] of [...counts, sum].entries()) numbers.set(`${family.name} ${key}${at}`, number);
    } else for (const [key, { value }] of family.series) numbers.set(`${family.name} ${key}`, value);
  }
  return numbers;
}

/** What arrives of a thread's values at another thread. */
const sent = (metrics: Metrics) => structuredClone(valuesOf(metrics));

/** Counts so many times, or sets a gauge to so much. */
function count(metrics: Metrics, name: MetricName, labels: Readonly<Record<string, string>>, times: number): void {
  const place = metrics.at(name, labels);
  if (place instanceof Histogram) for (let n = 0; n < times; n++) place.observe(0.05);
  else if (METRICS[name].type === "gauge") place.set(times);
  else place.inc(times);
}

test("a sum over one thread says what the thread says", () => {
  const own = new Metrics();
  count(own, "rpc_requests_total", { service: "s", method: "m", code: "OK", transport: "grpc", encoding: "proto" }, 3);
  count(own, "discovery_rate_limited_total", { tenant: "" }, 0);
  count(own, "discovery_query_latency_ms", {}, 2);
  count(own, "waymark_build_info", { version: "1", node_version: "24" }, 1);
  count(own, "waymark_watch_lag_revisions", {}, 4);
  expect(scraped(new MetricsSum(own))).toEqual(scraped(own));
});

test.each([
  { name: "waymark_connections", labels: { listener: "grpc" }, key: "grpc\0", across: "sum", want: 6 },
  { name: "waymark_watch_lag_revisions", labels: {}, key: "", across: "largest", want: 3 },
  { name: "waymark_catalog_revision", labels: {}, key: "", across: "own", want: 2 },
  { name: "dns_truncated_total", labels: {}, key: "", across: "sum", want: 6 },
  { name: "discovery_query_latency_ms", labels: {}, key: "0", across: "sum", want: 6 },
] as const)("$name over threads that have 2, 3 and 1: $want ($across)", ({ name, labels, key, across, want }) => {
  expect(METRICS[name].across).toBe(across);
  const own = new Metrics();
  count(own, name, labels, 2);
  const sum = new MetricsSum(own);
  for (const times of [3, 1]) {
    const metrics = new Metrics();
    count(metrics, name, labels, times);
    sum.begin().set(sent(metrics));
  }
  expect(scraped(sum).get(`${name} ${key}`)).toBe(want);
});

test("of a thread that is gone the counts stay, the gauges do not, and what it says late changes nothing", () => {
  const sum = new MetricsSum(new Metrics());
  const metrics = new Metrics();
  count(metrics, "dns_truncated_total", {}, 5);
  count(metrics, "waymark_watch_streams", {}, 5);
  count(metrics, "discovery_query_latency_ms", {}, 5);
  const other = sum.begin();
  other.set(sent(metrics));
  const names = ["dns_truncated_total ", "waymark_watch_streams ", "discovery_query_latency_ms 0"];
  const seen = () => names.map((name) => scraped(sum).get(name));
  expect(seen()).toEqual([5, 5, 5]);
  other.end();
  expect(seen()).toEqual([5, 0, 5]);
  other.end();
  other.set(sent(metrics));
  expect(seen()).toEqual([5, 0, 5]);
});

test("a label that has its place keeps it; further ones are `other`, each counted as an overflow once", () => {
  const sum = new MetricsSum(new Metrics());
  const tenants = (metrics: Metrics, from: number, to: number) => {
    for (let at = from; at < to; at++) count(metrics, "discovery_rate_limited_total", { tenant: `tenant-${at}` }, 1);
    return sent(metrics);
  };
  const first = sum.begin();
  first.set(tenants(new Metrics(), 0, 60));
  const second = sum.begin();
  const later = new Metrics();
  second.set(tenants(later, 50, 110));
  const seen = (tenant: string) => scraped(sum).get(`discovery_rate_limited_total ${tenant}\0`);
  const overflows = () => scraped(sum).get("waymark_metric_label_overflow_total discovery_rate_limited_total\0");
  const expected = { places: [seen("tenant-0"), seen("tenant-55"), seen("tenant-99")], other: seen("other"), overflows: overflows() };
  expect(expected).toEqual({ places: [1, 2, 1], other: 10, overflows: 10 });
  first.end();
  second.set(tenants(later, 50, 110));
  sum.begin().set(tenants(new Metrics(), 109, 111));
  const after = { places: [seen("tenant-0"), seen("tenant-55"), seen("tenant-99")], other: seen("other"), overflows: overflows() };
  expect(after).toEqual({ places: [1, 3, 2], other: 22, overflows: 12 });
});

test("the sum of a histogram does not go down by a rounding when a thread ends", () => {
  const own = new Metrics();
  const sum = new MetricsSum(own);
  own.observe("discovery_query_latency_ms", {}, 0.1);
  const others = [0.1, 0.4].map((ms) => {
    const metrics = new Metrics();
    metrics.observe("discovery_query_latency_ms", {}, ms);
    const other = sum.begin();
    other.set(sent(metrics));
    return other;
  });
  const seen = () =>
    scraped(sum).get(`discovery_query_latency_ms ${new Histogram({}, METRICS.discovery_query_latency_ms.buckets ?? []).counts.length}`);
  const before = seen();
  others[1]?.end();
  expect(seen()).toBe(before);
});

const STEP = fc.record({
  thread: fc.nat(3),
  act: fc.constantFrom("count", "count", "count", "observe", "observe", "say", "say", "end"),
  tenant: fc.nat(250),
  ms: fc.double({ min: 0, max: 9000, noNaN: true }),
});

test("no count goes down, whichever threads do not answer or are gone; in the end the sum is that of all that was said", () => {
  fc.assert(
    fc.property(fc.array(STEP, { maxLength: 400 }), (steps) => {
      const own = new Metrics();
      const sum = new MetricsSum(own);
      const start = () => ({ metrics: new Metrics(), other: sum.begin() });
      const threads = [start(), start(), start()];
      let before: ReadonlyMap<string, number> = new Map();
      let saidCount = 0;
      const unsaid = new Map<Metrics, number>();
      const took = (metrics: Metrics) => {
        saidCount += unsaid.get(metrics) ?? 0;
        unsaid.delete(metrics);
      };
      for (const { thread, act, tenant, ms } of steps) {
        const { metrics, other } = threads[thread] ?? { metrics: own, other: undefined };
        if (act === "observe") metrics.observe("discovery_query_latency_ms", {}, ms);
        if (act === "count") {
          metrics.inc("discovery_rate_limited_total", { tenant: `${tenant}` });
          unsaid.set(metrics, (unsaid.get(metrics) ?? 0) + 1);
        }
        if (act === "say") {
          other?.set(sent(metrics));
          took(other === undefined ? new Metrics() : metrics);
        }
        if (act === "end" && other !== undefined) {
          other.end();
          threads[thread] = start();
        }
        if (act !== "say" && act !== "end") continue;
        const now = scraped(sum);
        expect([...before].filter(([name, number]) => !((now.get(name) ?? -1) >= number))).toEqual([]);
        before = now;
      }
      took(own);
      const limited = [...scraped(sum)].filter(([name]) => name.startsWith("discovery_rate_limited_total"));
      expect(limited.reduce((all, [, number]) => all + number, 0)).toBe(saidCount);
      expect(limited.length).toBeLessThanOrEqual(101);
    }),
    { numRuns: runs(50) },
  );
});
