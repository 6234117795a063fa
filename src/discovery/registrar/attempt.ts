/** Runs one call of the registrar as a whole: if it throws, its own changes are undone, and no others. */
import type { Replica } from "../../catalog/replica/replica.ts";
import { BrokenInvariant } from "../../lib/errors.ts";
import type { BatchLease } from "./batch.ts";
import type { Endings } from "./endings.ts";
import type { QuotaGate } from "./quota-gate.ts";
import type { UndoLog } from "./undo-log.ts";

export interface AttemptParts {
  readonly replica: Replica;
  readonly undo: UndoLog;
  readonly gate: QuotaGate;
  readonly endings: Endings;
  /** Leases granted since the last batch. */
  readonly newLeases: BatchLease[];
}

/** Runs the call. Throws its error, with its changes undone. A write that is refused or meets a bug fails alone. */
export function attempt<T>({ replica, undo, gate, endings, newLeases }: AttemptParts, call: () => T): T {
  const [seq, mark, leaseCount, endedCount] = [replica.lastSeq, undo.mark, newLeases.length, endings.count];
  try {
    return call();
  } catch (error) {
    replica.unstage(seq);
    gate.abortAfter(seq);
    undo.undoTo(mark);
    newLeases.length = leaseCount;
    endings.forgetAfter(endedCount);
    if (error instanceof BrokenInvariant) error.isUndone = true;
    throw error;
  }
}
