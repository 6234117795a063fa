/** What the audit's tests share: an event, chains of such, and the check of a whole chain. */

import { ChainCheck, type ChainProblem } from "../../src/policy/audit/chain.ts";
import {
  type AuditEvent,
  type AuditRecord,
  CHAIN_START,
  type ChainPoint,
  canonicalBytes,
  chainEvent,
} from "../../src/policy/audit/record.ts";

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
  requestId: "",
  subjects: "",
  tokenId: "",
  ticket: "",
};

/** So many records after a point. */
export function chain(count: number, after: ChainPoint = CHAIN_START): readonly AuditRecord[] {
  const records: AuditRecord[] = [];
  for (let i = 0; i < count; i++) records.push(chainEvent({ ...EVENT, detail: `${i}` }, records.at(-1) ?? after).record);
  return records;
}

/** The first problem of a chain that starts after `anchor` and, when `head` is known, ends there; undefined when there is none. */
export function verifyChain(
  records: readonly AuditRecord[],
  anchor: ChainPoint = CHAIN_START,
  head?: ChainPoint,
): ChainProblem | undefined {
  const check = new ChainCheck(anchor);
  for (const [at, record] of records.entries()) {
    // A record out of its place says another number than its neighbours give it.
    const place = record.number === check.last.number + 1 ? record.number : placeOf(records, at);
    const problem = check.add({ place, canonical: canonicalBytes(record.number, record), hash: record.hash });
    if (problem !== undefined) return problem;
    if (Buffer.compare(record.previousHash, at === 0 ? anchor.hash : (records[at - 1]?.hash ?? anchor.hash)) !== 0)
      return { kind: "altered", number: record.number, message: `record ${record.number} does not name the hash of the one before it` };
  }
  return check.end(head);
}

/** Where a record with the wrong number stands: in the next place if its own comes later, else where its number says. */
function placeOf(records: readonly AuditRecord[], at: number): number {
  const number = records[at]?.number ?? 0;
  const expected = (records[at - 1]?.number ?? number - 1) + 1;
  return records.some((other, index) => index > at && other.number === expected) ? expected : number;
}
