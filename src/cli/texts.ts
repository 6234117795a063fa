/** How targets, keys and entries are written on the command line. */
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import { type Entry, type EntryKey, EntryKind, HealthStatus, Scope, type Target } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { enumWord } from "../lib/enum-words.ts";
import type { TableColumn } from "./output.ts";

/** `host:port/protocol`, with brackets around an IPv6 address. A target without a port is `host/protocol`. */
export function targetText({ host, port, protocol }: Target): string {
  return `${host.includes(":") ? `[${host}]` : host}${port === 0 ? "" : `:${port}`}${protocol === "" ? "" : `/${protocol}`}`;
}

/** `namespace/name/instance`, for messages. */
export function keyWords(key: EntryKey | undefined): string {
  return key === undefined ? "" : `${key.namespace} ${key.name} ${key.instanceId}`;
}

/** The parts of `namespace/name/instance`. Undefined for other text, such as a name or an instance with a slash. */
export function splitKey(text: string): { readonly namespace: string; readonly name: string; readonly instanceId: string } | undefined {
  const [namespace = "", name = "", instanceId = "", ...more] = text.split("/");
  return namespace === "" || name === "" || instanceId === "" || more.length > 0 ? undefined : { namespace, name, instanceId };
}

/** Columns of a list of entries. */
export const ENTRY_COLUMNS: readonly TableColumn<Entry>[] = [
  { title: "NAMESPACE", stored: ({ key }) => key?.namespace ?? "" },
  { title: "NAME", stored: ({ key }) => key?.name ?? "" },
  { title: "KIND", stored: ({ key }) => enumWord(EntryKind, key?.kind ?? EntryKind.UNSPECIFIED) },
  { title: "INSTANCE", stored: ({ key }) => key?.instanceId ?? "" },
  { title: "HEALTH", stored: ({ health }) => enumWord(HealthStatus, health) },
  { title: "SCOPE", isWide: true, stored: ({ scope }) => enumWord(Scope, scope) },
  { title: "CLUSTER", isWide: true, stored: ({ key }) => key?.clusterId ?? "" },
  { title: "ZONE", isWide: true, stored: ({ zone }) => zone },
  { title: "NODE", isWide: true, stored: ({ nodeId }) => nodeId },
  { title: "TAGS", isWide: true, stored: ({ tags }) => tags.join(",") },
  { title: "TARGETS", stored: ({ targets }) => targets.map(targetText).join(", ") },
];

/** Milliseconds below ten seconds, else seconds; empty when absent. */
export function shortDuration(duration: Duration | undefined): string {
  if (duration === undefined) return "";
  const ms = durationMs(duration);
  return ms < 10_000 ? `${Math.round(ms)}ms` : `${Math.round(ms / 1000)}s`;
}

/** Why a server has no summaries, and what would be right. */
export const HOLDS_NONE = "holds no summaries: a node does whose settings have fabric.borders, summary.keys or summary.signing_key_file";
