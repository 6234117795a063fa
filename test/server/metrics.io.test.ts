import { expect, test } from "vitest";
import { METRICS, Metrics } from "../../src/lib/metrics/metrics.ts";
import { MetricsSum, valuesOf } from "../../src/lib/metrics/sum.ts";
import { openScraper } from "../../src/server/metrics.io.ts";

const OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

test("every metric of the table is scraped with its help and type", async () => {
  const { body, contentType } = await openScraper(new Metrics())("");
  expect(contentType).toBe("text/plain; version=0.0.4; charset=utf-8");
  for (const [name, row] of Object.entries(METRICS)) {
    expect(body).toContain(`# HELP ${name} ${row.help}\n`);
    expect(body).toContain(`# TYPE ${name} ${row.type}\n`);
  }
});

test("values are those of the moment of the scrape", async () => {
  const metrics = new Metrics();
  const scrape = openScraper(metrics);
  await scrape("");
  metrics.set("waymark_catalog_entries", { kind: "service", scope: "zone" }, 12);
  metrics.inc("dns_queries_total", { qtype: "SRV", rcode: "NOERROR", transport: "udp" }, 3);
  const { body } = await scrape("");
  expect(body).toContain('waymark_catalog_entries{kind="service",scope="zone"} 12\n');
  expect(body).toContain('dns_queries_total{qtype="SRV",rcode="NOERROR",transport="udp"} 3\n');
});

test("a histogram is scraped as running totals with sum and count", async () => {
  const metrics = new Metrics();
  for (const ms of [0.2, 3, 3, 99_999]) metrics.observe("discovery_query_latency_ms", {}, ms);
  const { body } = await openScraper(metrics)("");
  expect(body).toContain('discovery_query_latency_ms_bucket{le="0.1"} 0\n');
  expect(body).toContain('discovery_query_latency_ms_bucket{le="0.25"} 1\n');
  expect(body).toContain('discovery_query_latency_ms_bucket{le="5"} 3\n');
  expect(body).toContain('discovery_query_latency_ms_bucket{le="+Inf"} 4\n');
  expect(body).toContain("discovery_query_latency_ms_sum 100005.2\n");
  expect(body).toContain("discovery_query_latency_ms_count 4\n");
});

test("a scraper that asks for OpenMetrics gets it, and others are not changed by that", async () => {
  const metrics = new Metrics();
  metrics.inc("waymark_register_total", { outcome: "ok" }, 2);
  const scrape = openScraper(metrics);
  const open = await scrape(OPEN_METRICS);
  expect(open.contentType).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
  expect(open.body).toContain("# TYPE waymark_register counter\n");
  expect(open.body).toContain('waymark_register_total{outcome="ok"} 2\n');
  expect(open.body.endsWith("# EOF\n")).toBe(true);
  expect((await scrape("")).body).toContain("# TYPE waymark_register_total counter\n");
  expect((await scrape(OPEN_METRICS)).body).toContain('waymark_register_total{outcome="ok"} 2\n');
});

test("label values are escaped", async () => {
  const metrics = new Metrics();
  metrics.inc("discovery_rate_limited_total", { tenant: 'a"b\\c\nd' });
  expect((await openScraper(metrics)("")).body).toContain('tenant="a\\"b\\\\c\\nd"} 1\n');
});

test("the process's own health is scraped too", async () => {
  const { body } = await openScraper(new Metrics())("");
  for (const name of ["process_cpu_seconds_total", "process_resident_memory_bytes", "nodejs_eventloop_lag_p99_seconds"]) {
    expect(body).toContain(`\n${name} `);
  }
});

test("a scrape over several threads waits for their values", async () => {
  const own = new Metrics();
  own.inc("dns_truncated_total", {}, 2);
  const sum = new MetricsSum(own);
  const other = sum.begin();
  const metrics = new Metrics();
  const scrape = openScraper(sum, async () => {
    await Promise.resolve();
    other.set(valuesOf(metrics));
  });
  expect((await scrape("")).body).toContain("dns_truncated_total 2\n");
  metrics.inc("dns_truncated_total", {}, 3);
  expect((await scrape("")).body).toContain("dns_truncated_total 5\n");
});
