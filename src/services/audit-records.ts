/** Converts audit records to messages, and the fields of requests to filters. */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { AuditServiceListRequest } from "../../gen/waymark/control/v1/audit_pb.js";
import { AuditKind, AuditOutcome, AuditRecordSchema, type AuditRecord as WireRecord } from "../../gen/waymark/policy/v1/policy_pb.js";
import { enumName } from "../lib/enum-words.ts";
import { timeMs } from "../lib/protowire.ts";
import { type AuditFilter, EVERY_AUDIT } from "../policy/audit/filter.ts";
import { AUDIT_KINDS, AUDIT_OUTCOMES, type AuditRecord, splitSubjects, subjectOf } from "../policy/audit/record.ts";

/** The filter of AuditService. */
type SearchRequest = Omit<AuditServiceListRequest, "$typeName" | "$unknown" | "limit" | "pageToken">;

export function searchFilter({ entry, lease, node, since, until, ...request }: SearchRequest): AuditFilter {
  const { principal, tenant, namespace, action, reason, ticket, text } = request;
  const subjects = [entry, lease && subjectOf("lease", lease), node && subjectOf("node", node)];
  return {
    ...timeFilter(principal, since, until),
    tenant,
    namespace,
    action,
    reason,
    ticket,
    text,
    kinds: AUDIT_KINDS.filter((kind) => request.kinds.includes(AuditKind[enumName(kind)])),
    outcomes: AUDIT_OUTCOMES.filter((outcome) => request.outcomes.includes(AuditOutcome[enumName(outcome)])),
    subjects: subjects.filter((subject) => subject !== ""),
  };
}

export function timeFilter(principal: string, since: Timestamp | undefined, until: Timestamp | undefined): AuditFilter {
  return { ...EVERY_AUDIT, principal, fromWallMs: since && timeMs(since), toWallMs: until && timeMs(until) };
}

/** The texts of a record have the names of the fields. */
export function wireRecord({ number, atWallMs, kind, outcome, hash, subjects, ...texts }: AuditRecord): WireRecord {
  return create(AuditRecordSchema, {
    ...texts,
    number: BigInt(number),
    at: timestampFromMs(atWallMs),
    kind: AuditKind[enumName(kind)],
    outcome: AuditOutcome[enumName(outcome)],
    hash: hexOf(hash),
    subjects: [...splitSubjects(subjects)],
  });
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
