/** The verb that follows the catalog. */
import type { Entry, EntryKey } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryKeySchema, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { follow } from "../../client/follow.io.ts";
import type { FollowEvent } from "../../client/follow.ts";
import { EXIT } from "../exit.ts";
import { filterOf } from "../filter.ts";
import { messageJson } from "../message-json.ts";
import type { Column, Output } from "../output.ts";
import type { Verb } from "../table/verb.ts";
import { healthWord, targetText } from "../words.ts";

interface Row {
  readonly action: "create" | "update" | "remove";
  readonly key: EntryKey;
  readonly entry: Entry | undefined;
}

const COLUMNS: readonly Column<Row>[] = [
  { title: "ACTION", stored: ({ action }) => action },
  { title: "NAMESPACE", stored: ({ key }) => key.namespace },
  { title: "NAME", stored: ({ key }) => key.name },
  { title: "INSTANCE", stored: ({ key }) => key.instanceId },
  { title: "HEALTH", stored: ({ entry }) => (entry === undefined ? "" : healthWord(entry.health)) },
  { title: "CLUSTER", isWide: true, stored: ({ key }) => key.clusterId },
  { title: "TARGETS", stored: ({ entry }) => entry?.targets.map(targetText).join(", ") ?? "" },
];

export const watch: Verb = async ({ environment, args, flags, out, client, viewer }) => {
  const most = flags.count("count", Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const request = { ...filterOf(flags, args), ...viewer, cursor: flags.text("cursor") ?? "", namesOnly: flags.isOn("namesOnly") };
  const events = follow(client(), request, {
    signal: environment.interrupt,
    onBreak: (error, waitMs) => out.note(`watch broke off: ${error.message}; resuming in ${(waitMs / 1000).toFixed(1)} s`),
  });
  let told = 0;
  for await (const event of events) {
    out.begun();
    if (event.kind !== "synced") told += 1;
    tell(event, out);
    if (told >= most || (event.kind === "synced" && flags.isOn("untilSynced"))) break;
  }
  return EXIT.done;
};

function tell(event: FollowEvent, out: Output): void {
  switch (event.kind) {
    case "put": {
      const { key, entry, deltaId, revision } = event;
      const action = event.isNew ? "create" : "update";
      const json = { event: action, deltaId, revision: String(revision), entry: messageJson(EntrySchema, entry) };
      return out.line(json, { columns: COLUMNS, rows: [{ action, key, entry }] });
    }
    case "remove": {
      const { key, deltaId, revision } = event;
      const json = { event: "remove", deltaId, revision: String(revision), key: messageJson(EntryKeySchema, key) };
      return out.line(json, { columns: COLUMNS, rows: [{ action: "remove", key, entry: undefined }] });
    }
    case "synced": {
      const { isSnapshot, cursor, revision, heldCount } = event;
      if (out.isMachine) {
        return out.line(
          { event: "synced", snapshot: isSnapshot, count: heldCount, revision: String(revision), cursor },
          { columns: COLUMNS, rows: [] },
        );
      }
      if (isSnapshot) out.note(`${heldCount} entries are there; following changes`);
    }
  }
}
