/** Implements AuditService and the audit methods of PolicyService, which read the log by filter and page, follow it, and verify its hash chain. */
import { create } from "@bufbuild/protobuf";
import {
  AuditService,
  type AuditServiceListRequest,
  AuditServiceListResponseSchema,
  type AuditServiceWatchRequest,
} from "../../gen/waymark/control/v1/audit_pb.js";
import {
  type AccessAuditRequest,
  AccessAuditResponseSchema,
  AuditFault,
  type PolicyAuditRequest,
  PolicyAuditResponseSchema,
  type VerifyAuditRequest,
  VerifyAuditResponseSchema,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import { pageLimit } from "../catalog/query/query.ts";
import { enumName } from "../lib/enum-words.ts";
import { invalid, WaymarkError } from "../lib/errors.ts";
import { type AuditFilter, decodeAuditToken, encodeAuditToken } from "../policy/audit/filter.ts";
import type { ChainPoint } from "../policy/audit/record.ts";
import type { AuditLog } from "../store/audit/log.io.ts";
import { hexOf, searchFilter, timeFilter, wireRecord } from "./audit-records.ts";
import { AuditWatch } from "./audit-watch.ts";
import { listRoute, type PageRequest } from "./list-page.ts";
import type { HandlersOf, MethodHandler, ServiceDefinition } from "./service.ts";
import { StreamLimit } from "./stream-limit.ts";

export type AuditHandlers = Readonly<Record<"accessAudit" | "policyAudit" | "verifyAudit", MethodHandler>>;

/** Largest number of open streams on a node. Each stream searches all records that are written. */
const MAX_WATCHES = 100;

export interface AuditParts {
  readonly log: Pick<AuditLog, "ends" | "follow" | "has" | "read" | "readAbove">;
  readonly servedBy: string;
}

export function auditService({ log, servedBy }: AuditParts): ServiceDefinition {
  const limit = new StreamLimit("streams of audit records", MAX_WATCHES);
  const list = async (request: AuditServiceListRequest) =>
    create(AuditServiceListResponseSchema, { ...(await page(log, request, searchFilter(request))), servedBy });
  return {
    desc: AuditService,
    handlers: {
      list: { kind: "unary", handle: list },
      watch: {
        kind: "server_streaming",
        open: (request: AuditServiceWatchRequest, { caller }) => {
          const start = () => startOf(log, request, servedBy);
          return new AuditWatch({ log, filter: searchFilter(request), start, servedBy, onClose: limit.open(caller) });
        },
      },
    } satisfies HandlersOf<typeof AuditService>,
    routes: [listRoute(AuditService.method.list, list)],
  };
}

/** Returns the record after which a stream begins. */
async function startOf(log: AuditParts["log"], request: AuditServiceWatchRequest, servedBy: string): Promise<ChainPoint> {
  const { afterNumber, afterHash, since } = request;
  if (afterHash === "") {
    const { head, anchor } = await log.ends();
    return since === undefined ? head : anchor;
  }
  const point = { number: Number(afterNumber), hash: Buffer.from(afterHash, "hex") };
  if (await log.has(point)) return point;
  throw new WaymarkError(
    "not_found",
    `the audit log of ${servedBy} has no record ${point.number} with this hash: the record was deleted, or it is in another log; omit after_hash, and set since to the time of the record`,
  );
}

export function auditHandlers(log: Pick<AuditLog, "read" | "verify">): AuditHandlers {
  return {
    policyAudit: {
      kind: "unary",
      handle: async (request: PolicyAuditRequest) => {
        const filter: AuditFilter = { ...timeFilter(request.principal, request.since, request.until), kinds: ["policy"] };
        return create(PolicyAuditResponseSchema, await page(log, request, filter));
      },
    },
    accessAudit: {
      kind: "unary",
      handle: async (request: AccessAuditRequest) => {
        const { principal, since, until, namespace, reason } = request;
        const filter: AuditFilter = { ...timeFilter(principal, since, until), kinds: ["access", "admin"], namespace, reason };
        return create(AccessAuditResponseSchema, await page(log, request, filter));
      },
    },
    verifyAudit: { kind: "unary", handle: async (request: VerifyAuditRequest) => verify(log, knownPoint(request)) },
  };
}

async function page(log: Pick<AuditLog, "read">, { limit, pageToken }: PageRequest, filter: AuditFilter) {
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
