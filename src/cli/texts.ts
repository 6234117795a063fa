/** The text forms of targets, keys and entries on the command line. */
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import { type Entry, type EntryKey, EntryKind, HealthStatus, Scope, type Target } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { enumWord } from "../lib/enum-words.ts";
import type { Flags } from "./flags.ts";
import type { TableColumn } from "./output.ts";

/** `host:port/protocol`, with brackets around an IPv6 address. A target without a port is `host/protocol`. */
export function targetText({ host, port, protocol }: Target): string {
  return `${host.includes(":") ? `[${host}]` : host}${port === 0 ? "" : `:${port}`}${protocol === "" ? "" : `/${protocol}`}`;
}

/** `namespace/name/instance`, for messages. */
export function keyWords(key: EntryKey | undefined): string {
  return key === undefined ? "" : `${key.namespace} ${key.name} ${key.instanceId}`;
}

/** Returns the parts of `namespace/name/instance`. Returns undefined for other text, including names and instances with a slash. */
export function splitKey(text: string): { readonly namespace: string; readonly name: string; readonly instanceId: string } | undefined {
  const [namespace = "", name = "", instanceId = "", ...more] = text.split("/");
  return namespace === "" || name === "" || instanceId === "" || more.length > 0 ? undefined : { namespace, name, instanceId };
}

/** The columns for a list of entries. */
export const ENTRY_COLUMNS: readonly TableColumn<Entry>[] = [
  { title: "NAMESPACE", text: ({ key }) => key?.namespace ?? "" },
  { title: "NAME", text: ({ key }) => key?.name ?? "" },
  { title: "KIND", text: ({ key }) => enumWord(EntryKind, key?.kind ?? EntryKind.UNSPECIFIED) },
  { title: "INSTANCE", text: ({ key }) => key?.instanceId ?? "" },
  { title: "HEALTH", text: ({ health }) => enumWord(HealthStatus, health) },
  { title: "SCOPE", isWide: true, text: ({ scope }) => enumWord(Scope, scope) },
  { title: "CLUSTER", isWide: true, text: ({ key }) => key?.clusterId ?? "" },
  { title: "ZONE", isWide: true, text: ({ zone }) => zone },
  { title: "NODE", isWide: true, text: ({ nodeId }) => nodeId },
  { title: "TAGS", isWide: true, text: ({ tags }) => tags.join(",") },
  { title: "TARGETS", text: ({ targets }) => targets.map(targetText).join(", ") },
];

/** Returns the column for the rules that hide rows. Returns no column without `--as-operator`. */
export function hiddenByColumns<Row>(flags: Flags, ruleOf: (row: Row) => string | undefined): readonly TableColumn<Row>[] {
  return flags.isOn("asOperator") ? [{ title: "HIDDEN BY", text: (row) => ruleOf(row) ?? "" }] : [];
}

/** Formats a duration in milliseconds if it is below ten seconds, or else in seconds. Returns an empty string if the duration is absent. */
export function shortDuration(duration: Duration | undefined): string {
  if (duration === undefined) return "";
  const ms = durationMs(duration);
  return ms < 10_000 ? `${Math.round(ms)}ms` : `${Math.round(ms / 1000)}s`;
}

/** The end of a message about a server without summaries. It follows the server's name. */
export const HOLDS_NONE =
  "stores no summaries: set fabric.borders, summary.keys or summary.signing_key_file in the settings of a node to enable them";
