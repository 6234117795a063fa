/** The messages between the audit log's two threads. */

import type { ChainProblem } from "../../policy/audit/chain.ts";
import type { AuditFilter } from "../../policy/audit/filter.ts";
import type { AuditEvent, AuditRecord, ChainPoint } from "../../policy/audit/record.ts";

export interface AuditFileOptions {
  /** Undefined: in memory, gone with the process. */
  readonly directory: string | undefined;
  readonly retentionMs: number;
  readonly maxBytes: number;
}

/** What only the writing thread sees; sent along with answers. */
export interface AuditState {
  /** Of the newest record. */
  readonly head: ChainPoint;
  /** Of the newest record that was pruned; the chain starts after it. */
  readonly anchor: ChainPoint;
  /** Without room that is used again. */
  readonly usedBytes: number;
  /** Lines that could not be written to the JSON-lines file. */
  readonly fileLostCount: number;
  /** Why that file took nothing last time; empty when it did, or there is none. */
  readonly fileFault: string;
  /** Whether lines are on their way to it. */
  readonly isFileBusy: boolean;
}

/** Which records, by number, newest first. */
export interface AuditScan {
  /** Exclusive; undefined: from the newest. */
  readonly before: number | undefined;
  /** Exclusive; 0: to the oldest. */
  readonly above: number;
  readonly limit: number;
  readonly filter: AuditFilter;
}

export type AuditRequest =
  /** First. */
  | { readonly kind: "open"; readonly options: AuditFileOptions; readonly file: string | undefined }
  | { readonly kind: "append"; readonly events: readonly AuditEvent[] }
  /** Looks through a slice; `nextBefore` says where to go on. */
  | { readonly kind: "scan"; readonly scan: AuditScan }
  /** Checks a slice of the chain after `last`, up to `head`; both undefined at first. */
  | { readonly kind: "verify"; readonly last: ChainPoint | undefined; readonly head: ChainPoint | undefined }
  /** The hash the log has for a number. */
  | { readonly kind: "find"; readonly number: number }
  /** Opens the JSON-lines file again, after it was moved. */
  | { readonly kind: "reopen" }
  /** How things stand. */
  | { readonly kind: "look" }
  | { readonly kind: "close" };

export type AuditAnswer =
  | {
      readonly kind: "opened";
      readonly state: AuditState;
      /** Whether the log ends where it says. */
      readonly isTailWhole: boolean;
      /** Whether what was written last is gone with `audit.db-wal`. */
      readonly hasLostLog: boolean;
    }
  | { readonly kind: "appended"; readonly state: AuditState }
  | { readonly kind: "scanned"; readonly records: readonly AuditRecord[]; readonly nextBefore: number | undefined }
  | {
      readonly kind: "verified";
      readonly problem: ChainProblem | undefined;
      readonly last: ChainPoint;
      readonly anchor: ChainPoint;
      readonly head: ChainPoint;
      readonly checkedCount: number;
      readonly isDone: boolean;
    }
  | { readonly kind: "foundHash"; readonly hash: Uint8Array | undefined }
  | { readonly kind: "reopened" }
  | { readonly kind: "looked"; readonly state: AuditState }
  | { readonly kind: "closed" };
