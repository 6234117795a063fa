import { expect, test } from "vitest";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { MetricsSum, valuesOf } from "../../src/lib/metrics/sum.ts";
import { NodeLoad } from "../../src/node/load-report.ts";

const CALL = { service: "s", method: "m", transport: "grpc" } as const;

test("the load of a node is that of all its threads", () => {
  const own = new Metrics();
  const sum = new MetricsSum(own);
  const load = new NodeLoad({ metrics: sum, connectionCount: () => 0, utilization: () => 0 });
  const worker = new Metrics();
  const other = sum.begin();
  for (const [metrics, code, latencyMs] of [[own, "INTERNAL", 1] as const, [worker, "OK", 5] as const]) {
    metrics.inc("rpc_requests_total", { ...CALL, encoding: "proto", code });
    metrics.observe("rpc_latency_ms", CALL, latencyMs);
  }
  other.set(valuesOf(worker));
  expect(load.take(1)).toMatchObject({ errorRate: 0.5, latencyMs: 3 });
  other.end();
  expect(load.take(2)).toMatchObject({ errorRate: 0, latencyMs: 0 });
});

test("a node's load is that since it was last asked: clients, errors of its own, latency, utilisation", () => {
  const metrics = new Metrics();
  const count = (code: string, times: number) => metrics.inc("rpc_requests_total", { ...CALL, encoding: "proto", code }, times);
  count("INTERNAL", 100);
  const load = new NodeLoad({ metrics, connectionCount: () => 7, utilization: () => 0.25 });
  expect(load.take(1)).toEqual({ activeClients: 7, errorRate: 0, latencyMs: 0, utilization: 0.25, observedWallMs: 1 });
  count("OK", 6);
  // A caller's mistake is not ours.
  count("INVALID_ARGUMENT", 2);
  count("UNAVAILABLE", 1);
  count("INTERNAL", 1);
  for (const latencyMs of [1, 3]) metrics.observe("rpc_latency_ms", CALL, latencyMs);
  expect(load.take(2)).toEqual({ activeClients: 7, errorRate: 0.2, latencyMs: 2, utilization: 0.25, observedWallMs: 2 });
  expect(load.take(3)).toMatchObject({ errorRate: 0, latencyMs: 0 });
});
