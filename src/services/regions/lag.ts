/** The summary part of `PeerService.Lag`: the state of exports, the backlog of each border, and the state of each source. */

import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  BorderLagSchema,
  ExportLagSchema,
  type PeerServiceLagResponse,
  SourceLagSchema,
  SourceState,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import type { BorderBacklog } from "../../fabric/borders/session.ts";
import { enumName } from "../../lib/enum-words.ts";
import type { Time } from "../../lib/machine.ts";
import type { SourceStatus } from "../../summary/held/options.ts";

export interface ExportReport {
  readonly isExporting: boolean;
  /** Number of live nodes of the cluster that export, including this node. */
  readonly exporterCount: number;
  readonly detail: string;
  readonly lagMs: number;
  readonly failedCount: number;
}

export interface BorderReport extends BorderBacklog {
  /** `links` counts this node's links to the cluster, and `regionLinks` counts the links between the two regions. */
  readonly links: number;
  readonly regionLinks: number;
}

export interface SourceReport extends Omit<SourceStatus, "source"> {
  readonly clusterId: string;
  readonly region: string;
}

export interface SummaryLag {
  readonly exports: ExportReport;
  readonly borders: readonly BorderReport[];
  readonly sources: readonly SourceReport[];
}

/** Encodes the report as fields in the answer. */
export function wireSummaryLag(
  { exports, borders, sources }: SummaryLag,
  time: Time,
): Pick<PeerServiceLagResponse, "borders" | "exports" | "sources"> {
  const { isExporting: exporting, exporterCount: exporters, detail, lagMs, failedCount } = exports;
  return {
    exports: create(ExportLagSchema, { exporting, exporters, detail, lag: ageOf(lagMs), failed: BigInt(failedCount) }),
    borders: borders.map((row) =>
      create(BorderLagSchema, {
        clusterId: row.clusterId,
        region: row.region,
        links: row.links,
        regionLinks: row.regionLinks,
        ...(row.lagMs > 0 && { dueFor: ageOf(row.lagMs) }),
        unsent: BigInt(row.unsent),
        ...(row.exportedEqualMonoMs !== undefined && { exportedEqualAt: at(row.exportedEqualMonoMs, time) }),
        ...(row.importedEqualMonoMs !== undefined && { importedEqualAt: at(row.importedEqualMonoMs, time) }),
      }),
    ),
    sources: sources.map((row) =>
      create(SourceLagSchema, {
        clusterId: row.clusterId,
        region: row.region,
        state: SourceState[enumName(row.state)],
        ...(row.ageMs !== undefined && { beaconAge: ageOf(row.ageMs) }),
        summaries: BigInt(row.summaries),
        full: row.isFull,
        refused: Object.fromEntries([...row.refused].map(([why, count]) => [why, BigInt(count)])),
      }),
    ),
  };
}

function ageOf(ms: number) {
  return durationFromMs(Math.round(ms));
}

function at(monoMs: number, time: Time) {
  return timestampFromMs(Math.round(time.wallMs - (time.monoMs - monoMs)));
}
