/** How far summaries are on their way: the borders of the serving node, and the clusters that it hears. */
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
  { title: "CLUSTER", stored: ({ clusterId }) => clusterId },
  { title: "REGION", stored: ({ region }) => region },
  { title: "LINKS", stored: ({ links }) => String(links) },
  { title: "OF THE REGION", stored: ({ regionLinks }) => String(regionLinks) },
  { title: "DUE FOR", stored: dueText },
  { title: "UNSENT", stored: ({ unsent }) => String(unsent) },
  { title: "EQUAL THERE", stored: ({ exportedEqualAt }) => timeText(exportedEqualAt) || "-" },
  { title: "EQUAL HERE", isWide: true, stored: ({ importedEqualAt }) => timeText(importedEqualAt) || "-" },
];

/** Without a link, the state of the neighbour is unknown. */
function dueText(border: BorderLag): string {
  const { dueFor } = border;
  const due = dueFor === undefined ? [] : [shortDuration(dueFor)];
  return [...due, ...(isLinked(border) ? [] : ["no link"])].join(", ") || "-";
}

/** Whether any node of the region has a link to the neighbour's region. */
function isLinked({ regionLinks }: BorderLag): boolean {
  return regionLinks > 0;
}

const SOURCE_COLUMNS: readonly TableColumn<SourceLag>[] = [
  { title: "CLUSTER", stored: ({ clusterId }) => clusterId },
  { title: "REGION", stored: ({ region }) => region || "-" },
  { title: "STATE", stored: ({ state }) => enumWord(SourceState, state) },
  { title: "BEACON", stored: ({ beaconAge }) => (beaconAge === undefined ? "never" : `${shortDuration(beaconAge)} ago`) },
  { title: "SUMMARIES", stored: ({ summaries }) => String(summaries) },
  { title: "FULL", stored: ({ full }) => (full ? "limit" : "no") },
  { title: "REFUSED", stored: ({ refused }) => refusedText(refused) || "-" },
];

function refusedText(refused: SourceLag["refused"]): string {
  return Object.keys(refused)
    .toSorted()
    .map((why) => `${why} ${refused[why] ?? 0}`)
    .join(", ");
}

/** The borders as a table. */
export function borderTable({ borders, servedBy, exports }: PeerServiceLagResponse): OutputTable<BorderLag> {
  const whenEmpty = exports === undefined ? noneHeld(servedBy) : `the settings of ${servedBy} name no border (fabric.borders)`;
  return { columns: BORDER_COLUMNS, rows: borders, whenEmpty };
}

/** The clusters that the node hears as a table. */
export function sourceTable({ sources, servedBy, exports }: PeerServiceLagResponse): OutputTable<SourceLag> {
  const whenEmpty = exports === undefined ? noneHeld(servedBy) : `${servedBy} has heard of no cluster`;
  return { columns: SOURCE_COLUMNS, rows: sources, whenEmpty };
}

function noneHeld(servedBy: string): string {
  return `${servedBy} ${HOLDS_NONE}`;
}

/** What the cluster exports, and what is due, in a sentence. */
export function noteExports(
  out: CommandOutput,
  { servedBy, borders }: Pick<PeerServiceLagResponse, "borders" | "servedBy">,
  { detail, exporters, lag }: ExportLag,
): void {
  const lagMs = lag === undefined ? 0 : durationMs(lag);
  const nothing = borders.every(isLinked) ? "nothing is due" : "nothing is due on the links that are up";
  const due = lag === undefined || lagMs === 0 ? nothing : `the oldest change has been due for ${shortDuration(lag)}`;
  out.note(`summaries at ${servedBy}: ${detail}; ${due}`);
  if (exporters === 0) out.note("no live node of the cluster exports, so other regions hear nothing new of it");
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
