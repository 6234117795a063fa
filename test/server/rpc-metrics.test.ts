import { expect, test } from "vitest";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { rpcObserver } from "../../src/server/rpc-metrics.ts";

const CALL = { service: "s.S", method: "Query", code: "OK", transport: "grpc", encoding: "proto", latencyMs: 3 };

test("calls are counted by status, and only those that are no streams are timed", () => {
  const metrics = new Metrics();
  const observe = rpcObserver(metrics, (_service, method) => method === "Watch");
  observe(CALL);
  observe(CALL);
  observe({ ...CALL, code: "INTERNAL" });
  observe({ ...CALL, method: "Watch", latencyMs: 60_000 });
  const { service, method, transport, encoding } = CALL;
  expect(metrics.counter("rpc_requests_total", { service, method, code: "OK", transport, encoding }).value).toBe(2);
  expect(metrics.counter("rpc_requests_total", { service, method, code: "INTERNAL", transport, encoding }).value).toBe(1);
  expect(metrics.counter("rpc_requests_total", { service, method: "Watch", code: "OK", transport, encoding }).value).toBe(1);
  expect(metrics.histogram("rpc_latency_ms", { service, method, transport }).count).toBe(3);
  expect(metrics.histogram("rpc_latency_ms", { service, method: "Watch", transport }).count).toBe(0);
});
