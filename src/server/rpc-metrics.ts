/** Counts finished calls: the `observe` of the chain, over METRICS. */
import type { Histogram, Metrics, Series } from "../lib/metrics/metrics.ts";
import type { Observation } from "./chain.ts";

interface Handles {
  readonly requests: Series;
  /** Undefined for streams: how long one lives says nothing about us. */
  readonly latency: Histogram | undefined;
}

/** The observer of all listeners; one look-up a call. `isStream` tells methods whose life is not a latency. */
export function rpcObserver(metrics: Metrics, isStream: (service: string, method: string) => boolean): (observation: Observation) => void {
  const handles = new Map<string, Handles>();
  return (observation) => {
    const { service, method, code, transport, encoding, latencyMs } = observation;
    const key = `${transport}/${encoding}/${code}/${service}/${method}`;
    let handle = handles.get(key);
    if (handle === undefined) {
      handle = {
        requests: metrics.counter("rpc_requests_total", { service, method, code, transport: transport, encoding }),
        latency: isStream(service, method) ? undefined : metrics.histogram("rpc_latency_ms", { service, method, transport }),
      };
      handles.set(key, handle);
    }
    handle.requests.inc();
    handle.latency?.observe(latencyMs);
  };
}
