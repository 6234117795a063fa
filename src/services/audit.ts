/** The audit methods of PolicyService, which read the log by filter and page, and verify its hash chain. */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type AccessAuditRequest,
  AccessAuditResponseSchema,
  AuditFault,
  AuditKind,
  AuditOutcome,
  AuditRecordSchema,
  type PolicyAuditRequest,
  PolicyAuditResponseSchema,
  type VerifyAuditRequest,
  VerifyAuditResponseSchema,
  type AuditRecord as WireRecord,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import { pageLimit } from "../catalog/query/query.ts";
import { enumName } from "../lib/enum-words.ts";
import { invalid } from "../lib/errors.ts";
import { timeMs } from "../lib/protowire.ts";
import { type AuditFilter, decodeAuditToken, EVERY_AUDIT, encodeAuditToken } from "../policy/audit/filter.ts";
import { type AuditRecord, type ChainPoint, splitSubjects } from "../policy/audit/record.ts";
import type { AuditLog } from "../store/audit/log.io.ts";
import type { MethodHandler } from "./service.ts";

interface AuditRequest {
  readonly limit: number;
  readonly pageToken: string;
  readonly principal: string;
  readonly since?: Timestamp | undefined;
  readonly until?: Timestamp | undefined;
}

export type AuditHandlers = Readonly<Record<"accessAudit" | "policyAudit" | "verifyAudit", MethodHandler>>;

export function auditHandlers(log: Pick<AuditLog, "read" | "verify">): AuditHandlers {
  return {
    policyAudit: {
      kind: "unary",
      handle: async (request: PolicyAuditRequest) =>
        create(PolicyAuditResponseSchema, await page(log, request, { ...filterOf(request), kinds: ["policy"] })),
    },
    accessAudit: {
      kind: "unary",
      handle: async (request: AccessAuditRequest) => {
        const { namespace, reason } = request;
        const filter: AuditFilter = { ...filterOf(request), kinds: ["access", "admin"], namespace, reason };
        return create(AccessAuditResponseSchema, await page(log, request, filter));
      },
    },
    verifyAudit: { kind: "unary", handle: async (request: VerifyAuditRequest) => verify(log, knownPoint(request)) },
  };
}

function filterOf({ principal, since, until }: AuditRequest): AuditFilter {
  return { ...EVERY_AUDIT, principal, fromWallMs: since && timeMs(since), toWallMs: until && timeMs(until) };
}

async function page(log: Pick<AuditLog, "read">, { limit, pageToken }: AuditRequest, filter: AuditFilter) {
  const before = decodeAuditToken(pageToken, filter);
  const { records, nextBefore } = await log.read({ before, limit: pageLimit(limit), filter });
  // A full page may be the last one, because the log does not read beyond the limit.
  const hasMore = nextBefore !== undefined && (await log.read({ before: nextBefore, limit: 1, filter })).records.length > 0;
  return { records: records.map(wireRecord), nextPageToken: hasMore ? encodeAuditToken(nextBefore, filter) : "" };
}

/** Returns the record that the caller saved from an earlier check. This record exposes a log that was rewritten with a consistent hash chain. */
function knownPoint({ knownNumber, knownHash }: VerifyAuditRequest): readonly ChainPoint[] {
  if (knownNumber === 0n && knownHash === "") return [];
  if (knownNumber === 0n) throw invalid("known_number", "must be set together with known_hash: set both fields or neither");
  if (knownHash === "") throw invalid("known_hash", "must be set together with known_number: set both fields or neither");
  return [{ number: Number(knownNumber), hash: Buffer.from(knownHash, "hex") }];
}

async function verify(log: Pick<AuditLog, "verify">, known: readonly ChainPoint[]) {
  const { problem, checkedCount, anchor, head } = await log.verify(known);
  const isEmpty = head.number === anchor.number;
  return create(VerifyAuditResponseSchema, {
    intact: problem === undefined,
    checked: BigInt(checkedCount),
    firstNumber: BigInt(isEmpty ? 0 : anchor.number + 1),
    lastNumber: BigInt(isEmpty ? 0 : head.number),
    lastHash: hexOf(head.hash),
    fault: problem === undefined ? AuditFault.NONE : AuditFault[enumName(problem.kind)],
    faultNumber: BigInt(problem?.number ?? 0),
    detail: problem?.message ?? "",
  });
}

function wireRecord({ number, atWallMs, ...record }: AuditRecord): WireRecord {
  const { kind, principal, tenant, source, action, namespace, outcome, reason, rule, before, after, detail, hash, requestId } = record;
  return create(AuditRecordSchema, {
    number: BigInt(number),
    at: timestampFromMs(atWallMs),
    kind: AuditKind[enumName(kind)],
    principal,
    tenant,
    source,
    action,
    namespace,
    outcome: AuditOutcome[enumName(outcome)],
    reason,
    rule,
    before,
    after,
    detail,
    hash: hexOf(hash),
    requestId,
    subjects: [...splitSubjects(record.subjects)],
  });
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
