/**
 * The worker threads and processes of a node, grouped by role. The workers open and close with the other parts of the node, and one scrape collects
 * the metrics from all of them.
 */
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { MetricsSum } from "../../lib/metrics/sum.ts";
import type { ManagedCallers } from "../../policy/identity/tenants.ts";
import { type MetricsScraper, openScraper } from "../../server/metrics.io.ts";
import type { NodeComponents } from "../components.io.ts";
import { checkSound } from "../core/write-eligibility.ts";
import { DnsPresence } from "../dns/presence.ts";
import { dnsCheck } from "../listeners.io.ts";
import type { NodeOptions } from "../starting.io.ts";
import { WorkerPool, type WorkersOptions } from "./worker-pool.io.ts";

export type WorkerGroupOptions = Pick<WorkersOptions, "core" | "report" | "role" | "services" | "zoneSerials">;

export class WorkerGroups {
  readonly scrape: MetricsScraper;
  /** Whether this process or its workers answer DNS. */
  readonly dnsPresence: DnsPresence;
  readonly #sum: MetricsSum;
  readonly #list: WorkerPool[] = [];

  #managed: ManagedCallers | undefined;

  constructor(metrics: Metrics, { dns }: NodeOptions["settings"]) {
    this.#sum = new MetricsSum(metrics);
    this.scrape = openScraper(this.#sum, async () => void (await Promise.all(this.#list.map((workers) => workers.measure()))));
    this.dnsPresence = new DnsPresence(dns.processes === 0);
  }

  /** Passes the callers' tokens and the revocations to all workers, also to those that open later. */
  setManaged(managed: ManagedCallers): void {
    this.#managed = managed;
    for (const workers of this.#list) workers.setManaged(managed);
  }

  /** Opens the workers of a role. The number of workers comes from the settings. */
  async open(group: WorkerGroupOptions, { settings, log, version, interrupt }: NodeOptions, parts: NodeComponents): Promise<WorkerPool> {
    const isDns = group.role === "dns";
    if (isDns && process.platform !== "linux") throw new Error("dns.processes must be 0: processes can share a port only on Linux");
    const count = isDns ? settings.dns.processes : settings.node.workers;
    const onListening = (listening: number) => isDns && this.dnsPresence.set(listening > 0);
    const own = { ...group, count, onListening, sum: this.#sum, scrape: this.scrape };
    const open = () => WorkerPool.open({ ...own, settings, log, version, interrupt });
    return parts.open(isDns ? "DNS processes" : "read workers", open, (opened) => {
      this.#list.push(opened);
      if (this.#managed !== undefined) opened.setManaged(this.#managed);
      return {
        reload: () => opened.reload(),
        drain: (by) => opened.drain(by),
        stop: (by) => opened.stop(by),
        observe: () => opened.observe(),
        readiness: () => {
          const { dns } = opened.endpoints;
          const counted = isDns ? `; ${opened.listeningCount} of ${count} processes answer` : "";
          return dns === undefined ? [] : [dnsCheck(settings, dns, () => checkSound(group.core.facts()), counted)];
        },
      };
    });
  }
}
