/** What a node found out about a record of the summary replica, in the bits that `StoredRecord.finding` holds. */
import { BODY } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";

export const FINDING = {
  /** It was looked at. Alone: it does not count. */
  LOOKED: 1,
  /** A key of its source that counts signed it. */
  PROVEN: 2,
  WITHDRAWN: 4,
  /** It is not shown once its source is lost. */
  NO_STALE: 8,
  /** It has a `not_after`. */
  ENDS: 16,
} as const;

export function isProven({ body, finding }: StoredRecord): boolean {
  return body === BODY.ENTRY && (finding & FINDING.PROVEN) !== 0;
}

export function isWithdrawn({ finding }: StoredRecord): boolean {
  return (finding & FINDING.WITHDRAWN) !== 0;
}

/** Whether nobody looked at it yet. */
export function isUnseen({ body, finding }: StoredRecord): boolean {
  return body === BODY.ENTRY && finding === 0;
}
