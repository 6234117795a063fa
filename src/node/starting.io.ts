/** Functions for starting and stopping that nodes and resolvers share. */
import { hasTls } from "../config/exposure.ts";
import type { Settings } from "../config/settings.ts";
import { hostPort } from "../lib/addresses.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { openAuditLog } from "../store/audit/log.io.ts";
import { type NodeComponent, NodeComponents, type OnStep, StopDeadline } from "./components.io.ts";
import type { NodeEndpoints } from "./core/endpoints.ts";
import { advertisedHost } from "./fabric/address.io.ts";
import type { NodeFabric } from "./fabric/fabric.io.ts";
import type { CoreOptions } from "./rooms.io.ts";

export interface NodeOptions extends CoreOptions {
  /** Called when the gRPC listener accepts calls, before the node is ready. `grpc` is the `host:port` of the listener. */
  readonly beforeReady?: ((grpc: string) => Promise<void>) | undefined;
  /** Aborts if the node must stop, even if it is still opening its parts or is not ready yet. */
  readonly interrupt?: AbortSignal | undefined;
  /**
   * Called when the listeners are open, even if the node is not ready. `reload` reads the certificates, the token files and the policy file again.
   */
  readonly onOpened?: ((reload: () => void) => void) | undefined;
  /** Called before each step of the start. */
  readonly onStep?: OnStep;
}

export interface RunningNode {
  readonly nodeId: string;
  /** Listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
  /** Why the node was not ready at the end of its start, for example because its clock is wrong. Empty if it was ready. */
  readonly fault: string;
  /** Drains the node, sends watchers a final cursor, waits for open calls for a limited time, and closes all parts. Idempotent. */
  stop(): Promise<void>;
}

/** At each scrape, updates the metrics of all parts, the version and the count of dropped log lines. */
export function observe({ version, log }: NodeOptions, metrics: Metrics, parts: NodeComponents): void {
  metrics.set("waymark_build_info", { version, node_version: process.versions.node }, 1);
  metrics.onCollect(() => {
    parts.observe();
    metrics.counter("waymark_log_lines_dropped_total", {}).set(log.droppedCount());
  });
}

/** Time in which a failed start must close its open parts, in ms. Parts that are still open after this time end with the process. */
const FAILED_CLOSE_MS = 1000;
/**
 * Additional time for a stop besides the time for open calls, in ms. This time is for the departure announcement, the last snapshot, and pending disk
 * writes.
 */
const CLOSING_MS = 2000;

/** Opens the parts of a process. If the start fails or is interrupted, closes all of them. */
export async function startParts(
  options: NodeOptions,
  open: (options: NodeOptions, parts: NodeComponents) => Promise<RunningNode>,
): Promise<RunningNode> {
  const { log, interrupt, settings } = options;
  const parts = new NodeComponents(log.child("node"), options.onStep, interrupt);
  try {
    return await open(options, parts);
  } catch (error) {
    // An interrupted start closes its parts as carefully as a ready node does when it stops. The node has not had any callers yet, so there is
    // nothing to drain.
    const isStopped = interrupt?.aborted === true && error === interrupt.reason;
    if (isStopped) log.info({ stopTimeoutMs: settings.node.stopTimeoutMs }, `${settings.node.mode} is stopping`);
    await parts.stop(new StopDeadline(isStopped ? settings.node.stopTimeoutMs + CLOSING_MS : FAILED_CLOSE_MS));
    throw error;
  }
}

export function auditPart(audit: Awaited<ReturnType<typeof openAuditLog>>): NodeComponent {
  return {
    reload: () => audit.reopenFile(),
    stop: () => audit.close(),
    // Always ok, because no answer depends on the audit log. Records that the disk refuses are either queued or counted as lost.
    readiness: () => [{ name: "audit", ok: true, detail: audit.fault === "" ? "accepts records" : audit.fault }],
  };
}

/**
 * Stops a node. Open calls get `stopTimeoutMs`. Everything that closes after them shares an additional `CLOSING_MS`. `drain` makes the node refuse
 * new work.
 */
export async function stopParts(
  parts: NodeComponents,
  { settings, log }: NodeOptions,
  { nodeId, drain }: { readonly nodeId: string; readonly drain: () => void },
): Promise<void> {
  const { stopTimeoutMs, mode } = settings.node;
  log.info({ nodeId, stopTimeoutMs }, `${mode} is stopping`);
  const [callers, end] = [new StopDeadline(stopTimeoutMs), new StopDeadline(stopTimeoutMs + CLOSING_MS)];
  drain();
  await parts.drain(callers);
  await parts.stop(end);
}

/** Fills in the bound address of each listener. Returns the addresses at which other machines reach the listeners. */
export function nameListeners(
  settings: Settings,
  listeners: Record<string, string>,
  { calls, dns }: NodeEndpoints,
  listener?: NodeFabric["listener"],
) {
  listeners["grpc"] = calls.grpc;
  listeners["http"] = calls.http;
  if (dns !== undefined) listeners["dns"] = hostPort(dns.host, dns.udp);
  if (dns?.tls !== undefined) listeners["dot"] = hostPort(dns.host, dns.tls);
  if (listener !== undefined) listeners["fabric"] = listener.address;
  const at = (host: string, port: number, isTls = false) => ({ host: advertisedHost(settings, host), port, isTls });
  const isTls = hasTls(settings);
  return {
    grpc: at(settings.listen.host, calls.ports.grpc, isTls),
    http: at(settings.listen.host, calls.ports.http, isTls),
    ...(dns !== undefined && { dns: at(dns.host, dns.udp) }),
    ...(listener !== undefined && { fabric: at(listener.host, settings.fabric.advertisePort || listener.port, listener.isTls) }),
  };
}

/** Resolves when the signal aborts; never resolves without a signal. */
export function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) resolve();
    else signal?.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Interval at which watches of members check whether a bookmark is due, in ms. */
const TICK_MS = 200;

export function tick(wake: () => void): () => void {
  const timer = setInterval(wake, TICK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
