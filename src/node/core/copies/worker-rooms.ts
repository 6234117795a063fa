/** Builds the rooms of a read worker: its copy of the catalog with all that answers readers from it, and what limits and records their calls. */
import type { Settings } from "../../../config/settings.ts";
import { reverseBlocks } from "../../../lib/addresses.ts";
import type { Time } from "../../../lib/machine.ts";
import type { Metrics } from "../../../lib/metrics/metrics.ts";
import type { AuditSink } from "../../../policy/audit/record.ts";
import { AccessLog } from "../../access-log.ts";
import { NodeLimits, type NodeLimitsOptions } from "../../limits.ts";
import { CopyRooms } from "./copy-rooms.ts";

export interface WorkerRoomsOptions extends Pick<NodeLimitsOptions, "makeBuckets" | "watches"> {
  readonly settings: Settings;
  readonly nodeId: string;
  readonly generation: number;
  readonly boot: string;
  readonly metrics: Metrics;
  /** Where acts go that the node records. */
  readonly audit: Pick<AuditSink, "record">;
  readonly now: () => Time;
  /** Called when a watcher must be woken. */
  readonly onAgain: () => void;
}

export interface WorkerRooms {
  readonly copy: CopyRooms;
  readonly limits: NodeLimits;
  readonly accessLog: AccessLog;
}

export function openWorkerRooms(options: WorkerRoomsOptions): WorkerRooms {
  const { settings, metrics, now, audit } = options;
  const { clusterId, region } = settings.node;
  const accessLog = new AccessLog(metrics, { sampleReads: settings.audit.sampleReads, wallMs: () => now().wallMs, audit });
  const place = { clusterId, region, catalog: settings.catalog, zones: settings.dns.zones, blocks: reverseBlocks(settings.dns) };
  const copy = new CopyRooms({ ...options, ...place, onDenied: accessLog.onDenied });
  const limits = new NodeLimits({ ...options, policies: copy.policies, lookup: copy.replica.lookup });
  return { copy, limits, accessLog };
}
