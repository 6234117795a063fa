/** What the audit log's tests share: events as plain values, an open log, and its records as SQLite sees them. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { EVERY_AUDIT } from "../../src/policy/audit/filter.ts";
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import { type AuditLog, type AuditLogOptions, openAuditLog } from "../../src/store/audit/log.io.ts";

const QUIET = { info: () => {}, error: () => {} };
export const DAY_MS = 86_400_000;

/** A denied query, dated now unless given. */
export function event(over: Partial<AuditEvent> = {}): AuditEvent {
  return {
    atWallMs: Date.now(),
    kind: "access",
    principal: "team-a",
    tenant: "a",
    source: "127.0.0.1",
    action: "query",
    namespace: "svc.market",
    outcome: "denied",
    reason: "viewer_denied",
    rule: "svc",
    before: "",
    after: "",
    detail: "",
    requestId: "",
    subjects: "",
    tokenId: "",
    ticket: "",
    ...over,
  };
}

export function openLog(directory: string | undefined, over: Partial<AuditLogOptions> = {}): Promise<AuditLog> {
  return openAuditLog({
    directory,
    retentionMs: 90 * DAY_MS,
    maxBytes: 64 << 20,
    file: undefined,
    metrics: new Metrics(),
    log: QUIET,
    ...over,
  });
}

/** Records events named by their detail, and waits until they are on disk. */
export async function recordAll(log: AuditLog, details: readonly string[]): Promise<void> {
  for (const detail of details) log.record(event({ detail }));
  await log.durable();
}

/** Details of all that is stored, newest first. */
export async function detailsOf(log: AuditLog): Promise<readonly string[]> {
  const details: string[] = [];
  for (let before: number | undefined; ; ) {
    const page = await log.read({ before, limit: 1000, filter: EVERY_AUDIT });
    details.push(...page.records.map((record) => record.detail));
    if (page.nextBefore === undefined) return details;
    before = page.nextBefore;
  }
}

/** Changes a closed log's file behind its back. */
export function tamper(directory: string, sql: string): void {
  const db = new DatabaseSync(join(directory, "audit.db"));
  db.exec(sql);
  db.close();
}
