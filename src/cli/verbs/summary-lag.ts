/** Shows the replication of summaries: the server's borders, and the clusters from which it has summaries. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type BorderLag,
  BorderLagSchema,
  type ExportLag,
  ExportLagSchema,
  PeerService,
  type PeerServiceLagResponse,
  type SourceLag,
  SourceState,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { enumWord } from "../../lib/enum-words.ts";
import { CommandError, EXIT } from "../exit.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { CommandOutput, OutputTable, TableColumn } from "../output.ts";
import type { VerbFunction } from "../table/verb.ts";
import { HOLDS_NONE, shortDuration } from "../texts.ts";

const BORDER_COLUMNS: readonly TableColumn<BorderLag>[] = [
  { title: "CLUSTER", text: ({ clusterId }) => clusterId },
  { title: "REGION", text: ({ region }) => region },
  { title: "NODE LINKS", text: ({ links }) => String(links) },
  { title: "REGION LINKS", text: ({ regionLinks }) => String(regionLinks) },
  { title: "OLDEST PENDING", text: dueText },
  { title: "UNSENT", text: ({ unsent }) => String(unsent) },
  { title: "LAST VERIFIED", text: ({ exportedEqualAt }) => timeText(exportedEqualAt) || "-" },
  { title: "LAST VERIFIED HERE", isWide: true, text: ({ importedEqualAt }) => timeText(importedEqualAt) || "-" },
];

/** Without a link, the neighbour's state is unknown. */
function dueText(border: BorderLag): string {
  const { dueFor } = border;
  const due = dueFor === undefined ? [] : [shortDuration(dueFor)];
  return [...due, ...(isLinked(border) ? [] : ["no link"])].join(", ") || "-";
}

/** Whether any node in the region has a link to the neighbour's region. */
function isLinked({ regionLinks }: BorderLag): boolean {
  return regionLinks > 0;
}

const SOURCE_COLUMNS: readonly TableColumn<SourceLag>[] = [
  { title: "CLUSTER", text: ({ clusterId }) => clusterId },
  { title: "REGION", text: ({ region }) => region || "-" },
  { title: "STATE", text: ({ state }) => enumWord(SourceState, state) },
  { title: "HEARTBEAT", text: ({ beaconAge }) => (beaconAge === undefined ? "never" : `${shortDuration(beaconAge)} ago`) },
  { title: "SUMMARIES", text: ({ summaries }) => String(summaries) },
  { title: "LIMIT REACHED", text: ({ full }) => (full ? "yes" : "no") },
  { title: "REFUSED", text: ({ refused }) => refusedText(refused) || "-" },
];

function refusedText(refused: SourceLag["refused"]): string {
  return Object.keys(refused)
    .toSorted()
    .map((why) => `${why} ${refused[why] ?? 0}`)
    .join(", ");
}

/** Formats the borders as a table. */
export function borderTable({ borders, servedBy, exports }: PeerServiceLagResponse): OutputTable<BorderLag> {
  const whenEmpty = exports === undefined ? noneHeld(servedBy) : `no borders are configured on ${servedBy} (fabric.borders)`;
  return { columns: BORDER_COLUMNS, rows: borders, whenEmpty };
}

/** Formats the clusters with summaries on the node as a table. */
export function sourceTable({ sources, servedBy, exports }: PeerServiceLagResponse): OutputTable<SourceLag> {
  const whenEmpty = exports === undefined ? noneHeld(servedBy) : `${servedBy} has no summaries from any cluster`;
  return { columns: SOURCE_COLUMNS, rows: sources, whenEmpty };
}

function noneHeld(servedBy: string): string {
  return `${servedBy} ${HOLDS_NONE}`;
}

/** Prints a sentence that states whether the cluster exports summaries, and the age of the oldest pending change. */
export function noteExports(
  out: CommandOutput,
  { servedBy, borders }: Pick<PeerServiceLagResponse, "borders" | "servedBy">,
  { detail, exporters, lag }: ExportLag,
): void {
  const lagMs = lag === undefined ? 0 : durationMs(lag);
  const nothing = borders.every(isLinked) ? "no changes are pending" : "no changes are pending on the links that are up";
  const due = lag === undefined || lagMs === 0 ? nothing : `the oldest change has been pending for ${shortDuration(lag)}`;
  out.note(`summaries on ${servedBy}: ${detail}; ${due}`);
  if (exporters === 0) out.note("no live node of this cluster exports summaries, so other regions receive no updates from it");
}

export const exportLag: VerbFunction = async ({ out, client }) => {
  const answer = await client().call(PeerService.method.lag, { limit: 1 });
  const { servedBy, borders, exports } = answer;
  if (exports === undefined) throw new CommandError(noneHeld(servedBy), EXIT.failed);
  const json = {
    servedBy,
    exports: wholeJson(ExportLagSchema, exports),
    borders: borders.map((border) => wholeJson(BorderLagSchema, border)),
  };
  if (!out.isMachine) noteExports(out, answer, exports);
  out.document(json, borderTable(answer));
};
