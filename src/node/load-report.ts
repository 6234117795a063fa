/** Measures the load of this node since the last measurement. Other nodes get it from the NODE entry and from ListPeers. */
import type { LoadView } from "../catalog/entry/view.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { MetricsSum } from "../lib/metrics/sum.ts";

/** The metrics of one thread, or their sum over several threads. */
type LoadCounts = Pick<Metrics | MetricsSum, "seriesOf" | "histogramsOf">;

export interface LoadSources {
  readonly metrics: LoadCounts;
  /** Open connections. */
  readonly connectionCount: () => number;
  /** Share of the time since the last call during which the event loop was busy. */
  readonly utilization: () => number;
}

/** Status codes that indicate a failure or overload of this node. Errors that callers cause are not included. */
const FAILURES: ReadonlySet<string> = new Set([
  "UNKNOWN",
  "DEADLINE_EXCEEDED",
  "RESOURCE_EXHAUSTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
]);

export class NodeLoad {
  readonly #sources: LoadSources;
  #before: ReturnType<typeof totalsOf>;

  constructor(sources: LoadSources) {
    this.#sources = sources;
    this.#before = totalsOf(sources.metrics);
  }

  take(wallMs: number): LoadView {
    const { metrics, connectionCount, utilization } = this.#sources;
    const before = this.#before;
    this.#before = totalsOf(metrics);
    const calls = this.#before.calls - before.calls;
    const answers = this.#before.answers - before.answers;
    return {
      activeClients: connectionCount(),
      errorRate: calls === 0 ? 0 : (this.#before.failures - before.failures) / calls,
      latencyMs: answers === 0 ? 0 : (this.#before.latencyMs - before.latencyMs) / answers,
      utilization: utilization(),
      observedWallMs: wallMs,
    };
  }
}

function totalsOf(metrics: LoadCounts) {
  const totals = { calls: 0, failures: 0, answers: 0, latencyMs: 0 };
  for (const { labels, value } of metrics.seriesOf("rpc_requests_total")) {
    totals.calls += value;
    if (FAILURES.has(labels["code"] ?? "")) totals.failures += value;
  }
  for (const { count, sum } of metrics.histogramsOf("rpc_latency_ms")) {
    totals.answers += count;
    totals.latencyMs += sum;
  }
  return totals;
}
