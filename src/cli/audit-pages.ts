/** The audit as the command line reads it: two logs of one chain, page by page, newest first. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type AuditRecord, PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { Client } from "../client/client.ts";
import { UsageError } from "./exit.ts";
import type { Flags } from "./flags.ts";
import type { Column } from "./output.ts";
import { timeText } from "./when.ts";
import { auditKindWord, auditOutcomeWord } from "./words.ts";

export type AuditLog = "access" | "policy";

export interface AuditQuery {
  readonly principal: string;
  /** Only the access log knows these two. */
  readonly namespace: string;
  readonly reason: string;
  readonly since: Timestamp | undefined;
  readonly until: Timestamp | undefined;
}

export interface AuditPage {
  readonly records: AuditRecord[];
  nextPageToken: string;
}

/** Which logs a call is about: the one asked for; the access log alone when a filter is given that only it has; else both. */
export function logsOf(flags: Flags): readonly AuditLog[] {
  const kind = flags.text("kind");
  const isAccessOnly = flags.text("namespace") !== undefined || flags.text("reason") !== undefined;
  if (kind === "policy" && isAccessOnly) throw new UsageError("--kind policy: --namespace and --reason are for the access audit");
  if (kind === "access" || isAccessOnly) return ["access"];
  return kind === "policy" ? ["policy"] : ["access", "policy"];
}

export function queryOf(flags: Flags, times: Pick<AuditQuery, "since" | "until">): AuditQuery {
  return {
    principal: flags.text("principal") ?? "",
    namespace: flags.text("namespace") ?? "",
    reason: flags.text("reason") ?? "",
    ...times,
  };
}

export async function readAuditPage(
  client: Client,
  log: AuditLog,
  { query, limit, pageToken }: { readonly query: AuditQuery; readonly limit: number; readonly pageToken: string },
): Promise<AuditPage> {
  const { principal, namespace, reason, since, until } = query;
  const request = { limit, pageToken, principal, ...(since && { since }), ...(until && { until }) };
  return log === "policy"
    ? client.call(PolicyService.method.policyAudit, request)
    : client.call(PolicyService.method.accessAudit, { ...request, namespace, reason });
}

/** Newest first: their numbers are places in one chain. */
export function newestFirst(records: readonly AuditRecord[]): readonly AuditRecord[] {
  return records.toSorted((a, b) => Number(b.number - a.number));
}

/** How a list of acts looks. */
export const AUDIT_COLUMNS: readonly Column<AuditRecord>[] = [
  { title: "NUMBER", stored: ({ number }) => String(number) },
  { title: "AT", stored: ({ at }) => timeText(at) },
  { title: "KIND", isWide: true, stored: ({ kind }) => auditKindWord(kind) },
  { title: "PRINCIPAL", stored: ({ principal }) => (principal === "" ? "-" : principal) },
  { title: "TENANT", isWide: true, stored: ({ tenant }) => tenant },
  { title: "SOURCE", stored: ({ source }) => source },
  { title: "ACTION", stored: ({ action }) => action },
  { title: "NAMESPACE", stored: ({ namespace }) => namespace },
  { title: "OUTCOME", stored: ({ outcome }) => auditOutcomeWord(outcome) },
  { title: "REASON", stored: ({ reason }) => reason },
  { title: "RULE", isWide: true, stored: ({ rule }) => rule },
  { title: "BEFORE", isWide: true, stored: ({ before }) => before.slice(0, 12) },
  { title: "AFTER", isWide: true, stored: ({ after }) => after.slice(0, 12) },
  { title: "DETAIL", stored: ({ detail }) => detail },
];
