/** Reports the progress of summaries for operators: this cluster's exports, the pending summaries per border, and this node's source clusters. */
import type { Neighbour } from "../../../fabric/borders/border.ts";
import type { BorderChannel } from "../../../fabric/borders/channel.ts";
import type { Fabric } from "../../../fabric/fabric.ts";
import type { Time } from "../../../lib/machine.ts";
import type { BorderReport, ExportReport, SummaryLag } from "../../../services/regions/lag.ts";
import type { HeldSummaries } from "../../../summary/held/summaries.ts";

export interface LagParts {
  readonly held: Pick<HeldSummaries, "regionOf" | "sources">;
  readonly exports: ExportReport;
  readonly neighbours: readonly Neighbour[];
  /** Undefined on a node without borders. */
  readonly channel: Pick<BorderChannel, "apartMs" | "backlogs"> | undefined;
  /** Undefined on a standalone node. */
  readonly fabric: Pick<Fabric, "borders" | "membership"> | undefined;
}

export function summaryLag({ held, exports, neighbours, channel, fabric }: LagParts, time: Time): SummaryLag {
  const backlogs = channel?.backlogs(time) ?? [];
  const up = fabric?.borders.rows.filter(({ state }) => state === "up") ?? [];
  const counts = [...(fabric?.borders.counts ?? []), ...(fabric?.membership.listed() ?? []).flatMap((member) => member.borders ?? [])];
  const borders = neighbours.map(({ clusterId, region }): BorderReport => {
    const own = backlogs.filter((backlog) => backlog.clusterId === clusterId);
    return {
      clusterId,
      region,
      links: up.filter((row) => row.clusterId === clusterId).length,
      regionLinks: counts.reduce((sum, count) => sum + (count.region === region ? count.links : 0), 0),
      lagMs: Math.max(channel?.apartMs(region, time) ?? 0, ...own.map(({ lagMs }) => lagMs)),
      unsent: own.reduce((sum, { unsent }) => sum + unsent, 0),
      exportedEqualMonoMs: latest(own.map((backlog) => backlog.exportedEqualMonoMs)),
      importedEqualMonoMs: latest(own.map((backlog) => backlog.importedEqualMonoMs)),
    };
  });
  const sources = held
    .sources(time)
    .map(({ source: clusterId, ...row }) => ({ clusterId, region: held.regionOf(clusterId) ?? "", ...row }));
  return { exports, borders, sources: sources.toSorted((a, b) => (a.clusterId < b.clusterId ? -1 : 1)) };
}

function latest(times: readonly (number | undefined)[]): number | undefined {
  const known = times.filter((ms) => ms !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
