/** What the audit's tests share: an event, and chains of such. */
import { type AuditEvent, type AuditRecord, CHAIN_START, type ChainPoint, chainEvent } from "../../src/policy/audit.ts";

export const EVENT: AuditEvent = {
  atWallMs: 1_700_000_000_000,
  kind: "access",
  principal: "team-a",
  tenant: "a",
  source: "10.0.0.1",
  action: "query",
  namespace: "svc.market",
  outcome: "denied",
  reason: "viewer_denied",
  rule: "svc",
  before: "",
  after: "",
  detail: "",
};

/** So many records after a point. */
export function chain(count: number, after: ChainPoint = CHAIN_START): readonly AuditRecord[] {
  const records: AuditRecord[] = [];
  for (let i = 0; i < count; i++) records.push(chainEvent({ ...EVENT, detail: `${i}` }, records.at(-1) ?? after).record);
  return records;
}
