/** Makes this node's own entry and measures the load of the process. `core/self-entry.ts` decides when they are published. */
import { type EventLoopUtilization, performance } from "node:perf_hooks";
import type { Settings } from "../config/settings.ts";
import { parseZone } from "../dns/names/names.ts";
import { reverseZoneNames } from "../lib/addresses.ts";
import { WaymarkError } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import { now } from "../lib/stall-aware-time.io.ts";
import { anonymousCaller } from "../policy/identity/caller.ts";
import { type NodeFactsToPublish, nodeEntry } from "../services/node-entry.ts";
import type { OwnEntry } from "./core-io.ts";
import { type LoadSources, NodeLoad } from "./load-report.ts";
import type { NodeCore } from "./rooms.io.ts";

/** No credential can have this principal, because the principals of callers never contain a space. */
const SELF_PRINCIPAL = "node ";

export interface SelfOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly listeners: NodeFactsToPublish["listeners"];
  /** The load of the threads that serve callers. */
  readonly callers: LoadSources;
}

/** Publishes this node's entry and then its load. Rejects if the entry is invalid or the disk refuses it. */
export async function publishSelf(core: NodeCore, { settings, log, listeners, callers }: SelfOptions): Promise<void> {
  const { driver } = core;
  const own = loopUtilization();
  const load = new NodeLoad({ ...callers, utilization: () => Math.max(own(), callers.utilization()) });
  const refused: unknown[] = [];
  driver.follow((notice) => {
    if (notice.kind === "measureLoad") driver.input({ kind: "load", load: load.take(now().wallMs) });
    if (notice.kind !== "selfRefused") return;
    refused.push(notice.error);
    if (!isNotEligible(notice.error)) log.warn({ err: notice.error }, "load of this node not reported");
  });
  driver.input({ kind: "publish", entry: ownEntry(core, settings, listeners) });
  try {
    await driver.durable();
    if (refused.length > 0) throw refused[0];
  } catch (error) {
    // A wrong clock, or another process with this id, does not abort the start, because other nodes find this node through the member list.
    if (!isNotEligible(error)) throw error;
    log.error({ err: error }, "entry of this node not written, trying again");
  }
}

function ownEntry({ identity, stamper }: NodeCore, { node, dns }: Settings, listeners: NodeFactsToPublish["listeners"]): OwnEntry {
  const { nodeId, roles, clusterId } = identity;
  const { name, resources, labels } = node;
  const dnsZones = [...dns.zones.map(parseZone), ...reverseZoneNames(dns)];
  const facts = { nodeId, roles, name, resources, dnsZones, listeners };
  const { detail } = nodeEntry({ ...facts, labels });
  return {
    caller: { ...anonymousCaller(clusterId, ""), principal: `${SELF_PRINCIPAL}${nodeId}` },
    urls: detail.case === "node" ? detail.value.advertisedUrls : [],
    stampAt: ({ wallMs }, state) => {
      const entry = nodeEntry({ ...facts, labels: { ...labels, ...state.labels }, isInMaintenance: state.isInMaintenance });
      return stamper.entryOfNode(entry, { ...identity, tenantId: "", receivedWallMs: wallMs });
    },
  };
}

function isNotEligible(error: unknown): boolean {
  return error instanceof WaymarkError && (error.reason === "clock_skew" || error.reason === "not_ready");
}

/** Returns a function that measures the share of time since its last call during which the event loop was busy. */
function loopUtilization(): () => number {
  let since: EventLoopUtilization = performance.eventLoopUtilization();
  return () => {
    const { utilization } = performance.eventLoopUtilization(since);
    since = performance.eventLoopUtilization();
    return utilization;
  };
}
