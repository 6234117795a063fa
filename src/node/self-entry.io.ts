/** What this node publishes of itself: its NODE entry, and how busy it is. */
import { type EventLoopUtilization, performance } from "node:perf_hooks";
import type { KeyText } from "../catalog/record/record.ts";
import type { Settings } from "../config/settings.ts";
import { rethrowBroken, WaymarkError } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import type { Time } from "../lib/machine.ts";
import { anonymousCaller, type Caller } from "../policy/identity/caller.ts";
import { type NodeFactsToPublish, nodeEntry } from "../services/node-entry.ts";
import { NodeLoad } from "./load-report.ts";
import { type NodeCore, now } from "./rooms.io.ts";

/** No credential can give this: principals of callers never contain a space. */
const SELF_PRINCIPAL = "node ";
/** Others hear of it only when its band changes. */
const REFRESH_MS = 30_000;
const FIRST_MS = 5000;

export interface PublishedSelf {
  close(): void;
}

export interface SelfOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly listeners: NodeFactsToPublish["listeners"];
  /** Open connections. */
  readonly connectionCount: () => number;
}

/** Registers this node's own NODE entry, which nobody else may write, and reports its load now and then. */
export async function publishSelf(core: NodeCore, options: SelfOptions): Promise<PublishedSelf> {
  const { identity, stamper, registrar, driver } = core;
  const { settings, listeners, log } = options;
  const entry = nodeEntry({
    nodeId: identity.nodeId,
    roles: identity.roles,
    name: settings.node.name,
    resources: settings.node.resources,
    labels: settings.node.labels,
    listeners,
  });
  const caller = selfCaller(core);
  let key: KeyText | undefined;
  const publish = (time: Time): void => {
    const stamped = stamper.entryOfNode(entry, { ...identity, tenantId: "", receivedWallMs: time.wallMs });
    registrar.register(caller, { stampedEntries: [stamped], ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: true }, time);
    ({ key } = stamped);
  };
  try {
    publish(now());
    await driver.durable();
  } catch (error) {
    // What this node's clock or another's says of this key, or another start under its id, ends no start: others find this node among the members.
    if (!isOfStanding(error)) throw error;
    log.error({ err: error }, "this node's own entry cannot be written; it is tried again");
  }
  const load = new NodeLoad({ metrics: core.metrics, connectionCount: options.connectionCount, utilization: loopUtilization() });
  const tell = () => {
    try {
      if (key === undefined) publish(now());
      if (key !== undefined) registrar.renew(caller, [], [{ key, path: "load", health: undefined, load: load.take(now().wallMs) }], now());
    } catch (error) {
      rethrowBroken(error);
      if (!isOfStanding(error)) log.warn({ err: error }, "own load not reported");
    }
    driver.durable()?.catch((error: unknown) => log.warn({ err: error }, "own load not written"));
  };
  // Starting is not how busy it is.
  const first = setTimeout(tell, FIRST_MS).unref();
  const timer = setInterval(tell, REFRESH_MS).unref();
  return {
    close: () => {
      clearTimeout(first);
      clearInterval(timer);
    },
  };
}

function selfCaller({ identity }: NodeCore): Caller {
  return { ...anonymousCaller(identity.clusterId, ""), principal: `${SELF_PRINCIPAL}${identity.nodeId}` };
}

function isOfStanding(error: unknown): boolean {
  return error instanceof WaymarkError && (error.reason === "clock_skew" || error.reason === "not_ready");
}

/** Part of the time in which the event loop was busy since it was last asked. */
function loopUtilization(): () => number {
  let since: EventLoopUtilization = performance.eventLoopUtilization();
  return () => {
    const { utilization } = performance.eventLoopUtilization(since);
    since = performance.eventLoopUtilization();
    return utilization;
  };
}
